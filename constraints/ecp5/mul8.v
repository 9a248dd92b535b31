// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier of the ECP5, in place of rtl/mul8.v: the same ports and latency, the block's own registers.
// The operands lie in the upper bits of the block's: zeros below are part of its configuration, where copies of a sign above
// would be twenty wires more.

`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] product
);

    wire [35:0] whole;

    ecp5_mult mult (.clk(clk), .a({a, 10'd0}), .b({b, 10'd0}), .product(whole));

    always @(posedge clk) product <= whole[35:20];

    wire _unused = &{1'b0, whole[19:0]};

endmodule

`resetall
