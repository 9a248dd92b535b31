// SPDX-License-Identifier: Apache-2.0
// The MAC array: ROWS input lanes x COLS output lanes. Every output lane has ROWS multipliers: operand and weight of row r,
// column c at x and w[8*(c*ROWS + r) +: 8]; result of column c at results[32*c +: 32].
// Timing as in mac_lane.v; one word a cycle.

`resetall
`default_nettype none

module mac_array #(
    // input lanes
    parameter ROWS = 8,
    // output lanes
    parameter COLS = 8
) (
    input  wire                   clk,
    input  wire [8*ROWS*COLS-1:0] x,
    input  wire [8*ROWS*COLS-1:0] w,
    input  wire                   sum_valid,
    input  wire                   sum_first,
    input  wire                   sum_subtract,
    input  wire                   sum_scale_up,
    input  wire                   sum_max,
    output wire [32*COLS-1:0]     results
);

    genvar c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : gen_lane
            mac_lane #(.ROWS(ROWS)) lane (
                .clk          (clk),
                .x            (x[8*ROWS*c +: 8*ROWS]),
                .w            (w[8*ROWS*c +: 8*ROWS]),
                .sum_valid    (sum_valid),
                .sum_first    (sum_first),
                .sum_subtract (sum_subtract),
                .sum_scale_up (sum_scale_up),
                .sum_max      (sum_max),
                .result       (results[32*c +: 32])
            );
        end
    endgenerate

endmodule

`resetall
