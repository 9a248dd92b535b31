// SPDX-License-Identifier: Apache-2.0
// iCEBreaker (Lattice iCE40 UP5K): PLL, reset, the USB serial port, two LEDs and a button around uart_system.
// Green LED: lit while the core runs or bytes move. Red LED: error, reset, or PLL not locked.
// Reset: the PLL's lock, the button, or the host's RESET.

`resetall
`default_nettype none

module top #(
    // PLL: clk_2x = 12 MHz * (PLL_DIVF + 1) / 2**PLL_DIVQ and clk half of it; 12 MHz * (PLL_DIVF + 1) must lie in 533 to 1066 MHz
    parameter PLL_DIVF = 63,
    parameter PLL_DIVQ = 5,
    // clocks of one bit on the serial line
    parameter CLOCKS_PER_BIT = 12,
    // a frame that pauses, or a stream that stalls, for 2**TIMER clocks is given up
    parameter TIMER = 20,
    // those of intact_core
    parameter ROWS = 4,
    parameter COLS = 1,
    parameter LANES = 1,
    parameter ACT_DEPTH = 1024,
    parameter WGT_DEPTH = 4096,
    parameter PRM_DEPTH = 256,
    parameter PRG_DEPTH = 256,
    parameter LAYERS = 256,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire CLK,
    input  wire RX,
    output wire TX,
    input  wire BTN_N,
    output wire LEDR_N,
    output wire LEDG_N
);

    wire clk;
    wire clk_2x;
    wire locked;

    // the pad of pin 35 feeds the PLL directly; a comparison frequency of 12 MHz takes filter range 1
    SB_PLL40_2F_PAD #(
        .FEEDBACK_PATH("SIMPLE"), .DIVR(4'd0), .DIVF(PLL_DIVF[6:0]), .DIVQ(PLL_DIVQ[2:0]), .FILTER_RANGE(3'd1),
        .PLLOUT_SELECT_PORTA("GENCLK"), .PLLOUT_SELECT_PORTB("GENCLK_HALF")
    ) pll (
        .PACKAGEPIN(CLK),
        .PLLOUTGLOBALA(clk_2x),
        .PLLOUTGLOBALB(clk),
        .LOCK(locked),
        .RESETB(1'b1),
        .BYPASS(1'b0)
    );

    // asserted at once, released 256 clocks after its cause is gone
    reg [1:0] steady;
    reg [8:0] released;
    wire      rst = !released[8];

    initial released = 9'd0;

    always @(posedge clk) begin
        steady <= {steady[0], locked && BTN_N};
        if (!steady[1]) released <= 9'd0;
        else if (rst) released <= released + 1'b1;
    end

    wire       irq;
    wire [3:0] status;  // error, done, running, idle
    wire       _unused = &{1'b0, irq, status[2], status[0]};

    uart_system #(
        .CLOCKS_PER_BIT(CLOCKS_PER_BIT), .TIMER(TIMER), .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH),
        .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH), .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE),
        .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE), .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) system (
        .clk(clk),
        .clk_2x(clk_2x),
        .rst(rst),
        .rxd(RX),
        .txd(TX),
        .irq(irq),
        .status(status)
    );

    // no heartbeat: a counter would cost what the core needs
    reg red;
    reg green;

    assign LEDR_N = !red;
    assign LEDG_N = !green;

    always @(posedge clk) begin
        red   <= rst | status[3];
        green <= status[1] | !RX | !TX;
    end

endmodule

`resetall
