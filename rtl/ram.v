// SPDX-License-Identifier: Apache-2.0
// The one memory: a write port with an enable per slice, a read port with latency 2 (array, then output register), or 3.
// Contents at power-up come from INIT_FILE ($readmemh text, one word a line, as many lines as DEPTH), else they are zero.
// A word must not be written from the cycle of its address until it is there: block RAMs differ in what they return then
// (no_rw_check).
//
// Where the depth is no power of two the memory lies in parts whose depths are, 4,608 words in 4,096 and 512: each takes a shape
// that block RAM has, its output register too, and one of the few parts is chosen behind that (docs/area.md). The third cycle of
// LATENCY 3 is a register behind the choice, or in front of the address where there is nothing to choose.

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
    // 1: nor may any other word, or the word that comes is not used: a memory with one port will do
    parameter EXCLUSIVE = 0,
    // cycles from an address to its word, 2 or 3
    parameter LATENCY = 2,
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
    output wire [WIDTH-1:0]         read_data
);

    // yosys and simulators fill a part from its place in the image; other synthesisers get the memory as one
`ifdef SYNTHESIS
`ifdef YOSYS
    localparam DIVIDED = 1;
`else
    localparam DIVIDED = 0;
`endif
`else
    localparam DIVIDED = 1;
`endif
    // words of this width in a block RAM of 18 kbit
    localparam UNIT = (DIVIDED == 0) ? 1 << ADDR : (WIDTH > 18) ? 512 : (WIDTH > 9) ? 1024 : 2048;
    // a part for each bit that is set, the highest one first in the memory; OTHERS without the smallest part
    localparam [31:0] UNITS = (DEPTH + UNIT - 1) / UNIT;
    localparam MOST = $clog2(UNITS + 1);
    localparam [31:0] OTHERS = UNITS & (UNITS - 1);
    localparam SMALLEST = $clog2(UNITS - OTHERS);

    wire [ADDR-1:0]       addr;
    wire [MOST*WIDTH-1:0] shown;
    wire [MOST-1:0]       chosen;
    reg  [WIDTH-1:0]      word;
    integer i;
    genvar p;
    generate
        for (p = 0; p < MOST; p = p + 1) begin : gen_part
            if (UNITS[p]) begin : gen_words
                localparam FIRST = UNIT * ((UNITS >> (p + 1)) << (p + 1));
                localparam WORDS = (DEPTH - FIRST < (UNIT << p)) ? DEPTH - FIRST : UNIT << p;
                localparam BITS  = ($clog2(UNIT << p) < ADDR) ? $clog2(UNIT << p) : ADDR;
                wire written;

                if (BITS == ADDR) begin : gen_only
                    assign written = 1'b1;
                    assign chosen[p] = 1'b1;
                end else begin : gen_one_of
                    localparam [ADDR-1:0] PLACE = FIRST[ADDR-1:0];
                    reg [1:0] read;
                    assign written = write_addr[ADDR-1:BITS] == PLACE[ADDR-1:BITS];
                    assign chosen[p] = read[1];
                    always @(posedge clk) read <= {read[0], addr[ADDR-1:BITS] == PLACE[ADDR-1:BITS]};
                end

                ram_part #(
                    .WIDTH(WIDTH), .SLICE(SLICE), .DEPTH(WORDS), .ADDR(BITS),
                    .INIT_FILE(INIT_FILE), .LINE(LINE), .FIRST(FIRST), .WHOLE(DEPTH)
                ) part (
                    .clk(clk),
                    .write_enable(write_enable & {WIDTH/SLICE{written}}),
                    .write_addr(write_addr[BITS-1:0]),
                    .write_data(write_data),
                    .read_addr(addr[BITS-1:0]),
                    .read_data(shown[p*WIDTH +: WIDTH])
                );
            end else begin : gen_none
                assign shown[p*WIDTH +: WIDTH] = {WIDTH{1'b0}};
                assign chosen[p] = 1'b0;
            end
        end
    endgenerate

    // the smallest part where no other is chosen: one select less
    always @* begin
        word = shown[SMALLEST*WIDTH +: WIDTH];
        for (i = 0; i < MOST; i = i + 1) if (OTHERS[i] && chosen[i]) word = shown[i*WIDTH +: WIDTH];
    end

    localparam BEHIND = LATENCY - 2;
    delay #(.WIDTH(ADDR), .CYCLES((OTHERS == 0) ? BEHIND : 0)) delay_addr (.clk(clk), .rst(1'b0), .in(read_addr), .out(addr));
    delay #(.WIDTH(WIDTH), .CYCLES((OTHERS == 0) ? 0 : BEHIND)) delay_word (.clk(clk), .rst(1'b0), .in(word), .out(read_data));

    wire _unused = &{1'b0, clk_2x, EXCLUSIVE[0], LARGE[0]};  // both ports of this one work in every cycle

endmodule

`resetall
