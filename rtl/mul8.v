// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier: product = a * b, both signed.
// Latency 3 (registered inputs, product, one more register), one product a cycle: the shape of an FPGA multiplier block.

`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] product
);

    reg signed [7:0]  a_in;
    reg signed [7:0]  b_in;
    reg signed [15:0] multiplied;

    always @(posedge clk) begin
        a_in <= a;
        b_in <= b;
        multiplied <= a_in * b_in;
        product <= multiplied;
    end

endmodule

`resetall
