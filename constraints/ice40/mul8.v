// SPDX-License-Identifier: Apache-2.0
`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output wire signed [15:0] product
);

    wire [31:0] whole;

    ice40_mult #(.PAIR(1)) mult (.clk(clk), .a({8'd0, a}), .b({8'd0, b}), .product(whole));
    assign product = whole[15:0];

endmodule

`resetall
