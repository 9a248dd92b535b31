// SPDX-License-Identifier: Apache-2.0
// One bit in several registers of the ECP5, in place of rtl/copies.v: the same ports and latency. They are cells, which yosys
// does not make one of.

`resetall
`default_nettype none

module copies #(
    parameter COPIES = 2
) (
    input  wire              clk,
    input  wire              in,
    output wire [COPIES-1:0] out
);

    genvar i;
    generate
        for (i = 0; i < COPIES; i = i + 1) begin : gen_copy
            TRELLIS_FF #(
                .GSR("DISABLED"), .CEMUX("1"), .CLKMUX("CLK"), .LSRMUX("LSR"), .REGSET("RESET")
            ) copy (
                .CLK(clk), .LSR(1'b0), .DI(in), .Q(out[i])
            );
        end
    endgenerate

endmodule

`resetall
