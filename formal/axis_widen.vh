// rtl/axis_widen.v: the words that leave are made of the bytes that came, each once, in order; a word ends with TLAST, or full, and
// what it lacks is zero. Assumed: nothing of either side.
`include "start.vh"

// ---- numbers modulo 256 of the words; f_number is any of them ----
(* anyconst *) reg [7:0] f_number;
reg [7:0]        f_in;    // words of which the last byte was taken in
reg [7:0]        f_out;   // words taken
reg [3:0]        f_byte;  // of the word being gathered: the byte in turn
reg [8*ROWS-1:0] f_word;
reg              f_ends;
wire             f_take = s_axis_tvalid && s_axis_tready;
wire             f_give = m_axis_tvalid && m_axis_tready;
wire             f_whole = f_byte == ROWS - 1 || s_axis_tlast;
always @(posedge clk) begin
    if (f_take) f_byte <= f_whole ? 4'd0 : f_byte + 4'd1;
    if (f_take && f_whole) f_in <= f_in + 8'd1;
    if (f_take && f_in == f_number) begin
        if (f_byte == 4'd0) f_word <= s_axis_tdata;
        else f_word[8*f_byte +: 8] <= s_axis_tdata;
        f_ends <= s_axis_tlast;
    end
    if (f_give) f_out <= f_out + 8'd1;
    if (rst) {f_in, f_out, f_byte} <= 20'd0;
end

always @* if (f_past) begin
    // one whole word is inside, or none
    assert (f_in - f_out == {7'd0, m_axis_tvalid});
    if (m_axis_tvalid && f_out == f_number) assert (m_axis_tdata == f_word && m_axis_tlast == f_ends);
    // what the induction needs
    assert (f_byte < ROWS && place == 1'b1 << f_byte);
    assert (!m_axis_tvalid || f_byte == 4'd0);
    if (f_byte != 4'd0 && f_in == f_number) assert (m_axis_tdata == f_word);
end

// ---- a word that waits holds ----
always @(posedge clk)
    if (f_ran && $past(m_axis_tvalid && !m_axis_tready)) assert (m_axis_tvalid && $stable(m_axis_tdata) && $stable(m_axis_tlast));

reg f_stalled = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (m_axis_tvalid && !m_axis_tready && s_axis_tvalid));
    cover (f_ran && f_stalled && f_give && f_out == 8'd1 && m_axis_tlast && m_axis_tdata[15:8] != 8'd0
           && m_axis_tdata[8*ROWS-1 -: 8] == 8'd0);
    cover (f_ran && f_take && $past(f_give));
end
