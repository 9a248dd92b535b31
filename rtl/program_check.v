// SPDX-License-Identifier: Apache-2.0
// Checks the program header, or a descriptor, word by word as it is fetched, so that words need not be kept for it.
// Right: the header is of this configuration and its frames lie within memory; the descriptor is of a known kind, its
// indices and bases are in range, reserved bits are zero. Bounds of the loops are the address generators' own affair.
// Latency: `right` falls 2 cycles after a wrong word, 3 after a frame that reaches beyond the memory.

`resetall
`default_nettype none
`include "intact_defs.vh"

module program_check #(
    // as in intact_core
    parameter ROWS = 8,
    parameter COLS = 8,
    parameter LANES = 8,
    parameter ACT_DEPTH = 4096,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 256,
    parameter LAYERS = 256,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    // 1: window jobs are legal
    parameter WINDOW = 0,
    // descriptors that program memory holds
    parameter MOST_JOBS = 72
) (
    input  wire        clk,
    // a fetch begins
    input  wire        begins,
    // one hot: this word of the header, of a descriptor, stands at `word`
    input  wire [`INTACT_HEADER_WORDS-1:0]     header_lands,
    input  wire [`INTACT_DESCRIPTOR_WORDS-1:0] lands,
    input  wire [63:0] word,
    // nothing wrong has come since the fetch began
    output reg         right
);

    // the word in every place: what belongs to another word is not looked at
    wire [64*`INTACT_HEADER_WORDS-1:0]     header = {`INTACT_HEADER_WORDS{word}};
    wire [64*`INTACT_DESCRIPTOR_WORDS-1:0] descriptor = {`INTACT_DESCRIPTOR_WORDS{word}};

    // value <= limit, cheaper than a subtraction where the limit is a power of two
    function at_most(input [31:0] value, input [31:0] limit);
        at_most = (value < limit) | (value == limit);
    endfunction

    // ---- header ----
    localparam [31:0] MAGIC = `INTACT_MAGIC;
    localparam INPUT  = `HDR_IN_BASE_LSB / 64;
    localparam OUTPUT = `HDR_OUT_BASE_LSB / 64;
    // what is within a limit has no bits above these; the sum of two such values is short
    localparam [31:0] ACT_BITS = (32'd1 << $clog2(ACT_DEPTH + 1)) - 32'd1;
    localparam [31:0] WGT_BITS = (32'd1 << $clog2(WGT_DEPTH + 1)) - 32'd1;
    localparam [31:0] PRM_BITS = (32'd1 << $clog2(PRM_DEPTH + 1)) - 32'd1;
    localparam [31:0] JOB_BITS = (32'd1 << $clog2(MOST_JOBS + 1)) - 32'd1;
    wire [31:0] act_words = {8'd0, header[`HDR_ACT_WORDS]};
    wire [31:0] wgt_words = {8'd0, header[`HDR_WGT_WORDS]};
    wire [31:0] prm_words = {8'd0, header[`HDR_PRM_WORDS]};
    wire [31:0] jobs      = {16'd0, header[`HDR_JOBS]};
    wire [31:0] base   = {8'd0, header_lands[OUTPUT] ? header[`HDR_OUT_BASE] : header[`HDR_IN_BASE]};
    wire [31:0] length = {8'd0, header_lands[OUTPUT] ? header[`HDR_OUT_WORDS] : header[`HDR_IN_WORDS]};
    reg  [31:0] frame_end;
    reg         frame_came;
    localparam [31:0] OPTIONS = {30'd0, PRM_SERIAL != 0, PACKED != 0};
    wire [31:0] options = {header[`HDR_RESERVED0], header[`HDR_PRM_SERIAL], header[`HDR_PACKED]};
    wire        is_frame  = header_lands[INPUT] | header_lands[OUTPUT];
    // a few bits each, for the words come straight from memory
    wire [19:0] header_wrong = {
        {4{header_lands[0]}} & ~{
            header[15:0] == MAGIC[15:0], header[31:16] == MAGIC[31:16],
            (header[`HDR_VERSION] == `INTACT_VERSION) & ({24'd0, header[`HDR_ROWS]} == ROWS),
            ({24'd0, header[`HDR_COLS]} == COLS) & ({24'd0, header[`HDR_LANES]} == LANES)
        },
        {3{is_frame}} & ~{~(|(base & ~ACT_BITS)), ~(|(length & ~ACT_BITS)), |(length & ACT_BITS)},
        {3{header_lands[INPUT]}} & ~{|jobs, ~(|(jobs & ~JOB_BITS)), at_most(jobs & JOB_BITS, MOST_JOBS)},
        header_lands[OUTPUT] & ~at_most({16'd0, header[`HDR_LAYERS]}, LAYERS),
        {4{header_lands[`HDR_ACT_WORDS_LSB / 64]}} & ~{
            ~(|(act_words & ~ACT_BITS)), at_most(act_words & ACT_BITS, ACT_DEPTH),
            ~(|(prm_words & ~PRM_BITS)), at_most(prm_words & PRM_BITS, PRM_DEPTH)
        },
        {5{header_lands[`HDR_WGT_WORDS_LSB / 64]}} & ~{
            ~(|(wgt_words & ~WGT_BITS)), at_most(wgt_words & WGT_BITS, WGT_DEPTH),
            at_most({24'd0, header[`HDR_TABLES]}, TABLES), options[15:0] == OPTIONS[15:0], options[31:16] == OPTIONS[31:16]
        }
    };

    // ---- descriptor ----
    wire accumulate = (descriptor[`DSC_OPCODE] == `INTACT_OPCODE_ACCUMULATE);
    wire window     = (descriptor[`DSC_OPCODE] == `INTACT_OPCODE_WINDOW) & (WINDOW != 0);
    wire [8:0] descriptor_wrong = {
        {2{lands[0]}} & ~{accumulate | window, ~(|descriptor[`DSC_RESERVED0]) & ~(|descriptor[`DSC_RESERVED1])},
        lands[`DSC_WGT_BASE_LSB / 64] & ~({8'd0, descriptor[`DSC_WGT_BASE]} < WGT_DEPTH),
        {3{lands[`DSC_LAYER_LSB / 64]}} & ~{
            {16'd0, descriptor[`DSC_LAYER]} < LAYERS, {24'd0, descriptor[`DSC_TABLE]} <= TABLES,
            ({24'd0, descriptor[`DSC_OUT_GROUP]} < ROWS / LANES) & ({24'd0, descriptor[`DSC_LAST_BEAT]} < COLS / LANES)
        },
        {2{lands[`DSC_OUT_BASE_LSB / 64]}} & ~{
            {8'd0, descriptor[`DSC_OUT_BASE]} < ACT_DEPTH, {8'd0, descriptor[`DSC_PRM_BASE]} < PRM_DEPTH
        },
        lands[`DSC_RESERVED3_LSB / 64] & (|descriptor[`DSC_RESERVED3])
    };

    // ---- what has come ----
    reg [28:0] wrong;

    always @(posedge clk) begin
        wrong      <= {header_wrong, descriptor_wrong} & {29{~begins}};
        frame_came <= is_frame & ~begins;
        frame_end  <= (base & ACT_BITS) + (length & ACT_BITS);

        if (begins) right <= 1'b1;
        else if ((|wrong) | (frame_came & ~at_most(frame_end, ACT_DEPTH))) right <= 1'b0;
    end

    wire _unused = &{1'b0, lands, header, descriptor};

endmodule

`resetall
