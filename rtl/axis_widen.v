// SPDX-License-Identifier: Apache-2.0
// Gathers bytes of an AXI4-Stream into words of ROWS bytes, for a host with a byte-wide link.
//
// Layout: the first byte goes to [7:0]. TLAST ends a word: the bytes that are missing are zero, and TLAST is passed on.
// Latency: a word is shown in the cycle after its last byte. Throughput: one byte per cycle, none in
// a cycle that shows a word: no ready signal depends on another within the cycle.

`resetall
`default_nettype none

module axis_widen #(
    // bytes in a word, at least 1
    parameter ROWS = 8
) (
    input  wire              clk,

    input  wire              s_axis_tvalid,
    output wire              s_axis_tready,
    input  wire [7:0]        s_axis_tdata,
    input  wire              s_axis_tlast,

    output reg               m_axis_tvalid,
    input  wire              m_axis_tready,
    output reg  [8*ROWS-1:0] m_axis_tdata,
    output reg               m_axis_tlast,

    input  wire              rst
);

    localparam [ROWS-1:0] FIRST = 1;

    reg [ROWS-1:0] place;  // one bit: where the next byte goes
    integer i;

    assign s_axis_tready = !m_axis_tvalid;

    wire take = s_axis_tvalid && s_axis_tready;
    wire complete = place[ROWS-1] || s_axis_tlast;

    always @(posedge clk) begin
        if (m_axis_tready) m_axis_tvalid <= 1'b0;
        if (take) begin
            for (i = 0; i < ROWS; i = i + 1)
                if (place[i]) m_axis_tdata[8*i +: 8] <= s_axis_tdata;
                else if (place[0]) m_axis_tdata[8*i +: 8] <= 8'd0;
            m_axis_tvalid <= complete;
            m_axis_tlast <= s_axis_tlast;
            place <= complete ? FIRST : place << 1;
        end
        if (rst) begin
            m_axis_tvalid <= 1'b0;
            place <= FIRST;
        end
    end

endmodule

`resetall
