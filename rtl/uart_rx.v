// SPDX-License-Identifier: Apache-2.0
// Serial receiver: 8 data bits lowest first, no parity, one stop bit, sampled in the middle of each bit.
// rx_valid is high for one clock per byte, half a bit after the stop bit began. A byte whose stop bit is low is dropped, and
// the line must be high again before the next start bit counts.

`resetall
`default_nettype none

module uart_rx #(
    // clocks of one bit, at least 4; the two ends' bit lengths may differ by up to 4 %
    parameter CLOCKS_PER_BIT = 50
) (
    input  wire       clk,
    input  wire       rst,
    // the line; high when idle, any phase
    input  wire       rxd,
    output reg        rx_valid,
    output reg  [7:0] rx_data
);

    localparam COUNT = $clog2(CLOCKS_PER_BIT);
    localparam [COUNT-1:0] FULL = CLOCKS_PER_BIT[COUNT-1:0] - 1'b1;
    // the start bit's middle, seen from the clock after its edge left the synchroniser
    localparam [COUNT-1:0] HALF = CLOCKS_PER_BIT[COUNT:1] - 1'b1;

    localparam [1:0] IDLE = 2'd0, START = 2'd1, DATA = 2'd2, STOP = 2'd3;

    reg [1:0]       line;
    reg [1:0]       state;
    reg [COUNT-1:0] count;
    reg [2:0]       bit_index;
    reg             broken;

    always @(posedge clk) begin
        line <= {line[0], rxd};
        rx_valid <= 1'b0;
        count <= count - 1'b1;

        case (state)
            IDLE: begin
                count <= HALF;
                if (line[1]) broken <= 1'b0;
                else if (!broken) state <= START;
            end
            START: if (count == 0) begin
                count <= FULL;
                bit_index <= 3'd0;
                state <= line[1] ? IDLE : DATA;
            end
            DATA: if (count == 0) begin
                count <= FULL;
                rx_data <= {line[1], rx_data[7:1]};
                bit_index <= bit_index + 1'b1;
                if (bit_index == 3'd7) state <= STOP;
            end
            STOP: if (count == 0) begin
                rx_valid <= line[1];
                broken <= !line[1];
                state <= IDLE;
            end
        endcase

        if (rst) begin
            line <= 2'b11;
            state <= IDLE;
            broken <= 1'b0;
            rx_valid <= 1'b0;
        end
    end

endmodule

`resetall
