// SPDX-License-Identifier: Apache-2.0
// Simulation model of the ECP5's block RAM as synthesis uses it for rtl/ram.v: port A writes, port B reads, one clock.
//
// 1024 words of 18 bits: two groups of 9. Widths 1, 2, 4, 9, 18 and 36, each port its own; at 18 and 36 the lowest
// address bits are the write enables of the groups. Port B's output comes 1 cycle after its address, 2 with the output
// registers (both ports alike). A 36-bit word has its low half on the pins of A and its high half on those of B. Contents at power-up: INITVAL_nn, 16 words each, 20 bits apart.
//
// A read of a word in the cycle that writes it gives a wrong word on purpose: the real one is not specified, and the
// design must not use it. Any other setting ends the simulation.

`resetall
`default_nettype none

module DP16KD #(
    parameter DATA_WIDTH_A = 18,
    parameter DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG",
    parameter REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC",
    parameter ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000",
    parameter CSDECODE_B = "0b000",
    parameter CLKAMUX = "CLKA",
    parameter CLKBMUX = "CLKB",
    parameter WRITEMODE_A = "NORMAL",
    parameter WRITEMODE_B = "NORMAL",
    parameter GSR = "AUTO",
    parameter [319:0] INITVAL_00 = 320'd0, parameter [319:0] INITVAL_01 = 320'd0,
    parameter [319:0] INITVAL_02 = 320'd0, parameter [319:0] INITVAL_03 = 320'd0,
    parameter [319:0] INITVAL_04 = 320'd0, parameter [319:0] INITVAL_05 = 320'd0,
    parameter [319:0] INITVAL_06 = 320'd0, parameter [319:0] INITVAL_07 = 320'd0,
    parameter [319:0] INITVAL_08 = 320'd0, parameter [319:0] INITVAL_09 = 320'd0,
    parameter [319:0] INITVAL_0A = 320'd0, parameter [319:0] INITVAL_0B = 320'd0,
    parameter [319:0] INITVAL_0C = 320'd0, parameter [319:0] INITVAL_0D = 320'd0,
    parameter [319:0] INITVAL_0E = 320'd0, parameter [319:0] INITVAL_0F = 320'd0,
    parameter [319:0] INITVAL_10 = 320'd0, parameter [319:0] INITVAL_11 = 320'd0,
    parameter [319:0] INITVAL_12 = 320'd0, parameter [319:0] INITVAL_13 = 320'd0,
    parameter [319:0] INITVAL_14 = 320'd0, parameter [319:0] INITVAL_15 = 320'd0,
    parameter [319:0] INITVAL_16 = 320'd0, parameter [319:0] INITVAL_17 = 320'd0,
    parameter [319:0] INITVAL_18 = 320'd0, parameter [319:0] INITVAL_19 = 320'd0,
    parameter [319:0] INITVAL_1A = 320'd0, parameter [319:0] INITVAL_1B = 320'd0,
    parameter [319:0] INITVAL_1C = 320'd0, parameter [319:0] INITVAL_1D = 320'd0,
    parameter [319:0] INITVAL_1E = 320'd0, parameter [319:0] INITVAL_1F = 320'd0,
    parameter [319:0] INITVAL_20 = 320'd0, parameter [319:0] INITVAL_21 = 320'd0,
    parameter [319:0] INITVAL_22 = 320'd0, parameter [319:0] INITVAL_23 = 320'd0,
    parameter [319:0] INITVAL_24 = 320'd0, parameter [319:0] INITVAL_25 = 320'd0,
    parameter [319:0] INITVAL_26 = 320'd0, parameter [319:0] INITVAL_27 = 320'd0,
    parameter [319:0] INITVAL_28 = 320'd0, parameter [319:0] INITVAL_29 = 320'd0,
    parameter [319:0] INITVAL_2A = 320'd0, parameter [319:0] INITVAL_2B = 320'd0,
    parameter [319:0] INITVAL_2C = 320'd0, parameter [319:0] INITVAL_2D = 320'd0,
    parameter [319:0] INITVAL_2E = 320'd0, parameter [319:0] INITVAL_2F = 320'd0,
    parameter [319:0] INITVAL_30 = 320'd0, parameter [319:0] INITVAL_31 = 320'd0,
    parameter [319:0] INITVAL_32 = 320'd0, parameter [319:0] INITVAL_33 = 320'd0,
    parameter [319:0] INITVAL_34 = 320'd0, parameter [319:0] INITVAL_35 = 320'd0,
    parameter [319:0] INITVAL_36 = 320'd0, parameter [319:0] INITVAL_37 = 320'd0,
    parameter [319:0] INITVAL_38 = 320'd0, parameter [319:0] INITVAL_39 = 320'd0,
    parameter [319:0] INITVAL_3A = 320'd0, parameter [319:0] INITVAL_3B = 320'd0,
    parameter [319:0] INITVAL_3C = 320'd0, parameter [319:0] INITVAL_3D = 320'd0,
    parameter [319:0] INITVAL_3E = 320'd0, parameter [319:0] INITVAL_3F = 320'd0
) (
    input  wire CLKA, CEA, OCEA, RSTA, WEA, CSA0, CSA1, CSA2,
    input  wire CLKB, CEB, OCEB, RSTB, WEB, CSB0, CSB1, CSB2,
    input  wire ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input  wire ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input  wire DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8,
    input  wire DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16, DIA17,
    input  wire DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8,
    input  wire DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16, DIB17,
    output wire DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8,
    output wire DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16, DOA17,
    output wire DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8,
    output wire DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16, DOB17
);

    localparam [64*320-1:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
        INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
        INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
        INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
        INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };

    wire [13:0] write_addr = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] read_addr  = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] data       = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10,
        DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10,
        DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0
    };

    reg  [17:0] mem [0:1023];
    reg  [35:0] read_word;
    reg  [35:0] registered;
    wire        writes = CEA & WEA;
    // address bits within the wider port's word
    localparam WIDER  = (DATA_WIDTH_A > DATA_WIDTH_B) ? DATA_WIDTH_A : DATA_WIDTH_B;
    localparam WITHIN = (WIDER == 36) ? 5 : (WIDER == 18) ? 4 : (WIDER == 9) ? 3 : (WIDER == 4) ? 2 : WIDER - 1;
    wire        enabled  = (DATA_WIDTH_A == 36) ? |write_addr[3:0] : (DATA_WIDTH_A == 18) ? |write_addr[1:0] : 1'b1;
    wire        collides = writes && enabled && (write_addr >> WITHIN) == (read_addr >> WITHIN);
    integer     i;

    initial for (i = 0; i < 1024; i = i + 1) mem[i] = INIT[320 * (i / 16) + 20 * (i % 16) +: 18];

    // where a narrow word lies among the 18 bits
    wire [4:0] write_bit = (write_addr[3] ? 5'd9 : 5'd0) + {2'd0, (DATA_WIDTH_A < 9) ? write_addr[2:0] : 3'd0};
    wire [4:0] read_bit  = (read_addr[3] ? 5'd9 : 5'd0) + {2'd0, (DATA_WIDTH_B < 9) ? read_addr[2:0] : 3'd0};

    always @(posedge CLKA) begin
        if (writes) begin
            if (DATA_WIDTH_A == 36) begin
                for (i = 0; i < 4; i = i + 1)
                    if (write_addr[i]) mem[{write_addr[13:5], i[1]}][(i % 2) * 9 +: 9] <= data[9*i +: 9];
            end else if (DATA_WIDTH_A == 18) begin
                for (i = 0; i < 2; i = i + 1)
                    if (write_addr[i]) mem[write_addr[13:4]][9*i +: 9] <= data[9*i +: 9];
            end else begin
                for (i = 0; i < DATA_WIDTH_A; i = i + 1)
                    mem[write_addr[13:4]][write_bit + i[4:0]] <= data[i];
            end
        end
        if (CEB) begin
            if (collides) read_word <= 36'h5A5A5A5A5;
            else if (DATA_WIDTH_B == 36) read_word <= {mem[{read_addr[13:5], 1'b1}], mem[{read_addr[13:5], 1'b0}]};
            else read_word <= {mem[read_addr[13:4]] >> ((DATA_WIDTH_B == 18) ? 5'd0 : read_bit), 18'd0};
        end
        if (OCEB) registered <= read_word;
    end

    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10,
        DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0,
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10,
        DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0
    } = (REGMODE_B == "OUTREG") ? registered : read_word;

    initial begin
        if (REGMODE_A != REGMODE_B || (REGMODE_A != "NOREG" && REGMODE_A != "OUTREG") || CLKAMUX != "CLKA" ||
            CLKBMUX != "CLKB" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000") begin
            $display("DP16KD: settings without a model");
            $finish;
        end
    end

    always @(posedge CLKA) if (WEB || RSTA || RSTB || CSA0 || CSA1 || CSA2 || CSB0 || CSB1 || CSB2) begin
        $display("DP16KD: inputs without a model");
        $finish;
    end

    // the other parameters do not matter to these settings
    wire _unused = &{1'b0, CLKB, OCEA, WRITEMODE_A, WRITEMODE_B, RESETMODE, ASYNC_RESET_RELEASE, GSR};

endmodule

`resetall
