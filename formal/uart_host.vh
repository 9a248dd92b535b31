// rtl/uart_host.v: its ports as a source of beats and as AXI4-Lite's host. The frames behind it are any (any_frames.v), so no order
// of requests is assumed. Assumed of the registers: a response only to a request of which every part was taken.
`include "start.vh"
always @* assume ((!m_axil_bvalid || (!m_axil_awvalid && !m_axil_wvalid)) && (!m_axil_rvalid || !m_axil_arvalid));

// ---- what waits holds; a reset request takes a beat back, and resets what would take it (link_rst) ----
always @(posedge clk) if (f_ran) begin
    if ($past(m_axis_tvalid && !m_axis_tready && state != RESTART))
        assert (m_axis_tvalid && $stable(m_axis_tdata) && $stable(m_axis_tlast));
    if ($past(m_axis_tvalid && !m_axis_tready) && !m_axis_tvalid) assert (link_rst);
    if ($past(m_axil_awvalid && !m_axil_awready)) assert (m_axil_awvalid && $stable(m_axil_awaddr));
    if ($past(m_axil_wvalid && !m_axil_wready)) assert (m_axil_wvalid && $stable(m_axil_wdata));
    if ($past(m_axil_arvalid && !m_axil_arready)) assert (m_axil_arvalid && $stable(m_axil_araddr));
end

// ---- one request at a time, and its response is awaited ----
always @* if (f_past) begin
    if (m_axil_awvalid || m_axil_wvalid) assert (m_axil_bready && !m_axil_arvalid);
    if (m_axil_arvalid) assert (m_axil_rready);
end

// ---- each beat of a frame is one byte of the request, in order: as many as the index says ----
reg [ADDR:0] f_beats;
always @(posedge clk) begin
    if (state == IDLE) f_beats <= 0;
    else if (supply) f_beats <= f_beats + ONE;
end
always @* if (f_past) begin
    if (state == SUPPLY) assert (f_beats == index);
    assert (!collect || s_axis_tready);
end

reg f_stalled = 1'b0;
always @(posedge clk) begin
    f_stalled <= !rst && (f_stalled || (m_axis_tvalid && !m_axis_tready));
    cover (f_ran && f_stalled && m_axis_tvalid && m_axis_tready);
    cover (f_ran && m_axil_wvalid && !m_axil_awvalid);
    cover (f_ran && m_axil_arvalid && !m_axil_arready);
end
