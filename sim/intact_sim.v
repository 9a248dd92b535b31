// SPDX-License-Identifier: Apache-2.0
// The core with files at its streams, for whole networks at full simulation speed: input words come from a file, output
// words and every write to activation memory go to files. The host registers stay ports.
//
// Plusargs: +frames=FILE input words, one hex word a line; +outputs=FILE; +trace=FILE (optional) one line a write:
// run, cycle within the run, address, enabled groups, data. +timeline=FILE, decimal: `first_in`, `last_in`, `start`, `done`
// and `last_out` with the clock cycle since reset, for each frame; `layer` with its number and how many of its cycles were
// spent on words, gaps between words, draining a job's last word, and waiting for a job.

`resetall
`default_nettype none
`include "intact_defs.vh"

module intact_sim #(
    // as in intact_core; the memory images are files of the run's folder
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
    parameter WGT_FILE = "weights.mem",
    parameter PRM_FILE = "params.mem",
    parameter PRG_FILE = "program.mem",
    parameter TAB_FILE = "tables.mem"
) (
    input  wire        clk,
    input  wire        rst,
    output wire        irq,
    output wire [3:0]  status,
    input  wire [7:0]  s_axil_awaddr,
    input  wire        s_axil_awvalid,
    output wire        s_axil_awready,
    input  wire [31:0] s_axil_wdata,
    input  wire [3:0]  s_axil_wstrb,
    input  wire        s_axil_wvalid,
    output wire        s_axil_wready,
    output wire [1:0]  s_axil_bresp,
    output wire        s_axil_bvalid,
    input  wire        s_axil_bready,
    input  wire [7:0]  s_axil_araddr,
    input  wire        s_axil_arvalid,
    output wire        s_axil_arready,
    output wire [31:0] s_axil_rdata,
    output wire [1:0]  s_axil_rresp,
    output wire        s_axil_rvalid,
    input  wire        s_axil_rready
);

    reg               in_valid;
    wire              in_ready;
    reg  [8*ROWS-1:0] in_data;
    reg  [23:0]       in_index;
    wire [23:0]       in_words = core.header[`HDR_IN_WORDS];
    wire              out_valid;
    wire [8*ROWS-1:0] out_data;
    wire              out_last;

    intact_core #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH),
        .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE), .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE),
        .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) core (
        .clk            (clk),
        .clk_2x         (1'b0),
        .rst            (rst),
        .irq            (irq),
        .status         (status),
        .s_axil_awaddr  (s_axil_awaddr),
        .s_axil_awprot  (3'b000),
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
        .s_axil_arprot  (3'b000),
        .s_axil_arvalid (s_axil_arvalid),
        .s_axil_arready (s_axil_arready),
        .s_axil_rdata   (s_axil_rdata),
        .s_axil_rresp   (s_axil_rresp),
        .s_axil_rvalid  (s_axil_rvalid),
        .s_axil_rready  (s_axil_rready),
        .s_axis_tvalid  (in_valid),
        .s_axis_tready  (in_ready),
        .s_axis_tdata   (in_data),
        .s_axis_tlast   (in_index + 24'd1 == in_words),
        .m_axis_tvalid  (out_valid),
        .m_axis_tready  (1'b1),
        .m_axis_tdata   (out_data),
        .m_axis_tlast   (out_last)
    );

    reg [8*256-1:0] name;
    integer frames;
    integer outputs;
    integer trace;
    integer timeline;
    integer got;
    reg [8*ROWS-1:0] word;

    initial begin
        frames = 0;
        outputs = 0;
        trace = 0;
        timeline = 0;
        if ($value$plusargs("frames=%s", name)) frames = $fopen(name, "r");
        if ($value$plusargs("outputs=%s", name)) outputs = $fopen(name, "w");
        if ($value$plusargs("trace=%s", name)) trace = $fopen(name, "w");
        if ($value$plusargs("timeline=%s", name)) timeline = $fopen(name, "w");
        in_valid = 1'b0;
        in_index = 24'd0;
    end

    always @(posedge clk) begin
        if (rst) in_index <= 24'd0;
        else if (frames != 0 && (in_ready || !in_valid)) begin
            if (in_valid) in_index <= (in_index + 24'd1 == in_words) ? 24'd0 : in_index + 24'd1;
            got = $fscanf(frames, "%h\n", word);
            in_data <= word;
            in_valid <= (got == 1);
        end
        if (!rst && out_valid && outputs != 0) $fwrite(outputs, "%h %h\n", out_last, out_data);
        if (!rst && |core.drain_enable && trace != 0)
            $fwrite(trace, "%h %h %h %h %h\n", core.runs, core.cycles, core.drain_addr, core.drain_enable, core.drain_data);
    end

    // ---- when frames come and go, and what each layer's cycles are spent on ----
    reg  [31:0] now;
    reg         begun;   // the job has issued a word and its last one has not drained
    reg         fresh;   // the cycle before ended a layer
    reg  [31:0] words;
    reg  [31:0] gaps;
    reg  [31:0] drains;
    reg  [31:0] waits;
    wire        run_start  = core.job_start & (core.cycles == 32'd0);
    wire        restart    = run_start | fresh;
    wire [31:0] words_now  = (restart ? 32'd0 : words) + {31'd0, core.issue};
    wire [31:0] gaps_now   = (restart ? 32'd0 : gaps) + {31'd0, ~core.issue & begun & core.control.go};
    wire [31:0] drains_now = (restart ? 32'd0 : drains) + {31'd0, ~core.issue & begun & ~core.control.go};
    wire [31:0] waits_now  = (restart ? 32'd0 : waits) + {31'd0, ~core.issue & ~begun};

    always @(posedge clk) begin
        now    <= rst ? 32'd0 : now + 32'd1;
        begun  <= ~rst & (core.issue | (begun & ~core.job_done));
        fresh  <= core.layer_write;
        words  <= words_now;
        gaps   <= gaps_now;
        drains <= drains_now;
        waits  <= waits_now;
        if (!rst && timeline != 0) begin
            if (in_valid && in_ready && in_index == 24'd0) $fwrite(timeline, "first_in %0d\n", now);
            if (in_valid && in_ready && in_index + 24'd1 == in_words) $fwrite(timeline, "last_in %0d\n", now);
            if (run_start) $fwrite(timeline, "start %0d\n", now);
            if (core.layer_write)
                $fwrite(timeline, "layer %0d %0d %0d %0d %0d\n", core.layer_addr, words_now, gaps_now, drains_now, waits_now);
            if (core.out_start) $fwrite(timeline, "done %0d\n", now);
            if (out_valid && out_last) $fwrite(timeline, "last_out %0d\n", now);
        end
    end

endmodule

`resetall
