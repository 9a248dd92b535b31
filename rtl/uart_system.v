// SPDX-License-Identifier: Apache-2.0
// What every board with a serial port builds: intact_core behind uart_host, its streams cut to bytes. A board top adds a clock,
// a reset and pins. Bytes per second on the line decide everything here; nothing else is in the way.

`resetall
`default_nettype none

module uart_system #(
    // clocks of one bit on the line, at least 4
    parameter CLOCKS_PER_BIT = 50,
    // a frame that pauses, or a stream that stalls, for 2**TIMER clocks is given up
    parameter TIMER = 22,
    // those of intact_core
    parameter ROWS = 8,
    parameter COLS = 8,
    parameter LANES = 8,
    parameter ACT_DEPTH = 4096,
    parameter WGT_DEPTH = 1024,
    parameter PRM_DEPTH = 256,
    parameter PRG_DEPTH = 1024,
    parameter LAYERS = 256,
    parameter TABLES = 0,
    parameter PACKED = 0,
    parameter PRM_SERIAL = 0,
    parameter WGT_FILE = "",
    parameter PRM_FILE = "",
    parameter PRG_FILE = "",
    parameter TAB_FILE = ""
) (
    input  wire clk,
    // as intact_core's
    input  wire clk_2x,
    input  wire rst,
    input  wire rxd,
    output wire txd,
    output wire irq,
    // error, done, running, idle
    output wire [3:0] status
);

    wire        link_rst;
    wire [7:0]  awaddr, araddr;
    wire [2:0]  awprot, arprot;
    wire [31:0] wdata, rdata;
    wire [3:0]  wstrb;
    wire [1:0]  bresp, rresp;
    wire        awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready;

    wire [7:0]        in_byte, out_byte;
    wire              in_byte_valid, in_byte_ready, in_byte_last, out_byte_valid, out_byte_ready, out_byte_last;
    wire [8*ROWS-1:0] in_word, out_word;
    wire              in_valid, in_ready, in_last, out_valid, out_ready, out_last;

    uart_host #(.CLOCKS_PER_BIT(CLOCKS_PER_BIT), .TIMER(TIMER)) host (
        .clk            (clk),
        .rst            (rst),
        .rxd            (rxd),
        .txd            (txd),
        .link_rst       (link_rst),
        .m_axil_awaddr  (awaddr),
        .m_axil_awprot  (awprot),
        .m_axil_awvalid (awvalid),
        .m_axil_awready (awready),
        .m_axil_wdata   (wdata),
        .m_axil_wstrb   (wstrb),
        .m_axil_wvalid  (wvalid),
        .m_axil_wready  (wready),
        .m_axil_bresp   (bresp),
        .m_axil_bvalid  (bvalid),
        .m_axil_bready  (bready),
        .m_axil_araddr  (araddr),
        .m_axil_arprot  (arprot),
        .m_axil_arvalid (arvalid),
        .m_axil_arready (arready),
        .m_axil_rdata   (rdata),
        .m_axil_rresp   (rresp),
        .m_axil_rvalid  (rvalid),
        .m_axil_rready  (rready),
        .m_axis_tdata   (in_byte),
        .m_axis_tvalid  (in_byte_valid),
        .m_axis_tready  (in_byte_ready),
        .m_axis_tlast   (in_byte_last),
        .s_axis_tdata   (out_byte),
        .s_axis_tvalid  (out_byte_valid),
        .s_axis_tready  (out_byte_ready),
        .s_axis_tlast   (out_byte_last)
    );

    axis_widen #(.ROWS(ROWS)) widen (
        .clk           (clk),
        .rst           (link_rst),
        .s_axis_tvalid (in_byte_valid),
        .s_axis_tready (in_byte_ready),
        .s_axis_tdata  (in_byte),
        .s_axis_tlast  (in_byte_last),
        .m_axis_tvalid (in_valid),
        .m_axis_tready (in_ready),
        .m_axis_tdata  (in_word),
        .m_axis_tlast  (in_last)
    );

    axis_narrow #(.ROWS(ROWS)) narrow (
        .clk           (clk),
        .rst           (link_rst),
        .s_axis_tvalid (out_valid),
        .s_axis_tready (out_ready),
        .s_axis_tdata  (out_word),
        .s_axis_tlast  (out_last),
        .m_axis_tvalid (out_byte_valid),
        .m_axis_tready (out_byte_ready),
        .m_axis_tdata  (out_byte),
        .m_axis_tlast  (out_byte_last)
    );

    intact_core #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(ACT_DEPTH), .WGT_DEPTH(WGT_DEPTH), .PRM_DEPTH(PRM_DEPTH),
        .PRG_DEPTH(PRG_DEPTH), .LAYERS(LAYERS), .WGT_FILE(WGT_FILE), .PRM_FILE(PRM_FILE), .PRG_FILE(PRG_FILE),
        .TABLES(TABLES), .PACKED(PACKED), .PRM_SERIAL(PRM_SERIAL), .TAB_FILE(TAB_FILE)
    ) core (
        .clk            (clk),
        .clk_2x         (clk_2x),
        .rst            (link_rst),
        .irq            (irq),
        .status         (status),
        .s_axil_awaddr  (awaddr),
        .s_axil_awprot  (awprot),
        .s_axil_awvalid (awvalid),
        .s_axil_awready (awready),
        .s_axil_wdata   (wdata),
        .s_axil_wstrb   (wstrb),
        .s_axil_wvalid  (wvalid),
        .s_axil_wready  (wready),
        .s_axil_bresp   (bresp),
        .s_axil_bvalid  (bvalid),
        .s_axil_bready  (bready),
        .s_axil_araddr  (araddr),
        .s_axil_arprot  (arprot),
        .s_axil_arvalid (arvalid),
        .s_axil_arready (arready),
        .s_axil_rdata   (rdata),
        .s_axil_rresp   (rresp),
        .s_axil_rvalid  (rvalid),
        .s_axil_rready  (rready),
        .s_axis_tvalid  (in_valid),
        .s_axis_tready  (in_ready),
        .s_axis_tdata   (in_word),
        .s_axis_tlast   (in_last),
        .m_axis_tvalid  (out_valid),
        .m_axis_tready  (out_ready),
        .m_axis_tdata   (out_word),
        .m_axis_tlast   (out_last)
    );

endmodule

`resetall
