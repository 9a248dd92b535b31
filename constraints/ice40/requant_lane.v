// SPDX-License-Identifier: Apache-2.0
// One requantise lane for the iCE40, in place of rtl/requant_lane.v: the same function, ports, latency and rate, with more
// logic between fewer registers, because every register that does not follow a LUT costs a logic cell of its own.

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
    output wire signed [7:0]  code
);

    // Stage 1, Eq. 1: v = acc + bias goes into the multiplier blocks' registers; sign and exception are known at once.
    wire signed [31:0] value           = acc + $signed(params[`PRM_BIAS]);
    wire        [33:0] offset          = params[`PRM_R];
    wire        [23:0] offset_negative = params[`PRM_D];
    wire        [29:0] exception_value = params[`PRM_EXC_V];
    reg  signed [34:0] offset_1;
    reg         [1:0]  exception_1;
    reg         [6:0]  even_shift_1;

    always @(posedge clk) begin
        offset_1     <= {offset[33], offset} + ({{11{offset_negative[23]}}, offset_negative} & {35{value[31]}});
        exception_1  <= (value == {{2{exception_value[29]}}, exception_value}) ? params[`PRM_EXC_D] : 2'b00;
        even_shift_1 <= {params[`PRM_EVEN], params[`PRM_SHIFT]};
    end

    // Stages 1 to 5, Eq. 2
    wire signed [62:0] product;
    wide_mul mul (.clk(clk), .value(value), .multiplier(params[`PRM_M]), .product(product));

    wire [34:0] offset_7;
    wire [1:0]  exception_8;
    wire [6:0]  even_shift_5;
    delay #(.WIDTH(35), .CYCLES(6)) delay_offset (.clk(clk), .rst(1'b0), .in(offset_1), .out(offset_7));
    delay #(.WIDTH(2), .CYCLES(7)) delay_exception (.clk(clk), .rst(1'b0), .in(exception_1), .out(exception_8));
    delay #(.WIDTH(7), .CYCLES(4)) delay_shift (.clk(clk), .rst(1'b0), .in(even_shift_1), .out(even_shift_5));

    // Stages 6 and 7, the shift of Eq. 3: shift by a multiple of 8, then by the rest; `ragged` remembers a bit that was shifted out.
    wire [2:0]         bytes = even_shift_5[5:3];
    reg  signed [62:0] coarse;
    reg                ragged_6;
    reg         [3:0]  even_shift_6;
    wire        [6:0]  byte_lost;

    genvar g;
    generate
        for (g = 0; g < 7; g = g + 1) begin : gen_byte
            assign byte_lost[g] = (|product[8*g +: 8]) & (bytes > g);
        end
    endgenerate

    // what reaches beyond 36 bits after the shift: bits above 34 that are no copies of the sign; of the lowest seven of them
    // those that the shift does not bring down
    wire        [2:0]  bits      = even_shift_6[2:0];
    wire        [6:0]  edge_bits = (coarse[41:35] ^ {7{coarse[62]}}) & (7'h7f << bits);
    wire               fine_fits = ~(|edge_bits) & (coarse[61:42] == {20{coarse[62]}});
    wire        [42:0] shifted_4 = bits[2] ? {4'd0, coarse[42:4]} : coarse[42:0];
    wire        [42:0] shifted_2 = bits[1] ? {2'd0, shifted_4[42:2]} : shifted_4;
    wire        [34:0] shifted_1 = bits[0] ? shifted_2[35:1] : shifted_2[34:0];
    wire        [6:0]  fine_lost = coarse[6:0] & ~(7'h7f << bits);
    reg  signed [35:0] fine;
    reg                fits_7;
    reg                ragged_7;
    reg                even_7;

    // Stage 8, the offset of Eq. 3.
    reg  signed [36:0] sum;
    reg                fits_8;
    reg                sign_8;
    reg                ragged_8;
    reg                even_8;

    // Stage 9, Eq. 4 to 7: saturate to 10 bits before the point; near a tie an odd code goes to its even neighbour. The
    // window around the tie is half a float32 ulp of the code: 2^(bits of the code - 1).
    // Beyond 12 bits before the point the offset cannot bring the code back: it saturates by the sign before the offset.
    wire               sum_fits  = (sum[36:33] == {4{sum[33]}}) & fits_8;
    wire               sign      = fits_8 ? sum[36] : sign_8;
    wire signed [9:0]  whole     = sum_fits ? sum[33:24] : {sign, {9{~sign}}};
    wire        [8:0]  magnitude = whole[8:0] ^ {9{whole[9]}};
    wire        [23:0] fraction  = sum[23:0];
    reg         [8:0]  window;
    integer            k;

    always @* begin
        window = 9'd0;
        for (k = 0; k < 9; k = k + 1) if (magnitude[k]) window = 9'd1 << k;
    end

    wire        near_zero = ~(|fraction[23:9]);
    wire        near_one  = &fraction[23:9];
    wire [9:0]  to_one    = 10'd512 - {1'b0, fraction[8:0]};
    wire        below     = near_zero & ((fraction[8:0] < window) | ((fraction[8:0] == window) & ~ragged_8));
    wire        above     = near_one & (to_one <= {1'b0, window});
    wire        odd       = even_8 & sum_fits & whole[0];

    reg signed [9:0]  whole_9;
    reg signed [1:0]  nudge_9;
    reg signed [8:0]  base_9;
    wire signed [8:0] zero_wide      = {zero_point[7], zero_point};
    wire signed [8:0] exception_wide = {{7{exception_8[1]}}, exception_8};

    // Stages 10 and 11, Eq. 8 and 9: exception, zero point, clamp. The codes wait for the rest of rtl/requant_lane.v's stages.
    reg  signed [11:0] shifted;
    reg         [7:0]  clamped;
    wire signed [11:0] low_wide  = {{4{low[7]}}, low};
    wire signed [11:0] high_wide = {{4{high[7]}}, high};

    always @(posedge clk) begin
        coarse       <= product >>> {bytes, 3'b000};
        ragged_6     <= |byte_lost;
        even_shift_6 <= {even_shift_5[6], even_shift_5[2:0]};

        fine     <= {coarse[62], shifted_1};
        fits_7   <= fine_fits;
        ragged_7 <= ragged_6 | (|fine_lost);
        even_7   <= even_shift_6[3];

        sum      <= {fine[35], fine} + {{2{offset_7[34]}}, offset_7};
        fits_8   <= fits_7;
        sign_8   <= fine[35];
        ragged_8 <= ragged_7;
        even_8   <= even_7;

        whole_9 <= whole;
        nudge_9 <= (odd & above) ? 2'sb01 : (odd & below) ? 2'sb11 : 2'sb00;
        base_9  <= zero_wide + exception_wide;

        shifted <= {{2{whole_9[9]}}, whole_9} + {{10{nudge_9[1]}}, nudge_9} + {{3{base_9[8]}}, base_9};

        if (shifted < low_wide) clamped <= low;
        else if (shifted > high_wide) clamped <= high;
        else clamped <= shifted[7:0];
    end

    delay #(.WIDTH(8), .CYCLES(3)) delay_code (.clk(clk), .rst(1'b0), .in(clamped), .out(code));

    wire _unused = &{1'b0, shifted_2[42:36]};

endmodule

`resetall
