// rtl/address_gen.v against the loop nest written down plainly, advanced by `issue` alone.
// Assumed: the descriptor stands for a cycle before `load` and holds still until the job's last word is issued, or nothing is let go until the next load.
// In two parts, for the solver's sake: with F_ORDER the order of the words and what they are; without, where that has been shown,
// the addresses and the taps' coordinates.
`include "start.vh"
`ifdef F_ORDER
`define F_GROUND assert
`else
`define F_GROUND assume
`endif

reg go;  // words may issue
always @(posedge clk) go <= go_next;

// ---- the job in force ----
reg [64*`INTACT_LOOP_WORDS-1:0] f_loops;
reg  f_job;      // loaded, its last word not issued
reg  f_changed;  // its descriptor did not hold still
wire f_busy = f_past && f_job && !f_changed && loops == f_loops;
always @(posedge clk) begin
    if (load) f_loops <= loops;
    f_changed <= !load && (f_changed || loops != f_loops);
    f_job     <= !rst && (load || (f_job && !(issue && job_last)));
end
always @* assume (!go || !f_job || f_busy);
reg [64*`INTACT_LOOP_WORDS-1:0] f_loops_before;
always @(posedge clk) f_loops_before <= loops;
always @* assume (!load || (f_past && loops == f_loops_before));

// ---- the nest: turns left, innermost loop first; what it is one and two words on ----
reg  [16*LEVELS-1:0] f_left;
wire [16*LEVELS-1:0] f_left_1;
wire [16*LEVELS-1:0] f_left_2;
wire [LEVELS-1:0]    f_last_0, f_last_1, f_last_2;
wire [LEVELS-1:0]    f_first_0, f_first_1, f_first_2;
wire [LEVELS-1:0]    f_adv_0, f_adv_1;

