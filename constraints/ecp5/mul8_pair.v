// SPDX-License-Identifier: Apache-2.0
// Two int8 products of the ECP5 from one 18 x 18 block, in place of rtl/mul8_pair.v: the same ports and latency.
//
// The block multiplies a by 1024 * b1 + u, u being b0 taken as unsigned: 18 signed bits hold that whatever b0 and b1 are. The
// product, 1024 * a * b1 + a * u, has a * b1 from bit 10 on and a * u in bits 15:0, so six bits overlap. LUTs compute
// a * b1 mod 64, which parts them. The bits from 16 on hold a * b1 / 64 less one where a * u is negative, and a carry from
// the overlap. Last, u is 256 more than b0 where b0 is negative.

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

    // a in the upper bits, as in mul8.v: bits 9:0 of the block's product are zero
    wire [25:0] whole;
    wire [9:0]  zeros;

    ecp5_mult mult (.clk(clk), .a({a, 10'd0}), .b({b1, 2'b00, b0}), .product({whole, zeros}));

    // with the block's input registers; yosys makes one of what comes from `a` alone, for all pairs that share it
    reg [7:0] a_in;
    reg [5:0] triple;
    reg [5:0] b1_in;
    reg       b0_negative;
    reg       below;

    always @(posedge clk) begin
        a_in <= a;
        triple <= a[5:0] + {a[4:0], 1'b0};
        b1_in <= b1[5:0];
        b0_negative <= b0[7];
        below <= a[7] & (|b0);
    end

    // a * b1 mod 64: a times two bits of b1 each; yosys would give a `*` another block
    wire [5:0] times_10 = b1_in[1] ? (b1_in[0] ? triple : {a_in[4:0], 1'b0}) : ({6{b1_in[0]}} & a_in[5:0]);
    wire [3:0] times_32 = b1_in[3] ? (b1_in[2] ? triple[3:0] : {a_in[2:0], 1'b0}) : ({4{b1_in[2]}} & a_in[3:0]);
    wire [1:0] times_54 = {(b1_in[4] & a_in[1]) ^ (b1_in[5] & a_in[0]), b1_in[4] & a_in[0]};
    // times_32[3:2] + times_54, in LUTs rather than another carry chain
    wire [1:0] top      = {times_32[3] ^ times_54[1] ^ (times_32[2] & times_54[0]), times_32[2] ^ times_54[0]};
    wire [5:0] low_next = times_10 + {top, times_32[1:0], 2'b00};

    // with the block's output registers; `taken` is what bits 15:8 hold that a * b0 does not
    reg [5:0] low;
    reg [7:0] taken;
    reg       negative;

    always @(posedge clk) begin
        low <= low_next;
        taken <= {low_next, 2'b00} + ({8{b0_negative}} & a_in);
        negative <= below;
    end

    // bits 25:10 less a * b1 mod 64 and less the sign of a * u
    wire [15:0] upper = whole[25:10] - {{10{negative}}, low};

    always @(posedge clk) begin
        product0 <= {whole[15:8] - taken, whole[7:0]};
        product1 <= {upper[15:6], low};
    end

    wire _unused = &{1'b0, zeros, upper[5:0]};

endmodule

`resetall
