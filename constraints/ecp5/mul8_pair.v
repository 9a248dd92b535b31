// SPDX-License-Identifier: Apache-2.0
// Two int8 products of the ECP5 from one 18 x 18 block, in place of rtl/mul8_pair.v: the same ports and latency.
//
// The block multiplies a by 1024 * b1 + u with u = b0 taken as unsigned, which fits 18 signed bits whatever b0 and b1 are.
// Its product, 1024 * a * b1 + a * u, holds a * b1 from bit 10 on and a * u in bits 15:0: six bits overlap. There
// a * b1 mod 64 is wanted, the only thing that a small multiplier of LUTs computes. What is left of bits 15:10 is
// high = a * u >> 10, whose sign says what a * u added to or took from the bits above. Last, b0 = u - 256 where b0 is negative.

`resetall
`default_nettype none

module mul8_pair (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b0,
    input  wire signed [7:0]  b1,
    output reg  signed [15:0] product0,
    output reg  signed [15:0] product1
);

    wire [35:0] whole;

    ecp5_mult mult (.clk(clk), .a({{10{a[7]}}, a}), .b({b1, 2'b00, b0}), .product(whole));

    // with the block's input registers
    reg [7:0] a_in;
    reg [5:0] b1_in;
    reg       b0_negative;

    always @(posedge clk) begin
        a_in <= a;
        b1_in <= b1[5:0];
        b0_negative <= b0[7];
    end

    // a * b1 mod 64, row by row: yosys would give a `*` another block
    wire [5:0] low_next = ({6{b1_in[0]}} & a_in[5:0]) + {{5{b1_in[1]}} & a_in[4:0], 1'b0}
        + {{4{b1_in[2]}} & a_in[3:0], 2'b00} + {{3{b1_in[3]}} & a_in[2:0], 3'b000}
        + {{2{b1_in[4]}} & a_in[1:0], 4'b0000} + {b1_in[5] & a_in[0], 5'b00000};

    // with the block's output registers; `taken` is what bits 15:8 hold that a * b0 does not
    reg [5:0] low;
    reg [7:0] taken;

    always @(posedge clk) begin
        low <= low_next;
        taken <= {low_next, 2'b00} + ({8{b0_negative}} & a_in);
    end

    wire       borrow;
    wire [5:0] high;
    assign {borrow, high} = {1'b0, whole[15:10]} - {1'b0, low};
    // a * b1 without its low bits: the block's bits less the borrow, and one more where a * u is negative; the lowest place
    // makes the carry
    wire        one_less = borrow & ~high[5];
    wire        one_more = high[5] & ~borrow;
    wire [10:0] upper = {whole[25:16], 1'b1} + {{10{one_less}}, one_more};

    always @(posedge clk) begin
        product0 <= {whole[15:8] - taken, whole[7:0]};
        product1 <= {upper[10:1], low};
    end

    wire _unused = &{1'b0, whole[35:26], high[4:0], upper[0]};

endmodule

`resetall
