// SPDX-License-Identifier: Apache-2.0
// Two int8 products of a Xilinx 7 series from one DSP48E1, in place of rtl/mul8_pair.v: the same ports and latency, no LUTs.
//
// The pre-adder makes 65536 * b1 + b0, the multiplier takes it times a, and the adder behind it adds 32768. Then bits 15:0 hold
// a * b0 + 32768, which is never negative, and nothing is borrowed from a * b1 in bits 31:16.

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

    wire [47:0] whole;

    assign product0 = {~whole[15], whole[14:0]};
    assign product1 = whole[31:16];

    // registers: A, D and B, the product, the sum
    DSP48E1 #(
        .A_INPUT("DIRECT"), .B_INPUT("DIRECT"), .USE_DPORT("TRUE"), .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"),
        .AREG(1), .ACASCREG(1), .ADREG(0), .BREG(1), .BCASCREG(1), .CREG(0), .DREG(1), .MREG(1), .PREG(1),
        .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0),
        .USE_PATTERN_DETECT("NO_PATDET")
    ) block (
        .CLK(clk),
        .A({{6{b1[7]}}, b1, 16'd0}),
        .D({{17{b0[7]}}, b0}),
        .B({{10{a[7]}}, a}),
        .C(48'd32768),
        .P(whole),
        // multiplier: (D + A2) * B2; sum: multiplier + C
        .INMODE(5'b00100), .OPMODE(7'b0110101), .ALUMODE(4'b0000), .CARRYIN(1'b0), .CARRYINSEL(3'b000),
        .CEA1(1'b0), .CEA2(1'b1), .CEAD(1'b0), .CEALUMODE(1'b0), .CEB1(1'b0), .CEB2(1'b1), .CEC(1'b0), .CECARRYIN(1'b0),
        .CECTRL(1'b0), .CED(1'b1), .CEINMODE(1'b0), .CEM(1'b1), .CEP(1'b1),
        .RSTA(1'b0), .RSTALLCARRYIN(1'b0), .RSTALUMODE(1'b0), .RSTB(1'b0), .RSTC(1'b0), .RSTCTRL(1'b0), .RSTD(1'b0),
        .RSTINMODE(1'b0), .RSTM(1'b0), .RSTP(1'b0),
        .ACIN(30'd0), .BCIN(18'd0), .PCIN(48'd0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0),
        .ACOUT(), .BCOUT(), .PCOUT(), .CARRYCASCOUT(), .CARRYOUT(), .MULTSIGNOUT(), .OVERFLOW(), .UNDERFLOW(),
        .PATTERNDETECT(), .PATTERNBDETECT()
    );

    wire _unused = &{1'b0, whole[47:32]};

endmodule

`resetall
