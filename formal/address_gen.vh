// rtl/address_gen.v, one of its two addresses: F_FIELD is where that one's increments lie in a loop's word, F_ADDR, F_STEP
// and F_NEXT its signals, F_BASE its first address, F_BITS its width. Any descriptor whose loops turn once or twice, with strides of -8 .. 7,
// defines a nest: strides that its increments fold (docs/architecture.md). Proved: the address of every word that is issued
// is base + sum of index * stride, so it lies in the nest's range; and every word comes, once, in order, whatever `go` does.
// Assumed: loops change only with a `load`, after the job before has issued; the nest's range lies in 0 .. F_DEPTH - 1 (what the exporter checks).
`include "start.vh"

localparam F_WIDE  = 8;  // bits of the sums here: wide enough that none wraps
localparam F_DEPTH = 12;  // words of a memory that does not fill its addresses
localparam [LEVELS-1:0] F_TURN = `F_TURN;  // loops that may turn twice

wire f_empty = !counting && !valid_2 && !valid_3;
reg [64*`INTACT_LOOP_WORDS-1:0] f_loops;
always @(posedge clk) f_loops <= loops;
always @* assume (!f_past || (load && f_empty) || loops == f_loops);

wire signed [F_WIDE-1:0] f_base = loops[`F_BASE +: F_WIDE];
reg signed  [F_WIDE-1:0] f_back;   // of all loops within
reg signed  [F_WIDE-1:0] f_low;
reg signed  [F_WIDE-1:0] f_high;
reg signed  [F_WIDE-1:0] f_turn;
reg signed  [F_WIDE-1:0] f_sum_1;  // index * stride over the counters of stage 1
reg                      f_index;
reg                      f_legal;
integer f_i;

// a stride times 0 or 1
function signed [F_WIDE-1:0] f_times(input signed [F_WIDE-1:0] stride, input number);
    f_times = stride & {F_WIDE{number}};
endfunction

always @* begin
    f_back = 0;
    f_low = 0;
    f_high = 0;
    f_sum_1 = 0;
    f_legal = 1'b1;
    for (f_i = 0; f_i < LEVELS; f_i = f_i + 1) begin
        f_turn = $signed(loops[64*(f_i+1)+`F_FIELD +: F_WIDE]) + f_back;
        if (loops[64*(f_i+1)+1 +: 15] != 15'd0 || (reloads[16*f_i] && !F_TURN[f_i]) || f_turn < -8 || f_turn > 7) f_legal = 1'b0;
        f_index = reloads[16*f_i] & ~counts[16*f_i];
        f_sum_1 = f_sum_1 + f_times(f_turn, f_index);
        f_turn = f_times(f_turn, reloads[16*f_i]);
        if (f_turn < 0) f_low = f_low + f_turn;
        else f_high = f_high + f_turn;
        f_back = f_back + f_turn;
    end
    if (f_base + f_low < 0 || f_base + f_high >= F_DEPTH || f_base < 0 || f_base >= F_DEPTH) f_legal = 1'b0;
end
always @* assume (f_legal);

// ---- the sums that belong to stages 2 and 3 ----
reg signed [F_WIDE-1:0] f_sum_2;
reg signed [F_WIDE-1:0] f_sum_3;
always @(posedge clk) if (shift) {f_sum_3, f_sum_2} <= {f_sum_2, f_sum_1};

wire f_word_2 = valid_2 && real_2;
wire f_word_3 = valid_3 && real_3;
wire f_end_2  = flags_2[0];
wire f_end_3  = job_last;
wire [`F_BITS-1:0] f_at_1 = f_base + f_sum_1;
wire [`F_BITS-1:0] f_at_2 = f_base + f_sum_2;
wire [`F_BITS-1:0] f_at_3 = f_base + f_sum_3;

// ---- the claim ----
always @* if (f_past && issue) assert (`F_ADDR == f_at_3 && `F_ADDR < F_DEPTH);

// the words come in order: the last of a job is the nest's last, and nothing follows it
always @* if (f_past && issue && job_last) assert (f_sum_3 == f_back && !counting && !f_word_2);

// ---- what the induction needs ----
genvar f_g;
generate
    for (f_g = 0; f_g < LEVELS; f_g = f_g + 1) begin : gen_f_level
        always @* if (f_past && counting) begin
            assert (counts[16*f_g +: 16] <= reloads[16*f_g +: 16]);
            assert (at_end[f_g] == (counts[16*f_g +: 16] == 16'd0));
        end
    end
endgenerate

always @* if (f_past) begin
    if (in_gap) assert (counting);
    if (counting || f_word_2 || f_word_3) begin
        if (counting) assert (f_base + f_sum_1 >= 0 && f_base + f_sum_1 < F_DEPTH);
        if (f_word_2) begin
            assert (f_base + f_sum_2 >= 0 && f_base + f_sum_2 < F_DEPTH);
            assert (f_end_2 == !counting);
            if (!f_end_2) assert (f_at_2 + `F_NEXT == f_at_1);
            else assert (f_sum_2 == f_back);
        end
        if (f_word_3) begin
            assert (f_base + f_sum_3 >= 0 && f_base + f_sum_3 < F_DEPTH);
            assert (`F_ADDR == f_at_3);
            assert (f_end_3 == (!counting && !f_word_2));
            if (!f_end_3) assert (f_at_3 + `F_STEP == (f_word_2 ? f_at_2 : f_at_1));
            else assert (f_sum_3 == f_back);
        end else assert (`F_ADDR == (f_word_2 ? f_at_2 : f_at_1));
    end
end

reg f_waited = 1'b0;
always @(posedge clk) begin
    f_waited <= !rst && !load && (f_waited || (primed && !go && gap_left != 16'd0));
    cover (f_ran && issue && job_last && f_waited && f_low < 0 && f_high > 0);
    cover (f_ran && issue && job_last && `F_ADDR == F_DEPTH - 1);
end
