// SPDX-License-Identifier: Apache-2.0
// One int8 multiplier for Xilinx 7, in place of rtl/mul8.v: the same, told to become a DSP48E1, which an 8 x 8 product is
// too small for by Vivado's own choice. Latency 3, one product a cycle: the block's registers A, B, M and P.

`resetall
`default_nettype none

(* use_dsp = "yes" *)
module mul8 (
    input  wire               clk,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] product
);

    reg signed [7:0]  a_in;
    reg signed [7:0]  b_in;
    reg signed [15:0] multiplied;

    always @(posedge clk) begin
        a_in <= a;
        b_in <= b;
        multiplied <= a_in * b_in;
        product <= multiplied;
    end

endmodule

`resetall
