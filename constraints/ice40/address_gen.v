// SPDX-License-Identifier: Apache-2.0
// Address generator on the iCE40, in place of rtl/address_gen.v: the seven-deep loop nest of a job, one activation word and
// one weight word a cycle. Ports, function and timing are the same; the loops' increments lie in block RAM, and counts and
// coordinates are shorter. A descriptor that needs more is `beyond`; the exporter makes none for these devices.
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
    // the descriptor's first INTACT_LOOP_WORDS words; they hold still until the job has issued
    input  wire [64*`INTACT_LOOP_WORDS-1:0] loops,
    // the same, one by one as they come, one hot
    input  wire [`INTACT_LOOP_WORDS-1:0]    lands,
    input  wire [63:0]         landing,
    // the descriptor has counts of more than COUNT or coordinates of more than SPAN bits
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
    // bits of counts, less one, and of the gap; of coordinates, with their sign
    localparam COUNT = 10;
    localparam SPAN = 11;

    // ---- descriptors that need more, seen as they come ----
    function counts(input [15:COUNT] upper);
        counts = ~(|upper);
    endfunction

    function spans(input [15:SPAN-1] upper);
        spans = (&upper) | ~(|upper);
    endfunction

    localparam [COUNT-1:0] ONE = 1;
    wire three_fit = spans(landing[15 -: 17-SPAN]) & spans(landing[31 -: 17-SPAN]) & spans(landing[47 -: 17-SPAN]);
    wire fits_here =
        lands[0] ? spans(landing[31 -: 17-SPAN]) & counts(landing[47 -: 16-COUNT])
        : (|lands[LEVELS:1]) ? counts(landing[15 -: 16-COUNT])
        : lands[LEVELS+1] ? counts(landing[63 -: 16-COUNT])
        : lands[LEVELS+2] ? three_fit & spans(landing[63 -: 17-SPAN])
        : ~lands[LEVELS+3] | (three_fit & counts(landing[63 -: 16-COUNT]));
    reg  found_beyond;

    assign beyond = found_beyond;
    always @(posedge clk) found_beyond <= (found_beyond & ~lands[0]) | ~fits_here;

    // ---- stage 1: counters ----
    reg  [COUNT*LEVELS-1:0] left;
    reg  [LEVELS-1:0]    at_end;
    wire [LEVELS-1:0]    single;
    wire [COUNT*LEVELS-1:0] reloads;
    wire [LEVELS-1:0]    lower_end;
    reg                  counting;
    reg                  starts;
    reg                  starts_pass;
    reg  [COUNT-1:0]     gap_left;

    genvar g;
    generate
        for (g = 0; g < LEVELS; g = g + 1) begin : gen_level
            assign reloads[COUNT*g +: COUNT] = loops[64*(g+1) +: COUNT];
            assign single[g]           = ~(|reloads[COUNT*g +: COUNT]);
            assign lower_end[g]        = &(at_end | ({LEVELS{1'b1}} << g));
        end
    endgenerate

    wire in_gap     = |gap_left;
    wire subtracts  = loops[`DSC_PASS_SUBTRACTS];
    wire shifts     = loops[`DSC_PASS_SHIFTS];
    wire tile_ends  = &at_end[2:0] & (at_end[3] | ~(subtracts | shifts));
    wire pixel_ends = &at_end[4:0];
    wire row_ends   = &at_end[5:0];
    wire job_ends   = &at_end;

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
    reg signed [SPAN-1:0]     x_step;
    reg signed [SPAN-1:0]     y_step;
    reg                       x_restart;
    reg signed [SPAN-1:0]     x;
    reg signed [SPAN-1:0]     y;

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

    // increments of the loop at each level; a word that ends the job or lies in a gap may read anything, nothing follows it
    (* ram_style = "block", no_rw_check *) reg [ACT_ADDR-1:0] act_steps [0:7];
    (* ram_style = "block", no_rw_check *) reg [WGT_ADDR-1:0] wgt_steps [0:7];
    reg  [2:0] landing_level;
    reg  [2:0] level_2;
    integer    i;
    integer    k;

    always @* begin
        landing_level = 3'd0;
        level_2 = 3'd0;
        for (i = 0; i < LEVELS; i = i + 1) begin
            landing_level = landing_level | (i[2:0] & {3{lands[i+1]}});
            level_2 = level_2 | (i[2:0] & {3{advance_2[i]}});
        end
    end

    always @(posedge clk) begin
        if (|lands[LEVELS:1]) begin
            act_steps[landing_level] <= landing[16 +: ACT_ADDR];
            wgt_steps[landing_level] <= landing[40 +: WGT_ADDR];
        end
        if (moves) begin
            act_step <= act_steps[level_2];
            wgt_step <= wgt_steps[level_2];
        end
    end

    // a negative coordinate is a large unsigned one
    wire [SPAN-1:0] map_h = {1'b0, map_height[COUNT-1:0]};
    wire [SPAN-1:0] map_w = {1'b0, map_width[COUNT-1:0]};
    wire [15:0] map_height = loops[`DSC_MAP_H];
    wire [15:0] map_width  = loops[`DSC_MAP_W];
    wire [SPAN-1:0] x_unsigned = x;
    wire [SPAN-1:0] y_unsigned = y;

    always @(posedge clk) begin
        if (moves) begin
            if (in_gap) gap_left <= gap_left - 1'b1;
            else if (counting) begin
                for (k = 0; k < LEVELS; k = k + 1) begin
                    if (lower_end[k]) begin
                        left[COUNT*k +: COUNT] <= at_end[k] ? reloads[COUNT*k +: COUNT] : left[COUNT*k +: COUNT] - ONE;
                        at_end[k]          <= at_end[k] ? single[k] : (left[COUNT*k +: COUNT] == ONE);
                    end
                end
                starts      <= tile_ends;
                starts_pass <= lower_end[3] & ~at_end[3];
                if (tile_ends && !job_ends) gap_left <= loops[`DSC_GAP_LSB +: COUNT];
                if (job_ends) counting <= 1'b0;
            end

            valid_2   <= counting | in_gap;
            real_2    <= counting & ~in_gap;
            advance_2 <= in_gap ? {LEVELS{1'b0}} : ~at_end & lower_end;
            flags_2   <= {starts, subtracts & at_end[3], shifts & starts_pass, tile_ends, pixel_ends, row_ends, job_ends};

            valid_3   <= valid_2;
            real_3    <= real_2;
            flags_3   <= flags_2;
            x_step    <= advance_2[1] ? loops[`DSC_KX_X_LSB +: SPAN] : |advance_2[4:2] ? loops[`DSC_BACK_X_LSB +: SPAN]
                         : advance_2[5] ? loops[`DSC_OX_X_LSB +: SPAN] : {SPAN{1'b0}};
            x_restart <= advance_2[6];
            y_step    <= advance_2[2] ? loops[`DSC_KY_Y_LSB +: SPAN] : |advance_2[5:3] ? loops[`DSC_BACK_Y_LSB +: SPAN]
                         : advance_2[6] ? loops[`DSC_OY_Y_LSB +: SPAN] : {SPAN{1'b0}};
        end

        if (issue) begin
            act_addr <= act_addr + act_step;
            wgt_addr <= wgt_addr + wgt_step;
            x        <= x_restart ? $signed(loops[`DSC_X0_LSB +: SPAN]) : x + x_step;
            y        <= y + y_step;
        end
        outside <= (x_unsigned >= map_w) | (y_unsigned >= map_h);

        if (load) begin
            left     <= reloads;
            at_end   <= single;
            counting <= 1'b1;
            starts   <= 1'b1;
            starts_pass <= 1'b0;
            valid_2  <= 1'b0;
            real_2   <= 1'b0;
            valid_3  <= 1'b0;
            real_3   <= 1'b0;
            gap_left <= {COUNT{1'b0}};
            act_addr <= loops[`DSC_ACT_BASE_LSB +: ACT_ADDR];
            wgt_addr <= loops[`DSC_WGT_BASE_LSB +: WGT_ADDR];
            x        <= loops[`DSC_X0_LSB +: SPAN];
            y        <= loops[`DSC_Y0_LSB +: SPAN];
        end

        if (rst) begin
            counting <= 1'b0;
            gap_left <= {COUNT{1'b0}};
            valid_2  <= 1'b0;
            real_2   <= 1'b0;
            valid_3  <= 1'b0;
            real_3   <= 1'b0;
        end
    end

    wire _unused = &{1'b0, loops, landing, map_height, map_width};

endmodule

`resetall
