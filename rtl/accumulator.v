// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane. `result` is its next value, in the cycle of `sum` and of the controls.

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
    wire signed [31:0] scaled = sum_scale_up ? acc <<< 8 : acc;
    wire signed [31:0] total  = sum_subtract ? scaled - sum : scaled + sum;
    wire signed [31:0] larger = (acc > sum) ? acc : sum;

    assign result = sum_first ? sum : sum_max ? larger : total;

    always @(posedge clk) if (sum_valid) acc <= result;

endmodule

`resetall
