// rtl/axis_narrow.v: the bytes that leave are those of the words that came, each once, in order. Assumed: nothing of either side.
`include "start.vh"

// ---- numbers modulo 256 of the words; f_number is any of them ----
(* anyconst *) reg [7:0] f_number;
reg [7:0]        f_in;    // words taken in
reg [7:0]        f_out;   // words of which every byte was taken
reg [3:0]        f_byte;  // of the word being sent: the byte in turn
reg [8*ROWS-1:0] f_word;
reg              f_ends;
wire             f_take = s_axis_tvalid && s_axis_tready;
wire             f_give = m_axis_tvalid && m_axis_tready;
always @(posedge clk) begin
    if (f_take) f_in <= f_in + 8'd1;
    if (f_take && f_in == f_number) {f_ends, f_word} <= {s_axis_tlast, s_axis_tdata};
    if (f_give) f_byte <= f_byte == ROWS - 1 ? 4'd0 : f_byte + 4'd1;
    if (f_give && f_byte == ROWS - 1) f_out <= f_out + 8'd1;
    if (rst) {f_in, f_out, f_byte} <= 20'd0;
end

always @* if (f_past) begin
    // one word is inside, or none
    assert (f_in - f_out == {7'd0, m_axis_tvalid});
    if (m_axis_tvalid && f_out == f_number) begin
        assert (m_axis_tdata == f_word[8*f_byte +: 8]);
        assert (m_axis_tlast == (f_ends && f_byte == ROWS - 1));
    end
    // what the induction needs
    assert (f_byte < ROWS && (m_axis_tvalid || f_byte == 4'd0));
    if (m_axis_tvalid) assert (place == 1'b1 << f_byte);
    if (m_axis_tvalid && f_out == f_number) assert (ends == f_ends && word == f_word >> 8 * f_byte);
end

// ---- a byte that waits holds ----
always @(posedge clk)
    if (f_ran && $past(m_axis_tvalid && !m_axis_tready)) assert (m_axis_tvalid && $stable(m_axis_tdata) && $stable(m_axis_tlast));

reg f_stalled = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (m_axis_tvalid && !m_axis_tready && s_axis_tvalid));
    cover (f_ran && f_stalled && f_give && m_axis_tlast && f_out == 8'd1);
    cover (f_ran && f_take && f_out == 8'd2);
end
