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

    wire [15:0] value_low       = value[15:0];
    wire [15:0] value_high      = value[31:16];
    wire [15:0] multiplier_low  = multiplier[15:0];
    wire [15:0] multiplier_high = {1'b0, multiplier[30:16]};

    wire [31:0] low_low;
    wire [31:0] low_high;
    wire [31:0] high_low;
    wire [31:0] high_high;

    // the outer products wait in their blocks for the sum of the middle ones
    ice40_mult #(.LATENCY(4), .A_SIGNED(1'b0)) mul_ll (.clk(clk), .a(value_low),  .b(multiplier_low),  .product(low_low));
    ice40_mult #(.LATENCY(3), .A_SIGNED(1'b0)) mul_lh (.clk(clk), .a(value_low),  .b(multiplier_high), .product(low_high));
    ice40_mult #(.LATENCY(3), .A_SIGNED(1'b1)) mul_hl (.clk(clk), .a(value_high), .b(multiplier_low),  .product(high_low));
    ice40_mult #(.LATENCY(4), .A_SIGNED(1'b1)) mul_hh (.clk(clk), .a(value_high), .b(multiplier_high), .product(high_high));

    reg signed [32:0] middle;

    wire signed [62:0] outer          = {high_high[30:0], low_low};
    wire signed [62:0] middle_aligned = {{14{middle[32]}}, middle, 16'd0};
    wire               _unused        = &{1'b0, high_high[31]};

    always @(posedge clk) begin
        middle  <= $signed({1'b0, low_high}) + $signed({high_low[31], high_low});
        product <= outer + middle_aligned;
    end

endmodule

`resetall
