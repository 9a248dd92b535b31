// rtl/axil_regs.v. Assumed: nothing of the host, not even that it keeps to AXI; nothing of the core behind.
`include "start.vh"

// ---- accepted requests that were not answered, counted at the port alone ----
reg [3:0] f_aw;
reg [3:0] f_w;
reg [3:0] f_ar;
wire      f_aw_in  = s_axil_awvalid && s_axil_awready;
wire      f_w_in   = s_axil_wvalid && s_axil_wready;
wire      f_ar_in  = s_axil_arvalid && s_axil_arready;
wire      f_b_out  = s_axil_bvalid && s_axil_bready;
wire      f_r_out  = s_axil_rvalid && s_axil_rready;
always @(posedge clk) begin
    f_aw <= f_aw + {3'd0, f_aw_in} - {3'd0, f_b_out};
    f_w  <= f_w + {3'd0, f_w_in} - {3'd0, f_b_out};
    f_ar <= f_ar + {3'd0, f_ar_in} - {3'd0, f_r_out};
    if (rst) {f_aw, f_w, f_ar} <= 12'd0;
end

always @* if (f_past) begin
    // no response without a request, none twice, none lost: the counts are what is inside, two at most
    assert (!s_axil_bvalid || (f_aw != 4'd0 && f_w != 4'd0));
    assert (!s_axil_rvalid || f_ar != 4'd0);
    assert (f_aw == {3'd0, aw_full} + {3'd0, s_axil_bvalid});
    assert (f_w == {3'd0, w_full} + {3'd0, s_axil_bvalid});
    assert (f_ar == {3'd0, ar_full} + {3'd0, s_axil_rvalid});
end

// ---- what a write is checked with is up to date when it can come ----
always @* if (f_past && aw_full) assert (word_fits == ({7'd0, word} < depth) && word_ends == (slice == last_slice));

// ---- what is read is the register of the cycle before ----
reg [31:0] f_value;
reg        f_mapped;
reg [5:0]  f_word;
always @(posedge clk) {f_value, f_mapped, f_word} <= {value, mapped, ar_word};
always @* if (f_past) begin
    assert (chosen == f_value && exists == f_mapped);
    if (ar_known) assert (ar_full && ar_word == f_word);
end
always @(posedge clk)
    if (f_ran && $past(read)) assert (s_axil_rdata == $past(f_value) && s_axil_rresp == ($past(f_mapped) ? OKAY : SLVERR));

// ---- a response that waits holds ----
always @(posedge clk) if (f_ran) begin
    if ($past(s_axil_bvalid && !s_axil_bready)) assert (s_axil_bvalid && $stable(s_axil_bresp));
    if ($past(s_axil_rvalid && !s_axil_rready)) assert (s_axil_rvalid && $stable(s_axil_rdata) && $stable(s_axil_rresp));
end

// ---- only OKAY and SLVERR ----
always @* if (f_past) begin
    if (s_axil_bvalid) assert (s_axil_bresp == OKAY || s_axil_bresp == SLVERR);
    if (s_axil_rvalid) assert (s_axil_rresp == OKAY || s_axil_rresp == SLVERR);
end

// ---- every request is answered: a write in the next cycle, a read within six, counted anew where LAYER_INDEX is written ----
reg [2:0] f_read_wait;
wire      f_index = write_layer;
wire      f_accept = write_ctrl || write_layer || write_target || write_data;
always @(posedge clk)
    f_read_wait <= (rst || !ar_full || !ar_known || s_axil_rvalid || read || f_index) ? 3'd0 : f_read_wait + 3'd1;
always @(posedge clk)
    if (f_ran && $past(aw_full && w_full && !s_axil_bvalid)) assert (s_axil_bvalid);
always @* if (f_past) assert (f_read_wait <= 3'd4 && settle <= 3'd4 && {1'b0, f_read_wait} + {1'b0, settle} <= 4'd4);

// ---- nothing is loaded from two cycles after a run began on ----
always @(posedge clk) if (f_ran && $past(running)) assert (busy);

// ---- what is answered with SLVERR, or not answered, has no effect ----
always @(posedge clk) if (f_ran) begin
    if (start || stop || clear || load_valid) assert ($past(f_accept) && s_axil_bvalid && s_axil_bresp == OKAY);
    if (!$past(f_accept)) assert (
        $stable(auto_start) && $stable(layer_index) && $stable(target) && $stable(word) && $stable(slice) && $stable(irq_enable));
    if (load_valid) assert (!$past(busy) && load_addr < $past(depth));
end

reg f_stalled = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (s_axil_bvalid && !s_axil_bready && aw_full && w_full));
    cover (f_ran && f_stalled && f_b_out && s_axil_bresp == SLVERR);
    cover (f_ran && f_r_out && s_axil_rresp == OKAY && f_read_wait == 3'd0 && layer_index == 12'd1);
    cover (f_ran && f_read_wait == 3'd4);
    cover (f_ran && load_valid && load_addr == 24'd1);
end
