// Where the addresses of a loop nest stay: the step from the loops inside a loop to the loop itself. Innermost there is one
// address, the range 0 .. 0. Assumed of the loops inside: `inside` lies in f_least .. f_most and is `back` at their end. Proved of
// the loop is the same: `whole` lies in f_least + min(span, 0) .. f_most + max(span, 0), and is back + span at its end, with
// span = stride * (turns - 1). So a nest's addresses lie in base + the sum of its negative spans .. base + the sum of the others.
//
// The solver need not multiply: a span may be anything for which the multiples of a stride behave as such: in the last turn
// nothing is left of the span, and before it at least a stride. Bound: no number is beyond 2 ** (WIDE - 3), so that no sum wraps.
localparam signed [WIDE-1:0] F_MOST = 1 << (WIDE - 3);

reg f_loaded = 1'b0;
always @(posedge clk) f_loaded <= 1'b1;

(* anyconst *) reg signed [WIDE-1:0] f_span, f_least, f_most, f_stride, f_back;
(* anyseq *)   reg f_last_turn, f_inner_end;
wire signed [WIDE-1:0] f_left  = f_span - turn;
wire signed [WIDE-1:0] f_low   = f_least + (f_span < 0 ? f_span : 0);
wire signed [WIDE-1:0] f_high  = f_most + (f_span < 0 ? 0 : f_span);

always @* begin
    assume (f_loaded || load);
    assume (stride == f_stride && back == f_back);
    assume (f_span >= -F_MOST && f_span <= F_MOST && f_stride >= -F_MOST && f_stride <= F_MOST);
    assume (f_least >= -F_MOST && f_least <= 0 && f_most >= 0 && f_most <= F_MOST);
    assume (f_back >= f_least && f_back <= f_most);
    assume (inside >= f_least && inside <= f_most && (!f_inner_end || inside == f_back));
    assume (!advance || (f_inner_end && !f_last_turn));
    if (f_loaded) assume (f_last_turn ? f_left == 0 : f_stride < 0 ? f_left <= f_stride : f_left >= f_stride);
end

always @* if (f_loaded) begin
    assert (whole >= f_low && whole <= f_high);
    if (f_last_turn && f_inner_end) assert (whole == f_back + f_span);
    // what the induction needs
    assert (f_span < 0 ? turn <= 0 && turn >= f_span : turn >= 0 && turn <= f_span);
end

reg [1:0] f_turns;
always @(posedge clk) begin
    f_turns <= load ? 2'd0 : f_turns + {1'b0, advance};
    cover (f_loaded && f_turns == 2'd2 && f_last_turn && f_inner_end && f_stride < 0 && f_back > 0);
    cover (f_loaded && f_turns == 2'd3 && !f_last_turn && f_stride > 0);
end
