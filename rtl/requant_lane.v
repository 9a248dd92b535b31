// SPDX-License-Identifier: Apache-2.0
// One requantise lane: int32 accumulator -> int8 code by the shift-multiply form of docs/arithmetic.md (Eq. 1 to 9).
// params holds one channel's constants (PRM_* in intact_defs.vh, docs/formats.md).
// zero_point, low and high belong to the layer and hold still. Latency 13, one code a cycle.

`resetall
`default_nettype none
`include "intact_defs.vh"

module requant_lane (
    input  wire               clk,
    input  wire signed [31:0] acc,
    input  wire [159:0]       params,
    input  wire signed [7:0]  zero_point,
    input  wire signed [7:0]  low,
    input  wire signed [7:0]  high,
    output reg  signed [7:0]  code
);

    // Stage 1, Eq. 1: the input register of wide_mul holds v = acc + bias; v has a copy here for its sign and the exception.
    wire signed [31:0] value_next = acc + $signed(params[`PRM_BIAS]);
    reg         [31:0] value;
    reg  signed [33:0] offset_1;
    reg  signed [23:0] offset_negative_1;
    reg         [29:0] exception_value_1;
    reg         [1:0]  exception_1;
    reg         [6:0]  even_shift_1;

    always @(posedge clk) begin
        value             <= value_next;
        offset_1          <= params[`PRM_R];
        exception_value_1 <= params[`PRM_EXC_V];
        offset_negative_1 <= params[`PRM_D];
        even_shift_1      <= {params[`PRM_EVEN], params[`PRM_SHIFT]};
        exception_1       <= params[`PRM_EXC_D];
    end

    // Stages 1 to 5, Eq. 2
    wire signed [62:0] product;
    wide_mul mul (.clk(clk), .value(value_next), .multiplier(params[`PRM_M]), .product(product));

    // Stage 2 knows the sign and the exception; then offset, exception and shift wait for the product.
    reg  signed [34:0] offset_2;
    reg         [1:0]  exception_2;
    wire signed [34:0] offset_7;
    wire        [1:0]  exception_10;
    wire        [6:0]  even_shift_5;
    wire signed [34:0] offset_wide     = {offset_1[33], offset_1};
    wire signed [34:0] offset_negative = {{11{offset_negative_1[23]}}, offset_negative_1};
    wire        [31:0] exception_value = {{2{exception_value_1[29]}}, exception_value_1};

    always @(posedge clk) begin
        offset_2    <= value[31] ? offset_wide + offset_negative : offset_wide;
        exception_2 <= (value == exception_value) ? exception_1 : 2'b00;
    end

    delay #(.WIDTH(35), .CYCLES(5)) delay_offset (.clk(clk), .rst(1'b0), .in(offset_2), .out(offset_7));
    delay #(.WIDTH(2), .CYCLES(8)) delay_exception (.clk(clk), .rst(1'b0), .in(exception_2), .out(exception_10));
    delay #(.WIDTH(7), .CYCLES(4)) delay_shift (.clk(clk), .rst(1'b0), .in(even_shift_1), .out(even_shift_5));

    // Stages 6 and 7, the shift of Eq. 3: shift by a multiple of 8, then by the rest; `ragged` remembers a bit that was shifted
    // out. Beyond 12 bits before the point the offset cannot bring the code back: it saturates on its way to stage 8.
    wire        [6:0]  bytes_set;  // which bytes of the product are not zero; the highest is never lost
    wire signed [62:0] coarse_next = product >>> {even_shift_5[5:3], 3'b000};
    reg  signed [62:0] coarse;
    reg                ragged_6;
    reg         [3:0]  even_shift_6;

    wire signed [62:0] fine_next = coarse >>> even_shift_6[2:0];
    wire        [6:0]  fine_lost = coarse[6:0] & ~(7'h7f << even_shift_6[2:0]);
    reg  signed [35:0] fine;
    reg                fine_fits;
    reg                negative_7;
    reg                ragged_7;
    reg                even_7;

    genvar b;
    generate
        for (b = 0; b < 7; b = b + 1) begin : gen_byte
            assign bytes_set[b] = |product[8*b +: 8];
        end
    endgenerate

    // Stage 8, the offset of Eq. 3.
    wire signed [35:0] bounded = fine_fits ? fine : {negative_7, {35{~negative_7}}};
    reg  signed [36:0] sum;
    reg                ragged_8;
    reg                even_8;

    // Stage 9, Eq. 4 and 5: saturate to 10 bits before the point.
    wire               sum_fits = (sum[36:33] == {4{sum[33]}});
    reg  signed [9:0]  whole_9;
    reg                near_zero_9;
    reg                near_one_9;
    reg         [8:0]  fraction_9;
    reg                ragged_9;
    reg                odd_9;

    // Stage 10, Eq. 6: the window around the tie is half a float32 ulp of the code, 2^(bits of the code - 1).
    wire        [8:0]  magnitude = whole_9[8:0] ^ {9{whole_9[9]}};
    reg         [8:0]  window_next;
    integer            k;
    reg         [8:0]  window;
    reg  signed [9:0]  whole_10;
    reg                near_zero_10;
    reg                near_one_10;
    reg         [8:0]  fraction_10;
    reg         [9:0]  to_one;
    reg                ragged_10;

    always @* begin
        window_next = 9'd0;
        for (k = 0; k < 9; k = k + 1) if (magnitude[k]) window_next = 9'd1 << k;
    end

    // Stage 11, Eq. 7: near a tie an odd code goes to its even neighbour.
    wire below = near_zero_10 & ((fraction_10 < window) | ((fraction_10 == window) & ~ragged_10));
    wire above = near_one_10 & (to_one <= {1'b0, window});
    reg signed [9:0]  whole_11;
    reg signed [1:0]  nudge_11;
    reg signed [8:0]  base_11;
    wire signed [8:0] zero_wide      = {zero_point[7], zero_point};
    wire signed [8:0] exception_wide = {{7{exception_10[1]}}, exception_10};

    // Stages 12 and 13, Eq. 8 and 9: exception, zero point, clamp.
    reg  signed [11:0] shifted;
    wire signed [11:0] low_wide  = {{4{low[7]}}, low};
    wire signed [11:0] high_wide = {{4{high[7]}}, high};

    always @(posedge clk) begin
        coarse       <= coarse_next;
        ragged_6     <= |(bytes_set & ~(7'h7f << even_shift_5[5:3]));
        even_shift_6 <= {even_shift_5[6], even_shift_5[2:0]};

        fine       <= fine_next[35:0];
        fine_fits  <= (fine_next[62:35] == {28{fine_next[35]}});
        negative_7 <= coarse[62];
        ragged_7   <= ragged_6 | (|fine_lost);
        even_7     <= even_shift_6[3];

        sum      <= {bounded[35], bounded} + {{2{offset_7[34]}}, offset_7};
        ragged_8 <= ragged_7;
        even_8   <= even_7;

        whole_9     <= sum_fits ? sum[33:24] : {sum[36], {9{~sum[36]}}};
        near_zero_9 <= ~(|sum[23:9]);
        near_one_9  <= &sum[23:9];
        fraction_9  <= sum[8:0];
        ragged_9    <= ragged_8;
        odd_9       <= even_8 & sum_fits & sum[24];

        whole_10     <= whole_9;
        window       <= window_next;
        near_zero_10 <= near_zero_9 & odd_9;
        near_one_10  <= near_one_9 & odd_9;
        fraction_10  <= fraction_9;
        to_one       <= 10'd512 - {1'b0, fraction_9};
        ragged_10    <= ragged_9;

        whole_11 <= whole_10;
        nudge_11 <= above ? 2'sb01 : below ? 2'sb11 : 2'sb00;
        base_11  <= zero_wide + exception_wide;

        shifted <= {{2{whole_11[9]}}, whole_11} + {{10{nudge_11[1]}}, nudge_11} + {{3{base_11[8]}}, base_11};

        if (shifted < low_wide) code <= low;
        else if (shifted > high_wide) code <= high;
        else code <= shifted[7:0];
    end

endmodule

`resetall
