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
    // 1: what is read while, or a cycle after, a word is written is not used: a memory with one port will do
    parameter EXCLUSIVE = 0
) (
    input  wire                     clk,
    input  wire [WIDTH/SLICE-1:0]   write_enable,
    input  wire [ADDR-1:0]          write_addr,
    input  wire [WIDTH-1:0]         write_data,
    input  wire [ADDR-1:0]          read_addr,
    output reg  [WIDTH-1:0]         read_data
);

    (* no_rw_check *) reg [WIDTH-1:0] mem [0:DEPTH-1];
    reg [WIDTH-1:0] fetched;
    integer i;

    // a block RAM without an image powers up as zeros by itself
`ifndef SYNTHESIS
    integer j;
    initial if (INIT_FILE == "")
        for (i = 0; i < DEPTH; i = i + 1) for (j = 0; j < WIDTH; j = j + SLICE) mem[i][j +: SLICE] = {SLICE{1'b0}};
`endif
    initial if (INIT_FILE != "") $readmemh(INIT_FILE, mem);

    always @(posedge clk) begin
        for (i = 0; i < WIDTH / SLICE; i = i + 1)
            if (write_enable[i]) mem[write_addr][i*SLICE +: SLICE] <= write_data[i*SLICE +: SLICE];
        fetched <= mem[read_addr];
        read_data <= fetched;
    end

    wire _unused = &{1'b0, EXCLUSIVE[0]};  // both ports of this one work in every cycle

endmodule

`resetall
