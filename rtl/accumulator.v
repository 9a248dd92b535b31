// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane: `result`, a cycle after `sum` and the controls.

`resetall
`default_nettype none

module accumulator (
    input  wire               clk,
    input  wire signed [31:0] sum,
    // sum is to be accumulated
    input  wire               valid,
    // it replaces the accumulator
    input  wire               replaces,
    // ... but only if it is larger
    input  wire               compares,
    // it is subtracted instead of added
    input  wire               minus,
    // the accumulator counts 256 times
    input  wire               scale_up,
    output reg  signed [31:0] result
);

    // one adder: what replaces the accumulator is added to nothing. Its lowest bit carries in for a difference.
    wire [31:0] base    = replaces ? 32'd0 : scale_up ? {result[23:0], 8'd0} : result;
    wire [32:0] total   = {base, 1'b1} + {sum ^ {32{minus}}, minus};
    wire        keep    = compares & (result > sum);
    wire        _unused = &{1'b0, total[0]};

    always @(posedge clk) if (valid & ~keep) result <= total[32:1];

endmodule

`resetall
