// SPDX-License-Identifier: Apache-2.0
// Output frames from the activation memory to AXI4-Stream.
//
// Layout: one activation word a beat, byte i ([8*i +: 8]) is channel i; beat k is word base + k, TLAST on beat words - 1.
// Every word asked for has a place reserved in a FIFO of 8, so a stall at any moment loses nothing.
// `flush` ends a frame early. A beat that is shown stays until it is taken (AXI); words behind it are dropped; then, if the
// frame had begun and its TLAST was not shown, one beat of zeros with TLAST closes it, so that the receiver sees where the
// next frame begins. `active` stays high until all of this is through.
// Latency: first beat shown 6 cycles after `start`. Throughput: one beat per cycle.

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
    output reg  [8*ROWS-1:0] m_axis_tdata,
    output reg               m_axis_tlast,

    input  wire              rst
);

    // ------------------------------------------------------------ ask: only with a place in the FIFO

    localparam [ADDR:0] ONE = 1;

    reg        sending;    // a frame is on its way, its last beat not yet shown
    reg [ADDR:0] to_read;  // words still to ask for
    reg        asking;     // there are some
    reg [3:0]  reserved;   // words asked for that have not left the FIFO
    reg [2:0]  on_way;     // words within the memory's 3 cycles

    wire ask = asking && !reserved[3];

    // ------------------------------------------------------------ FIFO of 8

    reg [8*ROWS-1:0] fifo [0:7];
    reg [3:0]  fifo_write;
    reg [3:0]  fifo_read;

    wire can_show = !m_axis_tvalid || m_axis_tready;
    wire pop = fifo_write != fifo_read && can_show && !flush;

    // ------------------------------------------------------------ show

    reg [ADDR:0] to_show;  // words still to show
    reg        begun;      // a beat of the frame was shown, its TLAST was not
    reg        closing;    // a beat of zeros with TLAST is due

    assign active = sending || closing || m_axis_tvalid;

    always @(posedge clk) begin
        if (on_way[2]) fifo[fifo_write[2:0]] <= read_data;
        if (on_way[2]) fifo_write <= fifo_write + 4'd1;
        if (pop) fifo_read <= fifo_read + 4'd1;

        on_way <= {on_way[1:0], ask};
        reserved <= reserved + {3'd0, ask} - {3'd0, pop};
        if (ask) begin
            read_addr <= read_addr + 1'b1;
            to_read <= to_read - ONE;
            asking <= to_read != ONE;
        end

        // what is not valid may change; nothing is in the FIFO while a beat of zeros is due
        if (can_show) begin
            m_axis_tvalid <= pop || closing;
            m_axis_tdata <= closing ? {8*ROWS{1'b0}} : fifo[fifo_read[2:0]];
            m_axis_tlast <= closing || to_show == ONE;
            closing <= 1'b0;
        end
        if (pop) begin
            to_show <= to_show - ONE;
            begun <= to_show != ONE;
            sending <= to_show != ONE;
        end

        if (start && words != {ADDR+1{1'b0}}) begin
            sending <= 1'b1;
            read_addr <= base;
            to_read <= words;
            asking <= 1'b1;
            to_show <= words;
        end

        if (flush) begin
            sending <= 1'b0;
            if (begun) closing <= 1'b1;
        end
        if (flush || rst) begin
            to_read <= {ADDR+1{1'b0}};
            asking <= 1'b0;
            reserved <= 4'd0;
            on_way <= 3'd0;
            fifo_write <= 4'd0;
            fifo_read <= 4'd0;
            begun <= 1'b0;
        end
        if (rst) begin
            sending <= 1'b0;
            closing <= 1'b0;
            m_axis_tvalid <= 1'b0;
        end
    end

endmodule

`resetall
