// SPDX-License-Identifier: Apache-2.0
// A first sign of life of the core for those who take it as a dependency (intact.core, target sim): its name and array over
// AXI4-Lite, and a start without a program, which must end in the error that says so. Prints PASS or stops with an error.

`resetall
`timescale 1ns / 1ps
`default_nettype none
`include "intact_defs.vh"

module intact_tb #(
    // as in intact_core
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 4
);

    reg         clk;
    reg         rst;
    reg  [7:0]  awaddr;
    reg         awvalid;
    reg  [31:0] wdata;
    reg         wvalid;
    reg  [7:0]  araddr;
    reg         arvalid;
    wire        awready, wready, bvalid, arready, rvalid, irq;
    wire [1:0]  bresp, rresp;
    wire [31:0] rdata;
    wire [3:0]  status;
    wire        in_ready, out_valid, out_last;
    wire [8*ROWS-1:0] out_data;

    intact_core #(
        .ROWS(ROWS), .COLS(COLS), .LANES(LANES), .ACT_DEPTH(64), .WGT_DEPTH(64), .PRM_DEPTH(64), .PRG_DEPTH(64), .LAYERS(16)
    ) core (
        .clk            (clk),
        .clk_2x         (1'b0),
        .rst            (rst),
        .irq            (irq),
        .status         (status),
        .s_axil_awaddr  (awaddr),
        .s_axil_awprot  (3'b000),
        .s_axil_awvalid (awvalid),
        .s_axil_awready (awready),
        .s_axil_wdata   (wdata),
        .s_axil_wstrb   (4'b1111),
        .s_axil_wvalid  (wvalid),
        .s_axil_wready  (wready),
        .s_axil_bresp   (bresp),
        .s_axil_bvalid  (bvalid),
        .s_axil_bready  (1'b1),
        .s_axil_araddr  (araddr),
        .s_axil_arprot  (3'b000),
        .s_axil_arvalid (arvalid),
        .s_axil_arready (arready),
        .s_axil_rdata   (rdata),
        .s_axil_rresp   (rresp),
        .s_axil_rvalid  (rvalid),
        .s_axil_rready  (1'b1),
        .s_axis_tvalid  (1'b0),
        .s_axis_tready  (in_ready),
        .s_axis_tdata   ({8*ROWS{1'b0}}),
        .s_axis_tlast   (1'b0),
        .m_axis_tvalid  (out_valid),
        .m_axis_tready  (1'b1),
        .m_axis_tdata   (out_data),
        .m_axis_tlast   (out_last)
    );

    // a request stays until it is taken
    always @(posedge clk) begin
        if (awready) awvalid <= 1'b0;
        if (wready) wvalid <= 1'b0;
        if (arready) arvalid <= 1'b0;
    end

    reg [31:0] answer;

    task read(input [5:0] number);
        begin
            @(negedge clk);
            araddr = {number, 2'b00};
            arvalid = 1'b1;
            @(posedge clk);
            while (!rvalid) @(posedge clk);
            answer = rdata;
            if (rresp != 2'b00) fail("a read was refused");
        end
    endtask

    task write(input [5:0] number, input [31:0] value);
        begin
            @(negedge clk);
            awaddr = {number, 2'b00};
            wdata = value;
            awvalid = 1'b1;
            wvalid = 1'b1;
            @(posedge clk);
            while (!bvalid) @(posedge clk);
            if (bresp != 2'b00) fail("a write was refused");
        end
    endtask

    task fail(input [8*32-1:0] what);
        begin
            $display("FAIL: %0s, last read %h", what, answer);
            $fatal;
        end
    endtask

    initial clk = 1'b0;
    always #5 clk = !clk;

    initial begin
        #100000 fail("no answer");
    end

    initial begin
        {rst, awvalid, wvalid, arvalid} = 4'b1000;
        {awaddr, araddr, wdata, answer} = 80'd0;
        repeat (4) @(negedge clk);
        rst = 1'b0;
        read(`REG_ID);
        if (answer != `INTACT_MAGIC) fail("wrong name");
        read(`REG_ARRAY);
        if (answer[7:0] != ROWS || answer[15:8] != COLS || answer[23:16] != LANES) fail("wrong array");
        write(`REG_CTRL, 32'd1);
        repeat (100) @(negedge clk);
        read(`REG_STATUS);
        if (!answer[5] || answer[15:8] != `ERR_PROGRAM) fail("a start without a program");
        $display("PASS: %0dx%0d, %0d lanes", ROWS, COLS, LANES);
        $finish;
    end

endmodule

`resetall
