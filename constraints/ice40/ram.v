// SPDX-License-Identifier: Apache-2.0
// The one memory on the iCE40, in place of rtl/ram.v: the same ports and latency. Its block RAMs have no output register, so
// the address waits a cycle instead of the word, which takes fewer flip-flops: a word is read in the cycle after its address
// came, and must not be written then.
//
// Block RAM (EBR) holds INIT_FILE from power-up. SPRAM, with one port, takes a memory whose reads and writes never meet
// (EXCLUSIVE) if nothing is to be in it at power-up, or if it has more than SPRAM_BITS: then the host writes it first.

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
    // 1: what is read while, or a cycle after, a word is written is not used
    parameter EXCLUSIVE = 0
) (
    input  wire                     clk,
    input  wire [WIDTH/SLICE-1:0]   write_enable,
    input  wire [ADDR-1:0]          write_addr,
    input  wire [WIDTH-1:0]         write_data,
    input  wire [ADDR-1:0]          read_addr,
    output wire [WIDTH-1:0]         read_data
);

    localparam SPRAM_BITS = 32768;
    localparam BLOCKS = (WIDTH + 15) / 16;
    localparam SPRAM = EXCLUSIVE != 0 && DEPTH <= 16384 && (SLICE == WIDTH || SLICE % 16 == 0)
        && (INIT_FILE == "" || DEPTH * WIDTH > SPRAM_BITS);

    reg [ADDR-1:0] addr;
    always @(posedge clk) addr <= read_addr;

    generate
        if (SPRAM) begin : gen_spram
            wire [ADDR-1:0]      either  = (|write_enable) ? write_addr : addr;
            wire [16*BLOCKS-1:0] written = {{16*BLOCKS-WIDTH{1'b0}}, write_data};
            wire [16*BLOCKS-1:0] read;
            wire                 _unused = &{1'b0, read};
            genvar b;
            assign read_data = read[WIDTH-1:0];
            for (b = 0; b < BLOCKS; b = b + 1) begin : gen_block
                SB_SPRAM256KA block (
                    .CLOCK(clk), .ADDRESS({{14-ADDR{1'b0}}, either}), .DATAIN(written[16*b +: 16]), .DATAOUT(read[16*b +: 16]),
                    .MASKWREN(4'b1111), .WREN(write_enable[16*b/SLICE]), .CHIPSELECT(1'b1),
                    .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)
                );
            end
        end else begin : gen_ebr
            (* no_rw_check *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            reg [WIDTH-1:0] fetched;
            integer i;

            initial if (INIT_FILE != "") $readmemh(INIT_FILE, mem);

            always @(posedge clk) begin
                for (i = 0; i < WIDTH / SLICE; i = i + 1)
                    if (write_enable[i]) mem[write_addr][i*SLICE +: SLICE] <= write_data[i*SLICE +: SLICE];
                fetched <= mem[addr];
            end
            assign read_data = fetched;
        end
    endgenerate

endmodule

`resetall
