// SPDX-License-Identifier: Apache-2.0
// Two int8 products that share an operand: product0 = a * b0, product1 = a * b1, all signed.
// Latency 3 as mul8, one pair a cycle. What a device's multiplier block does for two products at once stands in
// constraints/<family>/mul8_pair.v; this is what each of them must compute.

`resetall
`default_nettype none

module mul8_pair (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b0,
    input  wire signed [7:0]  b1,
    output reg  signed [15:0] product0,
    output reg  signed [15:0] product1
);

    reg signed [7:0]  a_in;
    reg signed [7:0]  b0_in;
    reg signed [7:0]  b1_in;
    reg signed [15:0] multiplied0;
    reg signed [15:0] multiplied1;

    always @(posedge clk) begin
        a_in <= a;
        b0_in <= b0;
        b1_in <= b1;
        multiplied0 <= a_in * b0_in;
        multiplied1 <= a_in * b1_in;
        product0 <= multiplied0;
        product1 <= multiplied1;
    end

endmodule

`resetall
