// SPDX-License-Identifier: Apache-2.0
// Sipeed Tang Nano 9K (Gowin GW1NR-9) and 20K (GW2AR-18): PLL, reset, serial port and LEDs around uart_system.
// LEDs, from 0: heartbeat, bytes in either direction, running, done, error, reset or PLL not locked. A low level lights them.
// Reset: the PLL's lock, the button, or the host's RESET. The button's level at power-up is taken for the released one,
// because the two boards differ in it.

`resetall
`default_nettype none

module top #(
    // PLL: clk = 27 MHz * PLL_MULTIPLY / PLL_DIVIDE; its oscillator runs PLL_POST times as fast
    parameter PLL_MULTIPLY = 1,
    parameter PLL_DIVIDE = 1,
    parameter PLL_POST = 32,
    // clocks of one bit on the serial line
    parameter CLOCKS_PER_BIT = 234,
    // a frame that pauses, or a stream that stalls, for 2**TIMER clocks is given up
    parameter TIMER = 22,
    // those of intact_core
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 1,
    parameter ACT_DEPTH = 1024,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 512,
    parameter PRG_DEPTH = 512,
    parameter LAYERS = 512,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire       clk_27mhz,
    // to and from the board's USB serial chip, as the FPGA sees it
    input  wire       uart_rxd,
    output wire       uart_txd,
    input  wire       button,
    output wire [5:0] led_n
);

    wire clk;
    wire locked;

    // outputs that nothing uses
    wire [2:0] other;

    rPLL #(
        .FCLKIN("27"),
        .IDIV_SEL(PLL_DIVIDE - 1),
        .FBDIV_SEL(PLL_MULTIPLY - 1),
        .ODIV_SEL(PLL_POST),
        .CLKFB_SEL("internal")
    ) pll (
        .CLKIN(clk_27mhz),
        // open: of a constant here nextpnr looks for minutes what it may drive (GW2A)
        .CLKFB(1'bx),
        .CLKOUT(clk),
        .CLKOUTP(other[0]),
        .CLKOUTD(other[1]),
        .CLKOUTD3(other[2]),
        .LOCK(locked),
        .RESET(1'b0),
        .RESET_P(1'b0),
        .FBDSEL(6'd0),
        .IDSEL(6'd0),
        .ODSEL(6'd0),
        .DUTYDA(4'd0),
        .PSDA(4'd0),
        .FDLY(4'd0)
    );

    // asserted at once, released 256 clocks after its cause is gone
    reg [1:0] steady;
    reg [8:0] released;
    wire      rst = !released[8];

    reg [1:0] level;     // the button's
    reg       idle;      // its level when released
    reg       learnt;    // idle is known
    wire      pressed = learnt && level[1] != idle;

    initial begin
        released = 9'd0;
        learnt = 1'b0;
    end

    always @(posedge clk) begin
        level <= {level[0], button};
        if (released[7] && !learnt) begin
            idle   <= level[1];
            learnt <= 1'b1;
        end
        steady <= {steady[0], locked && !pressed};
        if (!steady[1]) released <= 9'd0;
        else if (rst) released <= released + 1'b1;
    end

    wire       irq;
    wire [3:0] status;
    wire       _unused = &{1'b0, irq, status[0], other};

    uart_system #(
        .CLOCKS_PER_BIT(CLOCKS_PER_BIT), .TIMER(TIMER), .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH),
        .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH), .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE),
        .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE),
        .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) system (
        .clk(clk),
        .clk_2x(1'b0),
        .rst(rst),
        .rxd(uart_rxd),
        .txd(uart_txd),
        .irq(irq),
        .status(status)
    );

    reg [23:0] heartbeat;
    reg [5:0]  lights;

    assign led_n = ~lights;

    always @(posedge clk) begin
        heartbeat <= heartbeat + 1'b1;
        lights <= {rst | !locked, status[3:1], !uart_txd | !uart_rxd, heartbeat[23]};
        if (rst) heartbeat <= 24'd0;
    end

endmodule

`resetall
