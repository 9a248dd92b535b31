// SPDX-License-Identifier: Apache-2.0
// One SB_MAC16 of the iCE40 UltraPlus as a 16 x 16 multiplier with the block's own registers: product = a * b, one a cycle.
// Never with synth_ice40 -dsp: yosys 0.70 then overwrites the block's parameters.

`resetall
`default_nettype none

module ice40_mult #(
    // cycles: 3, or 4 through the registers behind the block's adders, which add zero
    parameter LATENCY = 3,
    // 1: a is two's complement, else unsigned; b is unsigned
    parameter [0:0] A_SIGNED = 1'b1
) (
    input  wire        clk,
    input  wire [15:0] a,
    input  wire [15:0] b,
    output wire [31:0] product
);

    localparam [1:0] SOURCE = (LATENCY == 4) ? 2'b01 : 2'b11;

    wire carry;
    wire carry_out;
    wire sign;
    wire _unused = &{1'b0, carry, carry_out, sign};

    SB_MAC16 #(
        .A_REG(1'b1), .B_REG(1'b1), .TOP_8x8_MULT_REG(1'b1), .BOT_8x8_MULT_REG(1'b1),
        .PIPELINE_16x16_MULT_REG1(1'b1), .PIPELINE_16x16_MULT_REG2(1'b1),
        .TOPADDSUB_LOWERINPUT(2'b10), .TOPADDSUB_UPPERINPUT(1'b1), .TOPOUTPUT_SELECT(SOURCE),
        .BOTADDSUB_LOWERINPUT(2'b10), .BOTADDSUB_UPPERINPUT(1'b1), .BOTOUTPUT_SELECT(SOURCE),
        .A_SIGNED(A_SIGNED), .B_SIGNED(1'b0)
    ) block (
        .CLK(clk), .CE(1'b1), .A(a), .B(b), .C(16'd0), .D(16'd0), .O(product),
        .AHOLD(1'b0), .BHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0),
        .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0),
        .OLOADTOP(1'b0), .OLOADBOT(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0), .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0),
        .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0), .CO(carry), .ACCUMCO(carry_out), .SIGNEXTOUT(sign)
    );

endmodule

`resetall
