// SPDX-License-Identifier: Apache-2.0
// Host registers on AXI4-Lite: control, status, and the port that loads the memories.
//
// Layout: pyexport/isa.py REGISTERS. Address bits [1:0] are ignored. A refused access answers SLVERR and changes nothing:
//   both: an address without a register
//   write: fewer than four byte strobes; a register that is read only; LAYER_INDEX not below LAYERS;
//          LOAD_ADDR with an unknown memory or bits [27:24] set; LOAD_DATA while `running` or past the memory's depth
// CTRL reads its two levels, LOAD_ADDR where the next LOAD_DATA goes; LOAD_DATA reads zero.
// LOAD_DATA fills a word slice by slice, lowest first; after the last one the word address advances. LOAD_ADDR sets slice 0.
// LOAD_DATA looks at `running` a cycle late, and at `start`.
// Requirement: `running` is high from the cycle after `start` on, so that no LOAD_DATA slips in behind a start.
// Latency: a write acts, and answers, 2 cycles after the later of AW and W; a read answers 3 cycles after AR, a read that
// follows a write of LAYER_INDEX up to 4 cycles later (`layer_cycles` settles). Throughput: one write per 2 cycles, one read
// per 3. AW and W come in any order; no combinational path from an AXI input to an AXI output.

`resetall
`default_nettype none
`include "intact_defs.vh"

module axil_regs #(
    // input lanes, 1..64
    parameter ROWS = 8,
    // output lanes, 1..64
    parameter COLS = 8,
    // requantise lanes, 1..64
    parameter LANES = 8,
    // activation words
    parameter ACT_DEPTH = 4096,
    // weight words
    parameter WGT_DEPTH = 1024,
    // parameter words
    parameter PRM_DEPTH = 256,
    // program words
    parameter PRG_DEPTH = 1024,
    // cycle counters, 1..4096
    parameter LAYERS = 256,
    // tables of codes, 0..255
    parameter TABLES = 0,
    // as in intact_core
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0
) (
    input  wire        clk,

    input  wire [7:0]  s_axil_awaddr,
    input  wire [2:0]  s_axil_awprot,
    input  wire        s_axil_awvalid,
    output wire        s_axil_awready,
    input  wire [31:0] s_axil_wdata,
    input  wire [3:0]  s_axil_wstrb,
    input  wire        s_axil_wvalid,
    output wire        s_axil_wready,
    output reg  [1:0]  s_axil_bresp,
    output reg         s_axil_bvalid,
    input  wire        s_axil_bready,
    input  wire [7:0]  s_axil_araddr,
    input  wire [2:0]  s_axil_arprot,
    input  wire        s_axil_arvalid,
    output wire        s_axil_arready,
    output reg  [31:0] s_axil_rdata,
    output reg  [1:0]  s_axil_rresp,
    output reg         s_axil_rvalid,
    input  wire        s_axil_rready,

    // pulses of one cycle, from CTRL [2:0]: start, abort (`abort` is a C++ word that Verilator objects to), clear
    output reg         start,
    output reg         stop,
    output reg         clear,
    // levels, from CTRL [9:8]: `irq` = interrupt enable and (done or error), one cycle late
    output reg         auto_start,
    output reg         irq,

    // 32 bits into slice `load_slice` of word `load_addr` of memory `load_target`; the four hold until the next load_valid
    output reg         load_valid,
    output reg  [1:0]  load_target,
    output reg  [23:0] load_addr,
    output reg  [11:0] load_slice,
    output reg  [31:0] load_data,

    input  wire        idle,
    input  wire        loaded,
    input  wire        running,
    input  wire        out_pending,
    input  wire        done,
    input  wire        error,
    input  wire [7:0]  error_code,
    input  wire [15:0] job,
    input  wire [31:0] cycles,
    input  wire [31:0] runs,
    // `layer_cycles` belongs to `layer_index` from 3 cycles after the index changed
    output reg  [11:0] layer_index,
    input  wire [31:0] layer_cycles,

    input  wire        rst
);

    localparam [1:0] OKAY = 2'b00;
    localparam [1:0] SLVERR = 2'b10;
    localparam WGT_SLICES = (8 * ROWS * COLS + 31) / 32;
    localparam PRM_SLICES = 5 * LANES;
    localparam [1:0] LAST_TARGET = (TABLES != 0) ? `LOAD_TABLES : `LOAD_PARAMS;

    // ------------------------------------------------------------ write: hold AW and W until both are here

    reg        aw_full;
    reg        to_ctrl;   // which register, of those that can be written
    reg        to_layer;
    reg        to_target;
    reg        to_data;
    reg        w_full;
    reg [31:0] w_data;
    reg        w_whole;
    reg        w_is_layer;   // whole, and what its register takes
    reg        w_is_target;

    assign s_axil_awready = !aw_full;
    assign s_axil_wready = !w_full;

    wire write = aw_full && w_full && !s_axil_bvalid;

    // ------------------------------------------------------------ where the next LOAD_DATA goes

    reg [1:0]  target;
    reg [24:0] word;  // one bit more than an address: past the deepest memory stays past it
    reg [11:0] slice;

    // a cycle after `word`, `slice` and `target`; the next write comes two after them at the earliest
    reg        word_fits;
    reg        word_ends;  // the slice is the word's last
    reg        busy;       // `running` of the cycle before, or a start whose run comes
    reg [31:0] depth;
    reg [11:0] last_slice;

    always @* begin
        case (target)
            `LOAD_PROGRAM: begin
                depth = PRG_DEPTH;
                last_slice = 12'd1;
            end
            `LOAD_WEIGHTS: begin
                depth = WGT_DEPTH;
                last_slice = WGT_SLICES[11:0] - 12'd1;
            end
            `LOAD_PARAMS: begin
                depth = PRM_DEPTH;
                last_slice = PRM_SLICES[11:0] - 12'd1;
            end
            default: begin  // LOAD_TABLES: a code is a word
                depth = 256 * TABLES;
                last_slice = 12'd0;
            end
        endcase
    end

    // ------------------------------------------------------------ which writes are accepted

    wire data_fits    = w_whole && !busy && word_fits;
    wire acceptable   = (to_ctrl && w_whole) || (to_layer && w_is_layer) || (to_target && w_is_target) || (to_data && data_fits);
    wire write_ctrl   = write && to_ctrl && w_whole;
    wire write_layer  = write && to_layer && w_is_layer;
    wire write_target = write && to_target && w_is_target;
    wire write_data   = write && to_data && data_fits;

    // ------------------------------------------------------------ read

    reg        ar_full;
    reg [5:0]  ar_word;
    reg        ar_known;  // `chosen` and `exists` are what it asks for, of the cycle before
    reg [2:0]  settle;    // cycles until `chosen` can be layer_cycles
    reg        irq_enable;
    reg [31:0] value;
    reg        mapped;
    reg [31:0] chosen;
    reg        exists;

    assign s_axil_arready = !ar_full;

    wire read = ar_full && ar_known && !s_axil_rvalid && settle == 3'd0;

    always @* begin
        mapped = 1'b1;
        case (ar_word)
            `REG_ID:           value = `INTACT_MAGIC;
            `REG_ARRAY:        value = {`INTACT_VERSION, LANES[7:0], COLS[7:0], ROWS[7:0]};
            `REG_ACT_DEPTH:    value = ACT_DEPTH;
            `REG_WGT_DEPTH:    value = WGT_DEPTH;
            `REG_PRM_DEPTH:    value = PRM_DEPTH;
            `REG_PRG_DEPTH:    value = PRG_DEPTH;
            `REG_CTRL:         value = {22'd0, irq_enable, auto_start, 8'd0};
            `REG_STATUS:       value = {job, error_code, 2'd0, error, done, out_pending, running, loaded, idle};
            `REG_CYCLES:       value = cycles;
            `REG_LAYER_INDEX:  value = {20'd0, layer_index};
            `REG_LAYER_CYCLES: value = layer_cycles;
            `REG_LOAD_ADDR:    value = {2'd0, target, 4'd0, word[23:0]};
            `REG_LOAD_DATA:    value = 32'd0;
            `REG_RUNS:         value = runs;
            `REG_OPTIONS:      value = {22'd0, PRM_SERIAL != 0, PACKED != 0, TABLES[7:0]};
            default: begin
                value = 32'd0;
                mapped = 1'b0;
            end
        endcase
    end

    // ------------------------------------------------------------ state

    always @(posedge clk) begin
        if (s_axil_awready) begin
            to_ctrl <= s_axil_awaddr[7:2] == `REG_CTRL;
            to_layer <= s_axil_awaddr[7:2] == `REG_LAYER_INDEX;
            to_target <= s_axil_awaddr[7:2] == `REG_LOAD_ADDR;
            to_data <= s_axil_awaddr[7:2] == `REG_LOAD_DATA;
        end
        if (s_axil_awvalid) aw_full <= 1'b1;
        if (s_axil_wready) begin
            w_data <= s_axil_wdata;
            w_whole <= &s_axil_wstrb;
            w_is_layer <= &s_axil_wstrb && s_axil_wdata < LAYERS;
            w_is_target <= &s_axil_wstrb && s_axil_wdata[31:28] <= {2'd0, LAST_TARGET} && s_axil_wdata[27:24] == 4'd0;
        end
        if (s_axil_wvalid) w_full <= 1'b1;
        if (s_axil_arready) ar_word <= s_axil_araddr[7:2];
        if (s_axil_arvalid) ar_full <= 1'b1;

        if (s_axil_bready) s_axil_bvalid <= 1'b0;
        if (s_axil_rready) s_axil_rvalid <= 1'b0;
        start <= 1'b0;
        stop <= 1'b0;
        clear <= 1'b0;
        load_valid <= 1'b0;
        irq <= irq_enable && (done || error);
        if (settle != 3'd0) settle <= settle - 3'd1;
        word_fits <= {7'd0, word} < depth;
        word_ends <= slice == last_slice;
        busy <= running || start;

        ar_known <= ar_full && !read;
        chosen <= value;
        exists <= mapped;

        if (read) begin
            ar_full <= 1'b0;
            s_axil_rvalid <= 1'b1;
        end
        if (!s_axil_rvalid) begin
            s_axil_rdata <= chosen;
            s_axil_rresp <= exists ? OKAY : SLVERR;
        end

        if (write) begin
            aw_full <= 1'b0;
            w_full <= 1'b0;
            s_axil_bvalid <= 1'b1;
        end
        if (!s_axil_bvalid) s_axil_bresp <= acceptable ? OKAY : SLVERR;

        if (write_ctrl) begin
            start <= w_data[0];
            stop <= w_data[1];
            clear <= w_data[2];
            auto_start <= w_data[8];
            irq_enable <= w_data[9];
        end
        if (write_layer) begin
            layer_index <= w_data[11:0];
            settle <= 3'd4;
        end
        if (write_target) begin
            target <= w_data[29:28];
            word <= {1'b0, w_data[23:0]};
            slice <= 12'd0;
        end
        if (write_data) begin
            load_valid <= 1'b1;
            load_target <= target;
            load_addr <= word[23:0];
            load_slice <= slice;
            load_data <= w_data;
            slice <= word_ends ? 12'd0 : slice + 12'd1;
            if (word_ends) word <= word + 25'd1;
        end

        if (rst) begin
            aw_full <= 1'b0;
            w_full <= 1'b0;
            ar_full <= 1'b0;
            ar_known <= 1'b0;
            s_axil_bvalid <= 1'b0;
            s_axil_rvalid <= 1'b0;
            start <= 1'b0;
            stop <= 1'b0;
            clear <= 1'b0;
            auto_start <= 1'b0;
            irq_enable <= 1'b0;
            irq <= 1'b0;
            load_valid <= 1'b0;
            busy <= 1'b0;
            layer_index <= 12'd0;
            settle <= 3'd4;
            target <= `LOAD_PROGRAM;
            word <= 25'd0;
            slice <= 12'd0;
        end
    end

    wire unused = &{1'b0, s_axil_awprot, s_axil_arprot, s_axil_awaddr[1:0], s_axil_araddr[1:0]};

endmodule

`resetall
