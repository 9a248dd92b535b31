// SPDX-License-Identifier: Apache-2.0
// Output frames from the activation memory to AXI4-Stream on the iCE40, in place of rtl/stream_out.v: the same ports and
// frames, without its FIFO. The word shown is the one that stands at the memory, so a beat takes five cycles or more; a
// serial line takes many more.
//
// Layout: one activation word a beat, byte i ([8*i +: 8]) is channel i; beat k is word base + k, TLAST on beat words - 1.
// `flush` ends a frame early. A beat that is shown stays until it is taken (AXI); words behind it are dropped; then, if the
// frame had begun and its TLAST was not shown, one beat of zeros with TLAST closes it, so that the receiver sees where the
// next frame begins. `active` stays high until all of this is through.
// Requirement: the words of a frame are not written while `active`.

`resetall
`default_nettype none

module stream_out #(
    // bytes in an activation word
    parameter ROWS = 8,
    // address bits of the activation memory
    parameter ADDR = 12
) (
    input  wire              clk,

    // pulse: send a frame; not while `active`. base and words are sampled with it; words = 0 sends nothing.
    input  wire              start,
    input  wire [ADDR-1:0]   base,
    // at most 2**ADDR
    input  wire [ADDR:0]     words,
    // pulse: end the frame early
    input  wire              flush,
    // level, from the cycle after start until the last beat was taken
    output wire              active,

    // memory read port, to be granted while `active`: data come 3 cycles after their address
    output reg  [ADDR-1:0]   read_addr,
    input  wire [8*ROWS-1:0] read_data,

    output reg               m_axis_tvalid,
    input  wire              m_axis_tready,
    output wire [8*ROWS-1:0] m_axis_tdata,
    output reg               m_axis_tlast,

    input  wire              rst
);

    reg            sending;  // a frame is on its way, its last beat not yet shown
    reg  [ADDR:0]  to_show;  // words still to show
    reg  [2:0]     settle;   // settle[2]: read_data is the word at read_addr
    reg            begun;    // a beat of the frame was shown, its TLAST was not
    reg            closing;  // a beat of zeros with TLAST is due
    reg            zeros;    // it is shown
    wire           is_last = (to_show == 1);

    assign active = sending || closing || m_axis_tvalid;
    assign m_axis_tdata = zeros ? {8*ROWS{1'b0}} : read_data;

    always @(posedge clk) begin
        settle <= {settle[1:0], 1'b1};

        if (m_axis_tvalid && m_axis_tready) begin
            m_axis_tvalid <= 1'b0;
            read_addr <= read_addr + 1'b1;
            settle <= 3'b000;
            zeros <= 1'b0;
        end
        if (!m_axis_tvalid && !flush) begin
            if (sending && settle[2]) begin
                m_axis_tvalid <= 1'b1;
                m_axis_tlast <= is_last;
                to_show <= to_show - 1'b1;
                begun <= !is_last;
                sending <= !is_last;
            end else if (closing) begin
                m_axis_tvalid <= 1'b1;
                m_axis_tlast <= 1'b1;
                zeros <= 1'b1;
                closing <= 1'b0;
            end
        end

        if (start && words != {ADDR+1{1'b0}}) begin
            sending <= 1'b1;
            read_addr <= base;
            settle <= 3'b000;
            to_show <= words;
        end

        if (flush) begin
            sending <= 1'b0;
            begun <= 1'b0;
            if (begun) closing <= 1'b1;
        end
        if (rst) begin
            sending <= 1'b0;
            closing <= 1'b0;
            begun <= 1'b0;
            zeros <= 1'b0;
            m_axis_tvalid <= 1'b0;
        end
    end


endmodule

`resetall
