// SPDX-License-Identifier: Apache-2.0
// Frames of the host link: takes a request in, checks its CRC, starts uart_host, sends the response; docs/uart.md has the bytes.
// One block RAM holds the request's payload and afterwards the response's. While `start` is answered by `finish` the memory
// belongs to uart_host: `fetched` is the byte at `index`, 3 clocks after index changed; `store` writes there.
// Bytes that arrive between a request's end and its response's end are ignored.

`resetall
`default_nettype none

module uart_frames #(
    // most payload bytes of a frame, a power of two from 64 to 4096
    parameter PAYLOAD = 512,
    // index bits: enough for PAYLOAD
    parameter ADDR = 9,
    // a frame that pauses for 2**TIMER clocks is forgotten
    parameter TIMER = 22
) (
    input  wire          clk,
    input  wire          rst,
    input  wire          rx_valid,
    input  wire [7:0]    rx_data,
    output reg           tx_valid,
    input  wire          tx_ready,
    output reg  [7:0]    tx_data,
    // a request: held from start, one clock, to finish, one clock
    output wire          start,
    output wire          crc_right,
    output reg  [7:0]    command,
    output wire [ADDR:0] length,
    input  wire          finish,
    input  wire [7:0]    status,
    input  wire [ADDR:0] answer_length,
    // payload memory during a request
    input  wire [ADDR-1:0] index,
    input  wire          store,
    input  wire [7:0]    store_data,
    output wire [7:0]    fetched
);

    localparam [7:0] SYNC_REQUEST = 8'hA5, SYNC_RESPONSE = 8'h5A, BAD_LENGTH = 8'h82;
    localparam [2:0] HUNT = 3'd0, HEADER = 3'd1, BODY = 3'd2, CHECK = 3'd3, START = 3'd4, EXECUTE = 3'd5, SEND = 3'd6,
        SIZED = 3'd7;

    // CRC-16: polynomial 0x1021, highest bit first
    function [15:0] crc_next(input [15:0] old, input [7:0] data);
        integer i;
        begin
            crc_next = old ^ {data, 8'h00};
            for (i = 0; i < 8; i = i + 1) crc_next = {crc_next[14:0], 1'b0} ^ (crc_next[15] ? 16'h1021 : 16'h0000);
        end
    endfunction

    reg [2:0]      state;
    reg [2:0]      phase;        // byte of a header or a CRC, 5 for the payload
    reg [15:0]     size;         // payload bytes
    reg [7:0]      result;
    reg [15:0]     crc;
    reg [ADDR-1:0] position;     // payload byte in turn
    reg [1:0]      settle;       // settle[1]: `fetched` is the byte at `position`
    reg [TIMER:0]  timer;
    reg [7:0]      next_tx;
    reg            sent;         // tx_data is new and belongs in the CRC, which is due a byte later at the earliest
    reg            last;         // of `position` and `size`, these three a cycle later; bytes are further apart
    reg            empty;
    reg            too_long;
    wire           executes = state == EXECUTE;
    wire           receives = state == HEADER || state == BODY || state == CHECK;
    wire           send = state == SEND && !tx_valid && (phase != 3'd5 || settle[1]);

    assign start = state == START;
    assign crc_right = crc == 16'd0;
    assign length = size[ADDR:0];

    ram #(.WIDTH(8), .SLICE(8), .DEPTH(PAYLOAD), .ADDR(ADDR)) payload (
        .clk(clk),
        .clk_2x(1'b0),
        .write_enable(executes ? store : state == BODY && rx_valid),
        .write_addr(executes ? index : position),
        .write_data(executes ? store_data : rx_data),
        .read_addr(executes ? index : position),
        .read_data(fetched)
    );

    always @* case (phase)
        3'd0: next_tx = SYNC_RESPONSE;
        3'd1: next_tx = command;
        3'd2: next_tx = result;
        3'd3: next_tx = size[7:0];
        3'd4: next_tx = size[15:8];
        3'd5: next_tx = fetched;
        3'd6: next_tx = crc[15:8];
        3'd7: next_tx = crc[7:0];
    endcase

    always @(posedge clk) begin
        settle <= {settle[0], 1'b1};
        last <= {{(16-ADDR){1'b0}}, position} + 16'd1 == size;
        empty <= size == 16'd0;
        too_long <= size > PAYLOAD[15:0];
        timer <= !receives || rx_valid ? {(TIMER+1){1'b0}} : timer + 1'b1;
        if (tx_ready) tx_valid <= 1'b0;
        if (sent || (rx_valid && receives)) crc <= crc_next(crc, sent ? tx_data : rx_data);
        sent <= state == SEND && send && phase != 3'd0 && phase < 3'd6;

        case (state)
            HUNT: begin
                phase <= 3'd0;
                position <= 0;
                crc <= 16'hFFFF;
                if (rx_valid && rx_data == SYNC_REQUEST) state <= HEADER;
            end
            HEADER: if (rx_valid) begin
                phase <= phase + 1'b1;
                case (phase[1:0])
                    2'd0: command <= rx_data;
                    2'd1: size[7:0] <= rx_data;
                    default: begin
                        phase <= 3'd0;
                        size[15:8] <= rx_data;
                        state <= SIZED;
                    end
                endcase
            end
            SIZED: begin
                phase[0] <= !phase[0];
                if (phase[0]) begin
                    state <= empty ? CHECK : BODY;
                    if (too_long) begin
                        result <= BAD_LENGTH;
                        size <= 16'd0;
                        crc <= 16'hFFFF;
                        state <= SEND;
                    end
                end
            end
            BODY: if (rx_valid) begin
                position <= position + 1'b1;
                if (last) state <= CHECK;
            end
            CHECK: if (rx_valid) begin
                phase[0] <= !phase[0];
                if (phase[0]) state <= START;
            end
            START: state <= EXECUTE;
            EXECUTE: begin
                position <= 0;
                settle <= 2'b00;
                crc <= 16'hFFFF;
                if (finish) begin
                    result <= status;
                    size <= {{(15-ADDR){1'b0}}, answer_length};
                    state <= SEND;
                end
            end
            default: if (send) begin
                tx_valid <= 1'b1;
                tx_data <= next_tx;
                phase <= phase + 1'b1;
                if (phase == 3'd4 && empty) phase <= 3'd6;
                if (phase == 3'd5) begin
                    position <= position + 1'b1;
                    settle <= 2'b00;
                    if (!last) phase <= 3'd5;
                end
                if (phase == 3'd7) state <= HUNT;
            end
        endcase

        if (timer[TIMER] && receives && !rx_valid) state <= HUNT;

        if (rst) begin
            state <= HUNT;
            timer <= 0;
            tx_valid <= 1'b0;
            sent <= 1'b0;
        end
    end

endmodule

`resetall
