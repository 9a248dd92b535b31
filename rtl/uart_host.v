// SPDX-License-Identifier: Apache-2.0
// Host link over a UART: executes the requests that uart_frames takes in, one response for each; docs/uart.md has the bytes.
// Registers are reached through AXI4-Lite; the input and output frames are byte streams.
// Executing takes 3 clocks a payload byte and, for each register access, what the bus needs.

`resetall
`default_nettype none

module uart_host #(
    // clocks of one bit on the line, at least 4
    parameter CLOCKS_PER_BIT = 50,
    // most payload bytes of a frame, a power of two from 64 to 4096
    parameter PAYLOAD = 512,
    // a frame that pauses, or a stream that stalls, for 2**TIMER clocks is given up
    parameter TIMER = 22
) (
    input  wire        clk,
    input  wire        rst,
    // the line
    input  wire        rxd,
    output wire        txd,
    // resets what the link drives: high with rst and for 4 clocks of a reset request
    output reg         link_rst,
    // registers
    output wire [7:0]  m_axil_awaddr,
    output wire [2:0]  m_axil_awprot,
    output reg         m_axil_awvalid,
    input  wire        m_axil_awready,
    output wire [31:0] m_axil_wdata,
    output wire [3:0]  m_axil_wstrb,
    output reg         m_axil_wvalid,
    input  wire        m_axil_wready,
    input  wire [1:0]  m_axil_bresp,
    input  wire        m_axil_bvalid,
    output wire        m_axil_bready,
    output wire [7:0]  m_axil_araddr,
    output wire [2:0]  m_axil_arprot,
    output reg         m_axil_arvalid,
    input  wire        m_axil_arready,
    input  wire [31:0] m_axil_rdata,
    input  wire [1:0]  m_axil_rresp,
    input  wire        m_axil_rvalid,
    output wire        m_axil_rready,
    // bytes of the input frame
    output reg  [7:0]  m_axis_tdata,
    output reg         m_axis_tvalid,
    input  wire        m_axis_tready,
    output reg         m_axis_tlast,
    // bytes of the output frame
    input  wire [7:0]  s_axis_tdata,
    input  wire        s_axis_tvalid,
    output wire        s_axis_tready,
    input  wire        s_axis_tlast
);

    localparam ADDR = $clog2(PAYLOAD);
    localparam [ADDR:0] ONE = 1, TWO = 2;

    localparam [7:0] WRITE = 8'h01, BURST = 8'h02, READ = 8'h03, INPUT = 8'h04, INPUT_LAST = 8'h05, OUTPUT = 8'h06, RESET = 8'h07;
    localparam [7:0] OK = 8'h00, MORE = 8'h01, BAD_CRC = 8'h80, BAD_COMMAND = 8'h81, BAD_LENGTH = 8'h82, BUS_ERROR = 8'h83,
        TIMEOUT = 8'h84;

    localparam [3:0] IDLE = 4'd0, FIRST = 4'd1, SECOND = 4'd2, GATHER = 4'd3, BUS_WRITE = 4'd4, BUS_READ = 4'd5, STORE = 4'd6,
        SUPPLY = 4'd7, COLLECT = 4'd8, RESTART = 4'd9, FINISH = 4'd10;

    reg [3:0]      state;
    reg [ADDR:0]   index;        // payload byte in turn
    reg [3:0]      settle;       // settle[1]: `fetched` is the byte at `index`; [2]: `count` holds it; [3]: `refused` too
    reg [15:0]     count;        // register words in bytes, or output bytes, that are asked for
    reg            refused;      // so many fit no response
    reg [7:0]      status;
    reg [ADDR:0]   answer;       // payload bytes of the response
    reg [ADDR:0]   remaining;    // register words or output bytes still to fetch
    reg [7:0]      first;        // the payload's first byte; register address
    reg [31:0]     word;
    reg [1:0]      lane;         // byte of the word
    reg [TIMER:0]  timer;
    wire           rx_valid, tx_valid, tx_ready;
    wire [7:0]     rx_data, tx_data;
    wire           start, crc_right;
    wire [7:0]     command, fetched;
    wire [ADDR:0]  length;
    wire [ADDR:0]  after = index + ONE;
    reg            last;         // `index` is the request's last byte: a cycle after it
    wire           collect = state == COLLECT && s_axis_tvalid;
    wire           supply = state == SUPPLY && (!m_axis_tvalid || m_axis_tready) && settle[1];

    uart_rx #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) receiver (
        .clk(clk),
        .rst(rst),
        .rxd(rxd),
        .rx_valid(rx_valid),
        .rx_data(rx_data)
    );

    uart_tx #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT)) transmitter (
        .clk(clk),
        .rst(rst),
        .tx_valid(tx_valid),
        .tx_ready(tx_ready),
        .tx_data(tx_data),
        .txd(txd)
    );

    uart_frames #(.PAYLOAD(PAYLOAD), .ADDR(ADDR), .TIMER(TIMER)) frames (
        .clk(clk),
        .rst(rst),
        .rx_valid(rx_valid),
        .rx_data(rx_data),
        .tx_valid(tx_valid),
        .tx_ready(tx_ready),
        .tx_data(tx_data),
        .start(start),
        .crc_right(crc_right),
        .command(command),
        .length(length),
        .finish(state == FINISH),
        .status(status),
        .answer_length(answer),
        .index(index[ADDR-1:0]),
        .store(state == STORE || collect),
        .store_data(state == STORE ? word[7:0] : s_axis_tdata),
        .fetched(fetched)
    );

    assign m_axil_awaddr = first;
    assign m_axil_araddr = first;
    assign m_axil_awprot = 3'b000;
    assign m_axil_arprot = 3'b000;
    assign m_axil_wdata = word;
    assign m_axil_wstrb = 4'hF;
    assign m_axil_bready = state == BUS_WRITE;
    assign m_axil_rready = state == BUS_READ;
    assign s_axis_tready = state == COLLECT;

    always @(posedge clk) begin
        settle <= {settle[2:0], 1'b1};
        refused <= count == 16'd0 || count > PAYLOAD[15:0];
        last <= after == length;
        count <= command == READ ? {6'd0, fetched, 2'd0} : {fetched, first};
        timer <= (state != SUPPLY && state != COLLECT) || supply || collect ? {(TIMER+1){1'b0}} : timer + 1'b1;
        link_rst <= rst || state == RESTART;
        if (m_axil_awready) m_axil_awvalid <= 1'b0;
        if (m_axil_wready) m_axil_wvalid <= 1'b0;
        if (m_axil_arready) m_axil_arvalid <= 1'b0;
        if (m_axis_tready) m_axis_tvalid <= 1'b0;

        case (state)
            IDLE: begin
                index <= 0;
                settle <= 4'd0;
                lane <= 2'd0;
                answer <= 0;
                if (start) begin
                    status <= BAD_LENGTH;
                    state <= FINISH;
                    case (command)
                        WRITE, BURST: if (length[1:0] == 2'd1 && length != ONE) state <= FIRST;
                        READ, OUTPUT: if (length == TWO) state <= FIRST;
                        INPUT, INPUT_LAST: if (length != 0) state <= SUPPLY;
                        RESET: if (length == 0) state <= RESTART;
                        default: status <= BAD_COMMAND;
                    endcase
                    if (!crc_right) begin
                        status <= BAD_CRC;
                        state <= FINISH;
                    end
                end
            end
            FIRST: if (settle[1]) begin
                first <= fetched;
                index <= ONE;
                settle <= 4'd0;
                state <= command == WRITE || command == BURST ? GATHER : SECOND;
            end
            SECOND: if (settle[3]) begin
                index <= 0;
                remaining <= command == READ ? count[ADDR+2:2] : count[ADDR:0];
                m_axil_arvalid <= command == READ && !refused;
                state <= refused ? FINISH : command == READ ? BUS_READ : COLLECT;
            end
            GATHER: if (settle[1]) begin
                word <= {fetched, word[31:8]};
                index <= after;
                settle <= 4'd0;
                lane <= lane + 1'b1;
                m_axil_awvalid <= lane == 2'd3;
                m_axil_wvalid <= lane == 2'd3;
                if (lane == 2'd3) state <= BUS_WRITE;
            end
            BUS_WRITE: if (m_axil_bvalid) begin
                status <= m_axil_bresp == 2'b00 ? OK : BUS_ERROR;
                state <= m_axil_bresp == 2'b00 && index != length ? GATHER : FINISH;
                if (command == WRITE) first <= first + 8'd4;
            end
            BUS_READ: if (m_axil_rvalid) begin
                word <= m_axil_rdata;
                status <= BUS_ERROR;
                state <= m_axil_rresp == 2'b00 ? STORE : FINISH;
            end
            STORE: begin
                word <= {8'd0, word[31:8]};
                index <= after;
                lane <= lane + 1'b1;
                if (lane == 2'd3) begin
                    first <= first + 8'd4;
                    remaining <= remaining - ONE;
                    m_axil_arvalid <= remaining != ONE;
                    state <= BUS_READ;
                    if (remaining == ONE) begin
                        status <= OK;
                        answer <= after;
                        state <= FINISH;
                    end
                end
            end
            SUPPLY: begin
                if (supply) begin
                    m_axis_tvalid <= 1'b1;
                    m_axis_tdata <= fetched;
                    m_axis_tlast <= command == INPUT_LAST && last;
                    index <= after;
                    settle <= 4'd0;
                end
                status <= supply ? OK : TIMEOUT;
                if (supply ? last : timer[TIMER]) state <= FINISH;
            end
            COLLECT: begin
                if (collect) begin
                    index <= after;
                    answer <= after;
                    remaining <= remaining - ONE;
                end
                status <= !collect ? TIMEOUT : s_axis_tlast ? OK : MORE;
                if (collect ? s_axis_tlast || remaining == ONE : timer[TIMER]) state <= FINISH;
            end
            RESTART: begin
                m_axis_tvalid <= 1'b0;
                lane <= lane + 1'b1;
                status <= OK;
                if (lane == 2'd3) state <= FINISH;
            end
            default: state <= IDLE;
        endcase

        if (rst) begin
            state <= IDLE;
            m_axil_awvalid <= 1'b0;
            m_axil_wvalid <= 1'b0;
            m_axil_arvalid <= 1'b0;
            m_axis_tvalid <= 1'b0;
        end
    end

endmodule

`resetall
