// SPDX-License-Identifier: Apache-2.0
// INTACT: int8 neural-network accelerator. Runs the network in its program memory on every input frame.
//
//   s_axis -> stream_in -> activation memory -> stream_out -> m_axis
//                           |            ^
//   address_gen, window_gen -> v words   | codes
//   weight memory -> operand_window -> mac_array -> drain (requantise) <- parameter memory
//   sequencer <- program memory;  s_axil -> axil_regs -> all
//
// Array ROWS (input lanes) x COLS (output lanes), LANES requantise lanes. Activations are int8, ROWS to a word, NHWC with
// each pixel padded to whole words. From a job's last word issued to its last code readable: 23 + ceil(log2(ROWS) / 2) + the drain's
// beats of a tile, and 2 more where the codes go through a table (docs/architecture.md). Registers, program and memory
// formats: docs/formats.md.

`resetall
`default_nettype none
`include "intact_defs.vh"

module intact_core #(
    // input lanes: multipliers per output lane, bytes of an activation word
    parameter ROWS = 8,
    // output lanes: accumulators
    parameter COLS = 8,
    // requantise lanes, a divisor of ROWS and of COLS
    parameter LANES = 8,
    // activation words
    parameter ACT_DEPTH = 4096,
    // weight words of ROWS * COLS bytes
    parameter WGT_DEPTH = 1024,
    // parameter words of LANES * 160 bits
    parameter PRM_DEPTH = 256,
    // program words of 64 bits
    parameter PRG_DEPTH = 1024,
    // layer cycle counters
    parameter LAYERS = 256,
    // tables of 256 codes, 0 to 255; with 0 there is no hardware for them
    parameter TABLES = 0,
    // 1: two columns of the array share multiplier blocks; there is no window then
    parameter PACKED = 0,
    // 1: a parameter word is read in five parts, one after another (parameter_memory.v): a beat a tile, so COLS = LANES, at
    // most every six cycles; there is no window then
    parameter PRM_SERIAL = 0,
    // memory images at power-up, or ""
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire              clk,
    // twice clk, their edges together, where the family's ram.v asks for it; else anything
    input  wire              clk_2x,
    input  wire              rst,
    output wire              irq,
    // for lights: error, done, running, idle
    output wire [3:0]        status,

    input  wire [7:0]        s_axil_awaddr,
    input  wire [2:0]        s_axil_awprot,
    input  wire              s_axil_awvalid,
    output wire              s_axil_awready,
    input  wire [31:0]       s_axil_wdata,
    input  wire [3:0]        s_axil_wstrb,
    input  wire              s_axil_wvalid,
    output wire              s_axil_wready,
    output wire [1:0]        s_axil_bresp,
    output wire              s_axil_bvalid,
    input  wire              s_axil_bready,
    input  wire [7:0]        s_axil_araddr,
    input  wire [2:0]        s_axil_arprot,
    input  wire              s_axil_arvalid,
    output wire              s_axil_arready,
    output wire [31:0]       s_axil_rdata,
    output wire [1:0]        s_axil_rresp,
    output wire              s_axil_rvalid,
    input  wire              s_axil_rready,

    input  wire              s_axis_tvalid,
    output wire              s_axis_tready,
    input  wire [8*ROWS-1:0] s_axis_tdata,
    input  wire              s_axis_tlast,

    output wire              m_axis_tvalid,
    input  wire              m_axis_tready,
    output wire [8*ROWS-1:0] m_axis_tdata,
    output wire              m_axis_tlast
);

    // ---- elaboration checks: the missing module's name is the message ----
    generate
        if (ROWS % LANES != 0 || COLS % LANES != 0) begin : gen_check_lanes
            LANES_must_divide_ROWS_and_COLS error_in_parameters ();
        end
        if (ROWS * COLS < 2 || ROWS > 64 || COLS > 64) begin : gen_check_array
            ROWS_and_COLS_must_lie_in_1_to_64_and_not_both_be_1 error_in_parameters ();
        end
        if (PRM_SERIAL != 0 && COLS != LANES) begin : gen_check_serial
            COLS_must_equal_LANES_with_PRM_SERIAL error_in_parameters ();
        end
        if (WINDOW != 0 && ACT_DEPTH < 8) begin : gen_check_depth
            ACT_DEPTH_must_be_8_at_least_for_four_banks error_in_parameters ();
        end
        if (TABLES > 255) begin : gen_check_tables
            TABLES_must_lie_in_0_to_255 error_in_parameters ();
        end
    endgenerate

    localparam ACT_ADDR   = (ACT_DEPTH > 2) ? $clog2(ACT_DEPTH) : 1;
    localparam WGT_ADDR   = (WGT_DEPTH > 2) ? $clog2(WGT_DEPTH) : 1;
    localparam PRM_ADDR   = (PRM_DEPTH > 2) ? $clog2(PRM_DEPTH) : 1;
    localparam PRG_ADDR   = (PRG_DEPTH > 2) ? $clog2(PRG_DEPTH) : 1;
    localparam LAYER_ADDR = (LAYERS > 2) ? $clog2(LAYERS) : 1;
    localparam TAB_ADDR   = (TABLES > 1) ? 8 + $clog2(TABLES) : 8;
    localparam GROUPS     = ROWS / LANES;
    // the 3x3 window: nine taps in two words of weights, a drain beat a tile
    localparam WINDOW     = (ROWS == COLS && ROWS == LANES && ROWS >= 8 && PACKED == 0 && PRM_SERIAL == 0) ? 1 : 0;
    localparam PORTS      = WINDOW ? 3 : 1;
    localparam WGT_SLICES = (8 * ROWS * COLS + 31) / 32;
    localparam PRM_SLICES = 5 * LANES;
    // registers of an adder tree (mac_lane.v)
    localparam TREE       = ($clog2(ROWS) + 1) / 2;

    assign status = {error, done, running, idle};

    // ---- host registers ----
    wire        start;
    wire        stop;
    wire        clear;
    wire        auto_start;
    wire        load_valid;
    wire [1:0]  load_target;
    wire [23:0] load_addr;
    wire [11:0] load_slice;
    wire [31:0] load_data;
    wire        idle;
    wire        running;
    wire        done;
    wire        error;
    wire [7:0]  error_code;
    wire [15:0] job;
    wire [31:0] cycles;
    wire [31:0] runs;
    wire [11:0] layer_index;
    wire [31:0] layer_cycles_read;
    wire        frame_loaded;
    wire        out_active;
    wire        out_start;

    axil_regs #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH),
        .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL)
    ) regs (
        .clk            (clk),
        .rst            (rst),
        .s_axil_awaddr  (s_axil_awaddr),
        .s_axil_awprot  (s_axil_awprot),
        .s_axil_awvalid (s_axil_awvalid),
        .s_axil_awready (s_axil_awready),
        .s_axil_wdata   (s_axil_wdata),
        .s_axil_wstrb   (s_axil_wstrb),
        .s_axil_wvalid  (s_axil_wvalid),
        .s_axil_wready  (s_axil_wready),
        .s_axil_bresp   (s_axil_bresp),
        .s_axil_bvalid  (s_axil_bvalid),
        .s_axil_bready  (s_axil_bready),
        .s_axil_araddr  (s_axil_araddr),
        .s_axil_arprot  (s_axil_arprot),
        .s_axil_arvalid (s_axil_arvalid),
        .s_axil_arready (s_axil_arready),
        .s_axil_rdata   (s_axil_rdata),
        .s_axil_rresp   (s_axil_rresp),
        .s_axil_rvalid  (s_axil_rvalid),
        .s_axil_rready  (s_axil_rready),
        .start          (start),
        .stop           (stop),
        .clear          (clear),
        .auto_start     (auto_start),
        .irq            (irq),
        .load_valid     (load_valid),
        .load_target    (load_target),
        .load_addr      (load_addr),
        .load_slice     (load_slice),
        .load_data      (load_data),
        .idle           (idle),
        .loaded         (frame_loaded),
        .running        (running),
        .out_pending    (out_active | out_start),
        .done           (done),
        .error          (error),
        .error_code     (error_code),
        .job            (job),
        .cycles         (cycles),
        .runs           (runs),
        .layer_index    (layer_index),
        .layer_cycles   (layer_cycles_read)
    );

    // ---- sequencer and its memories ----
    wire [64*`INTACT_HEADER_WORDS-1:0]     header;
    wire [64*`INTACT_DESCRIPTOR_WORDS-1:0] descriptor;
    wire [`INTACT_DESCRIPTOR_WORDS-1:0]    lands;
    wire [PRG_ADDR-1:0]   prg_addr;
    wire [63:0]           prg_data;
    wire                  accept_frame;
    wire                  frame_error;
    wire                  frame_drop;
    wire                  frame_consume;
    wire                  flush;
    wire                  loops_load;
    wire                  loops_beyond;
    wire                  loops_primed;
    wire                  go_next;
    wire                  job_start;
    wire                  job_issued;
    wire                  job_done;
    wire                  overrun;
    wire                  layer_write;
    wire [LAYER_ADDR-1:0] layer_addr;
    wire [31:0]           layer_cycles;
    wire                  load_program = load_valid & (load_target == `LOAD_PROGRAM);
    wire                  load_weights = load_valid & (load_target == `LOAD_WEIGHTS);
    wire                  load_params  = load_valid & (load_target == `LOAD_PARAMS);
    wire                  load_tables  = load_valid & (load_target == `LOAD_TABLES);

    sequencer #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH),
        .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL),
        .WINDOW(WINDOW), .PRG_ADDR(PRG_ADDR), .LAYER_ADDR(LAYER_ADDR)
    ) control (
        .clk             (clk),
        .rst             (rst),
        .start           (start),
        .stop            (stop),
        .clear           (clear),
        .auto_start      (auto_start),
        .program_written (load_program),
        .accept_frame    (accept_frame),
        .frame_loaded    (frame_loaded),
        .frame_error     (frame_error),
        .frame_drop      (frame_drop),
        .frame_consume   (frame_consume),
        .out_start       (out_start),
        .out_active      (out_active),
        .prg_addr        (prg_addr),
        .prg_data        (prg_data),
        .header          (header),
        .descriptor      (descriptor),
        .lands           (lands),
        .flush           (flush),
        .loops_load      (loops_load),
        .loops_beyond    (loops_beyond),
        .loops_primed    (loops_primed),
        .go_next         (go_next),
        .job_start       (job_start),
        .job_issued      (job_issued),
        .job_done        (job_done),
        .overrun         (overrun),
        .layer_write     (layer_write),
        .layer_addr      (layer_addr),
        .layer_cycles    (layer_cycles),
        .idle            (idle),
        .running         (running),
        .done            (done),
        .error           (error),
        .error_code      (error_code),
        .job             (job),
        .cycles          (cycles),
        .runs            (runs)
    );

    ram #(.WIDTH(64), .SLICE(32), .DEPTH(PRG_DEPTH), .ADDR(PRG_ADDR), .INIT_FILE(PRG_FILE)) program_memory (
        .clk          (clk),
        .clk_2x       (1'b0),
        .write_enable ({load_program & load_slice[0], load_program & ~load_slice[0]}),
        .write_addr   (load_addr[PRG_ADDR-1:0]),
        .write_data   ({2{load_data}}),
        .read_addr    (prg_addr),
        .read_data    (prg_data)
    );

    ram #(.WIDTH(32), .SLICE(32), .DEPTH(LAYERS), .ADDR(LAYER_ADDR)) layer_counters (
        .clk          (clk),
        .clk_2x       (1'b0),
        .write_enable (layer_write),
        .write_addr   (layer_addr),
        .write_data   (layer_cycles),
        .read_addr    (layer_index[LAYER_ADDR-1:0]),
        .read_data    (layer_cycles_read)
    );

    // ---- activation memory: written by the drain, else the input stream, read by the output stream, else the array ----
    wire                frame_write;
    wire [ACT_ADDR-1:0] frame_addr;
    wire [8*ROWS-1:0]   frame_data;
    wire                drain_writes;
    wire [GROUPS-1:0]   drain_enable;
    wire [ACT_ADDR-1:0] drain_addr;
    wire [8*ROWS-1:0]   drain_data;
    wire [ACT_ADDR*PORTS-1:0] issue_addr;
    reg                 out_reads;
    wire [ACT_ADDR-1:0] out_addr;
    wire [8*ROWS*PORTS-1:0] act_data;

    // from the cycle after out_start on, that of the first address
    always @(posedge clk) out_reads <= out_active | out_start;

    activation_memory #(
        .WINDOW(WINDOW), .ROWS(ROWS), .LANES(LANES), .DEPTH(ACT_DEPTH), .ADDR(ACT_ADDR)
    ) activations (
        .clk          (clk),
        .clk_2x       (clk_2x),
        .write_enable (drain_writes ? drain_enable : {GROUPS{frame_write}}),
        .write_addr   (drain_writes ? drain_addr : frame_addr),
        .write_data   (drain_writes ? drain_data : frame_data),
        .array_addr   (issue_addr),
        .stream_reads (out_reads),
        .stream_addr  (out_addr),
        .read_data    (act_data)
    );

    stream_in #(.ROWS(ROWS), .ADDR(ACT_ADDR)) frames_in (
        .clk           (clk),
        .rst           (rst),
        .base          (header[`HDR_IN_BASE_LSB +: ACT_ADDR]),
        .words         (header[`HDR_IN_WORDS_LSB +: ACT_ADDR+1]),
        .enable        (accept_frame),
        .flush         (frame_drop),
        .frame_loaded  (frame_loaded),
        .consume       (frame_consume),
        .frame_error   (frame_error),
        .s_axis_tvalid (s_axis_tvalid),
        .s_axis_tready (s_axis_tready),
        .s_axis_tdata  (s_axis_tdata),
        .s_axis_tlast  (s_axis_tlast),
        .write_valid   (frame_write),
        .write_ready   (~drain_writes),
        .write_addr    (frame_addr),
        .write_data    (frame_data)
    );

    stream_out #(.ROWS(ROWS), .ADDR(ACT_ADDR)) frames_out (
        .clk           (clk),
        .rst           (rst),
        .start         (out_start),
        .base          (header[`HDR_OUT_BASE_LSB +: ACT_ADDR]),
        .words         (header[`HDR_OUT_WORDS_LSB +: ACT_ADDR+1]),
        .flush         (stop),
        .active        (out_active),
        .read_addr     (out_addr),
        .read_data     (act_data[8*ROWS-1:0]),
        .m_axis_tvalid (m_axis_tvalid),
        .m_axis_tready (m_axis_tready),
        .m_axis_tdata  (m_axis_tdata),
        .m_axis_tlast  (m_axis_tlast)
    );

    // ---- issue: a word of activations, or a column of the window, and a word of weights a cycle ----
    // each generator takes up jobs of its own opcode and is silent in the others
    wire is_window = (descriptor[`DSC_OPCODE] == `INTACT_OPCODE_WINDOW);
    // the opcode has stood for two cycles and more when the loops are here
    reg  opens_window;
    always @(posedge clk) opens_window <= is_window;

    wire [ACT_ADDR-1:0] dense_addr;
    wire [WGT_ADDR-1:0] dense_wgt;
    wire                dense_primed;
    wire                dense_issue;
    wire                dense_outside;
    wire                dense_first;
    wire                dense_subtract;
    wire                dense_scale_up;
    wire                dense_last;
    wire                dense_pixel_last;
    wire                dense_row_last;
    wire                dense_job_last;

    address_gen #(.ACT_ADDR(ACT_ADDR), .WGT_ADDR(WGT_ADDR)) addresses (
        .clk        (clk),
        .rst        (rst | flush | (loops_load & opens_window)),
        .loops      (descriptor[64*`INTACT_LOOP_WORDS-1:0]),
        .lands      (lands[`INTACT_LOOP_WORDS-1:0]),
        .landing    (prg_data),
        .beyond     (loops_beyond),
        .load       (loops_load & ~opens_window),
        .go_next    (go_next),
        .primed     (dense_primed),
        .issue      (dense_issue),
        .act_addr   (dense_addr),
        .wgt_addr   (dense_wgt),
        .outside    (dense_outside),
        .first      (dense_first),
        .subtract   (dense_subtract),
        .scale_up   (dense_scale_up),
        .last       (dense_last),
        .pixel_last (dense_pixel_last),
        .row_last   (dense_row_last),
        .job_last   (dense_job_last)
    );

    // static in a job, from the cycle after its first issue to the next job's
    reg windowed;
    always @(posedge clk) if (job_start) windowed <= opens_window & (WINDOW != 0);

    wire                issue;
    wire [WGT_ADDR-1:0] wgt_addr;
    wire [PORTS-1:0]    outside_1;
    wire                shift;
    wire                meets;
    wire                second;
    wire                subtract;
    wire                scale_up;
    wire                first;
    wire                last;
    wire                pixel_last;
    wire                row_last;
    wire                map_last;
    wire                job_last;

    generate
        if (WINDOW != 0) begin : gen_window
            wire [3*ACT_ADDR-1:0] window_addr;
            wire [WGT_ADDR-1:0] window_wgt;
            wire [2:0]          window_outside;
            wire                window_primed;
            wire                window_issue;
            wire                window_shift;
            wire                window_meets;
            wire                window_second;
            wire                window_scale_up;
            wire                window_first;
            wire                window_last;
            wire                window_row_last;
            wire                window_map_last;
            wire                window_job_last;

            window_gen #(.ACT_ADDR(ACT_ADDR), .WGT_ADDR(WGT_ADDR)) windows (
                .clk      (clk),
                .rst      (rst | flush | (loops_load & ~opens_window)),
                .loops    (descriptor[64*`INTACT_LOOP_WORDS-1:0]),
                .load     (loops_load & opens_window),
                .go_next  (go_next),
                .primed   (window_primed),
                .issue    (window_issue),
                .act_addr (window_addr),
                .wgt_addr (window_wgt),
                .outside  (window_outside),
                .shift    (window_shift),
                .meets    (window_meets),
                .second   (window_second),
                .scale_up (window_scale_up),
                .first    (window_first),
                .last     (window_last),
                .row_last (window_row_last),
                .map_last (window_map_last),
                .job_last (window_job_last)
            );

            // `windowed` comes too late for a job's first word; loops are loaded when the job before has issued
            reg  chosen;
            always @(posedge clk) if (loops_load) chosen <= opens_window;
            assign loops_primed = dense_primed | window_primed;
            assign job_issued   = (dense_issue & dense_job_last) | (window_issue & window_job_last);
            assign issue_addr   = chosen ? window_addr : {{2*ACT_ADDR{1'b0}}, dense_addr};
            assign wgt_addr     = chosen ? window_wgt : dense_wgt;
            assign outside_1    = windowed ? window_outside : {3{dense_outside}};
            assign shift        = ~chosen | (window_issue & window_shift);
            assign issue        = dense_issue | window_issue;
            assign meets        = dense_issue | (window_issue & window_meets);
            assign second       = window_second;
            assign {first, subtract, scale_up, last, pixel_last, row_last, map_last, job_last} = chosen
                ? {window_first, 1'b0, window_scale_up, window_last, 1'b1, window_row_last, window_map_last, window_job_last}
                : {dense_first, dense_subtract, dense_scale_up, dense_last, dense_pixel_last, dense_row_last, 1'b0, dense_job_last};
        end else begin : gen_words
            assign loops_primed = dense_primed;
            assign job_issued   = dense_issue & dense_job_last;
            assign issue_addr   = dense_addr;
            assign wgt_addr     = dense_wgt;
            assign outside_1    = dense_outside;
            assign shift        = 1'b1;
            assign issue        = dense_issue;
            assign meets        = issue;
            assign second       = 1'b0;
            assign {first, subtract, scale_up, last, pixel_last, row_last, map_last, job_last} =
                {dense_first, dense_subtract, dense_scale_up, dense_last, dense_pixel_last, dense_row_last, 1'b0, dense_job_last};
        end
    endgenerate


    // weights wait for the words to pass activation_memory, as long as their own memory, and operand_window
    reg  [WGT_ADDR-1:0]      wgt_addr_1;
    always @(posedge clk) wgt_addr_1 <= wgt_addr;

    wire [32*WGT_SLICES-1:0] wgt_data;
    reg  [WGT_SLICES-1:0]    wgt_slice;
    reg  [PRM_SLICES-1:0]    prm_slice;
    integer                  i;

    // the host's words for these two, the wide memories, a cycle later; nothing is written at power-up
    initial {wgt_slice, prm_slice} = {WGT_SLICES+PRM_SLICES{1'b0}};
    reg  [23:0]              load_addr_1;
    reg  [31:0]              load_data_1;
    always @(posedge clk) begin
        load_addr_1 <= load_addr;
        load_data_1 <= load_data;
        for (i = 0; i < WGT_SLICES; i = i + 1) wgt_slice[i] <= load_weights & ({20'd0, load_slice} == i);
        for (i = 0; i < PRM_SLICES; i = i + 1) prm_slice[i] <= load_params & ({20'd0, load_slice} == i);
    end

    ram #(
        .WIDTH(32 * WGT_SLICES), .SLICE(32), .DEPTH(WGT_DEPTH), .ADDR(WGT_ADDR), .INIT_FILE(WGT_FILE),
        .EXCLUSIVE(1), .LATENCY(3), .LARGE(1)
    ) weight_memory (
        .clk          (clk),
        .clk_2x       (clk_2x),
        .write_enable (wgt_slice),
        .write_addr   (load_addr_1[WGT_ADDR-1:0]),
        .write_data   ({WGT_SLICES{load_data_1}}),
        .read_addr    (wgt_addr_1),
        .read_data    (wgt_data)
    );

    // ---- operands: outside the map the pad code takes the word's place ----
    reg  [7:0]             pad;
    reg                    maximum;
    wire [PORTS-1:0]       outside;
    wire                   shift_3;
    wire                   second_4;
    wire [8*ROWS*COLS-1:0] x;

    always @(posedge clk) if (job_start) begin
        pad     <= descriptor[`DSC_PAD];
        maximum <= descriptor[`DSC_ACCUMULATE_MAX];
    end

    delay #(.WIDTH(PORTS), .CYCLES(2)) delay_outside (.clk(clk), .rst(rst), .in(outside_1), .out(outside));
    delay #(.WIDTH(1), .CYCLES(3)) delay_shift (.clk(clk), .rst(rst), .in(shift), .out(shift_3));
    delay #(.WIDTH(1), .CYCLES(4)) delay_second (.clk(clk), .rst(rst), .in(second), .out(second_4));

    operand_window #(.WINDOW(WINDOW), .ROWS(ROWS), .COLS(COLS)) operands (
        .clk      (clk),
        .words    (act_data),
        .outside  (outside),
        .pad      (pad),
        .shift    (shift_3),
        .windowed (windowed),
        .second   (second_4),
        .x        (x)
    );

    // issue to accumulator: memory 3, operands 1, multiplier 3, tree TREE
    wire sum_valid;
    wire sum_first;
    wire sum_subtract;
    wire sum_scale_up;
    delay #(.WIDTH(4), .CYCLES(6 + TREE)) delay_sum (
        .clk (clk),
        .rst (rst),
        .in  ({meets, first, subtract, scale_up}),
        .out ({sum_valid, sum_first, sum_subtract, sum_scale_up})
    );

    wire [32*COLS-1:0] results;

    mac_array #(.ROWS(ROWS), .COLS(COLS), .PACKED(PACKED)) array (
        .clk          (clk),
        .x            (x),
        .w            (wgt_data[8*ROWS*COLS-1:0]),
        .sum_valid    (sum_valid),
        .sum_first    (sum_first),
        .sum_subtract (sum_subtract),
        .sum_scale_up (sum_scale_up),
        .sum_max      (maximum),
        .results      (results)
    );

    // ---- drain: its marks come with the accumulators' last sum ----
    wire [PRM_ADDR-1:0]   prm_addr;
    wire [160*LANES-1:0]  prm_data;
    wire                  prm_ask;
    wire                  prm_ready;
    wire                  tile_last;
    wire                  tile_pixel_last;
    wire                  tile_row_last;
    wire                  tile_map_last;
    wire                  tile_job_last;
    delay #(.WIDTH(5), .CYCLES(7 + TREE), .RESET(1)) delay_tile (
        .clk (clk),
        .rst (rst | flush),
        .in  ({meets & last, pixel_last, row_last, map_last, job_last}),
        .out ({tile_last, tile_pixel_last, tile_row_last, tile_map_last, tile_job_last})
    );

    parameter_memory #(
        .LANES(LANES), .DEPTH(PRM_DEPTH), .ADDR(PRM_ADDR), .SERIAL(PRM_SERIAL), .INIT_FILE(PRM_FILE)
    ) parameter_memory (
        .clk          (clk),
        .clk_2x       (clk_2x),
        .write_enable (prm_slice),
        .write_addr   (load_addr_1[PRM_ADDR-1:0]),
        .write_data   (load_data_1),
        .ask          (prm_ask),
        .read_addr    (prm_addr),
        .ready        (prm_ready),
        .read_data    (prm_data)
    );

    drain #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_ADDR(ACT_ADDR), .PRM_ADDR(PRM_ADDR), .TABLES(TABLES),
        .TAB_ADDR(TAB_ADDR), .TAB_FILE(TAB_FILE)
    ) writer (
        .clk             (clk),
        .rst             (rst | flush),
        .descriptor      (descriptor),
        .job_start       (job_start),
        .tile_last       (tile_last),
        .tile_pixel_last (tile_pixel_last),
        .tile_row_last   (tile_row_last),
        .tile_map_last   (tile_map_last),
        .tile_job_last   (tile_job_last),
        .results         (results),
        .prm_addr        (prm_addr),
        .prm_ask         (prm_ask),
        .prm_ready       (prm_ready),
        .prm_data        (prm_data),
        .tab_write       (load_tables),
        .tab_addr        (load_addr[TAB_ADDR-1:0]),
        .tab_data        (load_data[7:0]),
        .writing         (drain_writes),
        .write_enable    (drain_enable),
        .write_addr      (drain_addr),
        .write_data      (drain_data),
        .job_done        (job_done),
        .overrun         (overrun)
    );

    wire _unused = &{1'b0, load_addr, load_addr_1, load_slice, lands, wgt_data, header, layer_index, issue};

endmodule

`resetall
