// SPDX-License-Identifier: Apache-2.0
// Words FIRST to FIRST + DEPTH - 1 of a memory of WHOLE words, in block RAM (rtl/ram.v): read with latency 2, array, then output
// register. The image is that of the whole memory.

`resetall
`default_nettype none

module ram_part #(
    // bits of a word, a multiple of SLICE
    parameter WIDTH = 32,
    // bits that one write enable covers
    parameter SLICE = 32,
    // words here
    parameter DEPTH = 512,
    // address bits: enough for DEPTH
    parameter ADDR = 9,
    // the whole memory's image, or "" for zeros
    parameter INIT_FILE = "",
    // words of a line of it
    parameter LINE = 1,
    // the whole memory's word that is the first here, and its words
    parameter FIRST = 0,
    parameter WHOLE = 512
) (
    input  wire                     clk,
    input  wire [WIDTH/SLICE-1:0]   write_enable,
    input  wire [ADDR-1:0]          write_addr,
    input  wire [WIDTH-1:0]         write_data,
    input  wire [ADDR-1:0]          read_addr,
    output reg  [WIDTH-1:0]         read_data
);

    (* no_rw_check, ram_style = "block" *) reg [WIDTH-1:0] mem [FIRST:FIRST+DEPTH-1];
    // address bits in the whole memory
    localparam PLACES = ($clog2(FIRST + DEPTH) > ADDR) ? $clog2(FIRST + DEPTH) : ADDR;
    wire [PLACES-1:0] write_place = FIRST[PLACES-1:0] | {{PLACES-ADDR{1'b0}}, write_addr};
    wire [PLACES-1:0] read_place = FIRST[PLACES-1:0] | {{PLACES-ADDR{1'b0}}, read_addr};
    reg [WIDTH-1:0] fetched;
    integer i;

    generate
        if (INIT_FILE != "" && LINE == 1 && DEPTH == WHOLE) begin : gen_image
            initial $readmemh(INIT_FILE, mem);
        end
`ifdef SYNTHESIS
        else if (INIT_FILE != "" && LINE == 1) begin : gen_lines
            // yosys passes over the words that have no place in mem
            initial $readmemh(INIT_FILE, mem, 0, WHOLE - 1);
        end
`else
        else if (INIT_FILE != "") begin : gen_lines
            reg [LINE*WIDTH-1:0] lines [0:WHOLE/LINE-1];
            integer z;
            initial begin
                $readmemh(INIT_FILE, lines);
                for (z = FIRST; z < FIRST + DEPTH; z = z + 1) mem[z] = lines[z/LINE][WIDTH*(z%LINE) +: WIDTH];
            end
        end else begin : gen_zeros
            // a block RAM without an image powers up as zeros by itself
            integer z;
            integer j;
            initial
                for (z = FIRST; z < FIRST + DEPTH; z = z + 1)
                    for (j = 0; j < WIDTH; j = j + SLICE) mem[z][j +: SLICE] = {SLICE{1'b0}};
        end
`endif
    endgenerate

    always @(posedge clk) begin
        for (i = 0; i < WIDTH / SLICE; i = i + 1)
            if (write_enable[i]) mem[write_place][i*SLICE +: SLICE] <= write_data[i*SLICE +: SLICE];
        fetched <= mem[read_place];
        read_data <= fetched;
    end

endmodule

`resetall
