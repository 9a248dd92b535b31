// SPDX-License-Identifier: Apache-2.0
// Input frames from AXI4-Stream into the activation memory.
//
// Layout: one activation word a beat, byte i ([8*i +: 8]) is channel i; beat k of a frame goes to word base + k. A frame is
// `words` beats, TLAST on the last one and nowhere else. TLAST early or missing there: `frame_error` pulses, and the frame is
// dropped up to and including its TLAST. `flush` drops a frame that is partly in, in the same way; a frame that is wholly in
// stays (`consume` drops that). So frames are always cut at TLAST, and a source that was reset in the middle of a frame
// loses its next one unless this module is reset too.
// Latency: a beat is written in the cycle after it was taken, or when `write_ready` grants it; frame_loaded rises 2 cycles after
// the last beat, or 1 after its write; frame_error 1 cycle after the offending beat. Throughput: one beat per cycle granted.
// A word that waits for its grant has a second place behind it, so that s_axis_tready need not look at write_ready.

`resetall
`default_nettype none

module stream_in #(
    // bytes in an activation word
    parameter ROWS = 8,
    // address bits of the activation memory
    parameter ADDR = 12
) (
    input  wire              clk,

    // from the program header: stable while a frame is partly in; words is at least 1
    input  wire [ADDR-1:0]   base,
    input  wire [ADDR:0]     words,
    // frames may be taken; low in the middle of a frame pauses it. Does not stop the dropping of a bad frame.
    input  wire              enable,
    // pulse: drop a frame that is partly in
    input  wire              flush,
    // level: a whole frame is in memory; the next one waits
    output wire              frame_loaded,
    // pulse: forget the loaded frame; its words may be overwritten
    input  wire              consume,
    // pulse
    output reg               frame_error,

    input  wire              s_axis_tvalid,
    output wire              s_axis_tready,
    input  wire [8*ROWS-1:0] s_axis_tdata,
    input  wire              s_axis_tlast,

    // a word is written when both are high, and held until then
    output reg               write_valid,
    input  wire              write_ready,
    output reg  [ADDR-1:0]   write_addr,
    output reg  [8*ROWS-1:0] write_data,

    input  wire              rst
);

    localparam [ADDR:0] ONE = 1;
    localparam [ADDR:0] TWO = 2;

    reg        full;      // every beat of a frame was taken
    reg        dropping;  // until TLAST
    reg        begun;     // beats of a frame were taken, its last was not
    reg [ADDR:0] left;    // beats still to come of a frame that has begun
    reg        only_one;  // words is 1
    reg        one_left;  // left is 1
    reg [ADDR-1:0] next_addr;

    reg              waiting;  // a word stands behind the one at write_data
    reg [ADDR-1:0]   waiting_addr;
    reg [8*ROWS-1:0] waiting_data;

    wire held = write_valid && !write_ready;
    assign s_axis_tready = dropping || (enable && !full && !flush && !waiting);
    assign frame_loaded = full && !write_valid;

    wire take = s_axis_tvalid && s_axis_tready;
    wire first = !begun;
    wire last = begun ? one_left : only_one;
    wire [ADDR:0] now_left = begun ? left : words;
    wire [ADDR-1:0] addr = first ? base : next_addr;

    always @(posedge clk) begin
        write_valid <= held || waiting || (take && !dropping);
        waiting     <= held && (waiting || (take && !dropping));
        if (!held) begin
            write_addr <= waiting ? waiting_addr : addr;
            write_data <= waiting ? waiting_data : s_axis_tdata;
        end
        if (!waiting) begin
            waiting_addr <= addr;
            waiting_data <= s_axis_tdata;
        end
        frame_error <= take && !dropping && last != s_axis_tlast;

        only_one <= words == ONE;
        if (consume) full <= 1'b0;

        if (take && dropping) begin
            dropping <= !s_axis_tlast;
        end else if (take) begin
            next_addr <= addr + 1'b1;
            begun <= !last && !s_axis_tlast;
            left <= now_left - ONE;
            one_left <= now_left == TWO;
            full <= last && s_axis_tlast;
            dropping <= last && !s_axis_tlast;
        end else if (flush && !first) begin
            begun <= 1'b0;
            dropping <= 1'b1;
        end

        if (rst) begin
            write_valid <= 1'b0;
            waiting <= 1'b0;
            frame_error <= 1'b0;
            full <= 1'b0;
            dropping <= 1'b0;
            begun <= 1'b0;
        end
    end

endmodule

`resetall
