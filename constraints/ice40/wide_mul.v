// SPDX-License-Identifier: Apache-2.0
// The requantiser's product on the iCE40, in place of rtl/wide_mul.v: the same ports and latency, four SB_MAC16 of 16 x 16.

`resetall
`default_nettype none

module wide_mul (
    input  wire               clk,
    input  wire signed [31:0] value,
    input  wire        [30:0] multiplier,
    output reg  signed [62:0] product
);

    wire [31:0] low_low;
    wire [31:0] low_high;
    wire [31:0] high_low;
    wire [31:0] high_high;
    wire [15:0] multiplier_high = {1'b0, multiplier[30:16]};

    ice40_mult #(.A_SIGNED(1'b0), .B_SIGNED(1'b0)) mul_ll (.clk(clk), .a(value[15:0]),  .b(multiplier[15:0]), .product(low_low));
    ice40_mult #(.A_SIGNED(1'b0), .B_SIGNED(1'b0)) mul_lh (.clk(clk), .a(value[15:0]),  .b(multiplier_high),  .product(low_high));
    ice40_mult #(.A_SIGNED(1'b1), .B_SIGNED(1'b0)) mul_hl (.clk(clk), .a(value[31:16]), .b(multiplier[15:0]), .product(high_low));
    ice40_mult #(.A_SIGNED(1'b1), .B_SIGNED(1'b0)) mul_hh (.clk(clk), .a(value[31:16]), .b(multiplier_high),  .product(high_high));

    reg signed [32:0] middle;
    reg        [62:0] outer;
    wire signed [62:0] middle_aligned = {{14{middle[32]}}, middle, 16'd0};

    always @(posedge clk) begin
        middle  <= $signed({1'b0, low_high}) + $signed({high_low[31], high_low});
        outer   <= {high_high[30:0], low_low};
        product <= $signed(outer) + middle_aligned;
    end

endmodule

`resetall
