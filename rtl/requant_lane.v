// SPDX-License-Identifier: Apache-2.0
// One requantise lane: int32 accumulator -> int8 code by the shift-multiply form of docs/arithmetic.md (Eq. 1 to 9).
// params holds one channel's constants (PRM_* in intact_defs.vh, docs/formats.md).
// zero_point, low and high belong to the layer and hold still. Latency 14, one code a cycle.

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

    // Stage 1, Eq. 1: v = acc + bias.
    reg  signed [31:0] value;
    reg         [30:0] multiplier_1;
    reg  signed [33:0] offset_1;
    reg  signed [23:0] offset_negative_1;
    reg         [29:0] exception_value_1;
    reg         [1:0]  exception_1;
    reg         [6:0]  even_shift_1;

    always @(posedge clk) begin
        value             <= acc + $signed(params[`PRM_BIAS]);
        multiplier_1      <= params[`PRM_M];
        offset_1          <= params[`PRM_R];
        exception_value_1 <= params[`PRM_EXC_V];
        offset_negative_1 <= params[`PRM_D];
        even_shift_1      <= {params[`PRM_EVEN], params[`PRM_SHIFT]};
        exception_1       <= params[`PRM_EXC_D];
    end

    // Stages 2 to 6, Eq. 2
    wire signed [62:0] product;
    wide_mul mul (.clk(clk), .value(value), .multiplier(multiplier_1), .product(product));

    // Stage 2 knows the sign, stage 3 the exception; then offset, exception and shift wait for the product.
    reg  signed [34:0] offset_2;
    reg         [1:0]  exception_2;
    reg         [3:0]  alike_2;
    reg         [1:0]  exception_3;
    integer            j;
    wire signed [34:0] offset_8;
    wire        [1:0]  exception_11;
    wire        [6:0]  even_shift_6;
    wire signed [34:0] offset_wide     = {offset_1[33], offset_1};
    wire signed [34:0] offset_negative = {{11{offset_negative_1[23]}}, offset_negative_1};
    wire        [31:0] exception_value = {{2{exception_value_1[29]}}, exception_value_1};

    always @(posedge clk) begin
        offset_2    <= value[31] ? offset_wide + offset_negative : offset_wide;
        exception_2 <= exception_1;
        for (j = 0; j < 4; j = j + 1) alike_2[j] <= (value[8*j +: 8] == exception_value[8*j +: 8]);
        exception_3 <= (&alike_2) ? exception_2 : 2'b00;
    end

    delay #(.WIDTH(35), .CYCLES(6)) delay_offset (.clk(clk), .rst(1'b0), .in(offset_2), .out(offset_8));
    delay #(.WIDTH(2), .CYCLES(8)) delay_exception (.clk(clk), .rst(1'b0), .in(exception_3), .out(exception_11));
    delay #(.WIDTH(7), .CYCLES(5)) delay_shift (.clk(clk), .rst(1'b0), .in(even_shift_1), .out(even_shift_6));

    // Stages 7 and 8, the shift of Eq. 3: shift by a multiple of 8, then by the rest; `ragged` remembers a bit that was shifted
    // out. Beyond 12 bits before the point the offset cannot bring the code back: it saturates on its way to stage 9.
    wire        [6:0]  bytes_set;  // which bytes of the product are not zero; the highest is never lost
    wire signed [62:0] coarse_next = product >>> {even_shift_6[5:3], 3'b000};
    reg  signed [62:0] coarse;
    reg                ragged_7;
    reg         [3:0]  even_shift_7;

    wire signed [62:0] fine_next = coarse >>> even_shift_7[2:0];
    // it fits where the bits that end up above bit 34 are alike: told without waiting for the shift
    wire        [27:0] unlike    = coarse[62:35] ^ {28{coarse[62]}};
    wire        [6:0]  fine_lost = coarse[6:0] & ~(7'h7f << even_shift_7[2:0]);
    reg  signed [35:0] fine;
    reg                fine_fits;
    reg                negative_8;
    reg                ragged_8;
    reg                even_8;

    genvar b;
    generate
        for (b = 0; b < 7; b = b + 1) begin : gen_byte
            assign bytes_set[b] = |product[8*b +: 8];
        end
    endgenerate

    // Stage 9, the offset of Eq. 3.
    wire signed [35:0] bounded = fine_fits ? fine : {negative_8, {35{~negative_8}}};
    reg  signed [36:0] sum;
    reg                ragged_9;
    reg                even_9;

    // Stage 10, Eq. 4 and 5: saturate to 10 bits before the point.
    wire               sum_fits = (sum[36:33] == {4{sum[33]}});
    reg  signed [9:0]  whole_10;
    reg                near_zero_10;
    reg                near_one_10;
    reg         [8:0]  fraction_10;
    reg                ragged_10;
    reg                odd_10;

    // Stage 11, Eq. 6: the window around the tie is half a float32 ulp of the code, 2^(bits of the code - 1).
    wire        [8:0]  magnitude = whole_10[8:0] ^ {9{whole_10[9]}};
    reg         [8:0]  window_next;
    integer            k;
    reg         [8:0]  window;
    reg  signed [9:0]  whole_11;
    reg                near_zero_11;
    reg                near_one_11;
    reg         [8:0]  fraction_11;
    reg         [9:0]  to_one;
    reg                ragged_11;

    always @* begin
        window_next = 9'd0;
        for (k = 0; k < 9; k = k + 1) if (magnitude[k]) window_next = 9'd1 << k;
    end

    // Stage 12, Eq. 7: near a tie an odd code goes to its even neighbour.
    wire below = near_zero_11 & ({fraction_11, ragged_11} <= {window, 1'b0});
    wire above = near_one_11 & (to_one <= {1'b0, window});
    reg  signed [9:0] whole_12;
    reg  signed [1:0] nudge_12;

    // Stages 12 to 14, Eq. 8 and 9: exception, zero point, clamp. The sums that tell whether a code lies below `low` or above
    // `high` run beside the code's own.
    wire signed [11:0] zero_wide      = {{4{zero_point[7]}}, zero_point};
    wire signed [11:0] exception_wide = {{10{exception_11[1]}}, exception_11};
    wire signed [11:0] low_wide       = {{4{low[7]}}, low};
    wire signed [11:0] high_wide      = {{4{high[7]}}, high};
    reg         [7:0]  base_12;
    reg  signed [11:0] from_low;
    reg  signed [11:0] from_high;
    reg  signed [11:0] over_low_12;
    reg  signed [11:0] over_high_12;
    wire signed [11:0] even_code      = {{2{whole_12[9]}}, whole_12} + {{10{nudge_12[1]}}, nudge_12};
    wire signed [11:0] over_low       = even_code + over_low_12;
    wire signed [11:0] over_high      = even_code + over_high_12;
    reg         [7:0]  shifted;
    reg                too_low;
    reg                too_high;

    always @(posedge clk) begin
        coarse       <= coarse_next;
        ragged_7     <= |(bytes_set & ~(7'h7f << even_shift_6[5:3]));
        even_shift_7 <= {even_shift_6[6], even_shift_6[2:0]};

        fine       <= fine_next[35:0];
        fine_fits  <= ~(|(unlike & ({28{1'b1}} << even_shift_7[2:0])));
        negative_8 <= coarse[62];
        ragged_8   <= ragged_7 | (|fine_lost);
        even_8     <= even_shift_7[3];

        sum      <= {bounded[35], bounded} + {{2{offset_8[34]}}, offset_8};
        ragged_9 <= ragged_8;
        even_9   <= even_8;

        whole_10     <= sum_fits ? sum[33:24] : {sum[36], {9{~sum[36]}}};
        near_zero_10 <= ~(|sum[23:9]);
        near_one_10  <= &sum[23:9];
        fraction_10  <= sum[8:0];
        ragged_10    <= ragged_9;
        odd_10       <= even_9 & sum_fits & sum[24];

        whole_11     <= whole_10;
        window       <= window_next;
        near_zero_11 <= near_zero_10 & odd_10;
        near_one_11  <= near_one_10 & odd_10;
        fraction_11  <= fraction_10;
        to_one       <= 10'd512 - {1'b0, fraction_10};
        ragged_11    <= ragged_10;

        whole_12     <= whole_11;
        nudge_12     <= above ? 2'sb01 : below ? 2'sb11 : 2'sb00;
        base_12      <= zero_point + {{6{exception_11[1]}}, exception_11};
        over_low_12  <= from_low + exception_wide;
        over_high_12 <= from_high + exception_wide;
        from_low     <= zero_wide - low_wide;
        from_high    <= zero_wide + ~high_wide;  // from the first code beyond

        shifted  <= even_code[7:0] + base_12;
        too_low  <= over_low[11];
        too_high <= ~over_high[11];

        code <= too_low ? low : too_high ? high : shifted;
    end

    wire _unused = &{1'b0, fine_next[62:36], over_low[10:0], over_high[10:0]};

endmodule

`resetall
