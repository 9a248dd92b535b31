"""Xilinx 7: the PLL, the checks of a netlist, the message that ends a build, and Vivado's scripts against stand-ins."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from constraints.boards import BOARDS, Board, find_board
from constraints.build import FLOWS, sources
from constraints.flow import ROOT, Memory, Stages, relative, tool
from constraints.xilinx_flow import DESIGN, Xilinx, design, figures, xilinx_pll
from pyexport.choice import lacks
from pyexport.errors import IntactError
from pyexport.hwconfig import for_array, parse_array
from sim.gates.run import library_folder
from sim.runner import BUILD, run_bench
from tests.gate import in_gate

MEMORY = Memory("weight_memory", 512, 144)  # four RAMB18E1
XILINX = [board for board in BOARDS.values() if board.family == "xilinx"]
SCRIPTS = ROOT / "constraints" / "xilinx"


@pytest.mark.parametrize("wanted", [25, 62.5, 80, 100, 133, 150, 200])
def test_pll(wanted: float) -> None:
    pll = xilinx_pll(100, wanted)
    oscillator = 100 * pll.multiply / pll.divide
    assert pll.clock == pytest.approx(oscillator / pll.post)
    assert 0.98 * wanted <= pll.clock <= wanted
    assert 800 <= oscillator <= 1600 and 100 / pll.divide >= 19
    with pytest.raises(IntactError, match="clock"):
        xilinx_pll(100, 2)


def netlist(folder: Path, cells: Mapping[str, str]) -> Path:
    path = folder / "netlist.json"
    made = {name: {"type": kind, "connections": {"OPMODE": list("1010000")}} for name, kind in cells.items()}
    path.write_text(json.dumps({"modules": {"top": {"cells": made}}}))
    return path


GOOD = {
    "core.weight_memory.mem.0.0": "RAMB36E1",
    "core.weight_memory.mem.1.0": "RAMB18E1",
    "core.weight_memory.mem.2.0": "RAMB18E1",
    "core.frames_out.fifo.0.0": "RAM32M",
    "core.product": "DSP48E1",
    "core.function": "LUT6",
    "core.delay": "SRL16E",
    "core.flag": "FDRE",
}


def test_a_sum_in_a_multiplier_block_is_refused(tmp_path: Path) -> None:
    """yosys 0.70 can lose signs in one; products packed by hand (mul8_pair.v) add on purpose."""
    for name, fine in (("core.product", False), ("core.gen_pair.pair.block", True)):
        cells = {name: {"type": "DSP48E1", "connections": {"OPMODE": list("1010110")}}}
        path = tmp_path / "netlist.json"
        path.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
        if fine:
            Xilinx().check_netlist(path, [], 1)
        else:
            with pytest.raises(IntactError, match=r"core.product .* sum"):
                Xilinx().check_netlist(path, [], 1)


def test_a_good_netlist_passes(tmp_path: Path) -> None:
    path = netlist(tmp_path, GOOD)
    Xilinx().check_netlist(path, [MEMORY], 1)
    used = {figure.name: (figure.used, figure.available) for figure in figures(path, find_board("arty_a7_35t"))}
    assert used == {"LUT": (3, 20800), "FF": (1, 41600), "DSP48E1": (1, 90), "RAMB18E1": (4, 100)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core.weight_memory.mem.0.0": "FDRE"}, "needs at least 4 RAMB18E1 and has 2"),
        ({"core.other.mem.0.0": "RAM64M"}, "became LUT RAM"),
        ({"core.product": "LUT6"}, "0 DSP48E1, expected 1"),
        ({"core.address": "DSP48E1"}, "2 DSP48E1, expected 1"),
    ],
)
def test_a_bad_netlist_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(IntactError, match=message):
        Xilinx().check_netlist(netlist(tmp_path, GOOD | change), [MEMORY], 1)


@pytest.mark.parametrize("board", XILINX, ids=lambda board: board.name)
def test_the_default_array_fits(board: Board) -> None:
    assert not lacks(for_array(*parse_array(board.preset.array)), board.holds)
    assert "multipliers" in lacks(for_array(32, 32), board.holds)[0]
    assert isinstance(FLOWS[board.family], Xilinx)


def vivado_message(board: Board, folder: Path) -> str:
    with pytest.raises(IntactError) as refused:
        Xilinx().place_and_route(Stages(Console(quiet=True), folder), board, netlist(folder, GOOD), 1)
    return str(refused.value)


def test_a_build_ends_in_vivados_command() -> None:
    folder = BUILD / "xilinx"
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in (("arty_a7_35t", "vivado.tcl"), ("pynq_z2", "package_ip.tcl")):
        message = vivado_message(find_board(name), folder)
        command = f"vivado -mode batch -source constraints/xilinx/{script} -tclargs build/tests/xilinx"
        assert message.endswith(command)
        assert (SCRIPTS / script).is_file()
    large = {f"core.product{i}": "DSP48E1" for i in range(91)}
    with pytest.raises(IntactError, match="has 90 DSP48E1, the design takes 91"):
        Xilinx().place_and_route(Stages(Console(quiet=True), folder), XILINX[0], netlist(folder, large), 1)


# Stand-ins for Vivado's commands: each prints its name and arguments, and gives what the scripts go on with.
STAND_INS = """
proc said {name arguments} { puts [join [concat $name $arguments] " | "]; return "" }
foreach name {read_verilog read_xdc synth_design opt_design place_design phys_opt_design route_design write_checkpoint
        report_utilization report_timing_summary report_drc write_bitstream create_project add_files set_property
        update_compile_order ipx::package_project ipx::associate_bus_interfaces ipx::infer_bus_interface
        ipx::create_xgui_files ipx::update_checksums ipx::check_integrity ipx::save_core} {
    namespace eval ipx {}
    proc $name args "said $name \\$args"
}
proc current_fileset args { return sources }
proc get_timing_paths args { return [lindex $args 0] }
proc get_property {what path} { return [expr {$path eq "-hold" ? $::env(HOLD) : $::env(SLACK)}] }
proc ipx::current_core args { return core }
proc ipx::get_bus_interfaces {name args} { expr {$name in $::env(BUSES) ? $name : ""} }
proc ipx::get_user_parameters {name args} { return user:$name }
proc ipx::get_hdl_parameters {name args} { return hdl:$name }
proc ipx::add_bus_parameter {name args} { return parameter:$name }
set script [lindex $argv 0]
set argv [lrange $argv 1 end]
set argc [llength $argv]
source $script
"""


def vivado(script: str, board: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of constraints/xilinx/ with a design that has a memory image, under the stand-ins."""
    folder = BUILD / "xilinx scripts"
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, int | str] = {"ROWS": 16, "WGT_FILE": "build/a b/weights.mem"}
    (folder / DESIGN).write_text(design(find_board(board), sources(find_board(board)), parameters))
    (folder / "stand_ins.tcl").write_text(STAND_INS)
    tclsh = shutil.which("tclsh")
    assert tclsh
    return subprocess.run(
        [tclsh, folder / "stand_ins.tcl", SCRIPTS / script, folder],
        env={"SLACK": "0.25", "HOLD": "0.02", "BUSES": "s_axil s_axis m_axis"} | environment,
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("tclsh"), reason="tclsh is not on PATH")
def test_vivados_script_makes_a_bitstream() -> None:
    done = vivado("vivado.tcl", "arty_a7_35t")
    assert done.returncode == 0, done.stderr
    said = {line.split(" | ")[0]: line.split(" | ")[1:] for line in done.stdout.splitlines() if " | " in line}
    read = said["read_verilog"][0].split()
    assert [Path(name).name for name in read] == [path.name for path in sources(find_board("arty_a7_35t"))]
    assert f"{ROOT}/constraints/xilinx/mul8.v" in read and f"{ROOT}/rtl/mul8.v" not in read
    options = said["synth_design"]
    assert all(Path(name).is_file() for name in [*read, *said["read_xdc"]])
    assert options[options.index("-include_dirs") + 1] == f"{ROOT}/rtl"
    assert options[options.index("-part") + 1] == "xc7a35ticsg324-1L"
    generics = [options[i + 1] for i, option in enumerate(options) if option == "-generic"]
    assert generics == ["ROWS=16", f'WGT_FILE="{ROOT}/build/a b/weights.mem"']
    assert said["write_bitstream"][-1].endswith("/intact.bit")
    late = vivado("vivado.tcl", "arty_a7_35t", SLACK="-0.125")
    assert late.returncode != 0 and "missed by 0.125 ns" in late.stderr and "write_bitstream" not in late.stdout
    early = vivado("vivado.tcl", "arty_a7_35t", HOLD="-0.01")
    assert early.returncode != 0 and "0.01 ns too short" in early.stderr and "write_bitstream" not in early.stdout


