// The weight address of rtl/address_gen.v.
`define F_FIELD 40
`define F_BASE  `DSC_WGT_BASE_LSB
`define F_BITS  WGT_ADDR
`define F_ADDR  wgt_addr
`define F_STEP  wgt_step
`define F_NEXT  wgt_step_next
`define F_TURN 7'b0000111
`include "address_gen.vh"
