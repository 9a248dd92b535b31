// SPDX-License-Identifier: Apache-2.0
// Simulation model of the PLL of Xilinx 7 as constraints/arty_a7/top.v uses it: passes its input clock on, whatever the
// dividers say, and locks after 16 clocks. Refuses settings that the slowest speed grade (DS181) cannot lock with: the
// oscillator at 800 to 1600 MHz, its comparison at 19 to 450 MHz.

`resetall
`default_nettype none

module PLLE2_BASE #(
    // of the input, ns
    parameter real CLKIN1_PERIOD = 0.0,
    parameter CLKFBOUT_MULT = 5,
    parameter DIVCLK_DIVIDE = 1,
    parameter CLKOUT0_DIVIDE = 1
) (
    input  wire CLKIN1,
    input  wire CLKFBIN,
    output wire CLKFBOUT,
    output wire CLKOUT0,
    output wire CLKOUT1,
    output wire CLKOUT2,
    output wire CLKOUT3,
    output wire CLKOUT4,
    output wire CLKOUT5,
    output wire LOCKED,
    input  wire PWRDWN,
    input  wire RST
);

    reg [4:0] count;

    assign CLKFBOUT = CLKIN1;
    assign CLKOUT0 = CLKIN1;
    assign {CLKOUT1, CLKOUT2, CLKOUT3, CLKOUT4, CLKOUT5} = 5'd0;
    assign LOCKED = count[4];

    always @(posedge CLKIN1) if (!LOCKED) count <= count + 1'b1;

    initial begin
        count = 5'd0;
        if (1000.0 * CLKFBOUT_MULT < 800.0 * CLKIN1_PERIOD * DIVCLK_DIVIDE ||
            1000.0 * CLKFBOUT_MULT > 1600.0 * CLKIN1_PERIOD * DIVCLK_DIVIDE ||
            1000.0 < 19.0 * CLKIN1_PERIOD * DIVCLK_DIVIDE || 1000.0 > 450.0 * CLKIN1_PERIOD * DIVCLK_DIVIDE ||
            CLKFBOUT_MULT < 2 || CLKFBOUT_MULT > 64 || CLKOUT0_DIVIDE < 1 || CLKOUT0_DIVIDE > 128) begin
            $display("PLLE2_BASE: settings out of range");
            $finish;
        end
    end

    wire _unused = &{1'b0, CLKFBIN, PWRDWN, RST};

endmodule

`resetall
