// SPDX-License-Identifier: Apache-2.0
// Simulation model of the iCE40 UltraPlus' large memory: 16,384 words of 16 bits, one port. Powers up with random contents
// where the simulator gives such to registers; a cycle that writes leaves something random at the output, too.

`resetall
`default_nettype none

module SB_SPRAM256KA (
    input  wire        CLOCK,
    input  wire [13:0] ADDRESS,
    input  wire [15:0] DATAIN,
    input  wire [3:0]  MASKWREN,
    input  wire        WREN,
    input  wire        CHIPSELECT,
    input  wire        STANDBY,
    input  wire        SLEEP,
    input  wire        POWEROFF,
    output reg  [15:0] DATAOUT
);

    reg [15:0] mem [0:16383];
    wire       awake = CHIPSELECT && !STANDBY && !SLEEP && POWEROFF;
    integer    i;

    always @(posedge CLOCK) if (awake) begin
        for (i = 0; i < 4; i = i + 1) if (WREN && MASKWREN[i]) mem[ADDRESS][4*i +: 4] <= DATAIN[4*i +: 4];
        DATAOUT <= WREN ? ~DATAIN : mem[ADDRESS];
    end

endmodule

`resetall
