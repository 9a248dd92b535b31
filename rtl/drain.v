// SPDX-License-Identifier: Apache-2.0
// Drain: takes a finished tile of COLS accumulators, sends LANES of them a cycle through the requantise lanes and writes
// their codes to activation memory, while the array is already on the next tile.
//
// The tile_* controls come a cycle before the tile is complete in the accumulators, because the parameters take two cycles
// to read; `results`, the accumulators, are taken one cycle after them. A tile takes last_beat + 1 cycles,
// COLS / LANES at most. A code is written 17 cycles after its beat's control, counting the write itself; 19 in a job whose
// codes go through a table.

`resetall
`default_nettype none
`include "intact_defs.vh"

module drain #(
    // bytes of an activation word
    parameter ROWS = 8,
    // accumulators
    parameter COLS = 8,
    // requantise lanes, a divisor of ROWS and of COLS
    parameter LANES = 8,
    // address bits of the activation memory
    parameter ACT_ADDR = 12,
    // address bits of the parameter memory
    parameter PRM_ADDR = 8,
    // tables of codes, 0 for none; their address bits and image
    parameter TABLES = 0,
    parameter TAB_ADDR = 8,
    parameter TAB_FILE = ""
) (
    input  wire                    clk,
    input  wire                    rst,
    // the descriptor, taken up when `job_start` is high
    input  wire [64*`INTACT_DESCRIPTOR_WORDS-1:0] descriptor,
    input  wire                    job_start,
    // a tile will be complete; it is the last of its pixel, row, a window job's map, job
    input  wire                    tile_last,
    input  wire                    tile_pixel_last,
    input  wire                    tile_row_last,
    input  wire                    tile_map_last,
    input  wire                    tile_job_last,
    // accumulators, lane c at [32*c +: 32]
    input  wire [32*COLS-1:0]      results,
    // parameter memory's read port (latency 2): `prm_addr` is new; the word there can be taken up
    output reg  [PRM_ADDR-1:0]     prm_addr,
    output reg                     prm_ask,
    input  wire                    prm_ready,
    input  wire [160*LANES-1:0]    prm_data,
    // the host's port to the tables
    input  wire                    tab_write,
    input  wire [TAB_ADDR-1:0]     tab_addr,
    input  wire [7:0]              tab_data,
    // activation memory's write port; it is the drain's while `writing`
    output wire                    writing,
    output wire [ROWS/LANES-1:0]   write_enable,
    output reg  [ACT_ADDR-1:0]     write_addr,
    output wire [8*ROWS-1:0]       write_data,
    // the job's last codes are being written
    output wire                    job_done,
    // a tile came before the one before had left, or before its parameters were there: the program is wrong
    output wire                    overrun
);

    localparam BEATS  = COLS / LANES;
    localparam GROUPS = ROWS / LANES;

    // ---- beats: parameters' addresses ----
    // tile_* stay for the beats after the first
    reg  [BEATS-1:0] pending;  // bit k: beat k of the tile is now; beat 0 is tile_last itself
    reg        kept_pixel_last;
    reg        kept_row_last;
    reg        kept_map_last;
    reg        kept_job_last;
    reg  [PRM_ADDR-1:0] prm_base;
    integer             b;

    reg  [BEATS-1:0] final_beat;  // one hot: which beat is a tile's last
    localparam [BEATS-1:0] BEAT_0 = 1;

    wire beat       = tile_last | (|pending);
    wire beat_final = tile_last ? final_beat[0] : |(pending & final_beat);
    wire pixel_last = beat_final & (tile_last ? tile_pixel_last : kept_pixel_last);
    wire row_last   = beat_final & (tile_last ? tile_row_last : kept_row_last);
    wire map_last   = beat_final & (tile_last ? tile_map_last : kept_map_last);
    wire job_last   = beat_final & (tile_last ? tile_job_last : kept_job_last);

    assign overrun = tile_last & (|pending | ~prm_ready);

    always @(posedge clk) begin
        pending <= beat_final ? {BEATS{1'b0}} : tile_last ? BEAT_0 << 1 : pending << 1;
        if (tile_last) begin
            kept_pixel_last <= tile_pixel_last;
            kept_row_last   <= tile_row_last;
            kept_map_last   <= tile_map_last;
            kept_job_last   <= tile_job_last;
        end

        prm_ask <= beat | job_start;
        if (beat) prm_addr <= (pixel_last & ~map_last) ? prm_base : prm_addr + 1'b1;
        if (map_last) prm_base <= prm_addr + 1'b1;
        if (job_start) begin
            for (b = 0; b < BEATS; b = b + 1) final_beat[b] <= ({24'd0, descriptor[`DSC_LAST_BEAT]} == b);
            prm_base <= descriptor[`DSC_PRM_BASE_LSB +: PRM_ADDR];
            prm_addr <= descriptor[`DSC_PRM_BASE_LSB +: PRM_ADDR];
        end

        if (rst) pending <= {BEATS{1'b0}};
    end

    // ---- drain chain: LANES accumulators leave a cycle ----
    reg  [32*COLS-1:0] chain;
    wire               take;
    delay #(.WIDTH(1), .CYCLES(1), .RESET(1)) delay_take (.clk(clk), .rst(rst), .in(tile_last), .out(take));

    always @(posedge clk)
        if (take) chain <= results;
        else chain <= chain >> (32 * LANES);

    // ---- requantise ----
    reg  signed [7:0]    zero_point;
    reg  signed [7:0]    low;
    reg  signed [7:0]    high;
    wire [8*LANES-1:0]   codes;

    requantise #(.LANES(LANES)) lanes (
        .clk        (clk),
        .accs       (chain[32*LANES-1:0]),
        .params     (prm_data),
        .zero_point (zero_point),
        .low        (low),
        .high       (high),
        .codes      (codes)
    );

    wire [4:0] rounded_marks;
    delay #(.WIDTH(5), .CYCLES(16), .RESET(1)) delay_beat (
        .clk (clk),
        .rst (rst),
        .in  ({beat, beat & pixel_last, beat & row_last, map_last, beat & job_last}),
        .out (rounded_marks)
    );

    // ---- table, in the jobs that have one ----
    wire [8*LANES-1:0] written;
    wire [4:0]         write_marks;
    generate
        if (TABLES == 0) begin : gen_no_table
            assign written     = codes;
            assign write_marks = rounded_marks;
            wire _unused = &{1'b0, tab_write, tab_addr, tab_data};
        end else begin : gen_table
            reg                mapping;
            reg  [7:0]         selected;
            wire [8*LANES-1:0] mapped;
            wire [4:0]         mapped_marks;

            always @(posedge clk) if (job_start) begin
                mapping  <= |descriptor[`DSC_TABLE];
                selected <= descriptor[`DSC_TABLE] - 8'd1;
            end

            code_table #(.LANES(LANES), .TABLES(TABLES), .ADDR(TAB_ADDR), .INIT_FILE(TAB_FILE)) tables (
                .clk          (clk),
                .write_enable (tab_write),
                .write_addr   (tab_addr),
                .write_data   (tab_data),
                .selected     (selected),
                .codes        (codes),
                .mapped       (mapped)
            );

            // nothing of a job without a table may come out in the one after it
            delay #(.WIDTH(5), .CYCLES(2), .RESET(1)) delay_mapped (
                .clk (clk),
                .rst (rst),
                .in  (mapping ? rounded_marks : 5'd0),
                .out (mapped_marks)
            );

            assign written     = mapping ? mapped : codes;
            assign write_marks = mapping ? mapped_marks : rounded_marks;
        end
    endgenerate

    // ---- write-back ----
    wire write_beat;
    wire write_pixel_last;
    wire write_row_last;
    wire write_map_last;
    wire write_job_last;
    assign {write_beat, write_pixel_last, write_row_last, write_map_last, write_job_last} = write_marks;

    reg  [GROUPS-1:0]   group;
    reg  [GROUPS-1:0]   group_start;
    reg  [ACT_ADDR-1:0] pixel_addr;
    reg  [15:0]         groups_left;
    reg  [15:0]         groups_pixel;
    reg                 wanted;         // groups_left is not zero
    reg                 wanted_pixel;   // groups_pixel is not
    reg  [ACT_ADDR-1:0] step_ox;
    reg  [ACT_ADDR-1:0] step_oy;
    reg  [ACT_ADDR-1:0] step_tile;
    wire [ACT_ADDR-1:0] pixel_next = pixel_addr + (write_map_last ? step_tile : write_row_last ? step_oy : step_ox);

    assign writing      = write_beat;
    assign write_enable = (write_beat && wanted) ? group : {GROUPS{1'b0}};
    assign write_data   = {GROUPS{written}};
    assign job_done     = write_job_last;

    // one hot, so that a write enable needs no decoder
    wire [GROUPS-1:0] group_rotated;
    wire [GROUPS-1:0] group_first;
    genvar g;
    generate
        for (g = 0; g < GROUPS; g = g + 1) begin : gen_group
            assign group_rotated[g] = group[(g + GROUPS - 1) % GROUPS];
            assign group_first[g]   = (descriptor[`DSC_OUT_GROUP] == g);
        end
    endgenerate

    always @(posedge clk) begin
        if (write_pixel_last) begin
            pixel_addr  <= pixel_next;
            write_addr  <= pixel_next;
            group       <= group_start;
            groups_left <= groups_pixel;
            wanted      <= wanted_pixel;
        end else if (write_beat) begin
            group <= group_rotated;
            if (group[GROUPS-1]) write_addr <= write_addr + 1'b1;
            if (wanted) begin
                groups_left <= groups_left - 16'd1;
                wanted      <= (groups_left != 16'd1);
            end
        end

        if (job_start) begin
            zero_point   <= descriptor[`DSC_ZERO_POINT];
            low          <= descriptor[`DSC_LOW];
            high         <= descriptor[`DSC_HIGH];
            pixel_addr   <= descriptor[`DSC_OUT_BASE_LSB +: ACT_ADDR];
            write_addr   <= descriptor[`DSC_OUT_BASE_LSB +: ACT_ADDR];
            group        <= group_first;
            group_start  <= group_first;
            groups_left  <= descriptor[`DSC_OUT_GROUPS];
            groups_pixel <= descriptor[`DSC_OUT_GROUPS];
            wanted       <= |descriptor[`DSC_OUT_GROUPS];
            wanted_pixel <= |descriptor[`DSC_OUT_GROUPS];
            step_ox      <= descriptor[`DSC_OUT_OX_LSB +: ACT_ADDR];
            step_tile    <= descriptor[`WIN_OUT_TILE_LSB +: ACT_ADDR];
            step_oy      <= descriptor[`DSC_OUT_OY_LSB +: ACT_ADDR];
        end
    end

    wire _unused = &{1'b0, descriptor};

endmodule

`resetall
