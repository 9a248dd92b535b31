// SPDX-License-Identifier: Apache-2.0
// Written by `python -m pyexport.isa`: change pyexport/isa.py instead.

`ifndef INTACT_DEFS_VH
`define INTACT_DEFS_VH

`define INTACT_MAGIC 32'h494E5441
`define INTACT_VERSION 8'd1
`define INTACT_HEADER_WORDS 5
`define INTACT_DESCRIPTOR_WORDS 14
`define INTACT_LOOP_WORDS 11
`define INTACT_OPCODE_ACCUMULATE 8'd1

// program header: bit range within all its words
`define HDR_MAGIC 31:0
`define HDR_VERSION 39:32
`define HDR_ROWS 47:40
`define HDR_COLS 55:48
`define HDR_LANES 63:56
`define HDR_IN_BASE 87:64
`define HDR_IN_BASE_LSB 64
`define HDR_IN_WORDS 111:88
`define HDR_IN_WORDS_LSB 88
`define HDR_JOBS 127:112
`define HDR_JOBS_LSB 112
`define HDR_OUT_BASE 151:128
`define HDR_OUT_BASE_LSB 128
`define HDR_OUT_WORDS 175:152
`define HDR_OUT_WORDS_LSB 152
`define HDR_LAYERS 191:176
`define HDR_LAYERS_LSB 176
`define HDR_ACT_WORDS 215:192
`define HDR_ACT_WORDS_LSB 192
`define HDR_PRM_WORDS 239:216
`define HDR_PRM_WORDS_LSB 216
`define HDR_TABLES 247:240
`define HDR_RESERVED0 255:248
`define HDR_WGT_WORDS 279:256
`define HDR_WGT_WORDS_LSB 256
`define HDR_RESERVED1 319:280

// descriptor: bit range within all its words
`define DSC_OPCODE 7:0
`define DSC_ACCUMULATE_MAX 8:8
`define DSC_PASS_SUBTRACTS 9:9
`define DSC_PASS_SHIFTS 10:10
`define DSC_LAYER_END 11:11
`define DSC_PROGRAM_END 12:12
`define DSC_RESERVED0 15:13
`define DSC_Y0 31:16
`define DSC_Y0_LSB 16
`define DSC_GAP 47:32
`define DSC_GAP_LSB 32
`define DSC_PAD 55:48
`define DSC_RESERVED1 63:56
`define DSC_WORD_COUNT 79:64
`define DSC_WORD_COUNT_LSB 64
`define DSC_WORD_ACT 103:80
`define DSC_WORD_ACT_LSB 80
`define DSC_WORD_WGT 127:104
`define DSC_WORD_WGT_LSB 104
`define DSC_KX_COUNT 143:128
`define DSC_KX_COUNT_LSB 128
`define DSC_KX_ACT 167:144
`define DSC_KX_ACT_LSB 144
`define DSC_KX_WGT 191:168
`define DSC_KX_WGT_LSB 168
`define DSC_KY_COUNT 207:192
`define DSC_KY_COUNT_LSB 192
`define DSC_KY_ACT 231:208
`define DSC_KY_ACT_LSB 208
`define DSC_KY_WGT 255:232
`define DSC_KY_WGT_LSB 232
`define DSC_PASS_COUNT 271:256
`define DSC_PASS_COUNT_LSB 256
`define DSC_PASS_ACT 295:272
`define DSC_PASS_ACT_LSB 272
`define DSC_PASS_WGT 319:296
`define DSC_PASS_WGT_LSB 296
`define DSC_TILE_COUNT 335:320
`define DSC_TILE_COUNT_LSB 320
`define DSC_TILE_ACT 359:336
`define DSC_TILE_ACT_LSB 336
`define DSC_TILE_WGT 383:360
`define DSC_TILE_WGT_LSB 360
`define DSC_OX_COUNT 399:384
`define DSC_OX_COUNT_LSB 384
`define DSC_OX_ACT 423:400
`define DSC_OX_ACT_LSB 400
`define DSC_OX_WGT 447:424
`define DSC_OX_WGT_LSB 424
`define DSC_OY_COUNT 463:448
`define DSC_OY_COUNT_LSB 448
`define DSC_OY_ACT 487:464
`define DSC_OY_ACT_LSB 464
`define DSC_OY_WGT 511:488
`define DSC_OY_WGT_LSB 488
`define DSC_ACT_BASE 535:512
`define DSC_ACT_BASE_LSB 512
`define DSC_WGT_BASE 559:536
`define DSC_WGT_BASE_LSB 536
`define DSC_MAP_H 575:560
`define DSC_MAP_H_LSB 560
`define DSC_KX_X 591:576
`define DSC_KX_X_LSB 576
`define DSC_BACK_X 607:592
`define DSC_BACK_X_LSB 592
`define DSC_OX_X 623:608
`define DSC_OX_X_LSB 608
`define DSC_X0 639:624
`define DSC_X0_LSB 624
`define DSC_KY_Y 655:640
`define DSC_KY_Y_LSB 640
`define DSC_BACK_Y 671:656
`define DSC_BACK_Y_LSB 656
`define DSC_OY_Y 687:672
`define DSC_OY_Y_LSB 672
`define DSC_MAP_W 703:688
`define DSC_MAP_W_LSB 688
`define DSC_LAYER 719:704
`define DSC_LAYER_LSB 704
`define DSC_ZERO_POINT 727:720
`define DSC_LOW 735:728
`define DSC_HIGH 743:736
`define DSC_OUT_GROUP 751:744
`define DSC_LAST_BEAT 759:752
`define DSC_TABLE 767:760
`define DSC_OUT_BASE 791:768
`define DSC_OUT_BASE_LSB 768
`define DSC_PRM_BASE 815:792
`define DSC_PRM_BASE_LSB 792
`define DSC_OUT_GROUPS 831:816
`define DSC_OUT_GROUPS_LSB 816
`define DSC_OUT_OX 855:832
`define DSC_OUT_OX_LSB 832
`define DSC_OUT_OY 879:856
`define DSC_OUT_OY_LSB 856
`define DSC_RESERVED3 895:880
`define DSC_RESERVED3_LSB 880

// a channel's parameters: bit range
`define PRM_BIAS 31:0
`define PRM_M 62:32
`define PRM_EVEN 63:63
`define PRM_R 97:64
`define PRM_EXC_V 127:98
`define PRM_D 151:128
`define PRM_SHIFT 157:152
`define PRM_EXC_D 159:158

// host registers: word addresses
`define REG_ID 6'd0
`define REG_ARRAY 6'd1
`define REG_ACT_DEPTH 6'd2
`define REG_WGT_DEPTH 6'd3
`define REG_PRM_DEPTH 6'd4
`define REG_PRG_DEPTH 6'd5
`define REG_CTRL 6'd6
`define REG_STATUS 6'd7
`define REG_CYCLES 6'd8
`define REG_LAYER_INDEX 6'd9
`define REG_LAYER_CYCLES 6'd10
`define REG_LOAD_ADDR 6'd11
`define REG_LOAD_DATA 6'd12
`define REG_RUNS 6'd13
`define REG_TABLES 6'd14

// memories that the host loads
`define LOAD_PROGRAM 2'd0
`define LOAD_WEIGHTS 2'd1
`define LOAD_PARAMS 2'd2
`define LOAD_TABLES 2'd3

// error codes
`define ERR_NONE 8'd0
`define ERR_PROGRAM 8'd1
`define ERR_DESCRIPTOR 8'd2
`define ERR_FRAME 8'd3
`define ERR_OVERRUN 8'd4
`define ERR_ABORTED 8'd5

`endif
