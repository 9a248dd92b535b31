// SPDX-License-Identifier: Apache-2.0
// Arty A7 (Xilinx XC7A35T or XC7A100T): PLL, reset, the serial port of the USB connector J10 and LEDs around uart_system.
// LEDs LD4 to LD7: running, done, error, reset or PLL not locked. Reset: the PLL's lock, the button BTN0, or the host's
// RESET.

`resetall
`default_nettype none

module top #(
    // PLL: clk = 100 MHz * PLL_MULTIPLY / (PLL_DIVIDE * PLL_POST); 100 MHz * PLL_MULTIPLY / PLL_DIVIDE in 800 to 1600 MHz
    parameter PLL_MULTIPLY = 8,
    parameter PLL_DIVIDE = 1,
    parameter PLL_POST = 8,
    // clocks of one bit on the serial line
    parameter CLOCKS_PER_BIT = 100,
    // a frame that pauses, or a stream that stalls, for 2**TIMER clocks is given up
    parameter TIMER = 22,
    // those of intact_core
    parameter ROWS = 8,
    parameter COLS = 8,
    parameter LANES = 8,
    parameter ACT_DEPTH = 4096,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 256,
    parameter PRG_DEPTH = 1024,
    parameter LAYERS = 256,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire       clk_100mhz,
    // named as the USB chip sees them
    input  wire       uart_txd_in,
    output wire       uart_rxd_out,
    // high when pressed
    input  wire       btn0,
    output wire [3:0] led
);

    wire clk;
    wire clk_pll;
    wire feedback;
    wire locked;
    wire [5:1] unused;

    PLLE2_BASE #(
        .CLKIN1_PERIOD(10.0),
        .CLKFBOUT_MULT(PLL_MULTIPLY),
        .DIVCLK_DIVIDE(PLL_DIVIDE),
        .CLKOUT0_DIVIDE(PLL_POST)
    ) pll (
        .CLKIN1(clk_100mhz),
        .CLKFBIN(feedback),
        .CLKFBOUT(feedback),
        .CLKOUT0(clk_pll),
        .CLKOUT1(unused[1]),
        .CLKOUT2(unused[2]),
        .CLKOUT3(unused[3]),
        .CLKOUT4(unused[4]),
        .CLKOUT5(unused[5]),
        .LOCKED(locked),
        .PWRDWN(1'b0),
        .RST(1'b0)
    );

    BUFG buffer (.I(clk_pll), .O(clk));

    // asserted at once, released 256 clocks after its cause is gone
    reg [1:0] steady;
    reg [8:0] released;
    wire      rst = !released[8];

    initial released = 9'd0;

    always @(posedge clk) begin
        steady <= {steady[0], locked && !btn0};
        if (!steady[1]) released <= 9'd0;
        else if (rst) released <= released + 1'b1;
    end

    wire       irq;
    wire [3:0] status;
    wire       _unused = &{1'b0, unused, irq, status[0]};

    uart_system #(
        .CLOCKS_PER_BIT(CLOCKS_PER_BIT), .TIMER(TIMER), .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH),
        .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH), .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE),
        .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE),
        .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) system (
        .clk(clk),
        .clk_2x(1'b0),
        .rst(rst),
        .rxd(uart_txd_in),
        .txd(uart_rxd_out),
        .irq(irq),
        .status(status)
    );

    reg [3:0] lights;

    assign led = lights;

    always @(posedge clk) lights <= {rst | !locked, status[3:1]};

endmodule

`resetall
