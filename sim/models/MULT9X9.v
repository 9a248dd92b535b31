// SPDX-License-Identifier: Apache-2.0
// Simulation model of Gowin's 9 x 9 multiplier as constraints/gowin/mul8.v uses it: signed, with input, product and output
// registers, no cascade. Any other setting ends the simulation.

`resetall
`default_nettype none

module MULT9X9 #(
    parameter AREG = 1'b0,
    parameter BREG = 1'b0,
    parameter OUT_REG = 1'b0,
    parameter PIPE_REG = 1'b0,
    parameter ASIGN_REG = 1'b0,
    parameter BSIGN_REG = 1'b0,
    parameter SOA_REG = 1'b0,
    parameter MULT_RESET_MODE = "SYNC"
) (
    input  wire        CLK,
    input  wire        CE,
    input  wire        RESET,
    input  wire [8:0]  A,
    input  wire [8:0]  B,
    input  wire [8:0]  SIA,
    input  wire [8:0]  SIB,
    input  wire        ASIGN,
    input  wire        BSIGN,
    input  wire        ASEL,
    input  wire        BSEL,
    output reg  [17:0] DOUT,
    output wire [8:0]  SOA,
    output wire [8:0]  SOB
);

    reg signed [8:0]  a_in;
    reg signed [8:0]  b_in;
    reg signed [17:0] multiplied;

    assign SOA = 9'd0;
    assign SOB = 9'd0;

    always @(posedge CLK) begin
        if (CE) begin
            a_in <= A;
            b_in <= B;
            multiplied <= a_in * b_in;
            DOUT <= multiplied;
        end
        if (RESET) begin
            a_in <= 9'sd0;
            b_in <= 9'sd0;
            multiplied <= 18'sd0;
            DOUT <= 18'd0;
        end
    end

    initial if (!AREG || !BREG || !OUT_REG || !PIPE_REG || ASIGN_REG || BSIGN_REG || SOA_REG || MULT_RESET_MODE != "SYNC") begin
        $display("MULT9X9: settings without a model");
        $finish;
    end

    always @(posedge CLK) if (!ASIGN || !BSIGN || ASEL || BSEL || (|SIA) || (|SIB)) begin
        $display("MULT9X9: inputs without a model");
        $finish;
    end

endmodule

`resetall
