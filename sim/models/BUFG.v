// SPDX-License-Identifier: Apache-2.0
// Simulation model of a clock buffer of Xilinx 7.

`resetall
`default_nettype none

module BUFG (
    input  wire I,
    output wire O
);

    assign O = I;

endmodule

`resetall
