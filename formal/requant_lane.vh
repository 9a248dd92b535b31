// rtl/requant_lane.v against docs/arithmetic.md, Eq. 1 and 3 to 9. Eq. 2 is not part of it: the product is any number
// (any_product.v), so what is proved holds for the right one too.
// Assumed: low <= high, exc_d in its range, and inputs that hold still until the code is there (still.v). The lane has neither
// reset nor feedback. That the stages of a stream of inputs meet is what simulation shows.
// Bounds, which the solver needs: one shift at a time, s - 24 = F_SHIFT; a product of 32 bits in place, one bit below them for the
// rest; r and d with their lowest 18 bits zero. acc, bias, zero point, clamp, exception and the even bit are in full.
wire        [5:0]  f_shift = params[`PRM_SHIFT];
wire        [1:0]  f_exc   = params[`PRM_EXC_D];
always @* begin
    assume (low <= high && f_shift == `F_SHIFT && f_exc != 2'b10);
    assume (product[`F_SHIFT+5:1] == 0 && product[62:`F_SHIFT+38] == {25-`F_SHIFT{product[`F_SHIFT+37]}});
    assume (params[81:64] == 18'd0 && params[145:128] == 18'd0);
end

wire signed [31:0] f_v     = acc + $signed(params[`PRM_BIAS]);                              // Eq. 1
wire signed [62:0] f_floor = product >>> f_shift;
wire        [62:0] f_rest  = product & ~({63{1'b1}} << f_shift);
wire signed [33:0] f_r     = params[`PRM_R];
wire signed [23:0] f_d     = params[`PRM_D];
wire signed [64:0] f_r_w   = f_r;
wire signed [64:0] f_d_w   = f_d;
wire signed [64:0] f_t_w   = f_floor;
wire signed [64:0] f_whole = f_t_w + f_r_w + ((f_v < 0) ? f_d_w : 65'sd0);                      // Eq. 3
wire signed [33:0] f_u     = (f_whole > 65'sh1FFFFFFFF) ? 34'sh1FFFFFFFF                        // Eq. 5
                           : (f_whole < -65'sh200000000) ? 34'sh200000000 : f_whole[33:0];
wire signed [9:0]  f_y     = f_u[33:24];                                                        // Eq. 4
wire        [23:0] f_f     = f_u[23:0];
wire        [9:0]  f_bits  = f_y[9] ? ~f_y : f_y;
reg         [9:0]  f_w;                                                                         // Eq. 6
integer            f_i;
always @* begin
    f_w = 10'd0;
    for (f_i = 0; f_i < 10; f_i = f_i + 1) if (f_bits[f_i]) f_w = 10'd1 << f_i;
end

reg  signed [11:0] f_code;
wire signed [29:0] f_exc_v = params[`PRM_EXC_V];
wire signed [11:0] f_exc_w = $signed(f_exc);
always @* begin
    f_code = f_y;
    if (params[`PRM_EVEN] && f_y[0]) begin                                                    // Eq. 7
        if (f_f < f_w || (f_f == f_w && f_rest == 63'd0)) f_code = f_y - 12'sd1;
        else if ({1'b0, f_f} + f_w >= 25'h1000000) f_code = f_y + 12'sd1;
    end
    if (f_exc != 2'b00 && f_v == f_exc_v) f_code = f_code + f_exc_w;                            // Eq. 8
    f_code = f_code + zero_point;
    if (f_code < low) f_code = low;                                                         // Eq. 9
    else if (f_code > high) f_code = high;
end

always @* assert (code == f_code[7:0]);

always @* begin
    cover (low == -8'sd128 && high == 8'sd127 && f_y == 10'sd65 && code == 8'sd66 && zero_point == 8'sd0 && f_exc == 2'b00);
    cover (f_y == 10'sd127 && code == 8'sd126 && zero_point == 8'sd0 && f_exc == 2'b00 && f_f == 24'd64);
    cover (f_v == f_exc_v && f_exc == 2'b11 && code == 8'sd6 && f_y == 10'sd7 && zero_point == 8'sd0);
    cover (f_v < 0 && code == -8'sd5);
end
