// SPDX-License-Identifier: Apache-2.0
// Parameter memory: LANES channels' requantise constants a word, 160 bits each. The host writes 32 bits at a time.
//
// SERIAL = 0: a word is read in one cycle, with latency 2, as rtl/ram.v.
// SERIAL = 1: the memory is a fifth as wide and five times as deep, and a word is gathered from its five parts, lowest
// first: for a device whose memories are deep and narrow. The word that was asked for in one cycle can be taken up
// (`ready`) six cycles later. In hardware the host has to load it: INIT_FILE is for simulation then.

`resetall
`default_nettype none

module parameter_memory #(
    // channels of a word
    parameter LANES = 8,
    // words, and their address bits
    parameter DEPTH = 256,
    parameter ADDR = 8,
    parameter SERIAL = 0,
    parameter INIT_FILE = ""
) (
    input  wire                 clk,
    input  wire                 clk_2x,
    // bit i: write_data is bits [32*i +: 32] of the word
    input  wire [5*LANES-1:0]   write_enable,
    input  wire [ADDR-1:0]      write_addr,
    input  wire [31:0]          write_data,
    // read_addr is a new one since this cycle
    input  wire                 ask,
    input  wire [ADDR-1:0]      read_addr,
    // read_data will be the word at read_addr two cycles on
    output wire                 ready,
    output wire [160*LANES-1:0] read_data
);

    localparam PART = 32 * LANES;

    generate
        if (SERIAL == 0) begin : gen_whole
            ram #(.WIDTH(5 * PART), .SLICE(32), .DEPTH(DEPTH), .ADDR(ADDR), .INIT_FILE(INIT_FILE)) memory (
                .clk          (clk),
                .clk_2x       (1'b0),
                .write_enable (write_enable),
                .write_addr   (write_addr),
                .write_data   ({5*LANES{write_data}}),
                .read_addr    (read_addr),
                .read_data    (read_data)
            );
            assign ready = 1'b1;
            wire _unused = &{1'b0, clk_2x, ask};
        end else begin : gen_parts
            // ---- the host's 32 bits: which part, which of its lanes ----
            reg  [2:0]       write_part;
            reg  [LANES-1:0] write_lane;
            integer          p;

            always @* begin
                write_part = 3'd0;
                write_lane = {LANES{1'b0}};
                for (p = 0; p < 5; p = p + 1) begin
                    if (|write_enable[LANES*p +: LANES]) write_part = p[2:0];
                    write_lane = write_lane | write_enable[LANES*p +: LANES];
                end
            end

            // ---- the word at read_addr, part by part; the last part is asked for until another word is ----
            reg  [2:0]        part;
            reg  [ADDR+2:0]   part_addr;
            reg               early_1;  // a part before the last was asked for a cycle ago
            reg               early_2;
            reg  [4*PART-1:0] gathered;
            wire [PART-1:0]   part_data;

            ram #(
                .WIDTH(PART), .SLICE(32), .DEPTH(5 * DEPTH), .ADDR(ADDR + 3), .INIT_FILE(INIT_FILE), .LINE(5), .EXCLUSIVE(1),
                .LARGE(1)
            ) parameter_parts (
                .clk          (clk),
                .clk_2x       (clk_2x),
                .write_enable (write_lane),
                .write_addr   (place(write_addr) + {{ADDR{1'b0}}, write_part}),
                .write_data   ({LANES{write_data}}),
                .read_addr    (part_addr),
                .read_data    (part_data)
            );

            // a word's first part
            function [ADDR+2:0] place(input [ADDR-1:0] word);
                place = {1'b0, word, 2'b00} + {3'b000, word};
            endfunction

            always @(posedge clk) begin
                if (ask) begin
                    part      <= 3'd0;
                    part_addr <= place(read_addr);
                end else if (part != 3'd4) begin
                    part      <= part + 3'd1;
                    part_addr <= part_addr + 1'b1;
                end
                early_1 <= (part != 3'd4);
                early_2 <= early_1;
                if (early_2) gathered <= {part_data, gathered[4*PART-1:PART]};
            end

            assign ready     = (part == 3'd4) & ~ask;
            assign read_data = {part_data, gathered};
        end
    endgenerate

endmodule

`resetall
