// In place of rtl/wide_mul.v in proofs: a product that is any number, always the same one.
module wide_mul (
    input  wire               clk,
    input  wire signed [31:0] value,
    input  wire        [30:0] multiplier,
    output wire signed [62:0] product
);
    (* anyconst *) reg signed [62:0] any;
    assign product = any;
endmodule
