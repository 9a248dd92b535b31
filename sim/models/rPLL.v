// SPDX-License-Identifier: Apache-2.0
// Simulation model of Gowin's PLL: passes its input clock on, whatever the dividers say, and locks after 16 clocks.
// Refuses settings that no rPLL here can lock with: the oscillator at 400 to 1250 MHz, fed back inside, nothing dynamic.

`resetall
`default_nettype none

module rPLL #(
    // MHz, for the check only
    parameter CLKIN_MHZ = 27,
    parameter FCLKIN = "100.0",
    parameter IDIV_SEL = 0,
    parameter FBDIV_SEL = 0,
    parameter ODIV_SEL = 8,
    parameter CLKFB_SEL = "internal"
) (
    input  wire       CLKIN,
    input  wire       CLKFB,
    output wire       CLKOUT,
    output wire       CLKOUTP,
    output wire       CLKOUTD,
    output wire       CLKOUTD3,
    output wire       LOCK,
    input  wire       RESET,
    input  wire       RESET_P,
    input  wire [5:0] FBDSEL,
    input  wire [5:0] IDSEL,
    input  wire [5:0] ODSEL,
    input  wire [3:0] DUTYDA,
    input  wire [3:0] PSDA,
    input  wire [3:0] FDLY
);

    localparam VCO = CLKIN_MHZ * (FBDIV_SEL + 1) * ODIV_SEL;

    reg [4:0] count;

    assign CLKOUT = CLKIN;
    assign CLKOUTP = 1'b0;
    assign CLKOUTD = 1'b0;
    assign CLKOUTD3 = 1'b0;
    assign LOCK = count[4];

    always @(posedge CLKIN) if (!LOCK) count <= count + 1'b1;

    initial begin
        count = 5'd0;
        if (VCO < 400 * (IDIV_SEL + 1) || VCO > 1250 * (IDIV_SEL + 1) || CLKIN_MHZ < 3 * (IDIV_SEL + 1) || IDIV_SEL > 63 ||
            FBDIV_SEL > 63 || CLKFB_SEL != "internal" || FCLKIN != "27") begin
            $display("rPLL: settings out of range");
            $finish;
        end
    end

    wire _unused = &{1'b0, CLKFB, RESET, RESET_P, FBDSEL, IDSEL, ODSEL, DUTYDA, PSDA, FDLY};

endmodule

`resetall
