// What a window job does slot by slot (docs/architecture.md, Window jobs), as a function: the slot that a state stands for, and
// the state after it.
`include "intact_defs.vh"

module window_step (
    input  wire [64*`INTACT_LOOP_WORDS-1:0] loops,
    // a pixel's second word is due: it is that of the last pixel of its job, map, row
    input  wire        due,
    input  wire [2:0]  due_ends,
    // no pixel is left
    input  wire        over,
    // the slot is its pixel's first; slots left of the pixel, this one too; columns
    input  wire        opens,
    input  wire [7:0]  slots,
    input  wire [7:0]  columns,
    // pixels of the row, rows of the map, maps of the job that follow
    input  wire [15:0] x, y, t,
    // the slot
    output wire        enters,
    output wire        meets,
    output wire        second,
    output wire        first,
    output wire        last,
    output wire [2:0]  ends,
    output wire        job_ends,
    // the way to the next column: within the row, to the next row, to the next map
    output wire [2:0]  step,
    // the state after it
    output wire [69:0] next
);
    wire two       = loops[`WIN_TWO_SLOTS];
    wire row_last  = x == 16'd0;
    wire map_last  = row_last && y == 16'd0;
    wire all_last  = map_last && t == 16'd0;
    wire own       = !over && slots == 8'd1;  // the pixel's own (first) word
    assign enters   = !over && columns != 8'd0;
    assign second   = over || (due && opens);
    assign meets    = own || second;
    assign first    = own;
    assign last     = two ? second : own;
    assign ends     = !last ? 3'b000 : two ? due_ends : {all_last, map_last, row_last};
    assign job_ends = last && ends[2];
    assign step     = !enters ? 3'b000 : columns != 8'd1 || !row_last ? 3'b001 : !map_last ? 3'b010 : 3'b100;

    assign next = {
        own ? two : due && !second,
        own ? {all_last, map_last, row_last} : due_ends,
        own && all_last,
        own,
        !own ? slots - 8'd1 : row_last ? loops[`WIN_ROW_SLOTS] : loops[`WIN_PIXEL_SLOTS],
        !own ? columns - {7'd0, enters} : row_last ? loops[`WIN_ROW_COLUMNS] : loops[`WIN_PIXEL_COLUMNS],
        !own ? x : row_last ? loops[`WIN_WIDTH] : x - 16'd1,
        !own || !row_last ? y : map_last ? loops[`WIN_HEIGHT] : y - 16'd1,
        own && map_last ? t - 16'd1 : t
    };
endmodule
