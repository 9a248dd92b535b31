// SPDX-License-Identifier: Apache-2.0
// The MAC array: ROWS input lanes x COLS output lanes. Every output lane has ROWS multipliers: operand and weight of row r,
// column c at x and w[8*(c*ROWS + r) +: 8]; result of column c at results[32*c +: 32].
// PACKED: columns 2k and 2k + 1 share multiplier blocks, and both take the operands of column 2k; a last column without a
// neighbour has blocks of its own.
// Products reach the accumulators 3 + ceil(log2(ROWS) / 2) cycles after x and w; the sum_* controls come a cycle before that.
// One word a cycle.

`resetall
`default_nettype none

module mac_array #(
    // input lanes
    parameter ROWS = 8,
    // output lanes
    parameter COLS = 8,
    // 1: two products a multiplier block
    parameter PACKED = 0
) (
    input  wire                   clk,
    input  wire [8*ROWS*COLS-1:0] x,
    input  wire [8*ROWS*COLS-1:0] w,
    input  wire                   sum_valid,
    input  wire                   sum_first,
    input  wire                   sum_subtract,
    input  wire                   sum_scale_up,
    // the largest sum instead of their sum: in all words of an accumulation, from its first on
    input  wire                   sum_max,
    output wire [32*COLS-1:0]     results
);

    // columns to a set of multiplier blocks
    localparam SHARED = PACKED ? 2 : 1;

    // in registers of their own: from here to every accumulator is far
    reg valid;
    reg replaces;
    reg compares;
    reg minus;
    reg scale_up;

    always @(posedge clk) begin
        valid    <= sum_valid;
        replaces <= sum_first | sum_max;
        compares <= sum_max & ~sum_first;
        minus    <= sum_subtract & ~sum_first & ~sum_max;
        scale_up <= sum_scale_up;
    end

    genvar s;
    genvar r;
    genvar c;
    generate
        for (s = 0; s < COLS; s = s + SHARED) begin : gen_set
            localparam WIDTH = (s + SHARED <= COLS) ? SHARED : 1;
            wire [16*ROWS*WIDTH-1:0] products;

            for (r = 0; r < ROWS; r = r + 1) begin : gen_row
                if (WIDTH == 1) begin : gen_single
                    mul8 mul (
                        .clk(clk), .a(x[8*(s*ROWS + r) +: 8]), .b(w[8*(s*ROWS + r) +: 8]), .product(products[16*r +: 16])
                    );
                end else begin : gen_pair
                    mul8_pair pair (
                        .clk      (clk),
                        .a        (x[8*(s*ROWS + r) +: 8]),
                        .b0       (w[8*(s*ROWS + r) +: 8]),
                        .b1       (w[8*(s*ROWS + ROWS + r) +: 8]),
                        .product0 (products[16*r +: 16]),
                        .product1 (products[16*(ROWS + r) +: 16])
                    );
                end
            end

            for (c = 0; c < WIDTH; c = c + 1) begin : gen_lane
                mac_lane #(.ROWS(ROWS)) lane (
                    .clk      (clk),
                    .products (products[16*ROWS*c +: 16*ROWS]),
                    .valid    (valid),
                    .replaces (replaces),
                    .compares (compares),
                    .minus    (minus),
                    .scale_up (scale_up),
                    .result   (results[32*(s + c) +: 32])
                );
            end
        end
    endgenerate

    wire _unused = &{1'b0, x};

endmodule

`resetall
