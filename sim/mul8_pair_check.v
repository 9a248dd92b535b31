// SPDX-License-Identifier: Apache-2.0
// Every operand of mul8_pair against plain multiplication: 16 instances, one for each value of b1[3:0], and all 2**20 values
// of the other bits, in an order that changes all of them at once. `done` rises at the end; `wrong` says what differed.

`resetall
`default_nettype none

module mul8_pair_check (
    input  wire        clk,
    output reg         done,
    output reg  [15:0] wrong
);

    // a full period: the factor is 1 modulo 4, the increment odd
    localparam [19:0] FACTOR = 20'd742597;

    reg [19:0] operands;
    reg [20:0] count;

    initial begin
        operands = 20'd0;
        count = 21'd0;
        done = 1'b0;
        wrong = 16'd0;
    end

    always @(posedge clk) begin
        operands <= operands * FACTOR + 20'd1;
        count <= count + 21'd1;
        if (count == 21'd1048579) done <= 1'b1;
    end

    wire signed [7:0] a = operands[19:12];
    wire signed [7:0] b0 = operands[11:4];

    genvar i;
    generate
        for (i = 0; i < 16; i = i + 1) begin : gen_low
            localparam [3:0] LOW = i;
            wire signed [7:0]  b1 = {operands[3:0], LOW};
            wire signed [15:0] product0;
            wire signed [15:0] product1;
            reg  signed [15:0] expected0 [0:2];
            reg  signed [15:0] expected1 [0:2];

            mul8_pair pair (.clk(clk), .a(a), .b0(b0), .b1(b1), .product0(product0), .product1(product1));

            always @(posedge clk) begin
                expected0[0] <= a * b0;
                expected1[0] <= a * b1;
                expected0[1] <= expected0[0];
                expected1[1] <= expected1[0];
                expected0[2] <= expected0[1];
                expected1[2] <= expected1[1];
                if (count >= 21'd3 && !done && {product1, product0} != {expected1[2], expected0[2]}) wrong[i] <= 1'b1;
            end
        end
    endgenerate

endmodule

`resetall
