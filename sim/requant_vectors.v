// SPDX-License-Identifier: Apache-2.0
// Test harness: streams rows of accumulators from files through requantise, a row a cycle, and writes the codes to a file,
// so that millions of values take seconds.
//
// In the run's folder: size.hex (rows; parameter words), params.hex, rows.hex (per line: parameter word 16 bits, zero point,
// low, high, LANES accumulators). Out: codes.hex, a line a cycle; line t holds the codes of row t - 14.

`resetall
`default_nettype none

module requant_vectors #(
    // requantise lanes
    parameter LANES = 16,
    // most rows
    parameter ROWS = 131072,
    // most parameter words
    parameter WORDS = 1024
) (
    input  wire clk,
    output reg  done
);

    localparam WIDTH = 40 + 32 * LANES;

    reg [31:0]          size [0:1];
    reg [WIDTH-1:0]     rows [0:ROWS-1];
    reg [160*LANES-1:0] params [0:WORDS-1];
    reg [31:0]          index;
    integer             codes_file;

    initial begin
        $readmemh("size.hex", size);
        $readmemh("rows.hex", rows, 0, size[0] - 1);
        $readmemh("params.hex", params, 0, size[1] - 1);
        codes_file = $fopen("codes.hex", "w");
        index = 32'd0;
        done = 1'b0;
    end

    wire [WIDTH-1:0]   row = rows[index[$clog2(ROWS)-1:0]];
    wire [15:0]        word = row[32*LANES+24 +: 16];
    wire [8*LANES-1:0] codes;

    requantise #(.LANES(LANES)) lanes (
        .clk        (clk),
        .accs       (row[32*LANES-1:0]),
        .params     (params[word[$clog2(WORDS)-1:0]]),
        .zero_point (row[32*LANES+16 +: 8]),
        .low        (row[32*LANES+8 +: 8]),
        .high       (row[32*LANES +: 8]),
        .codes      (codes)
    );

    always @(posedge clk) begin
        if (!done) $fwrite(codes_file, "%h\n", codes);
        if (index + 32'd1 == size[0]) begin
            done <= 1'b1;
            if (!done) $fclose(codes_file);
        end else index <= index + 32'd1;
    end

    wire _unused = &{1'b0, word};

endmodule

`resetall
