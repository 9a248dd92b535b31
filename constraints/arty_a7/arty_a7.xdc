# Arty A7-35T and A7-100T: the pins that constraints/arty_a7/top.v uses; both boards have the same ones.
# Source: https://github.com/Digilent/digilent-xdc, Arty-A7-35-Master.xdc (commit 0256a13) and Arty-A7-100-Master.xdc (commit
# 5d2f779), whose names are kept but for CLK100MHZ and btn[0].

set_property -dict { PACKAGE_PIN E3 IOSTANDARD LVCMOS33 } [get_ports { clk_100mhz }]
create_clock -name clk_100mhz -period 10.000 [get_ports { clk_100mhz }]

# USB serial, named as the FTDI chip sees it: the FPGA drives rxd_out and listens to txd_in
set_property -dict { PACKAGE_PIN D10 IOSTANDARD LVCMOS33 } [get_ports { uart_rxd_out }]
set_property -dict { PACKAGE_PIN A9 IOSTANDARD LVCMOS33 } [get_ports { uart_txd_in }]

# BTN0
set_property -dict { PACKAGE_PIN D9 IOSTANDARD LVCMOS33 } [get_ports { btn0 }]

# LD4 to LD7
set_property -dict { PACKAGE_PIN H5 IOSTANDARD LVCMOS33 } [get_ports { led[0] }]
set_property -dict { PACKAGE_PIN J5 IOSTANDARD LVCMOS33 } [get_ports { led[1] }]
set_property -dict { PACKAGE_PIN T9 IOSTANDARD LVCMOS33 } [get_ports { led[2] }]
set_property -dict { PACKAGE_PIN T10 IOSTANDARD LVCMOS33 } [get_ports { led[3] }]

# a person, a lamp and a line of 1 us bits: nothing here is timed
set_false_path -from [get_ports { btn0 uart_txd_in }]
set_false_path -to [get_ports { uart_rxd_out led[*] }]

set_property CFGBVS VCCO [current_design]
set_property CONFIG_VOLTAGE 3.3 [current_design]
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
