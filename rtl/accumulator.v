// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane: `result`, a cycle after `sum` and the controls.

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
    output reg  signed [31:0] result
);

    // one adder: a new accumulation, or a new maximum, is added to nothing. Its lowest bit carries in for a difference.
    wire        replaces = sum_first | sum_max;
    wire        minus    = sum_subtract & ~replaces;
    wire [31:0] base     = replaces ? 32'd0 : sum_scale_up ? {result[23:0], 8'd0} : result;
    wire [32:0] total    = {base, 1'b1} + {sum ^ {32{minus}}, minus};
    wire        keep     = sum_max & ~sum_first & (result > sum);
    wire        _unused  = &{1'b0, total[0]};

    always @(posedge clk) if (sum_valid & ~keep) result <= total[32:1];

endmodule

`resetall
