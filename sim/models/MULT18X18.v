// SPDX-License-Identifier: Apache-2.0
// Simulation model of Gowin's 18 x 18 multiplier as constraints/gowin/mul18.v uses it: signed, with input, product and output
// registers, no cascade. Any other setting ends the simulation.

`resetall
`default_nettype none

module MULT18X18 #(
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
    input  wire [17:0]  A,
    input  wire [17:0]  B,
    input  wire [17:0]  SIA,
    input  wire [17:0]  SIB,
    input  wire        ASIGN,
    input  wire        BSIGN,
    input  wire        ASEL,
    input  wire        BSEL,
    output reg  [35:0] DOUT,
    output wire [17:0]  SOA,
    output wire [17:0]  SOB
);

    reg signed [17:0]  a_in;
    reg signed [17:0]  b_in;
    reg signed [35:0] multiplied;

    assign SOA = 18'd0;
    assign SOB = 18'd0;

    always @(posedge CLK) begin
        if (CE) begin
            a_in <= A;
            b_in <= B;
            multiplied <= a_in * b_in;
            DOUT <= multiplied;
        end
        if (RESET) begin
            a_in <= 18'sd0;
            b_in <= 18'sd0;
            multiplied <= 36'sd0;
            DOUT <= 36'd0;
        end
    end

    initial if (!AREG || !BREG || !OUT_REG || !PIPE_REG || ASIGN_REG || BSIGN_REG || SOA_REG || MULT_RESET_MODE != "SYNC") begin
        $display("MULT18X18: settings without a model");
        $finish;
    end

    always @(posedge CLK) if (!ASIGN || !BSIGN || ASEL || BSEL || (|SIA) || (|SIB)) begin
        $display("MULT18X18: inputs without a model");
        $finish;
    end

endmodule

`resetall
