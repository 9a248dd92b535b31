// SPDX-License-Identifier: Apache-2.0
// Simulation model of the iCE40's PLL behind a pad, with two outputs: passes its input clock on, whatever the dividers say, and
// half of it, edges together; locks after 16 clocks. Refuses settings that the real one cannot lock with: the oscillator at 533
// to 1066 MHz, the output at 16 to 275 MHz.

`resetall
`default_nettype none

module SB_PLL40_2F_PAD #(
    // MHz, for the check only
    parameter PAD_MHZ = 12,
    parameter FEEDBACK_PATH = "SIMPLE",
    parameter [3:0] DIVR = 4'd0,
    parameter [6:0] DIVF = 7'd0,
    parameter [2:0] DIVQ = 3'd0,
    parameter [2:0] FILTER_RANGE = 3'd0,
    parameter PLLOUT_SELECT_PORTA = "GENCLK",
    parameter PLLOUT_SELECT_PORTB = "GENCLK"
) (
    input  wire PACKAGEPIN,
    output wire PLLOUTGLOBALA,
    output reg  PLLOUTGLOBALB,
    output wire LOCK,
    input  wire RESETB,
    input  wire BYPASS
);

    localparam integer VCO = PAD_MHZ * ({25'd0, DIVF} + 1);
    reg [4:0] count;

    assign PLLOUTGLOBALA = PACKAGEPIN;
    assign LOCK = count[4];

    // at once, so that the edges of both are one
    /* verilator lint_off BLKSEQ */
    always @(posedge PACKAGEPIN) PLLOUTGLOBALB = ~PLLOUTGLOBALB;
    /* verilator lint_on BLKSEQ */
    always @(posedge PACKAGEPIN) if (!LOCK) count <= count + 1'b1;

    initial begin
        count = 5'd0;
        PLLOUTGLOBALB = 1'b0;
        if (FEEDBACK_PATH != "SIMPLE" || PLLOUT_SELECT_PORTA != "GENCLK" || PLLOUT_SELECT_PORTB != "GENCLK_HALF"
            || DIVR != 4'd0 || VCO < 533 || VCO > 1066 || DIVQ == 3'd0 || DIVQ == 3'd7
            || VCO < 16 << DIVQ || VCO > 275 << DIVQ || FILTER_RANGE != 3'd1 || !RESETB || BYPASS) begin
            $display("SB_PLL40_2F_PAD: settings out of range");
            $finish;
        end
    end

endmodule

`resetall
