// SPDX-License-Identifier: Apache-2.0
// ULX3S (Lattice ECP5): PLL, reset, the serial port of the USB connector US1 and LEDs around uart_system.
// LEDs, from 0: heartbeat, bytes arriving, bytes leaving, idle, running, done, error, reset or PLL not locked.
// Reset: the PLL's lock, the button FIRE1, or the host's RESET.

`resetall
`default_nettype none

module top #(
    // PLL: clk = 25 MHz * PLL_MULTIPLY / PLL_DIVIDE; PLL_POST * clk must lie in 400 to 800 MHz
    parameter PLL_MULTIPLY = 5,
    parameter PLL_DIVIDE = 2,
    parameter PLL_POST = 10,
    // clocks of one bit on the serial line
    parameter CLOCKS_PER_BIT = 62,
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
    input  wire       clk_25mhz,
    // named as the USB chip sees them
    input  wire       ftdi_txd,
    output wire       ftdi_rxd,
    input  wire       btn_fire1,
    output wire [7:0] led,
    output wire       wifi_gpio0
);

    wire clk;
    wire locked;

    // low lets the ESP32 restart the board
    assign wifi_gpio0 = 1'b1;

    (* FREQUENCY_PIN_CLKI = "25", ICP_CURRENT = "12", LPF_RESISTOR = "8", MFG_ENABLE_FILTEROPAMP = "1", MFG_GMCREF_SEL = "2" *)
    EHXPLLL #(
        .CLKI_DIV(PLL_DIVIDE),
        .CLKFB_DIV(PLL_MULTIPLY),
        .CLKOP_ENABLE("ENABLED"),
        .CLKOP_DIV(PLL_POST),
        .CLKOP_CPHASE(PLL_POST / 2 - 1),
        .CLKOP_FPHASE(0),
        .FEEDBK_PATH("CLKOP"),
        .OUTDIVIDER_MUXA("DIVA"),
        .PLLRST_ENA("DISABLED"),
        .INTFB_WAKE("DISABLED"),
        .STDBY_ENABLE("DISABLED"),
        .DPHASE_SOURCE("DISABLED")
    ) pll (
        .CLKI(clk_25mhz),
        .CLKFB(clk),
        .CLKOP(clk),
        .LOCK(locked),
        .RST(1'b0),
        .STDBY(1'b0),
        .PHASESEL0(1'b0),
        .PHASESEL1(1'b0),
        .PHASEDIR(1'b1),
        .PHASESTEP(1'b1),
        .PHASELOADREG(1'b1),
        .PLLWAKESYNC(1'b0),
        .ENCLKOP(1'b0)
    );

    // asserted at once, released 256 clocks after its cause is gone
    reg [1:0] steady;
    reg [8:0] released;
    wire      rst = !released[8];

    initial released = 9'd0;

    always @(posedge clk) begin
        steady <= {steady[0], locked && !btn_fire1};
        if (!steady[1]) released <= 9'd0;
        else if (rst) released <= released + 1'b1;
    end

    wire       irq;
    wire [3:0] status;
    wire       _unused = &{1'b0, irq};

    uart_system #(
        .CLOCKS_PER_BIT(CLOCKS_PER_BIT), .TIMER(TIMER), .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH),
        .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH), .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE),
        .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE),
        .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) system (
        .clk(clk),
        .clk_2x(1'b0),
        .rst(rst),
        .rxd(ftdi_txd),
        .txd(ftdi_rxd),
        .irq(irq),
        .status(status)
    );

    reg [24:0] heartbeat;
    reg [7:0]  lights;

    assign led = lights;

    always @(posedge clk) begin
        heartbeat <= heartbeat + 1'b1;
        lights <= {rst | !locked, status, !ftdi_rxd, !ftdi_txd, heartbeat[24]};
        if (rst) heartbeat <= 25'd0;
    end

endmodule

`resetall
