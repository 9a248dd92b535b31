// The activation address of rtl/address_gen.v.
`define F_FIELD 16
`define F_BASE  `DSC_ACT_BASE_LSB
`define F_BITS  ACT_ADDR
`define F_ADDR  act_addr
`define F_STEP  act_step
`define F_NEXT  act_step_next
`define F_TURN 7'b0000111
`include "address_gen.vh"
