// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier of the ECP5, in place of rtl/mul8.v: the same ports and latency, the block's own registers.

`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] product
);

    wire [35:0] whole;

    ecp5_mult mult (.clk(clk), .a({{10{a[7]}}, a}), .b({{10{b[7]}}, b}), .product(whole));

    always @(posedge clk) product <= whole[15:0];

    wire _unused = &{1'b0, whole[35:16]};

endmodule

`resetall
