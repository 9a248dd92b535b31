# PYNQ-Z2: lights for the block's port `status`, where the block design makes it an external port of that name. Clock and reset
# come from the processor, everything else from AXI.
# Source: TUL's pynq-z2_v1.0.xdc, "a general .xdc for the PYNQ-Z2 board", LD0 to LD3.

set_property -dict { PACKAGE_PIN R14 IOSTANDARD LVCMOS33 } [get_ports { status[0] }]
set_property -dict { PACKAGE_PIN P14 IOSTANDARD LVCMOS33 } [get_ports { status[1] }]
set_property -dict { PACKAGE_PIN N16 IOSTANDARD LVCMOS33 } [get_ports { status[2] }]
set_property -dict { PACKAGE_PIN M14 IOSTANDARD LVCMOS33 } [get_ports { status[3] }]

set_false_path -to [get_ports { status[*] }]
