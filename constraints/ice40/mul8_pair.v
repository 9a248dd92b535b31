// SPDX-License-Identifier: Apache-2.0
// Two int8 products of the iCE40 UltraPlus from one SB_MAC16, in place of rtl/mul8_pair.v: the same ports and latency, all
// three registers in the block (the third one behind its adders, which add zero). Never with synth_ice40 -dsp: yosys 0.70
// then overwrites the block's parameters.

`resetall
`default_nettype none

module mul8_pair (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b0,
    input  wire signed [7:0]  b1,
    output wire signed [15:0] product0,
    output wire signed [15:0] product1
);

    wire carry;
    wire carry_out;
    wire sign;
    wire _unused = &{1'b0, carry, carry_out, sign};

    SB_MAC16 #(
        .A_REG(1'b1), .B_REG(1'b1), .TOP_8x8_MULT_REG(1'b1), .BOT_8x8_MULT_REG(1'b1), .MODE_8x8(1'b1),
        .A_SIGNED(1'b1), .B_SIGNED(1'b1),
        .TOPADDSUB_LOWERINPUT(2'b01), .TOPADDSUB_UPPERINPUT(1'b1), .TOPOUTPUT_SELECT(2'b01),
        .BOTADDSUB_LOWERINPUT(2'b01), .BOTADDSUB_UPPERINPUT(1'b1), .BOTOUTPUT_SELECT(2'b01)
    ) block (
        .CLK(clk), .CE(1'b1), .A({a, a}), .B({b1, b0}), .C(16'd0), .D(16'd0), .O({product1, product0}),
        .AHOLD(1'b0), .BHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0),
        .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0),
        .OLOADTOP(1'b0), .OLOADBOT(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0), .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0),
        .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0), .CO(carry), .ACCUMCO(carry_out), .SIGNEXTOUT(sign)
    );

endmodule

`resetall
