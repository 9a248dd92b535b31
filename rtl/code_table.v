// SPDX-License-Identifier: Apache-2.0
// Tables of codes: what a function of single codes gives for each of them. LANES codes a cycle go through one table,
// latency 2. Entry 256 * selected + code + 128 is the code that takes code's place. Every lane has a copy, and a write
// goes to them all.

`resetall
`default_nettype none

module code_table #(
    // codes a cycle
    parameter LANES = 8,
    // tables of 256 codes, at least 1
    parameter TABLES = 1,
    // address bits: enough for 256 * TABLES
    parameter ADDR = 8,
    // memory image, or "" for zeros
    parameter INIT_FILE = ""
) (
    input  wire               clk,
    // the host's port
    input  wire               write_enable,
    input  wire [ADDR-1:0]    write_addr,
    input  wire [7:0]         write_data,
    // table and codes, and two cycles later what stands there
    input  wire [7:0]         selected,
    input  wire [8*LANES-1:0] codes,
    output wire [8*LANES-1:0] mapped
);

    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : gen_table_lane
            wire [15:0] entry = {selected, ~codes[8*l+7], codes[8*l +: 7]};
            ram #(.WIDTH(8), .SLICE(8), .DEPTH(256 * TABLES), .ADDR(ADDR), .INIT_FILE(INIT_FILE)) table_memory (
                .clk          (clk),
                .clk_2x       (1'b0),
                .write_enable (write_enable),
                .write_addr   (write_addr),
                .write_data   (write_data),
                .read_addr    (entry[ADDR-1:0]),
                .read_data    (mapped[8*l +: 8])
            );
            wire _unused = &{1'b0, entry};
        end
    endgenerate

endmodule

`resetall
