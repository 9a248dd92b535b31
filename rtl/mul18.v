// SPDX-License-Identifier: Apache-2.0
// One 18 x 18 signed multiplier, a building block of the requantiser's wide product.
// Latency 3 (registered inputs, product, one more register), one product a cycle.

`resetall
`default_nettype none

module mul18 (
    input  wire               clk,
    input  wire signed [17:0] a,
    input  wire signed [17:0] b,
    output reg  signed [35:0] product
);

    reg signed [17:0] a_in;
    reg signed [17:0] b_in;
    reg signed [35:0] multiplied;

    always @(posedge clk) begin
        a_in <= a;
        b_in <= b;
        multiplied <= a_in * b_in;
        product <= multiplied;
    end

endmodule

`resetall
