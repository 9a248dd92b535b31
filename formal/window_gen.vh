// rtl/window_gen.v against the slots of a window job written down plainly (window_step.v), advanced by `issue` alone.
// Assumed: the descriptor holds still from `load` until the job's last slot is issued, or nothing is let go until the next load; a
// pixel has as many slots as words of weights, at least; a map's sides are at most 2**15.
`include "start.vh"

reg go;  // slots may issue
always @(posedge clk) go <= go_next;

// ---- the job in force ----
reg [64*`INTACT_LOOP_WORDS-1:0] f_loops;
reg  f_job;      // loaded, its last slot not issued
reg  f_changed;  // its descriptor did not hold still
wire f_busy = f_past && f_job && !f_changed && loops == f_loops;
always @(posedge clk) begin
    if (load) f_loops <= loops;
    f_changed <= !load && (f_changed || loops != f_loops);
    f_job     <= !rst && (load || (f_job && !(issue && job_last)));
end
always @* assume (!go || !f_job || f_busy);
always @* if (f_busy) begin
    assume (loops[`WIN_ROW_SLOTS] > {7'd0, two} && loops[`WIN_PIXEL_SLOTS] > {7'd0, two} && loops[`WIN_JOB_SLOTS] != 8'd0);
    assume (map_w <= 16'h8000 && map_h <= 16'h8000);
end

// ---- the slot that comes next at the port (0), the one and the two after it ----
reg  [69:0] f_state;
wire [69:0] f_state_1, f_state_2, f_state_3;
wire        f_enters_0, f_meets_0, f_second_0, f_first_0, f_last_0, f_end_0;
wire        f_enters_1, f_meets_1, f_second_1, f_first_1, f_last_1, f_end_1;
wire [2:0]  f_ends_0, f_step_0, f_ends_1, f_step_1;
`define F_FIELDS(state) .loops(loops), .due(state[69]), .due_ends(state[68:66]), .over(state[65]), .opens(state[64]), \
    .slots(state[63:56]), .columns(state[55:48]), .x(state[47:32]), .y(state[31:16]), .t(state[15:0])
window_step f_slot_0 (
    `F_FIELDS(f_state), .enters(f_enters_0), .meets(f_meets_0), .second(f_second_0), .first(f_first_0), .last(f_last_0),
    .ends(f_ends_0), .job_ends(f_end_0), .step(f_step_0), .next(f_state_1)
);
window_step f_slot_1 (
    `F_FIELDS(f_state_1), .enters(f_enters_1), .meets(f_meets_1), .second(f_second_1), .first(f_first_1), .last(f_last_1),
    .ends(f_ends_1), .job_ends(f_end_1), .step(f_step_1), .next(f_state_2)
);
wire f_over_0 = f_state[65];
wire f_over_1 = f_state_1[65];

// ---- addresses and coordinates of the column that comes next; the weights' tile ----
reg        [ACT_ADDR-1:0] f_act;
reg        [WGT_ADDR-1:0] f_tile;
reg signed [15:0]         f_x, f_y;
wire       [ACT_ADDR-1:0] f_way = f_step_0[0] ? loops[`WIN_COLUMN_ACT_LSB +: ACT_ADDR] : f_step_0[1] ? loops[`WIN_ROW_ACT_LSB +: ACT_ADDR]
                                : f_step_0[2] ? loops[`WIN_TILE_ACT_LSB +: ACT_ADDR] : {ACT_ADDR{1'b0}};
always @(posedge clk) begin
    if (issue) begin
        f_state <= f_state_1;
        f_act   <= f_act + f_way;
        if (f_last_0 && f_ends_0[1]) f_tile <= f_tile + (two ? 2'd2 : 2'd1);
        if (f_step_0[0]) f_x <= f_x + 16'sd1;
        if (|f_step_0[2:1]) f_x <= loops[`WIN_ROW_X];
        if (f_step_0[1]) f_y <= f_y + $signed(loops[`WIN_ROW_Y]);
        if (f_step_0[2]) f_y <= loops[`DSC_Y0];
    end
    if (load) begin
        f_state <= {
            6'b000001, loops[`WIN_JOB_SLOTS], loops[`WIN_JOB_SLOTS], loops[`WIN_WIDTH], loops[`WIN_HEIGHT], loops[`WIN_TILES]
        };
        f_act   <= base;
        f_tile  <= loops[`DSC_WGT_BASE_LSB +: WGT_ADDR];
        f_x     <= loops[`DSC_X0];
        f_y     <= loops[`DSC_Y0];
    end
end

// ---- the claim: slots in order, each once, with go alone, none after the last ----
wire [9:0] f_flags_0 = {f_over_0, f_enters_0 || f_over_0, f_meets_0, f_second_0, f_second_0 && loops[`WIN_SECOND_SCALES_UP],
                        f_first_0, f_last_0, f_ends_0};
