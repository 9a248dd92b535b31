// SPDX-License-Identifier: Apache-2.0
// LANES requantise lanes side by side: accumulator of lane l at accs[32*l +: 32], its parameters at params[160*l +: 160],
// its code at codes[8*l +: 8]. Latency 14, LANES codes a cycle (requant_lane.v).

`resetall
`default_nettype none

module requantise #(
    // lanes
    parameter LANES = 8
) (
    input  wire                 clk,
    input  wire [32*LANES-1:0]  accs,
    input  wire [160*LANES-1:0] params,
    input  wire signed [7:0]    zero_point,
    input  wire signed [7:0]    low,
    input  wire signed [7:0]    high,
    output wire [8*LANES-1:0]   codes
);

    genvar l;
    generate
        for (l = 0; l < LANES; l = l + 1) begin : gen_lane
            requant_lane lane (
                .clk        (clk),
                .acc        (accs[32*l +: 32]),
                .params     (params[160*l +: 160]),
                .zero_point (zero_point),
                .low        (low),
                .high       (high),
                .code       (codes[8*l +: 8])
            );
        end
    endgenerate

endmodule

`resetall
