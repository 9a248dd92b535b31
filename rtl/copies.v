// SPDX-License-Identifier: Apache-2.0
// One bit in several registers, for what it goes to lies far apart: COPIES registers, all of them `in` of the cycle before.
// Synthesis makes one register of them where a family has no copies.v of its own.

`resetall
`default_nettype none

module copies #(
    parameter COPIES = 2
) (
    input  wire              clk,
    input  wire              in,
    output reg  [COPIES-1:0] out
);

    always @(posedge clk) out <= {COPIES{in}};

endmodule

`resetall
