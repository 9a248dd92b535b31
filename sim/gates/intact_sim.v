// SPDX-License-Identifier: Apache-2.0
// sim/intact_sim.v for a netlist: the same ports, plusargs, input and output files. The netlist's memories hold the network;
// its inner signals are gone, so there is no trace, and the timeline stays empty.

`resetall
`default_nettype none

module intact_sim #(
    // bytes of an activation word, as in the netlist
    parameter ROWS = 4,
    // words of an input frame
    parameter IN_WORDS = 1
) (
    input  wire        clk,
    // twice clk, their edges together
    input  wire        clk_2x,
    input  wire        rst,
    output wire        irq,
    output wire [3:0]  status,
    input  wire [7:0]  s_axil_awaddr,
    input  wire        s_axil_awvalid,
    output wire        s_axil_awready,
    input  wire [31:0] s_axil_wdata,
    input  wire [3:0]  s_axil_wstrb,
    input  wire        s_axil_wvalid,
    output wire        s_axil_wready,
    output wire [1:0]  s_axil_bresp,
    output wire        s_axil_bvalid,
    input  wire        s_axil_bready,
    input  wire [7:0]  s_axil_araddr,
    input  wire        s_axil_arvalid,
    output wire        s_axil_arready,
    output wire [31:0] s_axil_rdata,
    output wire [1:0]  s_axil_rresp,
    output wire        s_axil_rvalid,
    input  wire        s_axil_rready
);

    reg               in_valid;
    wire              in_ready;
    reg  [8*ROWS-1:0] in_data;
    reg  [31:0]       in_index;
    wire              in_last = (in_index + 32'd1 == IN_WORDS);
    wire              out_valid;
    wire [8*ROWS-1:0] out_data;
    wire              out_last;

    intact_core core (
        .clk            (clk),
        .clk_2x         (clk_2x),
        .rst            (rst),
        .irq            (irq),
        .status         (status),
        .s_axil_awaddr  (s_axil_awaddr),
        .s_axil_awprot  (3'b000),
        .s_axil_awvalid (s_axil_awvalid),
        .s_axil_awready (s_axil_awready),
        .s_axil_wdata   (s_axil_wdata),
        .s_axil_wstrb   (s_axil_wstrb),
        .s_axil_wvalid  (s_axil_wvalid),
        .s_axil_wready  (s_axil_wready),
        .s_axil_bresp   (s_axil_bresp),
        .s_axil_bvalid  (s_axil_bvalid),
        .s_axil_bready  (s_axil_bready),
        .s_axil_araddr  (s_axil_araddr),
        .s_axil_arprot  (3'b000),
        .s_axil_arvalid (s_axil_arvalid),
        .s_axil_arready (s_axil_arready),
        .s_axil_rdata   (s_axil_rdata),
        .s_axil_rresp   (s_axil_rresp),
        .s_axil_rvalid  (s_axil_rvalid),
        .s_axil_rready  (s_axil_rready),
        .s_axis_tvalid  (in_valid),
        .s_axis_tready  (in_ready),
        .s_axis_tdata   (in_data),
        .s_axis_tlast   (in_last),
        .m_axis_tvalid  (out_valid),
        .m_axis_tready  (1'b1),
        .m_axis_tdata   (out_data),
        .m_axis_tlast   (out_last)
    );

    reg [8*256-1:0] name;
    integer frames;
    integer outputs;
    integer timeline;
    integer got;
    reg [8*ROWS-1:0] word;

    initial begin
        frames = 0;
        outputs = 0;
        timeline = 0;
        if ($value$plusargs("frames=%s", name)) frames = $fopen(name, "r");
        if ($value$plusargs("outputs=%s", name)) outputs = $fopen(name, "w");
        if ($value$plusargs("timeline=%s", name)) timeline = $fopen(name, "w");
        in_valid = 1'b0;
        in_index = 32'd0;
    end

    always @(posedge clk) begin
        if (rst) in_index <= 32'd0;
        else if (frames != 0 && (in_ready || !in_valid)) begin
            if (in_valid) in_index <= in_last ? 32'd0 : in_index + 32'd1;
            got = $fscanf(frames, "%h\n", word);
            in_data <= word;
            in_valid <= (got == 1);
        end
        if (!rst && out_valid && outputs != 0) $fwrite(outputs, "%h %h\n", out_last, out_data);
    end

    wire _unused = (timeline == 0);

endmodule

`resetall
