// The address of a loop nest that follows its descriptor: when a loop advances, that loop's increment is added, whichever of the
// loops inside start again. Level 0 is the innermost. nest_range.vh proves where it stays.
module nest_address #(
    parameter LEVELS = 7,
    // bits of all sums
    parameter WIDE = 16
) (
    input  wire                          clk,
    // the nest begins
    input  wire                          load,
    // the next step is that of this loop (one hot, or none) ...
    input  wire        [LEVELS-1:0]      advance,
    // ... and it is taken
    input  wire                          step,
    input  wire signed [WIDE-1:0]        base,
    input  wire        [WIDE*LEVELS-1:0] increments,
    output reg  signed [WIDE-1:0]        address,
    // what the next step adds
    output reg         [WIDE-1:0]        increment
);
    integer i;
    always @* begin
        increment = 0;
        for (i = 0; i < LEVELS; i = i + 1) increment = increment | (increments[WIDE*i +: WIDE] & {WIDE{advance[i]}});
    end
    wire signed [WIDE-1:0] next = address + increment;
    always @(posedge clk) if (load || step) address <= load ? base : next;
endmodule
