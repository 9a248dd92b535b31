// SPDX-License-Identifier: Apache-2.0
// One output lane behind its multipliers: an adder tree with a register behind every second level, one int32 accumulator.
// Product i is at products[16*i +: 16]. Products reach the accumulator ceil(log2(ROWS) / 2) cycles later; the controls belong
// to that cycle. `result`, the accumulator, follows in the next cycle.

`resetall
`default_nettype none

module mac_lane #(
    // products
    parameter ROWS = 8
) (
    input  wire                clk,
    input  wire [16*ROWS-1:0]  products,
    // the tree's sum is to be accumulated
    input  wire                valid,
    // it replaces the accumulator
    input  wire                replaces,
    // ... but only if it is larger
    input  wire                compares,
    // it is subtracted instead of added
    input  wire                minus,
    // the accumulator counts 256 times
    input  wire                scale_up,
    output wire signed [31:0]  result
);

    localparam LEVELS = $clog2(ROWS);
    localparam LEAVES = 1 << LEVELS;

    // what a number of rows that is no power of two leaves over is zero
    wire [16*LEAVES-1:0] leaves;

    genvar i;
    genvar k;
    generate
        for (i = 0; i < LEAVES; i = i + 1) begin : gen_leaf
            if (i < ROWS) begin : gen_product
                assign leaves[16*i +: 16] = products[16*i +: 16];
            end else begin : gen_none
                assign leaves[16*i +: 16] = 16'd0;
            end
        end

        // level k holds LEAVES / 2^k sums of 16 + k bits
        for (k = 0; k <= LEVELS; k = k + 1) begin : gen_level
            wire [(16+k)*(LEAVES>>k)-1:0] sums;
            if (k == 0) begin : gen_leaves
                assign sums = leaves;
            end else begin : gen_sums
                for (i = 0; i < (LEAVES >> k); i = i + 1) begin : gen_add
                    wire signed [14+k:0] even = gen_level[k-1].sums[(15+k)*(2*i) +: 15+k];
                    wire signed [14+k:0] odd  = gen_level[k-1].sums[(15+k)*(2*i+1) +: 15+k];
                    wire signed [15+k:0] sum  = even + odd;
                    if (k % 2 == 0 || k == LEVELS) begin : gen_register
                        reg signed [15+k:0] kept;
                        always @(posedge clk) kept <= sum;
                        assign sums[(16+k)*i +: 16+k] = kept;
                    end else begin : gen_wire
                        assign sums[(16+k)*i +: 16+k] = sum;
                    end
                end
            end
        end
    endgenerate

    wire        [15+LEVELS:0] tree = gen_level[LEVELS].sums;
    wire signed [31:0]        sum  = {{16-LEVELS{tree[15+LEVELS]}}, tree};

    accumulator #(.WIDTH(16 + LEVELS)) sums (
        .clk      (clk),
        .sum      (sum),
        .valid    (valid),
        .replaces (replaces),
        .compares (compares),
        .minus    (minus),
        .scale_up (scale_up),
        .result   (result)
    );

endmodule

`resetall
