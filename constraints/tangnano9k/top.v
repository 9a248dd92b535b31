// SPDX-License-Identifier: Apache-2.0
// Sipeed Tang Nano 9K (Gowin GW1NR-9): pins around tang_nano. LEDs are lit by a low level; the button is low
// when pressed.

`resetall
`default_nettype none

module top #(
    // those of tang_nano
    parameter PLL_MULTIPLY = 1,
    parameter PLL_DIVIDE = 1,
    parameter PLL_POST = 32,
    parameter CLOCKS_PER_BIT = 234,
    parameter TIMER = 22,
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 1,
    parameter ACT_DEPTH = 1024,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 512,
    parameter PRG_DEPTH = 512,
    parameter LAYERS = 512,
    parameter TABLES = 0,
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire       clk_27mhz,
    // to and from the board's USB serial chip, as the FPGA sees it
    input  wire       uart_rxd,
    output wire       uart_txd,
    input  wire       button_n,
    output wire [5:0] led_n
);

    wire [5:0] led;

    assign led_n = ~led;

    tang_nano #(
        .PLL_MULTIPLY(PLL_MULTIPLY), .PLL_DIVIDE(PLL_DIVIDE), .PLL_POST(PLL_POST), .CLOCKS_PER_BIT(CLOCKS_PER_BIT),
        .TIMER(TIMER), .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH),
        .PRM_DEPTH(PRM_DEPTH), .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .TABLES(TABLES), .WGT_FILE(WGT_FILE),
        .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE), .TAB_FILE(TAB_FILE)
    ) board (
        .clk_27mhz(clk_27mhz),
        .rxd(uart_rxd),
        .txd(uart_txd),
        .button(!button_n),
        .led(led)
    );

endmodule

`resetall
