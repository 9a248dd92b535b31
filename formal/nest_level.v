// One loop of a nest, and the loops inside it seen from without: `inside` is how far the address is from where those began,
// `whole` how far it is from where this loop began. When the loop advances, its increment is added to the address.
module nest_level #(
    parameter WIDE = 16
) (
    input  wire                   clk,
    // the loops around it advance: it begins
    input  wire                   load,
    // it advances: the loops inside begin
    input  wire                   advance,
    input  wire signed [WIDE-1:0] stride,
    // `inside` at the end of the loops inside
    input  wire signed [WIDE-1:0] back,
    input  wire signed [WIDE-1:0] inside,
    output wire signed [WIDE-1:0] whole
);
    reg signed [WIDE-1:0] turn;  // where the present turn began
    wire signed [WIDE-1:0] increment = stride - back;  // as the exporter folds it
    assign whole = turn + inside;
    always @(posedge clk) if (load || advance) turn <= load ? 0 : whole + increment;
endmodule
