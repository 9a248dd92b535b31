// SPDX-License-Identifier: Apache-2.0
// Simulation model of the iCE40 UltraPlus' multiplier block as constraints/ice40/ uses it: registered operands and products, a
// 16 x 16 product of latency 3, or 4 through the adders' registers, or two 8 x 8 products of latency 3. The adders add zero.
// Any other setting ends the simulation.

`resetall
`default_nettype none

module SB_MAC16 #(
    parameter [0:0] A_REG = 1'b0,
    parameter [0:0] B_REG = 1'b0,
    parameter [0:0] TOP_8x8_MULT_REG = 1'b0,
    parameter [0:0] BOT_8x8_MULT_REG = 1'b0,
    parameter [0:0] PIPELINE_16x16_MULT_REG1 = 1'b0,
    parameter [0:0] PIPELINE_16x16_MULT_REG2 = 1'b0,
    parameter [1:0] TOPOUTPUT_SELECT = 2'b00,
    parameter [1:0] TOPADDSUB_LOWERINPUT = 2'b00,
    parameter [0:0] TOPADDSUB_UPPERINPUT = 1'b0,
    parameter [1:0] BOTOUTPUT_SELECT = 2'b00,
    parameter [1:0] BOTADDSUB_LOWERINPUT = 2'b00,
    parameter [0:0] BOTADDSUB_UPPERINPUT = 1'b0,
    parameter [0:0] MODE_8x8 = 1'b0,
    parameter [0:0] A_SIGNED = 1'b0,
    parameter [0:0] B_SIGNED = 1'b0
) (
    input  wire        CLK,
    input  wire        CE,
    input  wire [15:0] A,
    input  wire [15:0] B,
    input  wire [15:0] C,
    input  wire [15:0] D,
    input  wire        AHOLD,
    input  wire        BHOLD,
    input  wire        CHOLD,
    input  wire        DHOLD,
    input  wire        IRSTTOP,
    input  wire        IRSTBOT,
    input  wire        ORSTTOP,
    input  wire        ORSTBOT,
    input  wire        OLOADTOP,
    input  wire        OLOADBOT,
    input  wire        OHOLDTOP,
    input  wire        OHOLDBOT,
    input  wire        ADDSUBTOP,
    input  wire        ADDSUBBOT,
    input  wire        CI,
    input  wire        ACCUMCI,
    input  wire        SIGNEXTIN,
    output wire [31:0] O,
    output wire        CO,
    output wire        ACCUMCO,
    output wire        SIGNEXTOUT
);

    localparam BYTES = (MODE_8x8 != 0);
    localparam ADDED = (TOPOUTPUT_SELECT == 2'b01);
    localparam LEGAL = A_REG && B_REG && TOP_8x8_MULT_REG && BOT_8x8_MULT_REG
        && PIPELINE_16x16_MULT_REG1 == !BYTES && PIPELINE_16x16_MULT_REG2 == !BYTES
        && TOPADDSUB_UPPERINPUT && BOTADDSUB_UPPERINPUT
        && TOPOUTPUT_SELECT == BOTOUTPUT_SELECT && TOPADDSUB_LOWERINPUT == BOTADDSUB_LOWERINPUT
        && (BYTES ? ADDED && TOPADDSUB_LOWERINPUT == 2'b01
            : TOPADDSUB_LOWERINPUT == 2'b10 && (ADDED || TOPOUTPUT_SELECT == 2'b11));

    reg        [15:0] a;
    reg        [15:0] b;
    reg        [31:0] product;
    reg        [31:0] summed;
    reg        [31:0] whole;
    wire signed [16:0] a_wide = {A_SIGNED & a[15], a};
    wire signed [16:0] b_wide = {B_SIGNED & b[15], b};
    wire signed [33:0] wide   = a_wide * b_wide;
    wire signed [15:0] top    = $signed({{8{A_SIGNED & a[15]}}, a[15:8]}) * $signed({{8{B_SIGNED & b[15]}}, b[15:8]});
    wire signed [15:0] bottom = $signed({{8{A_SIGNED & a[7]}}, a[7:0]}) * $signed({{8{B_SIGNED & b[7]}}, b[7:0]});

    // in the 16 x 16 mode the partial products have a register, their sum the next one
    always @(posedge CLK) begin
        a       <= A;
        b       <= B;
        product <= BYTES ? {top, bottom} : wide[31:0];
        summed  <= product;
        whole   <= BYTES ? product : summed;
    end

    assign O = ADDED ? whole : summed;
    assign CO = 1'b0;
    assign ACCUMCO = 1'b0;
    assign SIGNEXTOUT = 1'b0;

    wire idle = ~(|{AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT, OLOADTOP, OLOADBOT, OHOLDTOP, OHOLDBOT,
        ADDSUBTOP, ADDSUBBOT, CI, ACCUMCI, SIGNEXTIN, C, D}) & CE;

    always @(posedge CLK) if (!LEGAL || !idle) begin
        $display("SB_MAC16: a setting that this model does not have");
        $finish;
    end

    wire _unused = &{1'b0, wide[33:32]};

endmodule

`resetall
