// SPDX-License-Identifier: Apache-2.0
// Address generator of window jobs: a slot a cycle. In a slot a column of three words may enter the window (`shift`), then the
// window meets a word of weights, or none. Loops, innermost first: slots of a pixel, output columns, output rows, tiles.
//
// A pixel's slots begin where the window leaves the pixel before it. With two words of weights a pixel, the first slot also
// holds the second word of the pixel before (the window has moved on by a column then), and the job ends in a slot with
// the last pixel's. The pixel's own first word is in its last slot. So columns are read while multipliers work, and a row's
// first columns too.
//
// Three stages as in address_gen.v: counters, selection of the steps, sums. They fill after `load` and wait to go.

`resetall
`default_nettype none
`include "intact_defs.vh"

module window_gen #(
    // address bits of the activation memory
    parameter ACT_ADDR = 12,
    // address bits of the weight memory
    parameter WGT_ADDR = 10
) (
    input  wire                  clk,
    input  wire                  rst,
    // the descriptor's first INTACT_LOOP_WORDS words; they hold still until the job has issued
    input  wire [64*`INTACT_LOOP_WORDS-1:0] loops,
    // take up a new descriptor
    input  wire                  load,
    // slots may issue in the next cycle
    input  wire                  go_next,
    // a first slot is ready, or will be in the next cycle
    output wire                  primed,
    // this cycle is a slot: act_addr and wgt_addr are read
    output reg                   issue,
    // address of window row k at [ACT_ADDR*k +: ACT_ADDR]
    output reg  [3*ACT_ADDR-1:0] act_addr,
    output reg  [WGT_ADDR-1:0]   wgt_addr,
    // one cycle after issue: the word of window row k lies outside the map
    output reg  [2:0]            outside,
    // the slot's column enters the window; it meets weights; these are a pixel's second word
    output wire                  shift,
    output wire                  meets,
    output wire                  second,
    // the sum before them counts 256 times
    output wire                  scale_up,
    // they start an accumulation, end it
    output wire                  first,
    output wire                  last,
    // ... and the pixel is the last of its row, map, job
    output wire                  row_last,
    output wire                  map_last,
    output wire                  job_last
);

    // ---- stage 1: counters ----
    wire two      = loops[`WIN_TWO_SLOTS];
    wire one_wide = ~(|loops[`WIN_WIDTH]);
    wire one_high = ~(|loops[`WIN_HEIGHT]);
    wire row_short   = (loops[`WIN_ROW_SLOTS] == 8'd1);
    wire pixel_short = (loops[`WIN_PIXEL_SLOTS] == 8'd1);

    reg        counting;
    reg        finishing;     // the slot after the last pixel's
    reg        started;       // a pixel lies behind
    reg        entering;      // first slot of a pixel
    reg [7:0]  slots_left;    // of the pixel, this one too
    reg        pixel_ends;    // it is the pixel's last
    reg [7:0]  columns_left;  // of the pixel, this slot's too
    reg [15:0] x_left;
    reg [15:0] y_left;
    reg [15:0] tiles_left;
    reg        x_end;         // they are zero
    reg        y_end;
    reg        tiles_end;
    reg [2:0]  previous;      // the pixel before was the last of its job, map, row

    wire row_ends    = x_end;
    wire map_ends    = row_ends & y_end;
    wire job_ends    = map_ends & tiles_end;
    wire reads       = (columns_left != 8'd0) & ~finishing;
    wire last_column = (columns_left == 8'd1);
    wire second_1    = finishing | (two & entering & started);
    wire last_1      = two ? second_1 : pixel_ends;
    wire [2:0] ends  = {job_ends, map_ends, row_ends};

    // ---- stage 2: which step each address takes (one hot), and what the slot is ----
    reg        valid_2;
    reg [2:0]  step_2;  // to the next column, row, tile
    reg        up_2;
    reg        down_2;
    reg [9:0]  flags_2;

    // ---- stage 3: the steps ----
    reg                valid_3;
    reg [9:0]          flags_3;
    reg [ACT_ADDR-1:0] act_step;
    reg [WGT_ADDR-1:0] wgt_step;
    reg [2:0]          step_3;
    reg [15:0]         x;
    reg [47:0]         y;  // of the window's three rows
    integer            k;

    // as in address_gen.v
    reg  moves;
    wire valid_3_next = ~(rst | load) & (moves ? valid_2 : valid_3);

    always @(posedge clk) begin
        moves <= go_next | ~valid_3_next;
        issue <= go_next & valid_3_next;
    end

    assign primed = valid_3 | valid_2;
    wire   nothing;  // the column that enters is no part of the map
    assign {nothing, shift, meets, second, scale_up, first, last, job_last, map_last, row_last} = flags_3;

    wire [15:0] map_h = loops[`DSC_MAP_H];
    wire [15:0] map_w = loops[`DSC_MAP_W];

    wire [ACT_ADDR-1:0] base = loops[`DSC_ACT_BASE_LSB +: ACT_ADDR];
    wire [ACT_ADDR-1:0] line = loops[`WIN_LINE_ACT_LSB +: ACT_ADDR];

    always @(posedge clk) begin
        if (moves) begin
            if (counting) begin
                entering <= pixel_ends;
                if (finishing) counting <= 1'b0;
                if (pixel_ends) begin
                    started      <= 1'b1;
                    previous     <= ends;
                    pixel_ends   <= (row_ends ? row_short : pixel_short) & ~(job_ends & two);
                    slots_left   <= row_ends ? loops[`WIN_ROW_SLOTS] : loops[`WIN_PIXEL_SLOTS];
                    columns_left <= row_ends ? loops[`WIN_ROW_COLUMNS] : loops[`WIN_PIXEL_COLUMNS];
                    x_left       <= row_ends ? loops[`WIN_WIDTH] : x_left - 16'd1;
                    x_end        <= row_ends ? one_wide : (x_left == 16'd1);
                    if (row_ends) begin
                        y_left <= map_ends ? loops[`WIN_HEIGHT] : y_left - 16'd1;
                        y_end  <= map_ends ? one_high : (y_left == 16'd1);
                    end
                    if (map_ends) begin
                        tiles_left <= tiles_left - 16'd1;
                        tiles_end  <= (tiles_left == 16'd1);
                    end
                    if (job_ends) begin
                        finishing <= two;
                        counting  <= two;
                    end
                end else begin
                    slots_left <= slots_left - 8'd1;
                    pixel_ends <= (slots_left == 8'd2) & ~finishing;
                    if (reads) columns_left <= columns_left - 8'd1;
                end
            end

            valid_2 <= counting;
            step_2  <= ~reads ? 3'b000 : (last_column & map_ends) ? 3'b100 : (last_column & row_ends) ? 3'b010 : 3'b001;
            // the weights are the same ones until the tile ends
            up_2    <= two ? pixel_ends | (second_1 & previous[1]) : pixel_ends & map_ends;
            down_2  <= second_1 & ~previous[1];
            flags_2 <= {
                finishing, reads | finishing, pixel_ends | second_1, second_1, second_1 & loops[`WIN_SECOND_SCALES_UP], pixel_ends,
                last_1, {3{last_1}} & (two ? previous : ends)
            };

            valid_3  <= valid_2;
            flags_3  <= flags_2;
            step_3   <= step_2;
            act_step <= ({ACT_ADDR{step_2[0]}} & loops[`WIN_COLUMN_ACT_LSB +: ACT_ADDR])
                      | ({ACT_ADDR{step_2[1]}} & loops[`WIN_ROW_ACT_LSB +: ACT_ADDR])
                      | ({ACT_ADDR{step_2[2]}} & loops[`WIN_TILE_ACT_LSB +: ACT_ADDR]);
            wgt_step <= {{WGT_ADDR-1{down_2}}, up_2 | down_2};
        end

        if (issue) begin
            for (k = 0; k < 3; k = k + 1) begin
                act_addr[ACT_ADDR*k +: ACT_ADDR] <= act_addr[ACT_ADDR*k +: ACT_ADDR] + act_step;
                if (step_3[1]) y[16*k +: 16] <= y[16*k +: 16] + loops[`WIN_ROW_Y];
                if (step_3[2]) y[16*k +: 16] <= loops[`DSC_Y0] + k[15:0];
            end
            wgt_addr <= wgt_addr + wgt_step;
            x <= |step_3[2:1] ? loops[`WIN_ROW_X] : x + {15'd0, step_3[0]};
        end
        // a negative coordinate is a large unsigned one
        for (k = 0; k < 3; k = k + 1) outside[k] <= (y[16*k +: 16] >= map_h) | (x >= map_w) | nothing;

        if (load) begin
            counting     <= 1'b1;
            finishing    <= 1'b0;
            started      <= 1'b0;
            entering     <= 1'b1;
            slots_left   <= loops[`WIN_JOB_SLOTS];
            pixel_ends   <= (loops[`WIN_JOB_SLOTS] == 8'd1);
            columns_left <= loops[`WIN_JOB_SLOTS];
            x_left       <= loops[`WIN_WIDTH];
            y_left       <= loops[`WIN_HEIGHT];
            tiles_left   <= loops[`WIN_TILES];
            x_end        <= one_wide;
            y_end        <= one_high;
            tiles_end    <= ~(|loops[`WIN_TILES]);
            valid_2      <= 1'b0;
            valid_3      <= 1'b0;
            act_addr     <= {base + (line << 1), base + line, base};
            wgt_addr     <= loops[`DSC_WGT_BASE_LSB +: WGT_ADDR];
            x            <= loops[`DSC_X0];
            for (k = 0; k < 3; k = k + 1) y[16*k +: 16] <= loops[`DSC_Y0] + k[15:0];
        end

        if (rst) begin
            counting <= 1'b0;
            valid_2  <= 1'b0;
            valid_3  <= 1'b0;
        end
    end

    wire _unused = &{1'b0, loops};

endmodule

`resetall
