// SPDX-License-Identifier: Apache-2.0
// Simulation model of the ECP5's PLL: passes its input clock on, whatever the dividers say, and locks after 16 clocks.
// Refuses settings that the real one cannot lock with: the oscillator at 400 to 800 MHz, fed back from CLKOP.

`resetall
`default_nettype none

module EHXPLLL #(
    // MHz, for the check only
    parameter CLKI_MHZ = 25,
    parameter CLKI_DIV = 1,
    parameter CLKFB_DIV = 1,
    parameter CLKOP_ENABLE = "ENABLED",
    parameter CLKOP_DIV = 8,
    parameter CLKOP_CPHASE = 0,
    parameter CLKOP_FPHASE = 0,
    parameter FEEDBK_PATH = "CLKOP",
    parameter OUTDIVIDER_MUXA = "DIVA",
    parameter PLLRST_ENA = "DISABLED",
    parameter INTFB_WAKE = "DISABLED",
    parameter STDBY_ENABLE = "DISABLED",
    parameter DPHASE_SOURCE = "DISABLED"
) (
    input  wire CLKI,
    input  wire CLKFB,
    output wire CLKOP,
    output wire LOCK,
    input  wire RST,
    input  wire STDBY,
    input  wire PHASESEL0,
    input  wire PHASESEL1,
    input  wire PHASEDIR,
    input  wire PHASESTEP,
    input  wire PHASELOADREG,
    input  wire PLLWAKESYNC,
    input  wire ENCLKOP
);

    reg [4:0] count;

    assign CLKOP = CLKI;
    assign LOCK = count[4];

    always @(posedge CLKI) if (!LOCK) count <= count + 1'b1;

    initial begin
        count = 5'd0;
        if (CLKI_MHZ * CLKFB_DIV * CLKOP_DIV < 400 * CLKI_DIV || CLKI_MHZ * CLKFB_DIV * CLKOP_DIV > 800 * CLKI_DIV ||
            CLKI_MHZ < 8 * CLKI_DIV || CLKOP_CPHASE >= CLKOP_DIV || CLKOP_FPHASE != 0 || CLKOP_ENABLE != "ENABLED" ||
            FEEDBK_PATH != "CLKOP" || OUTDIVIDER_MUXA != "DIVA" || PLLRST_ENA != "DISABLED" || INTFB_WAKE != "DISABLED" ||
            STDBY_ENABLE != "DISABLED" || DPHASE_SOURCE != "DISABLED") begin
            $display("EHXPLLL: settings out of range");
            $finish;
        end
    end

    wire _unused = &{1'b0, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, PLLWAKESYNC, ENCLKOP};

endmodule

`resetall
