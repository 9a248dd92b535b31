// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier of the iCE40 UltraPlus, half an SB_MAC16, in place of rtl/mul8.v: the same ports and latency.

`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output wire signed [15:0] product
);

    wire signed [15:0] other;
    wire               _unused = &{1'b0, other};

    mul8_pair pair (.clk(clk), .a(a), .b0(b), .b1(8'sd0), .product0(product), .product1(other));

endmodule

`resetall
