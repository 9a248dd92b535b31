// SPDX-License-Identifier: Apache-2.0
// The one memory: a write port with an enable per slice, a read port with latency 2 (array, then output register).
// Contents at power-up come from INIT_FILE ($readmemh text, one word a line, as many lines as DEPTH), else they are zero.
// A word must not be read in the cycle that writes it: block RAMs differ in what they return (no_rw_check).

`resetall
`default_nettype none

module ram #(
    // bits of a word, a multiple of SLICE
    parameter WIDTH = 32,
    // bits that one write enable covers
    parameter SLICE = 32,
    // words
    parameter DEPTH = 512,
    // address bits: enough for DEPTH
    parameter ADDR = 9,
    // memory image, or "" for zeros
    parameter INIT_FILE = "",
    // words of a line of the image, lowest first; with more than one the image is for simulation only
    parameter LINE = 1,
    // 1: what is read while, or a cycle after, a word is written is not used: a memory with one port will do
    parameter EXCLUSIVE = 0,
    // 1: may lie in a family's large memories, whose contents at power-up are arbitrary
    parameter LARGE = 0
) (
    input  wire                     clk,
    // twice clk, their edges together: for a family whose memories are accessed twice a cycle, not looked at here
    input  wire                     clk_2x,
    input  wire [WIDTH/SLICE-1:0]   write_enable,
    input  wire [ADDR-1:0]          write_addr,
    input  wire [WIDTH-1:0]         write_data,
    input  wire [ADDR-1:0]          read_addr,
    output reg  [WIDTH-1:0]         read_data
);

    (* no_rw_check *) reg [WIDTH-1:0] mem [0:DEPTH-1];
    reg [WIDTH-1:0] fetched;
    integer i;

    generate
        if (INIT_FILE != "" && LINE == 1) begin : gen_image
            initial $readmemh(INIT_FILE, mem);
        end
`ifndef SYNTHESIS
        // a block RAM without an image powers up as zeros by itself
        if (INIT_FILE == "") begin : gen_zeros
            integer z;
            integer j;
            initial for (z = 0; z < DEPTH; z = z + 1) for (j = 0; j < WIDTH; j = j + SLICE) mem[z][j +: SLICE] = {SLICE{1'b0}};
        end else if (LINE > 1) begin : gen_lines
            reg [LINE*WIDTH-1:0] lines [0:DEPTH/LINE-1];
            integer z;
            initial begin
                $readmemh(INIT_FILE, lines);
                for (z = 0; z < DEPTH; z = z + 1) mem[z] = lines[z/LINE][WIDTH*(z%LINE) +: WIDTH];
            end
        end
`endif
    endgenerate

    always @(posedge clk) begin
        for (i = 0; i < WIDTH / SLICE; i = i + 1)
            if (write_enable[i]) mem[write_addr][i*SLICE +: SLICE] <= write_data[i*SLICE +: SLICE];
        fetched <= mem[read_addr];
        read_data <= fetched;
    end

    wire _unused = &{1'b0, clk_2x, EXCLUSIVE[0], LARGE[0]};  // both ports of this one work in every cycle

endmodule

`resetall
