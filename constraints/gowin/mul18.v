// SPDX-License-Identifier: Apache-2.0
// One 18 x 18 signed multiplier of Gowin's GW1N and GW2A, in place of rtl/mul18.v: the same ports and latency. MULT18X18
// holds all three registers (inputs, product, output).

`resetall
`default_nettype none

module mul18 (
    input  wire               clk,
    input  wire signed [17:0] a,
    input  wire signed [17:0] b,
    output wire signed [35:0] product
);

    wire [17:0] unused_a;
    wire [17:0] unused_b;

    MULT18X18 #(
        .AREG(1'b1), .BREG(1'b1), .PIPE_REG(1'b1), .OUT_REG(1'b1),
        .ASIGN_REG(1'b0), .BSIGN_REG(1'b0), .SOA_REG(1'b0), .MULT_RESET_MODE("SYNC")
    ) block (
        .CLK(clk), .CE(1'b1), .RESET(1'b0),
        .A(a), .B(b), .ASIGN(1'b1), .BSIGN(1'b1),
        .SIA(18'd0), .SIB(18'd0), .ASEL(1'b0), .BSEL(1'b0),
        .DOUT(product), .SOA(unused_a), .SOB(unused_b)
    );

    wire _unused = &{1'b0, unused_a, unused_b};

endmodule

`resetall
