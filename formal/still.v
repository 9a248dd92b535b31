// Inputs that hold still for long enough: every register of a design without feedback shows what is at its input.
(* techmap_celltype = "$dff" *)
module still (CLK, D, Q);
    parameter WIDTH = 0;
    parameter CLK_POLARITY = 1;
    input CLK;
    input [WIDTH-1:0] D;
    output [WIDTH-1:0] Q;
    assign Q = D;
endmodule
