// SPDX-License-Identifier: Apache-2.0
// Cuts words of ROWS bytes of an AXI4-Stream into single bytes, for a host with a byte-wide link.
//
// Layout: [7:0] goes first. TLAST comes with the last byte of a word that had TLAST.
// Latency: a word's first byte is shown in the cycle after the word was taken. Throughput: a word in ROWS + 1
// cycles, one of them without a byte.

`resetall
`default_nettype none

module axis_narrow #(
    // bytes in a word, at least 1
    parameter ROWS = 8
) (
    input  wire              clk,

    input  wire              s_axis_tvalid,
    output wire              s_axis_tready,
    input  wire [8*ROWS-1:0] s_axis_tdata,
    input  wire              s_axis_tlast,

    output reg               m_axis_tvalid,
    input  wire              m_axis_tready,
    output wire [7:0]        m_axis_tdata,
    output wire              m_axis_tlast,

    input  wire              rst
);

    localparam [ROWS-1:0] FIRST = 1;

    reg [8*ROWS-1:0] word;   // next byte lowest
    reg              ends;   // the word had TLAST
    reg [ROWS-1:0]   place;  // one bit: which byte is shown

    assign s_axis_tready = !m_axis_tvalid;
    assign m_axis_tdata = word[7:0];
    assign m_axis_tlast = ends && place[ROWS-1];

    always @(posedge clk) begin
        if (m_axis_tready) begin
            word <= word >> 8;
            place <= place << 1;
            if (place[ROWS-1]) m_axis_tvalid <= 1'b0;
        end
        if (s_axis_tready) begin
            word <= s_axis_tdata;
            ends <= s_axis_tlast;
            place <= FIRST;
            m_axis_tvalid <= s_axis_tvalid;
        end
        if (rst) m_axis_tvalid <= 1'b0;
    end

endmodule

`resetall
