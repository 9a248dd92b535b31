// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier of Gowin's GW1N and GW2A, in place of rtl/mul8.v: the same ports and latency. MULT9X9 holds all three
// registers (inputs, product, output): synthesis does not put registers into the block by itself.

`resetall
`default_nettype none

module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output wire signed [15:0] product
);

    wire [17:0] whole;
    wire [8:0]  unused_a;
    wire [8:0]  unused_b;

    MULT9X9 #(
        .AREG(1'b1), .BREG(1'b1), .PIPE_REG(1'b1), .OUT_REG(1'b1),
        .ASIGN_REG(1'b0), .BSIGN_REG(1'b0), .SOA_REG(1'b0), .MULT_RESET_MODE("SYNC")
    ) block (
        .CLK(clk), .CE(1'b1), .RESET(1'b0),
        .A({a[7], a}), .B({b[7], b}), .ASIGN(1'b1), .BSIGN(1'b1),
        .SIA(9'd0), .SIB(9'd0), .ASEL(1'b0), .BSEL(1'b0),
        .DOUT(whole), .SOA(unused_a), .SOB(unused_b)
    );

    assign product = whole[15:0];

    wire _unused = &{1'b0, whole[17:16], unused_a, unused_b};

endmodule

`resetall
