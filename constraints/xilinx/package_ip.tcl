# SPDX-License-Identifier: Apache-2.0
# Vivado: the core as a block (IP-XACT) for a Zynq design, from what `make bitstream BOARD=pynq_z2` leaves in FOLDER. From the
# checkout:
#
#     vivado -mode batch -source constraints/xilinx/package_ip.tcl -tclargs FOLDER
#
# Written after UG835 and UG1118 and NOT run by this project, which has no Vivado. The block goes to FOLDER/ip: add that folder
# to a project's IP repositories, then place `intact` in the block design.
#
# Buses: s_axil (AXI4-Lite, 256 bytes of registers), s_axis and m_axis (AXI4-Stream, words of ROWS bytes), irq (a level).

if {$argc != 1} {
    error "usage: vivado -mode batch -source constraints/xilinx/package_ip.tcl -tclargs FOLDER"
}
set folder [file normalize [lindex $argv 0]]
# part, pins, includes, sources, generics
source [file join $folder design.tcl]

create_project -in_memory -part $part intact
add_files -norecurse $sources
add_files -norecurse [glob [file join $includes *.vh]]
set_property include_dirs $includes [current_fileset]
set_property verilog_define SYNTHESIS [current_fileset]
set_property top top [current_fileset]
update_compile_order -fileset [current_fileset]

ipx::package_project -root_dir [file join $folder ip] -vendor intact -library accelerator -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name intact $core
set_property display_name "INTACT int8 accelerator" $core
set_property description "int8 neural-network accelerator: AXI4-Lite registers, AXI4-Stream frames" $core
set_property version 1.0 $core
set_property supported_families {zynq Production artix7 Production} $core

# the exported network's hardware and memory images are what a new block starts with
foreach generic $generics {
    regexp {^(\w+)=(.*)$} $generic all name value
    set value [string trim $value \"]
    foreach kind {user hdl} {
        set_property value $value [ipx::get_${kind}_parameters $name -of_objects $core]
    }
}

# buses are found by their ports' names; here it is made sure that they were
foreach bus {s_axil s_axis m_axis} {
    if {[llength [ipx::get_bus_interfaces $bus -of_objects $core]] == 0} {
        error "Vivado found no bus $bus in constraints/pynq_z2/top.v"
    }
    ipx::associate_bus_interfaces -busif $bus -clock aclk $core
}
if {[llength [ipx::get_bus_interfaces irq -of_objects $core]] == 0} {
    ipx::infer_bus_interface irq xilinx.com:signal:interrupt_rtl:1.0 $core
}
set sensitivity [ipx::add_bus_parameter SENSITIVITY [ipx::get_bus_interfaces irq -of_objects $core]]
set_property value LEVEL_HIGH $sensitivity

ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
puts "block: [file join $folder ip]"
