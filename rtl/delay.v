// SPDX-License-Identifier: Apache-2.0
// A delay line: out is in of CYCLES cycles ago (CYCLES may be 0). Where RESET is 1, rst clears it; data need no reset.

`resetall
`default_nettype none

module delay #(
    // bits
    parameter WIDTH = 1,
    // cycles
    parameter CYCLES = 1,
    // 1: rst clears the line
    parameter RESET = 0
) (
    input  wire             clk,
    input  wire             rst,
    input  wire [WIDTH-1:0] in,
    output wire [WIDTH-1:0] out
);

    generate
        if (CYCLES == 0) begin : gen_wire
            wire _unused = &{1'b0, clk, rst};
            assign out = in;
        end else begin : gen_line
            reg  [WIDTH*CYCLES-1:0]     line;
            wire [WIDTH*(CYCLES+1)-1:0] shifted = {line, in};
            assign out = line[WIDTH*(CYCLES-1) +: WIDTH];
            always @(posedge clk) begin
                line <= shifted[WIDTH*CYCLES-1:0];
                if (RESET != 0 && rst) line <= {WIDTH*CYCLES{1'b0}};
            end
            wire _unused = &{1'b0, rst, shifted[WIDTH*CYCLES +: WIDTH]};
        end
    endgenerate

endmodule

`resetall
