// SPDX-License-Identifier: Apache-2.0
// Fetches the program header or a descriptor from program memory, a 64-bit word a cycle.
// `begin_header` starts at word 0; `begin_first` at the first descriptor; `begin_next` goes on where the last fetch ended.
// A descriptor stays in `words`, word k at [64*k +: 64], complete when `here` is high, 3 + number of words cycles after the
// begin; of the header each word is shown as it comes, and kept by whoever needs it. `loops_here` pulses when the address generator's part of a descriptor is complete, before the rest.
// A descriptor must be here before the shortest drain is over (17 cycles), or the next job starts late.

`resetall
`default_nettype none
`include "intact_defs.vh"

module program_fetch #(
    // address bits of the program memory
    parameter PRG_ADDR = 10
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                begin_header,
    input  wire                begin_first,
    input  wire                begin_next,
    output reg  [PRG_ADDR-1:0] prg_addr,
    input  wire [63:0]         prg_data,
    output reg  [64*`INTACT_DESCRIPTOR_WORDS-1:0] words,
    // one hot: this word of a descriptor, of the header, stands at prg_data
    output wire [`INTACT_DESCRIPTOR_WORDS-1:0]    lands,
    output wire [`INTACT_HEADER_WORDS-1:0]        header_lands,
    // the last word has come
    output reg                 here,
    output reg                 loops_here
);

    localparam integer WORDS = `INTACT_DESCRIPTOR_WORDS;
    localparam [PRG_ADDR-1:0] FIRST = `INTACT_HEADER_WORDS;

    reg        is_header;
    reg  [3:0] to_ask;
    reg  [1:0] on_way;
    reg  [WORDS-1:0] place;  // one hot: where the next word lands
    wire       begins = begin_header | begin_first | begin_next;
    wire       landing = on_way[1];
    integer    i;

    assign lands        = place & {WORDS{landing & ~is_header}};
    assign header_lands = place[`INTACT_HEADER_WORDS-1:0] & {`INTACT_HEADER_WORDS{landing & is_header}};

    always @(posedge clk) begin
        on_way     <= {on_way[0], to_ask != 4'd0};
        loops_here <= landing & ~is_header & place[`INTACT_LOOP_WORDS-1];

        if (to_ask != 4'd0) begin
            prg_addr <= prg_addr + 1'b1;
            to_ask   <= to_ask - 4'd1;
        end
        if (landing) begin
            for (i = 0; i < WORDS; i = i + 1) if (lands[i]) words[64*i +: 64] <= prg_data;
            place <= place << 1;
            if (is_header ? place[`INTACT_HEADER_WORDS-1] : place[WORDS-1]) here <= 1'b1;
        end
        if (begins) begin
            is_header <= begin_header;
            to_ask    <= begin_header ? 4'd`INTACT_HEADER_WORDS : 4'd`INTACT_DESCRIPTOR_WORDS;
            on_way    <= 2'b00;  // words of a fetch that this one cuts short
            place     <= {{WORDS-1{1'b0}}, 1'b1};
            here      <= 1'b0;
            if (begin_header) prg_addr <= {PRG_ADDR{1'b0}};
            if (begin_first) prg_addr <= FIRST;
        end

        if (rst) begin
            to_ask     <= 4'd0;
            on_way     <= 2'b00;
            here       <= 1'b0;
            loops_here <= 1'b0;
        end
    end

endmodule

`resetall