genvar f_g;
generate
    for (f_g = 0; f_g < LEVELS; f_g = f_g + 1) begin : gen_f_level
        wire [15:0] turns  = loops[64*(f_g+1) +: 16];
        wire [15:0] left_0 = f_left[16*f_g +: 16];
        wire [15:0] left_1 = f_left_1[16*f_g +: 16];
        wire [15:0] left_2 = f_left_2[16*f_g +: 16];
        wire        all_0  = &(f_last_0 | ({LEVELS{1'b1}} << f_g));
        wire        all_1  = &(f_last_1 | ({LEVELS{1'b1}} << f_g));
        wire [15:0] turns_before = f_loops_before[64*(f_g+1) +: 16];
        always @* if (f_past) `F_GROUND (is_single[f_g] == (turns_before == 16'd0) && is_double[f_g] == (turns_before == 16'd1));
        assign f_last_0[f_g]  = left_0 == 16'd0;
        assign f_last_1[f_g]  = left_1 == 16'd0;
        assign f_last_2[f_g]  = left_2 == 16'd0;
        assign f_first_0[f_g] = left_0 == turns;
        assign f_first_1[f_g] = left_1 == turns;
        assign f_first_2[f_g] = left_2 == turns;
        assign f_adv_0[f_g]   = all_0 && !f_last_0[f_g];
        assign f_adv_1[f_g]   = all_1 && !f_last_1[f_g];
        assign f_left_1[16*f_g +: 16] = !all_0 ? left_0 : f_last_0[f_g] ? turns : left_0 - 16'd1;
        assign f_left_2[16*f_g +: 16] = !all_1 ? left_1 : f_last_1[f_g] ? turns : left_1 - 16'd1;
        always @* if (f_busy) `F_GROUND (left_0 <= turns);
    end
endgenerate

always @(posedge clk) begin
    if (issue) f_left <= f_left_1;
    if (load) f_left <= reloads;
end

// ---- what a word is ----
wire f_passes = subtracts || shifts;
function [6:0] f_flags(input [LEVELS-1:0] first_turn, input [LEVELS-1:0] last_turn);
    f_flags = {
        &first_turn[2:0] && (first_turn[3] || !f_passes), subtracts && last_turn[3], shifts && &first_turn[2:0] && !first_turn[3],
        &last_turn[2:0] && (last_turn[3] || !f_passes), &last_turn[4:0], &last_turn[5:0], &last_turn
    };
endfunction

// ---- the words: each is issued once, in order, with go alone, and nothing after the last; `issue` advances the nest ----
always @* if (f_past && issue) begin
    `F_GROUND (go && f_job);
    `F_GROUND ({first, subtract, scale_up, last, pixel_last, row_last, job_last} == f_flags(f_first_0, f_last_0));
end

// what the induction needs: how far the stages are ahead
wire f_word_2 = valid_2 && real_2;
wire f_word_3 = valid_3 && real_3;
wire [LEVELS-1:0]    f_first_s = f_word_3 ? f_first_1 : f_first_0;  // of the word in stage 2
wire [LEVELS-1:0]    f_last_s  = f_word_3 ? f_last_1 : f_last_0;
wire [LEVELS-1:0]    f_adv_s   = f_word_3 ? f_adv_1 : f_adv_0;
wire [16*LEVELS-1:0] f_left_c  = f_word_3 && f_word_2 ? f_left_2 : f_word_3 || f_word_2 ? f_left_1 : f_left;  // in stage 1
wire [LEVELS-1:0]    f_first_c = f_word_3 && f_word_2 ? f_first_2 : f_word_3 || f_word_2 ? f_first_1 : f_first_0;
wire [LEVELS-1:0]    f_last_c  = f_word_3 && f_word_2 ? f_last_2 : f_word_3 || f_word_2 ? f_last_1 : f_last_0;
reg [LEVELS-1:0] f_one_left;
integer f_k;
always @* for (f_k = 0; f_k < LEVELS; f_k = f_k + 1) f_one_left[f_k] = counts[16*f_k +: 16] == 16'd1;
always @* if (f_past) begin
    `F_GROUND (moves == (go || !valid_3) && issue == (go && real_3));
    `F_GROUND ((valid_2 || !real_2) && (valid_3 || !real_3) && (counting || (!turning && !in_gap)));
    if (!f_job) `F_GROUND (!counting && !f_word_2 && !f_word_3);
end
always @* if (f_busy) begin
    `F_GROUND (turning == (counting && !in_gap));
    `F_GROUND (!in_gap || gap_left != 16'd0);
    `F_GROUND (has_gap == (|loops[`DSC_GAP]));
    if (f_word_3) `F_GROUND (flags_3 == f_flags(f_first_0, f_last_0) && !(f_word_2 && job_last));
    if (f_word_2) `F_GROUND (flags_2 == f_flags(f_first_s, f_last_s) && advance_2 == f_adv_s);
    `F_GROUND (counting == !(f_word_2 ? &f_last_s : f_word_3 && &f_last_0));
    if (counting) begin
        `F_GROUND (counts == f_left_c && at_end == f_last_c && lower_end == all_inside(at_end) && loops == f_loops_before);
        `F_GROUND (one_left == f_one_left);
        `F_GROUND (starts == (&f_first_c[2:0] && (f_first_c[3] || !f_passes)));
        `F_GROUND (!shifts || starts_pass == (&f_first_c[2:0] && !f_first_c[3]));
    end
end

`ifndef F_ORDER
// ---- the addresses: when a loop advances, its increment is added (nest_level.vh: so they stay in the nest's range) ----
reg  [ACT_ADDR-1:0] f_act_next, f_act;
reg  [WGT_ADDR-1:0] f_wgt_next, f_wgt;
integer f_i;
always @* begin
    f_act_next = 0;
    f_wgt_next = 0;
    for (f_i = 0; f_i < LEVELS; f_i = f_i + 1) if (f_adv_0[f_i]) begin
        f_act_next = loops[64*(f_i+1)+16 +: ACT_ADDR];
        f_wgt_next = loops[64*(f_i+1)+40 +: WGT_ADDR];
    end
end
always @(posedge clk) begin
    if (issue) {f_act, f_wgt} <= {f_act + f_act_next, f_wgt + f_wgt_next};
    if (load) {f_act, f_wgt} <= {loops[`DSC_ACT_BASE_LSB +: ACT_ADDR], loops[`DSC_WGT_BASE_LSB +: WGT_ADDR]};
end
always @* if (f_busy) begin
    assert (act_addr == f_act && wgt_addr == f_wgt);
    if (f_word_3) assert (act_step == f_act_next && wgt_step == f_wgt_next);  // what the induction needs
end

// they hold until they are read
reg                f_waited;
reg [ACT_ADDR-1:0] f_was_act;
reg [WGT_ADDR-1:0] f_was_wgt;
always @(posedge clk) {f_waited, f_was_act, f_was_wgt} <= {!issue && !load, act_addr, wgt_addr};
always @* if (f_past && f_waited) assert (act_addr == f_was_act && wgt_addr == f_was_wgt);

// ---- the tap's coordinates: where its pixel begins, and where in the kernel it is ----
wire signed [15:0] f_kx_x   = loops[`DSC_KX_X];
wire signed [15:0] f_ky_y   = loops[`DSC_KY_Y];
wire signed [15:0] f_wide_x = -loops[`DSC_BACK_X];  // (columns of the kernel - 1) * f_kx_x
wire signed [15:0] f_wide_y = -loops[`DSC_BACK_Y];
wire signed [15:0] f_ox_x   = loops[`DSC_OX_X] + f_wide_x;
wire signed [15:0] f_oy_y   = loops[`DSC_OY_Y] + f_wide_y;
reg  signed [15:0] f_pixel_x, f_pixel_y, f_tap_x, f_tap_y;
wire signed [15:0] f_x = f_pixel_x + f_tap_x;
wire signed [15:0] f_y = f_pixel_y + f_tap_y;
wire f_inside = f_x >= 0 && f_y >= 0 && f_x < $signed({1'b0, map_w}) && f_y < $signed({1'b0, map_h});

always @(posedge clk) begin
    if (issue) begin
        if (f_adv_0[1]) f_tap_x <= f_tap_x + f_kx_x;
        if (|f_adv_0[6:2]) f_tap_x <= 16'd0;
        if (f_adv_0[2]) f_tap_y <= f_tap_y + f_ky_y;
        if (|f_adv_0[6:3]) f_tap_y <= 16'd0;
        if (f_adv_0[5]) f_pixel_x <= f_pixel_x + f_ox_x;
        if (f_adv_0[6]) begin
            f_pixel_x <= loops[`DSC_X0];
            f_pixel_y <= f_pixel_y + f_oy_y;
        end
    end
    if (load) begin
        f_pixel_x <= loops[`DSC_X0];
        f_pixel_y <= loops[`DSC_Y0];
        {f_tap_x, f_tap_y} <= 32'd0;
    end
end
always @* if (f_busy) begin
    assume (map_w <= 16'h8000 && map_h <= 16'h8000);  // a coordinate has a sign
    assume (!f_last_0[1] || f_tap_x == f_wide_x);
    assume (!f_last_0[2] || f_tap_y == f_wide_y);
end

reg f_issued, f_was_inside;
always @(posedge clk) {f_issued, f_was_inside} <= {f_past && issue, f_inside};
always @* if (f_past && f_issued) assert (outside == !f_was_inside);

// what the induction needs
always @* if (f_busy) begin
    assert (x == f_x && y == f_y);
    if (f_word_3) begin
        assert (x_step == (f_adv_0[1] ? f_kx_x : |f_adv_0[4:2] ? -f_wide_x : f_adv_0[5] ? f_ox_x - f_wide_x : 16'sd0));
        assert (y_step == (f_adv_0[2] ? f_ky_y : |f_adv_0[5:3] ? -f_wide_y : f_adv_0[6] ? f_oy_y - f_wide_y : 16'sd0));
        assert (x_restart == f_adv_0[6]);
    end
end

always @(posedge clk) begin
    cover (f_ran && f_issued && f_was_inside && f_adv_0[0] && !f_inside);
    cover (f_ran && f_busy && f_adv_0[6] && issue && f_x > 0 && $signed(act_addr) < 0);
end
`else
reg f_gap, f_stall, f_twice;
always @(posedge clk) begin
    f_gap   <= !load && (f_gap || (go && !issue && f_busy));
    f_stall <= !load && (f_stall || (!go && f_busy && primed));
    f_twice <= !rst && (f_twice || (issue && job_last));
    cover (f_ran && issue && job_last && f_gap && f_stall && reloads[0]);
    cover (f_ran && issue && first && f_twice);
    cover (f_ran && issue && scale_up);
    cover (f_ran && issue && subtract && !job_last);
end
`endif
