// SPDX-License-Identifier: Apache-2.0
// The one memory on the iCE40, in place of rtl/ram.v: the same ports and latencies. Its block RAMs have no output register, so
// the address waits instead of the word, which takes fewer flip-flops: the word is read in the last cycle before it is there.
//
// Block RAM (EBR) holds INIT_FILE from power-up. A LARGE memory of more bits than BLOCK_BITS lies in SPRAM, where a block has
// one port of 16 bits, which takes two turns a cycle at clk_2x, and nothing is in it at power-up. In the first half of a cycle
// an EXCLUSIVE memory reads or writes the lower 16 of 32 bits, in the second half the upper ones; another memory writes in the
// first half and reads in the second.

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
    // words of a line of the image; with more than one it is not read
    parameter LINE = 1,
    // 1: a word is not used if anything is written from the cycle of its address until it is there
    parameter EXCLUSIVE = 0,
    // cycles from an address to its word, 2 or 3
    parameter LATENCY = 2,
    // 1: may lie in SPRAM
    parameter LARGE = 0
) (
    input  wire                     clk,
    // twice clk, their edges together
    input  wire                     clk_2x,
    input  wire [WIDTH/SLICE-1:0]   write_enable,
    input  wire [ADDR-1:0]          write_addr,
    input  wire [WIDTH-1:0]         write_data,
    input  wire [ADDR-1:0]          read_addr,
    output wire [WIDTH-1:0]         read_data
);

    localparam BLOCK_BITS = EXCLUSIVE ? 32768 : 16384;
    localparam WORDS = EXCLUSIVE ? 8192 : 16384;
    localparam SPRAM = LARGE != 0 && DEPTH * WIDTH > BLOCK_BITS && DEPTH <= WORDS
        && (EXCLUSIVE ? WIDTH % 32 == 0 && SLICE == 32 : WIDTH % 16 == 0 && SLICE % 4 == 0);

    wire [ADDR-1:0] addr;
    delay #(.WIDTH(ADDR), .CYCLES(LATENCY - 1)) delay_addr (.clk(clk), .rst(1'b0), .in(read_addr), .out(addr));

    genvar b;
    genvar n;
    generate
        if (SPRAM) begin : gen_spram
            // differ in the first half of a cycle
            reg  turn;
            reg  turn_seen;
            wire first = turn ^ turn_seen;
            initial turn = 1'b0;
            always @(posedge clk) turn <= ~turn;
            always @(posedge clk_2x) turn_seen <= turn;

            if (EXCLUSIVE != 0) begin : gen_halves
                wire [ADDR-1:0] either = (|write_enable) ? write_addr : addr;
                for (b = 0; b < WIDTH / 32; b = b + 1) begin : gen_block
                    wire [15:0] shown;
                    reg  [15:0] lower;
                    reg  [15:0] upper;
                    SB_SPRAM256KA block (
                        .CLOCK(clk_2x), .ADDRESS({{13-ADDR{1'b0}}, either, ~first}),
                        .DATAIN(first ? write_data[32*b +: 16] : write_data[32*b+16 +: 16]), .DATAOUT(shown),
                        .MASKWREN(4'b1111), .WREN(write_enable[b]), .CHIPSELECT(1'b1),
                        .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)
                    );
                    always @(posedge clk) lower <= shown;
                    always @(posedge clk_2x) if (first) upper <= shown;
                    assign read_data[32*b +: 32] = {upper, lower};
                end
            end else begin : gen_turns
                for (b = 0; b < WIDTH / 16; b = b + 1) begin : gen_block
                    wire [15:0] shown;
                    wire [3:0]  nibbles;
                    reg  [15:0] held;
                    for (n = 0; n < 4; n = n + 1) begin : gen_nibble
                        assign nibbles[n] = write_enable[(16*b+4*n)/SLICE];
                    end
                    SB_SPRAM256KA block (
                        .CLOCK(clk_2x), .ADDRESS({{14-ADDR{1'b0}}, first ? write_addr : addr}),
                        .DATAIN(write_data[16*b +: 16]), .DATAOUT(shown),
                        .MASKWREN(nibbles), .WREN(first & (|nibbles)), .CHIPSELECT(1'b1),
                        .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)
                    );
                    always @(posedge clk_2x) if (first) held <= shown;
                    assign read_data[16*b +: 16] = held;
                end
            end
        end else begin : gen_ebr
            (* no_rw_check *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            reg [WIDTH-1:0] fetched;
            integer i;

            initial if (INIT_FILE != "" && LINE == 1) $readmemh(INIT_FILE, mem);

            always @(posedge clk) begin
                for (i = 0; i < WIDTH / SLICE; i = i + 1)
                    if (write_enable[i]) mem[write_addr][i*SLICE +: SLICE] <= write_data[i*SLICE +: SLICE];
                fetched <= mem[addr];
            end
            assign read_data = fetched;
            wire _unused = &{1'b0, clk_2x};
        end
    endgenerate

endmodule

`resetall
