// SPDX-License-Identifier: Apache-2.0
// Simulation model of a flip-flop of the ECP5 as constraints/ecp5/copies.v uses it: always enabled, no reset. Any other setting
// ends the simulation.

`resetall
`default_nettype none

module TRELLIS_FF #(
    parameter GSR = "ENABLED",
    parameter CEMUX = "1",
    parameter CLKMUX = "CLK",
    parameter LSRMUX = "LSR",
    parameter REGSET = "RESET"
) (
    input  wire CLK,
    input  wire LSR,
    input  wire DI,
    output reg  Q
);

    always @(posedge CLK) Q <= DI;

    initial if (GSR != "DISABLED" || CEMUX != "1" || CLKMUX != "CLK" || LSRMUX != "LSR" || REGSET != "RESET") begin
        $display("TRELLIS_FF: settings without a model");
        $finish;
    end

    always @(posedge CLK) if (LSR) begin
        $display("TRELLIS_FF: reset has no model");
        $finish;
    end

endmodule

`resetall
