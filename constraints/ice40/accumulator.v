// SPDX-License-Identifier: Apache-2.0
// The int32 accumulator of an output lane on the iCE40, in place of rtl/accumulator.v: the same function with one adder and no
// selection behind it. What does not count is made zero in front of the adder, which fits the LUTs before a carry chain.

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
    output wire signed [31:0] result
);

    reg  signed [31:0] acc;
    wire               drop_sum = compares & ($signed(acc[WIDTH-1:0]) > $signed(sum[WIDTH-1:0]));
    wire               drop_acc = replaces & ~drop_sum;
    wire        [31:0] kept     = drop_acc ? 32'd0 : (scale_up & ~compares) ? acc << 8 : acc;
    wire        [31:0] added    = drop_sum ? 32'd0 : sum ^ {32{minus}};

    assign result = acc;

    always @(posedge clk) if (valid) acc <= kept + added + {31'd0, minus};

endmodule

`resetall
