// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane on the iCE40, in place of rtl/accumulator.v: the same function with one adder and no
// selection behind it. What does not count is made zero in front of the adder, which fits the LUTs before a carry chain.

`resetall
`default_nettype none

module accumulator (
    input  wire               clk,
    input  wire signed [31:0] sum,
    // sum is to be accumulated
    input  wire               sum_valid,
    // it starts a new accumulation
    input  wire               sum_first,
    // it is subtracted instead of added
    input  wire               sum_subtract,
    // the accumulator counts 256 times
    input  wire               sum_scale_up,
    // the larger of accumulator and sum is kept instead
    input  wire               sum_max,
    output wire signed [31:0] result
);

    reg  signed [31:0] acc;
    wire               larger   = (acc > sum);
    wire               drop_acc = sum_first | (sum_max & ~larger);
    wire               drop_sum = ~sum_first & sum_max & larger;
    wire               negate   = sum_subtract & ~sum_first & ~sum_max;
    wire        [31:0] kept     = drop_acc ? 32'd0 : (sum_scale_up & ~sum_max) ? acc << 8 : acc;
    wire        [31:0] added    = drop_sum ? 32'd0 : sum ^ {32{negate}};

    assign result = acc;

    always @(posedge clk) if (sum_valid) acc <= kept + added + {31'd0, negate};

endmodule

`resetall
