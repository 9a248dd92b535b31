// SPDX-License-Identifier: Apache-2.0
// Simulation model of the ECP5's multiplier block as constraints/ecp5/ecp5_mult.v uses it: signed, input and output registers
// on CLK0, no cascade. Any other setting ends the simulation.

`resetall
`default_nettype none

module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE",
    parameter REG_INPUTA_CE = "CE0",
    parameter REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE",
    parameter REG_INPUTB_CE = "CE0",
    parameter REG_INPUTB_RST = "RST0",
    parameter REG_PIPELINE_CLK = "NONE",
    parameter REG_OUTPUT_CLK = "NONE",
    parameter REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0"
) (
    input  wire CLK0, CE0, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input  wire A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11,
    input  wire A12, A13, A14, A15, A16, A17, B0, B1, B2, B3, B4, B5,
    input  wire B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
    input  wire C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11,
    input  wire C12, C13, C14, C15, C16, C17,
    output wire P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11,
    output wire P12, P13, P14, P15, P16, P17, P18, P19, P20, P21, P22, P23,
    output wire P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);

    wire signed [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire        [17:0] c = {C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0};
    wire signed [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    reg  signed [17:0] a_in;
    reg  signed [17:0] b_in;
    reg  signed [35:0] product;

    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = product;

    always @(posedge CLK0) begin
        if (CE0) begin
            a_in <= a;
            b_in <= b;
            product <= a_in * b_in;
        end
        if (RST0) begin
            a_in <= 18'sd0;
            b_in <= 18'sd0;
            product <= 36'sd0;
        end
    end

    initial begin
        if (REG_INPUTA_CLK != "CLK0" || REG_INPUTB_CLK != "CLK0" || REG_OUTPUT_CLK != "CLK0" || REG_PIPELINE_CLK != "NONE" ||
            REG_INPUTA_CE != "CE0" || REG_INPUTB_CE != "CE0" || REG_OUTPUT_CE != "CE0" ||
            REG_INPUTA_RST != "RST0" || REG_INPUTB_RST != "RST0" || REG_OUTPUT_RST != "RST0") begin
            $display("MULT18X18D: settings without a model");
            $finish;
        end
    end

    always @(posedge CLK0) if (!SIGNEDA || !SIGNEDB || SOURCEA || SOURCEB || (|c)) begin
        $display("MULT18X18D: inputs without a model");
        $finish;
    end

endmodule

`resetall