always @* if (f_past && issue) begin
    assert (go && f_job);
    assert ({shift, meets, second, scale_up, first, last, job_last, map_last, row_last} == f_flags_0[8:0]);
    // of what enters, three addresses a line apart; of what meets, the tile's first or second word of weights
    assert (act_addr[0 +: ACT_ADDR] == f_act && act_addr[ACT_ADDR +: ACT_ADDR] == f_act + line);
    assert (act_addr[2*ACT_ADDR +: ACT_ADDR] == f_act + line + line);
    if (meets) assert (wgt_addr == f_tile + second);
end

// a row is outside where its word is no part of the map
reg       f_issued;
reg [2:0] f_was_outside;
wire signed [17:0] f_wide_x = f_x;
wire signed [17:0] f_wide_y = f_y;
genvar f_g;
generate
    for (f_g = 0; f_g < 3; f_g = f_g + 1) begin : gen_f_row
        wire signed [17:0] y_here = f_wide_y + f_g;
        wire inside = f_wide_x >= 0 && f_wide_x < $signed({2'b00, map_w}) && y_here >= 0 && y_here < $signed({2'b00, map_h});
        always @(posedge clk) f_was_outside[f_g] <= f_over_0 || !inside;
    end
endgenerate
always @(posedge clk) f_issued <= f_past && issue;
always @* if (f_past && f_issued) assert (outside == f_was_outside);

// addresses hold until they are read
reg                             f_waited;
reg [3*ACT_ADDR + WGT_ADDR-1:0] f_was;
always @(posedge clk) {f_waited, f_was} <= {!issue && !load, act_addr, wgt_addr};
always @* if (f_past && f_waited) assert ({act_addr, wgt_addr} == f_was);

// ---- what the induction needs: how far the stages are ahead ----
wire [9:0]  f_flags_1 = {f_over_1, f_enters_1 || f_over_1, f_meets_1, f_second_1, f_second_1 && loops[`WIN_SECOND_SCALES_UP],
                         f_first_1, f_last_1, f_ends_1};
wire [69:0] f_in_1 = valid_3 && valid_2 ? f_state_2 : valid_3 || valid_2 ? f_state_1 : f_state;
wire [69:0] f_in_2 = valid_3 ? f_state_1 : f_state;
always @* if (f_past) assert (moves == (go || !valid_3) && issue == (go && valid_3));
always @* if (f_past && !f_job) assert (!counting && !valid_2 && !valid_3);
always @* if (f_busy) begin
    assert (x_end == (x_left == 16'd0) && y_end == (y_left == 16'd0) && tiles_end == (tiles_left == 16'd0));
    // a second word is due in the next pixel's first slot, which is not its last
    assert (!f_state[69] || (two && f_state[64] && (f_state[65] || f_state[63:56] != 8'd1)));
    assert (f_state[65] == (f_state[69] && f_state[68]) && (!f_state[65] || f_state[67]));
    assert (act_addr == {f_act + line + line, f_act + line, f_act});
    assert (wgt_addr == f_tile + f_state[69]);
    assert (x == f_x && y == {f_y + 16'sd2, f_y + 16'sd1, f_y});
    if (valid_3) begin
        assert (flags_3 == f_flags_0 && step_3 == f_step_0 && act_step == f_way);
        assert (wgt_step == (two ? (f_second_0 ? (f_state[67] ? {{WGT_ADDR-1{1'b0}}, 1'b1} : {WGT_ADDR{1'b1}})
            : {{WGT_ADDR-1{1'b0}}, f_first_0}) : {{WGT_ADDR-1{1'b0}}, f_last_0 && f_ends_0[1]}));
        assert (!(f_end_0 && valid_2));
    end
    if (valid_2) begin
        assert (flags_2 == (valid_3 ? f_flags_1 : f_flags_0) && step_2 == (valid_3 ? f_step_1 : f_step_0));
        assert (down_2 == (flags_2[6] && !f_in_2[67]));
        assert (up_2 == (two ? flags_2[4] || (flags_2[6] && f_in_2[67]) : flags_2[4] && flags_2[1]));
    end
    assert (counting == !(valid_2 ? (valid_3 ? f_end_1 : f_end_0) : valid_3 && f_end_0));
    if (counting) begin
        assert (finishing == f_in_1[65] && entering == f_in_1[64]);
        assert (pixel_ends == (slots_left == 8'd1 && !finishing));
        assert (!entering || (two && started) == f_in_1[69]);
        assert (entering || !f_in_1[69]);
        assert (!f_in_1[69] || previous == f_in_1[68:66]);
        assert ({slots_left, columns_left, x_left, y_left, tiles_left} == f_in_1[63:0]);
    end
end

reg f_stall, f_twice;
always @(posedge clk) begin
    f_stall <= !load && (f_stall || (!go && f_busy && primed));
    f_twice <= !rst && (f_twice || (issue && job_last));
    cover (f_ran && issue && job_last && f_stall && !two && f_x > 16'sd1);
    cover (f_ran && issue && second && map_last && !job_last);
    cover (f_ran && issue && f_over_0 && f_twice && loops[`WIN_JOB_SLOTS] == 8'd1);
    cover (f_ran && f_issued && outside == 3'b100);
end
