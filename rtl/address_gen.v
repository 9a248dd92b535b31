// SPDX-License-Identifier: Apache-2.0
// Address generator: the seven-deep loop nest of a job, one activation word and one weight word a cycle.
// Loops, innermost first: word, kx, ky, pass, tile, ox, oy. Each has a count and an increment for either address; the
// increment of the loop that advances is added (the exporter folds the way back of the inner loops into it). x and y
// follow the window over the map, so that taps outside read `pad`.
//
// Three stages: counters choose the loop that advances; its increments are selected; the addresses are added up. They
// fill after `load` and wait to go, so a job issues from its first cycle on. See docs/architecture.md.

`resetall
`default_nettype none
`include "intact_defs.vh"

module address_gen #(
    // address bits of the activation memory
    parameter ACT_ADDR = 12,
    // address bits of the weight memory
    parameter WGT_ADDR = 10
) (
    input  wire                clk,
    input  wire                rst,
    // the descriptor's first INTACT_LOOP_WORDS words; they hold still until the job has issued, and the loops' words have stood
    // for a cycle before `load`
    input  wire [64*`INTACT_LOOP_WORDS-1:0] loops,
    // the words one by one, as they come: for a family that keeps them elsewhere
    input  wire [`INTACT_LOOP_WORDS-1:0]    lands,
    input  wire [63:0]         landing,
    // the descriptor has counts or coordinates beyond what a family's own generator holds
    output wire                beyond,
    // take up a new descriptor
    input  wire                load,
    // words may issue in the next cycle
    input  wire                go_next,
    // a first word is ready, or will be in the next cycle
    output wire                primed,
    // this cycle reads act_addr and wgt_addr
    output reg                 issue,
    output reg  [ACT_ADDR-1:0] act_addr,
    output reg  [WGT_ADDR-1:0] wgt_addr,
    // one cycle after issue: the tap lies outside the map
    output reg                 outside,
    // the word starts an accumulation; it is subtracted; the sum before it counts 256 times; it ends an accumulation
    output wire                first,
    output wire                subtract,
    output wire                scale_up,
    output wire                last,
    // ... and the tile is the last of its pixel, row, job
    output wire                pixel_last,
    output wire                row_last,
    output wire                job_last
);

    localparam LEVELS = 7;

    // ---- stage 1: counters ----
    reg  [16*LEVELS-1:0] counts;
    reg  [LEVELS-1:0]    at_end;
    wire [LEVELS-1:0]    at_end_next;
    wire [16*LEVELS-1:0] reloads;
    reg  [LEVELS-1:0]    lower_end;  // all loops inside this one are at their end: it takes its next turn
    reg  [LEVELS-1:0]    one_left;   // of counts
    // of a count, which stands in `loops` for two cycles and more before the load: it is zero, one
    reg  [LEVELS-1:0]    is_single;
    reg  [LEVELS-1:0]    is_double;
    reg                  counting;
    reg                  turning;  // ... and not in a gap
    reg                  starts;
    reg                  starts_pass;
    reg  [15:0]          gap_left;
    reg                  in_gap;   // gap_left counts; else it waits with a gap's length
    reg                  has_gap;

    genvar g;
    generate
        for (g = 0; g < LEVELS; g = g + 1) begin : gen_level
            assign reloads[16*g +: 16] = loops[64*(g+1) +: 16];
            assign at_end_next[g]      = ~lower_end[g] ? at_end[g] : at_end[g] ? is_single[g] : one_left[g];
        end
    endgenerate

    // which loops take a turn where these are at their end
    function [LEVELS-1:0] all_inside(input [LEVELS-1:0] ends);
        integer j;
        for (j = 0; j < LEVELS; j = j + 1) all_inside[j] = &(ends | ({LEVELS{1'b1}} << j));
    endfunction

    wire subtracts  = loops[`DSC_PASS_SUBTRACTS];
    wire shifts     = loops[`DSC_PASS_SHIFTS];
    wire tile_ends  = lower_end[3] & (at_end[3] | ~(subtracts | shifts));
    wire pixel_ends = lower_end[5];
    wire row_ends   = lower_end[6];
    wire job_ends   = lower_end[6] & at_end[6];

    // ---- stage 2: which loop advances (one hot) and what the word is ----
    reg              valid_2;
    reg              real_2;
    reg [LEVELS-1:0] advance_2;
    reg [6:0]        flags_2;

    // ---- stage 3: the increments ----
    reg                       valid_3;
    reg                       real_3;
    reg        [6:0]          flags_3;
    reg        [ACT_ADDR-1:0] act_step;
    reg        [WGT_ADDR-1:0] wgt_step;
    reg signed [15:0]         x_step;
    reg signed [15:0]         y_step;
    reg                       x_restart;
    reg signed [15:0]         x;
    reg signed [15:0]         y;

    // the stages move when stage 3's word issues, or there is none: known a cycle ahead, for so many registers follow it
    reg  moves;
    wire cleared      = rst | load;
    wire valid_3_next = ~cleared & (moves ? valid_2 : valid_3);
    wire real_3_next  = ~cleared & (moves ? real_2 : real_3);

    always @(posedge clk) begin
        moves <= go_next | ~valid_3_next;
        issue <= go_next & real_3_next;
    end

    assign primed = valid_3 | valid_2;
    assign {first, subtract, scale_up, last, pixel_last, row_last, job_last} = flags_3;

    reg        [ACT_ADDR-1:0] act_step_next;
    reg        [WGT_ADDR-1:0] wgt_step_next;
    integer i;
    integer k;

    always @* begin
        act_step_next = {ACT_ADDR{1'b0}};
        wgt_step_next = {WGT_ADDR{1'b0}};
        for (i = 0; i < LEVELS; i = i + 1) begin
            act_step_next = act_step_next | (loops[64*(i+1)+16 +: ACT_ADDR] & {ACT_ADDR{advance_2[i]}});
            wgt_step_next = wgt_step_next | (loops[64*(i+1)+40 +: WGT_ADDR] & {WGT_ADDR{advance_2[i]}});
        end
    end

    wire [15:0] map_h = loops[`DSC_MAP_H];
    wire [15:0] map_w = loops[`DSC_MAP_W];
    wire [15:0] x_unsigned = x;
    wire [15:0] y_unsigned = y;

    always @(posedge clk) begin
        if (moves) begin
            gap_left <= in_gap ? gap_left - 16'd1 : loops[`DSC_GAP];
            if (in_gap) begin
                in_gap  <= (gap_left != 16'd1);
                turning <= (gap_left == 16'd1);
            end
            if (turning) begin
                for (k = 0; k < LEVELS; k = k + 1) begin
                    if (lower_end[k]) begin
                        counts[16*k +: 16] <= at_end[k] ? reloads[16*k +: 16] : counts[16*k +: 16] - 16'd1;
                        one_left[k]        <= at_end[k] ? is_double[k] : (counts[16*k +: 16] == 16'd2);
                    end
                end
                at_end      <= at_end_next;
                lower_end   <= all_inside(at_end_next);
                starts      <= tile_ends;
                starts_pass <= lower_end[3] & ~at_end[3];
                in_gap      <= tile_ends & ~job_ends & has_gap;
                turning     <= ~job_ends & ~(tile_ends & has_gap);
                counting    <= ~job_ends;
            end

            valid_2   <= counting;
            real_2    <= turning;
            advance_2 <= in_gap ? {LEVELS{1'b0}} : ~at_end & lower_end;
            flags_2   <= {starts, subtracts & at_end[3], shifts & starts_pass, tile_ends, pixel_ends, row_ends, job_ends};

            valid_3   <= valid_2;
            real_3    <= real_2;
            flags_3   <= flags_2;
            act_step  <= act_step_next;
            wgt_step  <= wgt_step_next;
            x_step    <= advance_2[1] ? loops[`DSC_KX_X] : |advance_2[4:2] ? loops[`DSC_BACK_X] : advance_2[5] ? loops[`DSC_OX_X]
                         : 16'd0;
            x_restart <= advance_2[6];
            y_step    <= advance_2[2] ? loops[`DSC_KY_Y] : |advance_2[5:3] ? loops[`DSC_BACK_Y] : advance_2[6] ? loops[`DSC_OY_Y]
                         : 16'd0;
        end

        if (issue) begin
            act_addr <= act_addr + act_step;
            wgt_addr <= wgt_addr + wgt_step;
            x        <= x_restart ? $signed(loops[`DSC_X0]) : x + x_step;
            y        <= y + y_step;
        end
        for (k = 0; k < LEVELS; k = k + 1) begin
            is_single[k] <= (reloads[16*k +: 16] == 16'd0);
            is_double[k] <= (reloads[16*k +: 16] == 16'd1);
        end
        // a negative coordinate is a large unsigned one
        outside <= (x_unsigned >= map_w) | (y_unsigned >= map_h);

        if (load) begin
            counts   <= reloads;
            at_end   <= is_single;
            lower_end <= all_inside(is_single);
            one_left <= is_double;
            counting <= 1'b1;
            turning  <= 1'b1;
            starts   <= 1'b1;
            starts_pass <= 1'b0;
            valid_2  <= 1'b0;
            real_2   <= 1'b0;
            valid_3  <= 1'b0;
            real_3   <= 1'b0;
            in_gap   <= 1'b0;
            has_gap  <= |loops[`DSC_GAP];
            act_addr <= loops[`DSC_ACT_BASE_LSB +: ACT_ADDR];
            wgt_addr <= loops[`DSC_WGT_BASE_LSB +: WGT_ADDR];
            x        <= loops[`DSC_X0];
            y        <= loops[`DSC_Y0];
        end

        if (rst) begin
            counting <= 1'b0;
            turning  <= 1'b0;
            in_gap   <= 1'b0;
            valid_2  <= 1'b0;
            real_2   <= 1'b0;
            valid_3  <= 1'b0;
            real_3   <= 1'b0;
        end
    end

    assign beyond = 1'b0;

    wire _unused = &{1'b0, loops, lands, landing};

endmodule

`resetall
