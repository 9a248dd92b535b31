// SPDX-License-Identifier: Apache-2.0
// A delay line on the iCE40, in place of rtl/delay.v: the same ports. A long and wide one that nothing resets is a ring in
// block RAM, which costs no flip-flops; before it is filled its output is anything.

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
        end else if (RESET == 0 && CYCLES >= 3 && CYCLES <= 16 && WIDTH >= 32) begin : gen_ring
            // what does not fill a block of 16 bits would cost one more
            localparam WIDE = WIDTH / 16 * 16;
            localparam [3:0] BEHIND = CYCLES - 1;
            (* ram_style = "block" *) reg [WIDE-1:0] ring [0:15];
            reg [WIDE-1:0] oldest;
            reg [3:0]      place;

            initial place = 4'd0;
            always @(posedge clk) begin
                place       <= place + 4'd1;
                ring[place] <= in[WIDE-1:0];
                oldest      <= ring[place - BEHIND];
            end
            assign out[WIDE-1:0] = oldest;
            if (WIDE < WIDTH) begin : gen_rest
                reg [(WIDTH-WIDE)*CYCLES-1:0] line;
                always @(posedge clk) line <= {line[(WIDTH-WIDE)*(CYCLES-1)-1:0], in[WIDTH-1:WIDE]};
                assign out[WIDTH-1:WIDE] = line[(WIDTH-WIDE)*(CYCLES-1) +: WIDTH-WIDE];
            end
            wire _unused = &{1'b0, rst};
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
