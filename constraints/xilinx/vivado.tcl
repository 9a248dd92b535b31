# SPDX-License-Identifier: Apache-2.0
# Vivado: a bitstream from what `make bitstream BOARD=arty_a7_35t` (or arty_a7_100t) leaves in FOLDER. From the checkout:
#
#     vivado -mode batch -source constraints/xilinx/vivado.tcl -tclargs FOLDER
#
# Written after UG835 and UG901 and NOT run by this project, which has no Vivado. Reports, a checkpoint and intact.bit go to
# FOLDER; it ends in an error where the clock is missed.

if {$argc != 1} {
    error "usage: vivado -mode batch -source constraints/xilinx/vivado.tcl -tclargs FOLDER"
}
set folder [file normalize [lindex $argv 0]]
# part, pins, includes, sources, generics
source [file join $folder design.tcl]

set options [list -verilog_define SYNTHESIS -include_dirs $includes]
foreach generic $generics {
    lappend options -generic $generic
}

read_verilog $sources
read_xdc $pins
synth_design -top top -part $part {*}$options
report_utilization -hierarchical -file [file join $folder utilization_synthesis.rpt]

opt_design
place_design
phys_opt_design
route_design
write_checkpoint -force [file join $folder routed.dcp]
report_utilization -file [file join $folder utilization.rpt]
report_timing_summary -file [file join $folder timing.rpt]
report_drc -file [file join $folder drc.rpt]

set slack [get_property SLACK [lindex [get_timing_paths -setup -max_paths 1 -nworst 1] 0]]
if {$slack < 0} {
    error "timing: the clock is missed by [expr {-$slack}] ns; build again with a lower --clock (timing.rpt says where)"
}
set hold [get_property SLACK [lindex [get_timing_paths -hold -max_paths 1 -nworst 1] 0]]
if {$hold < 0} {
    error "timing: a path is [expr {-$hold}] ns too short, whatever the clock (timing.rpt says which)"
}
write_bitstream -force [file join $folder intact.bit]
puts "slack $slack ns; bitstream: [file join $folder intact.bit]"
