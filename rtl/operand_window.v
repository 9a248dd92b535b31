// SPDX-License-Identifier: Apache-2.0
// What stands at the multipliers: the last word read, the same for every lane, or taps of the 3x3 window.
//
// With WINDOW the last three columns read stay, a column being three words: tap 3*k + i is row i of column k, column 2 the
// newest. In a window job multiplier r of lane c gets byte c of tap r, and for the second word of weights (`second`), when the
// window has moved on by a column, byte c of tap ROWS + r - 3, so that eight multipliers see nine taps in two cycles.
// Words enter three cycles after their address (`outside` of port k puts the pad code in place of its word) and stand at `x` in
// the next cycle.

`resetall
`default_nettype none

module operand_window #(
    // 1: the window is there
    parameter WINDOW = 0,
    // multipliers of a lane, bytes of a word
    parameter ROWS = 8,
    // lanes
    parameter COLS = 8
) (
    input  wire                               clk,
    // words read, port k at [8*ROWS*k +: 8*ROWS]
    input  wire [8*ROWS*(WINDOW ? 3 : 1)-1:0] words,
    input  wire [(WINDOW ? 3 : 1)-1:0]        outside,
    input  wire [7:0]                         pad,
    // they enter the window in this cycle
    input  wire                               shift,
    // a window job, two cycles and more before its first word stands at x; now its second word of weights
    input  wire                               windowed,
    input  wire                               second,
    // operands of lane c, multiplier r at [8*(c*ROWS + r) +: 8]
    output wire [8*ROWS*COLS-1:0]             x
);

    genvar c;
    genvar r;
    generate
        if (WINDOW == 0) begin : gen_word
            reg [8*ROWS-1:0] word;
            always @(posedge clk) word <= outside[0] ? {ROWS{pad}} : words;
            assign x = {COLS{word}};
            wire _unused = &{1'b0, shift, windowed, second};
        end else begin : gen_window
            localparam WORD   = 8 * ROWS;
            localparam COLUMN = 3 * WORD;
            reg  [3*COLUMN-1:0] window;
            wire [COLUMN-1:0]   column;
            genvar k;

            for (k = 0; k < 3; k = k + 1) begin : gen_pad
                assign column[WORD*k +: WORD] = outside[k] ? {ROWS{pad}} : words[WORD*k +: WORD];
            end

            // taps that no column has reached yet meet zero weights, but must be numbers
            initial window = {3*COLUMN{1'b0}};
            always @(posedge clk) if (shift) window <= {column, window[3*COLUMN-1:COLUMN]};

            // one for each lane
            wire [COLS-1:0] lane_windowed;
            copies #(.COPIES(COLS)) copies_windowed (.clk(clk), .in(windowed), .out(lane_windowed));

            for (c = 0; c < COLS; c = c + 1) begin : gen_lane
                for (r = 0; r < ROWS; r = r + 1) begin : gen_multiplier
                    wire [7:0] broadcast = window[WORD*6 + 8*r +: 8];
                    if (r >= 9) begin : gen_broadcast
                        assign x[8*(c*ROWS + r) +: 8] = broadcast;
                    end else if (ROWS + r < 9) begin : gen_two
                        assign x[8*(c*ROWS + r) +: 8] =
                            ~lane_windowed[c] ? broadcast : second ? window[WORD*(ROWS + r - 3) + 8*c +: 8] : window[WORD*r + 8*c +: 8];
                    end else begin : gen_one
                        assign x[8*(c*ROWS + r) +: 8] = lane_windowed[c] ? window[WORD*r + 8*c +: 8] : broadcast;
                    end
                end
            end
            wire _unused = &{1'b0, second};
        end
    endgenerate

endmodule

`resetall
