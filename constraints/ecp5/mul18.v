// SPDX-License-Identifier: Apache-2.0
// One 18 x 18 signed multiplier of the ECP5, in place of rtl/mul18.v: the same ports and latency, the block's own registers.

`resetall
`default_nettype none

module mul18 (
    input  wire               clk,
    input  wire signed [17:0]  a,
    input  wire signed [17:0]  b,
    output reg  signed [35:0] product
);

    wire [35:0] whole;

    ecp5_mult mult (.clk(clk), .a(a), .b(b), .product(whole));

    always @(posedge clk) product <= whole;

endmodule

`resetall
