// SPDX-License-Identifier: Apache-2.0
// Serial transmitter: 8 data bits lowest first, no parity, one stop bit. A byte takes 10 * CLOCKS_PER_BIT clocks; back-to-back
// bytes leave no gap beyond one clock.

`resetall
`default_nettype none

module uart_tx #(
    // clocks of one bit, at least 2
    parameter CLOCKS_PER_BIT = 50
) (
    input  wire       clk,
    input  wire       rst,
    input  wire       tx_valid,
    output wire       tx_ready,
    input  wire [7:0] tx_data,
    // the line; high when idle
    output wire       txd
);

    localparam COUNT = $clog2(CLOCKS_PER_BIT);
    localparam [COUNT-1:0] FULL = CLOCKS_PER_BIT[COUNT-1:0] - 1'b1;

    reg [8:0]       shift;
    reg [3:0]       bits_left;
    reg [COUNT-1:0] count;

    assign txd = shift[0];
    assign tx_ready = bits_left == 4'd0;

    always @(posedge clk) begin
        count <= count - 1'b1;
        if (tx_ready) begin
            count <= FULL;
            if (tx_valid) begin
                shift <= {tx_data, 1'b0};
                bits_left <= 4'd10;
            end
        end else if (count == 0) begin
            count <= FULL;
            shift <= {1'b1, shift[8:1]};
            bits_left <= bits_left - 1'b1;
        end

        if (rst) begin
            shift <= 9'h1FF;
            bits_left <= 4'd0;
        end
    end

endmodule

`resetall
