// SPDX-License-Identifier: Apache-2.0
// The requantiser's product: int32 value times 31-bit unsigned multiplier, 63 bits signed, from four 18 x 18 multipliers.
// Latency 5 (mul18's 3, the middle sum, the whole sum), one product a cycle.

`resetall
`default_nettype none

module wide_mul (
    input  wire               clk,
    input  wire signed [31:0] value,
    input  wire        [30:0] multiplier,
    output reg  signed [62:0] product
);

    // value = high * 2^16 + low and multiplier likewise; only the high half of value has a sign
    wire signed [17:0] value_low       = {2'b00, value[15:0]};
    wire signed [17:0] value_high      = {{2{value[31]}}, value[31:16]};
    wire signed [17:0] multiplier_low  = {2'b00, multiplier[15:0]};
    wire signed [17:0] multiplier_high = {3'b000, multiplier[30:16]};

    wire signed [35:0] low_low;
    wire signed [35:0] low_high;
    wire signed [35:0] high_low;
    wire signed [35:0] high_high;

    mul18 mul_ll (.clk(clk), .a(value_low),  .b(multiplier_low),  .product(low_low));
    mul18 mul_lh (.clk(clk), .a(value_low),  .b(multiplier_high), .product(low_high));
    mul18 mul_hl (.clk(clk), .a(value_high), .b(multiplier_low),  .product(high_low));
    mul18 mul_hh (.clk(clk), .a(value_high), .b(multiplier_high), .product(high_high));

    reg signed [34:0] middle;
    reg        [62:0] outer;

    // the sum of the three lower products cannot pass bit 62, so the upper bits of the partial products are sign copies
    wire signed [62:0] middle_aligned = {{12{middle[34]}}, middle, 16'd0};
    wire _unused = &{1'b0, low_low[35:32], low_high[35], high_low[35], high_high[35:31]};

    always @(posedge clk) begin
        middle  <= low_high[34:0] + high_low[34:0];
        outer   <= {high_high[30:0], low_low[31:0]};
        product <= $signed(outer) + middle_aligned;
    end

endmodule

`resetall
