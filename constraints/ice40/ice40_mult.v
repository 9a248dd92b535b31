// SPDX-License-Identifier: Apache-2.0
// One SB_MAC16 of the iCE40 UltraPlus with all its registers in use. PAIR = 0: product = a * b, 16 x 16 bits. PAIR = 1: two
// products of signed bytes, product[16*i +: 16] = a[8*i +: 8] * b[8*i +: 8]. Latency 3, one result a cycle.

`resetall
`default_nettype none

module ice40_mult #(
    // 1: two products of bytes
    parameter PAIR = 0,
    // 1: two's complement, else unsigned
    parameter [0:0] A_SIGNED = 1'b1,
    parameter [0:0] B_SIGNED = 1'b1
) (
    input  wire        clk,
    input  wire [15:0] a,
    input  wire [15:0] b,
    output wire [31:0] product
);

    localparam [0:0] BYTES = (PAIR != 0);
    // third register: of the adders, which add C = D = 0 to the bytes' products; of the whole product
    localparam [1:0] SOURCE = BYTES ? 2'b01 : 2'b11;

    SB_MAC16 #(
        .NEG_TRIGGER(1'b0), .C_REG(1'b0), .A_REG(1'b1), .B_REG(1'b1), .D_REG(1'b0),
        .TOP_8x8_MULT_REG(1'b1), .BOT_8x8_MULT_REG(1'b1),
        .PIPELINE_16x16_MULT_REG1(!BYTES), .PIPELINE_16x16_MULT_REG2(!BYTES),
        .TOPOUTPUT_SELECT(SOURCE), .TOPADDSUB_LOWERINPUT(2'b01), .TOPADDSUB_UPPERINPUT(1'b1), .TOPADDSUB_CARRYSELECT(2'b00),
        .BOTOUTPUT_SELECT(SOURCE), .BOTADDSUB_LOWERINPUT(2'b01), .BOTADDSUB_UPPERINPUT(1'b1), .BOTADDSUB_CARRYSELECT(2'b00),
        .MODE_8x8(BYTES), .A_SIGNED(A_SIGNED), .B_SIGNED(B_SIGNED)
    ) block (
        .CLK(clk), .CE(1'b1), .A(a), .B(b), .C(16'd0), .D(16'd0), .O(product),
        .AHOLD(1'b0), .BHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0), .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0),
        .OLOADTOP(1'b0), .OLOADBOT(1'b0), .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0),
        .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0), .CO(), .ACCUMCO(), .SIGNEXTOUT()
    );

endmodule

`resetall
