// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane: `result`, a cycle after `sum` and the controls.

`resetall
`default_nettype none

module accumulator #(
    // bits of `sum`, with its sign; the rest repeat it
    parameter WIDTH = 32
) (
    input  wire               clk,
    input  wire signed [31:0] sum,
    // sum is to be accumulated
    input  wire               valid,
    // it replaces the accumulator
    input  wire               replaces,
    // ... but only if it is larger; what stands there replaced it in the same way
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
    // what is compared replaced the accumulator, so it has as few bits as `sum`
    wire [WIDTH:0] above = {sum[WIDTH-1], sum[WIDTH-1:0]} - {result[WIDTH-1], result[WIDTH-1:0]};
    wire        keep    = compares & above[WIDTH];
    wire        _unused = &{1'b0, total[0], above};

    always @(posedge clk) if (valid & ~keep) result <= total[32:1];

endmodule

`resetall
