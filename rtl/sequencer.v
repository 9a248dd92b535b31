// SPDX-License-Identifier: Apache-2.0
// Sequencer: runs a whole network from program memory. Reads and checks the program header whenever the program changed,
// then the first descriptor, and waits for a start and an input frame. In a run it lets the address generator issue a job
// and fetches the next descriptor while the last results drain, so that a job costs its issue cycles and the pipeline's
// depth and nothing else. Cycles count from the first issue of the run to the last write. A run consumes its frame when it
// begins; the next one may come in as soon as the header's free_job allows it, else between runs.
//
// A header for another configuration or an illegal descriptor ends the run with an error code (docs/formats.md).

`resetall
`default_nettype none
`include "intact_defs.vh"

module sequencer #(
    // as in intact_core
    parameter ROWS = 8,
    parameter COLS = 8,
    parameter LANES = 8,
    parameter ACT_DEPTH = 4096,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 256,
    parameter PRG_DEPTH = 1024,
    parameter LAYERS = 256,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    // 1: window jobs are legal
    parameter WINDOW = 0,
    // address bits of the program memory
    parameter PRG_ADDR = 10,
    // address bits of the layer counters
    parameter LAYER_ADDR = 8
) (
    input  wire                  clk,
    input  wire                  rst,

    // host: pulses, and a level that starts a run with every input frame
    input  wire                  start,
    input  wire                  stop,
    input  wire                  clear,
    input  wire                  auto_start,
    // pulse: the host wrote to program memory
    input  wire                  program_written,

    // streams
    output reg                   accept_frame,
    input  wire                  frame_loaded,
    input  wire                  frame_error,
    output reg                   frame_drop,
    output reg                   frame_consume,
    output reg                   out_start,
    input  wire                  out_active,

    // program memory's read port (latency 2)
    output wire [PRG_ADDR-1:0]   prg_addr,
    input  wire [63:0]           prg_data,

    // header, complete once it was checked, and descriptor in force
    output reg  [64*`INTACT_HEADER_WORDS-1:0]     header,
    output wire [64*`INTACT_DESCRIPTOR_WORDS-1:0] descriptor,
    // one hot: this word of a descriptor stands at prg_data and will be part of `descriptor`
    output wire [`INTACT_DESCRIPTOR_WORDS-1:0]    lands,

    // datapath: flush stops it; loops_load hands over a descriptor's loops; go_next lets the job issue from the next
    // cycle on; job_start is the first of these cycles
    output reg                   flush,
    output wire                  loops_load,
    // they are more than the address generator can hold
    input  wire                  loops_beyond,
    input  wire                  loops_primed,
    output wire                  go_next,
    output reg                   job_start,
    input  wire                  job_issued,
    input  wire                  job_done,
    input  wire                  overrun,

    // layer counters' write port
    output wire                  layer_write,
    output reg  [LAYER_ADDR-1:0] layer_addr,
    output wire [31:0]           layer_cycles,

    // status
    output wire                  idle,
    output wire                  running,
    output reg                   done,
    output reg                   error,
    output reg  [7:0]            error_code,
    output wire [15:0]           job,
    output reg  [31:0]           cycles,
    output reg  [31:0]           runs
);

    localparam [2:0] READ_HEADER = 3'd0;
    localparam [2:0] REFUSED     = 3'd1;
    localparam [2:0] READ_FIRST  = 3'd2;
    localparam [2:0] READY       = 3'd3;
    localparam [2:0] RUN         = 3'd4;

    reg [2:0] state;
    reg       entering;  // first cycle of a READ state
    reg       armed;     // start came, the frame may not have
    reg       stale;     // the header read is no longer what program memory holds

    // ---- fetch ----
    wire here;
    wire [`INTACT_HEADER_WORDS-1:0] header_lands;
    wire program_end = descriptor[`DSC_PROGRAM_END];

    program_fetch #(.PRG_ADDR(PRG_ADDR)) fetch (
        .clk          (clk),
        .rst          (rst),
        .begin_header ((state == READ_HEADER) & entering),
        .begin_first  ((state == READ_FIRST) & entering),
        .begin_next   (next_due),
        .prg_addr     (prg_addr),
        .prg_data     (prg_data),
        .words        (descriptor),
        .lands        (lands),
        .header_lands (header_lands),
        .here         (here),
        .loops_here   (loops_load)
    );

    // ---- checks ----
    localparam MOST_JOBS =
        (PRG_DEPTH < `INTACT_HEADER_WORDS) ? 0 : (PRG_DEPTH - `INTACT_HEADER_WORDS) / `INTACT_DESCRIPTOR_WORDS;
    // no program has more jobs than program memory holds descriptors
    localparam JOB = (MOST_JOBS > 16383) ? 16 : $clog2(MOST_JOBS + 2);
    localparam [JOB-1:0] ONE_JOB = 1;
    reg  [JOB-1:0] place;
    wire [16:0]    place_wide = {{17-JOB{1'b0}}, place};
    assign job = place_wide[15:0];

    wire begins = ((state == READ_HEADER) & entering) | ((state == READ_FIRST) & entering) | next_due;
    wire right;  // what was fetched, header or descriptor

    program_check #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH),
        .LAYERS(LAYERS), .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .WINDOW(WINDOW),
        .MOST_JOBS(MOST_JOBS)
    ) check (
        .clk          (clk),
        .begins       (begins),
        .header_lands (header_lands),
        .lands        (lands),
        .word         (prg_data),
        .right        (right)
    );

    wire is_window = (descriptor[`DSC_OPCODE] == `INTACT_OPCODE_WINDOW);
    reg  [1:0] job_right;  // its loops, its place in the program
    reg        checked;   // they belong to a whole descriptor of this run
    reg        next_due;  // the next descriptor is to be fetched
    reg        complete;  // a header, or descriptor, is whole since the cycle before

    // ---- run ----
    reg  drained;
    reg  ends_layer;
    reg  ends_program;
    wire in_run    = (state == RUN);
    reg  run_ready;  // nothing but a start is wanting
    reg  job_ready;  // nothing but the end of the job before
    reg  go;
    wire run_begin = run_ready & (armed | auto_start) & ~stale & ~stop;
    wire finish    = in_run & job_done & ends_program;
    wire job_begin = job_ready & (drained | job_done);
    reg  illegal;
    // `job` moves on when a job has issued: the one that `illegal` speaks of, and the one that is draining
    reg  [JOB-1:0] job_in_check;
    reg  [JOB-1:0] job_checked;
    reg  [JOB-1:0] job_running;
    wire give_up   = in_run & ~finish & (stop | illegal | overrun);
    wire reread    = ((state == READY) | (state == REFUSED)) & stale & ~entering;

    assign go_next       = (run_begin | job_begin | (go & ~job_issued)) & ~give_up;
    // `job` moves on when a job has read its last word. With free_job nothing else lies in the input's words after that,
    // and the output does not; without, the output frame may
    wire [15:0] free_job = header[`HDR_FREE_JOB];
    wire overlaps = |free_job;
    wire reads_no_more = ((free_job >> JOB) == 16'd0) & (place >= free_job[JOB-1:0]);
    reg  reached_free;
    assign layer_write   = in_run & job_done & ends_layer;
    assign layer_cycles  = cycles + 32'd1;
    assign idle          = ((state == READY) | (state == REFUSED)) & ~armed;
    assign running       = in_run | armed;

    integer i;

    always @(posedge clk) begin
        entering  <= 1'b0;
        out_start <= 1'b0;
        job_start <= 1'b0;
        reached_free     <= in_run & reads_no_more;
        run_ready        <= (state == READY) & frame_loaded & ~out_active & ~out_start & ~stale & ~run_begin;
        job_ready        <= in_run & loops_primed & here & ~go & ~job_begin & ~give_up;
        flush            <= give_up;
        go               <= go_next;
        // a frame that a run has begun with stays until `frame_consume`, so no other one comes in meanwhile
        accept_frame     <= ~stale & (overlaps
            ? (state == READ_FIRST) | (state == READY) | (in_run & reached_free)
            : (state == READY) & ~out_active & ~out_start);
        // a frame belongs to the program that it was loaded for
        frame_drop       <= stop | reread;
        frame_consume    <= run_begin | reread;
        job_right        <= {is_window | ~loops_beyond, program_end == (place + ONE_JOB == header[`HDR_JOBS_LSB +: JOB])};
        complete         <= here;
        checked          <= in_run & here & ~next_due;
        next_due         <= job_issued & ~program_end;
        illegal          <= in_run & checked & ~(right & (&job_right)) & ~give_up;
        job_in_check     <= place;
        job_checked      <= job_in_check;

        for (i = 0; i < `INTACT_HEADER_WORDS; i = i + 1) if (header_lands[i]) header[64*i +: 64] <= prg_data;

        if (start) armed <= 1'b1;
        if (start | clear) begin
            done       <= 1'b0;
            error      <= 1'b0;
            error_code <= `ERR_NONE;
        end
        if (frame_error) begin
            error      <= 1'b1;
            error_code <= `ERR_FRAME;
        end
        if (program_written) stale <= 1'b1;

        case (state)
            READ_HEADER: if (here & complete & ~entering) begin
                entering <= 1'b1;
                state    <= right ? READ_FIRST : REFUSED;
            end
            REFUSED: if (~reread & (armed | (auto_start & ~error)) & ~entering) begin
                armed      <= 1'b0;
                error      <= 1'b1;
                error_code <= `ERR_PROGRAM;
            end
            READ_FIRST: if (here & ~entering) state <= READY;
            READY: if (run_begin) begin
                armed     <= 1'b0;
                place     <= {JOB{1'b0}};
                done      <= 1'b0;
                drained   <= 1'b0;
                job_start <= 1'b1;
                cycles    <= 32'd0;
                state     <= RUN;
            end
            RUN: begin
                cycles <= cycles + 32'd1;
                if (job_done) drained <= 1'b1;
                if (job_issued & ~program_end) place <= place + ONE_JOB;
                if (job_begin) begin
                    drained   <= 1'b0;
                    job_start <= 1'b1;
                end
                if (finish) begin
                    done      <= 1'b1;
                    runs      <= runs + 32'd1;
                    out_start <= 1'b1;
                    entering  <= 1'b1;
                    state     <= READ_FIRST;
                end
                if (give_up) begin
                    if (~stop) place <= illegal ? job_checked : job_running;
                    job_start  <= 1'b0;
                    out_start  <= 1'b0;
                    done       <= 1'b0;
                    error      <= 1'b1;
                    error_code <= stop ? `ERR_ABORTED : illegal ? `ERR_DESCRIPTOR : `ERR_OVERRUN;
                    entering   <= 1'b1;
                    state      <= READ_FIRST;
                end
            end
            default: state <= READ_HEADER;
        endcase

        if (reread) begin
            stale    <= program_written;
            entering <= 1'b1;
            state    <= READ_HEADER;
        end
        if (stop) armed <= 1'b0;

        if (job_start) begin
            ends_layer   <= descriptor[`DSC_LAYER_END];
            ends_program <= program_end;
            job_running  <= place;
            layer_addr   <= descriptor[`DSC_LAYER_LSB +: LAYER_ADDR];
        end

        if (rst) begin
            state      <= READ_HEADER;
            entering   <= 1'b1;
            armed      <= 1'b0;
            stale      <= 1'b0;
            go         <= 1'b0;
            run_ready  <= 1'b0;
            job_ready  <= 1'b0;
            flush      <= 1'b0;
            accept_frame  <= 1'b0;
            frame_drop    <= 1'b0;
            frame_consume <= 1'b0;
            job_start  <= 1'b0;
            out_start  <= 1'b0;
            done       <= 1'b0;
            error      <= 1'b0;
            error_code <= `ERR_NONE;
            place      <= {JOB{1'b0}};
            cycles     <= 32'd0;
            runs       <= 32'd0;
        end
    end

    wire _unused = &{1'b0, place_wide[16]};

endmodule

`resetall
