// rtl/stream_out.v. Assumed (its header): no start while active; the memory answers 3 cycles after the address: of one
// address f_place, any, the word is f_word, any; all others give anything, which may change.
`include "start.vh"

always @* assume (!start || !active);

(* anyconst *) reg [ADDR-1:0]   f_place;
(* anyconst *) reg [8*ROWS-1:0] f_word;
reg [ADDR-1:0] f_addr_1;
reg [ADDR-1:0] f_addr_2;
reg [ADDR-1:0] f_addr_3;
always @(posedge clk) {f_addr_3, f_addr_2, f_addr_1} <= {f_addr_2, f_addr_1, read_addr};
always @* assume (f_addr_3 != f_place || read_data == f_word);

// ---- the frame that was started ----
reg [ADDR:0]   f_words;
reg [ADDR-1:0] f_base;
reg [23:0]     f_sent;   // beats taken
reg            f_zero;   // the beat shown is the one that closes a flushed frame
reg            f_open;   // beats were taken since the last TLAST
wire           f_take = m_axis_tvalid && m_axis_tready;

always @(posedge clk) begin
    if (start && words != 24'd0) begin
        f_words <= words;
        f_base <= base;
        f_sent <= 24'd0;
    end else if (f_take) f_sent <= f_sent + 24'd1;
    if (can_show) f_zero <= !pop;
    if (f_take) f_open <= !m_axis_tlast;
    if (rst) f_open <= 1'b0;
end

// ---- the beats are the frame's words, each once, in order, TLAST on the last; a flushed frame ends in zeros with TLAST ----
wire [ADDR-1:0] f_sent_place = f_base + f_sent[ADDR-1:0];
always @* if (f_past && m_axis_tvalid) begin
    if (f_zero) assert (m_axis_tdata == {8*ROWS{1'b0}} && m_axis_tlast);
    else begin
        assert (f_sent < f_words);
        assert (m_axis_tlast == (f_sent + 24'd1 == f_words));
        if (f_sent_place == f_place) assert (m_axis_tdata == f_word);
    end
end
always @* if (f_past && !active) assert (!m_axis_tvalid && !f_open);

// ---- a beat that waits holds, flushed or not ----
always @(posedge clk)
    if (f_ran && $past(m_axis_tvalid && !m_axis_tready))
        assert (m_axis_tvalid && $stable(m_axis_tdata) && $stable(m_axis_tlast));

// ---- the FIFO never overflows, and what is in it is right (the induction needs the rest too) ----
wire [3:0]      f_fill   = fifo_write - fifo_read;
wire [3:0]      f_way    = {3'd0, on_way[0]} + {3'd0, on_way[1]} + {3'd0, on_way[2]};
wire [23:0]     f_asked  = f_words - to_read;
wire [23:0]     f_shown  = f_words - to_show;
wire [ADDR-1:0] f_next   = f_base + f_asked[ADDR-1:0];
wire [ADDR-1:0] f_first  = f_base + f_shown[ADDR-1:0];
genvar f_i;
generate
    for (f_i = 0; f_i < 8; f_i = f_i + 1) begin : gen_f_fifo
        wire [ADDR-1:0] place = f_first + f_i;
        wire [2:0]      slot  = fifo_read[2:0] + f_i;
        always @* if (f_past && sending && f_fill > f_i && place == f_place) assert (fifo[slot] == f_word);
    end
endgenerate

always @* if (f_past) begin
    assert (f_fill <= 4'd8 && reserved <= 4'd8);
    assert (reserved == f_fill + f_way);
    assert (!(on_way[2] && f_fill == 4'd8));
    assert (!closing || !sending);
    assert (begun == (sending && to_show != f_words));
    assert ((m_axis_tvalid ? !m_axis_tlast : f_open) == (begun || closing));
    assert (asking == (to_read != 24'd0));
    if (!sending) assert (to_read == 24'd0 && reserved == 4'd0);
    else begin
        assert (to_show != 24'd0 && to_show <= f_words && to_read <= to_show);
        assert (to_show - to_read == {20'd0, reserved});
        assert (read_addr == f_next);
        assert (f_sent + {23'd0, m_axis_tvalid} == f_shown);
        assert (!m_axis_tvalid || !f_zero);
        if (on_way[0]) assert (f_addr_1 == f_next - 1'b1);
        if (on_way[1]) assert (f_addr_2 == f_next - {3'd0, on_way[0]} - 1'b1);
        if (on_way[2]) assert (f_addr_3 == f_next - f_way);
    end
end

reg f_stalled = 1'b0;
reg f_flushed = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (m_axis_tvalid && !m_axis_tready && f_fill == 4'd8));
    f_flushed <= !rst && (f_flushed || (flush && m_axis_tvalid));
    cover (f_ran && f_take && m_axis_tlast && f_stalled && f_words == 24'd9 && !f_flushed);
    cover (f_ran && f_take && f_zero && f_flushed);
    cover (f_ran && !active && f_flushed && f_sent == 24'd2);
end