@pytest.mark.skipif(not shutil.which("tclsh"), reason="tclsh is not on PATH")
def test_vivados_script_packs_a_block() -> None:
    done = vivado("package_ip.tcl", "pynq_z2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for bus in ("s_axil", "s_axis", "m_axis"):
        assert f"ipx::associate_bus_interfaces | -busif | {bus} | -clock | aclk | core" in lines
    for kind in ("user", "hdl"):
        assert f"set_property | value | {ROOT}/build/a b/weights.mem | {kind}:WGT_FILE" in lines
        assert f"set_property | value | 16 | {kind}:ROWS" in lines
    assert any(line.startswith("ipx::infer_bus_interface | irq") for line in lines)
    assert lines.index("ipx::check_integrity | core") < lines.index("ipx::save_core | core")
    missing = vivado("package_ip.tcl", "pynq_z2", BUSES="s_axil m_axis")
    assert missing.returncode != 0 and "found no bus s_axis" in missing.stderr


def test_paths_that_tcl_would_take_apart_are_refused() -> None:
    board = find_board("arty_a7_35t")
    for name in ("a}b", "a\\b"):
        with pytest.raises(IntactError, match="braces"):
            design(board, [ROOT / name], {})


def test_the_blocks_buses_are_named_for_vivado() -> None:
    """Vivado finds a bus by its ports: one prefix and the signals' own names."""
    text = (ROOT / "constraints" / "pynq_z2" / "top.v").read_text()
    ports = set(re.findall(r"^    (?:input|output) +wire +(?:\[[^]]*\])? *(\w+)", text, re.MULTILINE))
    wanted = {f"s_axil_{channel}{signal}" for channel in ("aw", "ar") for signal in ("addr", "prot", "valid", "ready")}
    wanted |= {f"s_axil_{signal}" for signal in ("wdata", "wstrb", "wvalid", "wready", "bresp", "bvalid", "bready")}
    wanted |= {f"s_axil_{signal}" for signal in ("rdata", "rresp", "rvalid", "rready")}
    wanted |= {f"{bus}_{signal}" for bus in ("s_axis", "m_axis") for signal in ("tvalid", "tready", "tdata", "tlast")}
    assert ports - wanted == {"aclk", "aresetn", "irq", "status", "m_axis_tkeep"} and wanted <= ports


def netlist_of(module: str, files: list[str], folder: Path, parameters: str = "") -> Path:
    """`module` as yosys synthesises it for Xilinx 7, with the models of its cells, in folder/<module>.v."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [SCRIPTS, ROOT / "rtl"]
    sources = " ".join(relative(next(p / f"{f}.v" for p in places if (p / f"{f}.v").is_file())) for f in files)
    whole = folder / f"{module}.v"
    script = (
        f"read_verilog -Irtl {sources}; {parameters} synth_xilinx -family xc7 -flatten -top {module}; "
        f"check -assert; rename -top {module}; write_verilog -noattr {relative(whole)}"
    )
    Stages(Console(), folder).run(f"synthesis {module}", f"{module}.log", [tool("yosys"), "-p", script])
    models = (library_folder() / "xilinx" / "cells_sim.v").read_text()
    text = whole.read_text()
    assert "DSP48E1" in text and "default_nettype" not in text
    whole.write_text(f"{text}\n`ifndef CELLS\n`define CELLS\n{models}\n`endif\n`resetall\n")
    return whole


@in_gate("xilinx")
def test_the_synthesised_array_computes() -> None:
    """yosys 0.70 loses signs in some sums of products on this family: here is made sure that ours are none of them."""
    folder = BUILD / "xilinx_array"
    array = netlist_of(
        "mac_array",
        ["mac_array", "mac_lane", "mul8", "mul8_pair", "accumulator"],
        folder,
        "chparam -set ROWS 2 -set COLS 1 mac_array;",
    )
    run_bench("icarus", "mac_array", "sim.bench_mac_array", [array], {"ROWS": 2, "COLS": 1}, "xilinx_mac_array")


# the requantiser's product: a pair of factors in every cycle, its product five cycles later
PRODUCTS = """
`timescale 1ns / 1ps
module bench;
    reg clk = 1'b0;
    reg [62:0] pairs [0:COUNT-1];
    reg [62:0] pair;
    wire [62:0] product;
    integer i;
    wide_mul mul (.clk(clk), .value(pair[62:31]), .multiplier(pair[30:0]), .product(product));
    initial begin
        $readmemh("PAIRS", pairs);
        for (i = 0; i < COUNT + 5; i = i + 1) begin
            pair = pairs[i < COUNT ? i : 0];
            #5 clk = 1'b1;
            #1 if (i >= 4) $display("%h", product);
            #4 clk = 1'b0;
        end
    end
endmodule
"""


@in_gate("xilinx")
def test_the_synthesised_product_is_exact() -> None:
    folder = BUILD / "xilinx_product"
    whole = netlist_of("wide_mul", ["wide_mul", "mul18"], folder)
    chosen = random.Random(0)
    edges = [(v, m) for v in (-(2**31), -1, 0, 1, 2**16 - 1, 2**31 - 1) for m in (0, 1, 2**15, 2**16, 2**31 - 1)]
    pairs = [*edges, *((chosen.randrange(-(2**31), 2**31), chosen.randrange(2**31)) for _ in range(200))]
    (folder / "pairs").write_text("".join(f"{(v % 2**32) << 31 | m:016x}\n" for v, m in pairs))
    bench = folder / "bench.v"
    bench.write_text(PRODUCTS.replace("COUNT", str(len(pairs))).replace("PAIRS", str(folder / "pairs")))
    subprocess.run(["iverilog", "-g2012", "-o", folder / "bench", bench, whole], check=True)
    shown = subprocess.run(["vvp", "-n", folder / "bench"], capture_output=True, text=True, check=True).stdout
    assert [int(line, 16) for line in shown.split()[: len(pairs)]] == [v * m % 2**63 for v, m in pairs]
