// SPDX-License-Identifier: Apache-2.0
// Activation memory: one write port with an enable per group of bytes, read ports for the array with latency 3: a register
// behind each bank's choice of an address, then as rtl/ram.v. The output stream reads at the first port while `stream_reads`
// is high.
//
// With WINDOW it has three read ports. Its words are dealt out to four banks, bank = address mod 4; words that are read in
// one cycle lie in different banks, which the exporter sees to. Where two ports ask the same bank, the lower port is right
// and the other one's word is not used. Without WINDOW there is one bank and one port.
// A word must not be written from the cycle of its address until it is there.

`resetall
`default_nettype none

module activation_memory #(
    // 1: three read ports
    parameter WINDOW = 0,
    // bytes of a word
    parameter ROWS = 8,
    // bytes that one write enable covers
    parameter LANES = 8,
    // words, 8 at least with WINDOW
    parameter DEPTH = 4096,
    // address bits
    parameter ADDR = 12
) (
    input  wire                                  clk,
    input  wire                                  clk_2x,
    input  wire [ROWS/LANES-1:0]                 write_enable,
    input  wire [ADDR-1:0]                       write_addr,
    input  wire [8*ROWS-1:0]                     write_data,
    // port k at [ADDR*k +: ADDR]
    input  wire [ADDR*(WINDOW ? 3 : 1)-1:0]      array_addr,
    input  wire                                  stream_reads,
    input  wire [ADDR-1:0]                       stream_addr,
    // port k at [8*ROWS*k +: 8*ROWS]
    output wire [8*ROWS*(WINDOW ? 3 : 1)-1:0]    read_data
);

    wire [ADDR-1:0] first_addr = stream_reads ? stream_addr : array_addr[ADDR-1:0];

    generate
        if (WINDOW == 0) begin : gen_flat
            reg [ADDR-1:0] addr;
            always @(posedge clk) addr <= first_addr;

            ram #(.WIDTH(8 * ROWS), .SLICE(8 * LANES), .DEPTH(DEPTH), .ADDR(ADDR), .LARGE(1)) memory (
                .clk          (clk),
                .clk_2x       (clk_2x),
                .write_enable (write_enable),
                .write_addr   (write_addr),
                .write_data   (write_data),
                .read_addr    (addr),
                .read_data    (read_data)
            );
        end else begin : gen_banks
            localparam BANK_DEPTH = (DEPTH + 3) / 4;
            wire [4*8*ROWS-1:0]  bank_data;
            genvar k;
            genvar b;

            for (k = 0; k < 3; k = k + 1) begin : gen_port
                // the port's bank, one hot, when its word is there: gates of a bank's word cost as much as a choice by number,
                // and each of them reaches half as far
                wire [3:0] from;
                delay #(.WIDTH(4), .CYCLES(3)) delay_from (
                    .clk (clk),
                    .rst (1'b0),
                    .in  (4'd1 << ((k == 0) ? first_addr[1:0] : array_addr[ADDR*k +: 2])),
                    .out (from)
                );
                assign read_data[8*ROWS*k +: 8*ROWS] = (bank_data[0 +: 8*ROWS] & {8*ROWS{from[0]}})
                                                     | (bank_data[8*ROWS +: 8*ROWS] & {8*ROWS{from[1]}})
                                                     | (bank_data[8*ROWS*2 +: 8*ROWS] & {8*ROWS{from[2]}})
                                                     | (bank_data[8*ROWS*3 +: 8*ROWS] & {8*ROWS{from[3]}});
            end

            for (b = 0; b < 4; b = b + 1) begin : gen_bank
                // of the port that reads this bank
                reg [ADDR-3:0] addr;
                always @(posedge clk)
                    addr <= (first_addr[1:0] == b)         ? first_addr[ADDR-1:2]
                          : (array_addr[ADDR +: 2] == b)   ? array_addr[ADDR+2 +: ADDR-2]
                          : array_addr[2*ADDR+2 +: ADDR-2];

                ram #(.WIDTH(8 * ROWS), .SLICE(8 * LANES), .DEPTH(BANK_DEPTH), .ADDR(ADDR - 2), .LARGE(1)) memory (
                    .clk          (clk),
                    .clk_2x       (clk_2x),
                    .write_enable ((write_addr[1:0] == b) ? write_enable : {ROWS/LANES{1'b0}}),
                    .write_addr   (write_addr[ADDR-1:2]),
                    .write_data   (write_data),
                    .read_addr    (addr),
                    .read_data    (bank_data[8*ROWS*b +: 8*ROWS])
                );
            end
        end
    endgenerate

endmodule

`resetall
