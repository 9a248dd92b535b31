// rtl/stream_in.v. Assumed (its header): words is at least 1, base and words hold still while a frame is partly in, words also
// from the cycle before a frame's first beat.
// The source may do anything: not even AXI's rule of holding a beat is needed.
`include "start.vh"

reg [ADDR:0]   f_words;
reg [ADDR-1:0] f_base;
always @(posedge clk) if (take && first) {f_words, f_base} <= {words, base};
always @* assume (words != 24'd0 && (first || (words == f_words && base == f_base)));
reg [ADDR:0]   f_words_before;
always @(posedge clk) f_words_before <= words;
always @* assume (!(take && first) || words == f_words_before);
wire [23:0]    index = first ? 24'd0 : words - left;

// ---- every beat that is kept is written once, in order, with its data and its address ----
// numbers modulo 256; f_number is any of them
(* anyconst *) reg [7:0] f_number;
reg [7:0]        f_kept;
reg [7:0]        f_written;
reg [8*ROWS-1:0] f_data;
reg [ADDR-1:0]   f_addr;
wire             f_keep  = take && !dropping;
wire             f_write = write_valid && write_ready;
wire [7:0]       f_waiting = f_kept - f_written;

always @(posedge clk) begin
    if (f_keep) f_kept <= f_kept + 8'd1;
    if (f_write) f_written <= f_written + 8'd1;
    if (f_keep && f_kept == f_number) begin
        f_data <= s_axis_tdata;
        f_addr <= base + index;
    end
    if (rst) {f_kept, f_written} <= 16'd0;
end

always @* if (f_past) begin
    assert (f_waiting == {7'd0, write_valid} + {7'd0, waiting});
    assert (!waiting || write_valid);
    if (write_valid && f_written == f_number) assert (write_data == f_data && write_addr == f_addr);
    if (waiting && f_written + 8'd1 == f_number) assert (waiting_data == f_data && waiting_addr == f_addr);
    assert (!take || dropping || !waiting);
end

// ---- a word that waits holds ----
always @(posedge clk)
    if (f_ran && $past(write_valid && !write_ready)) assert (write_valid && $stable(write_addr) && $stable(write_data));

// ---- frames: loaded after exactly `words` beats with TLAST on the last; an error exactly where that fails ----
reg [23:0] f_length;  // beats since the last TLAST
always @(posedge clk) begin
    if (take) f_length <= s_axis_tlast ? 24'd0 : f_length + 24'd1;
    if (rst) f_length <= 24'd0;
end

always @(posedge clk) if (f_ran) begin
    if (full && !$past(full)) assert ($past(take && s_axis_tlast && f_length + 24'd1 == words));
    if (!full && $past(full)) assert ($past(consume));
    assert (frame_error == $past(f_keep && s_axis_tlast != (f_length + 24'd1 == words)));
end
always @* if (f_past) assert (!frame_loaded || f_waiting == 8'd0);

// what the induction needs
always @* if (f_past) begin
    assert (first || (left != 24'd0 && left < words));
    assert (first || one_left == (left == 24'd1));
    assert (only_one == (f_words_before == 24'd1));
    assert (!full || (first && !dropping));
    assert (!dropping || first);
    assert (dropping || f_length == index);
    assert (first || next_addr == f_base + index[ADDR-1:0]);
end

reg f_stalled = 1'b0;
reg f_dropped = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (waiting && s_axis_tvalid));
    f_dropped <= !rst && (f_dropped || dropping);
    cover (f_ran && frame_loaded && f_stalled && words == 24'd3);
    cover (f_ran && frame_loaded && f_dropped && !dropping);
    cover (frame_error && f_ran);
end
