"""ECP5: yosys, nextpnr and ecppack, and what their results are checked for.

The checks are the point: a memory that became flip-flops or a product that became LUTs still works, only slowly and
large, so each is an error here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constraints.boards import Board, Pll
from constraints.flow import ROOT, Figure, Memory, Stages, Timing, relative, tool
from pyexport.errors import IntactError

BLOCK_RAM = "DP16KD"
BLOCK_RAM_BITS = 18432
MULTIPLIER = "MULT18X18D"
LUT_RAM = "TRELLIS_DPR16X4"
FIFO = "fifo"  # of rtl/stream_out.v, four words: the only memory that belongs into LUTs
RESOURCES = (("LUT4", "TRELLIS_COMB"), ("FF", "TRELLIS_FF"), (MULTIPLIER, MULTIPLIER), (BLOCK_RAM, BLOCK_RAM))


def pll_parameters(pll: Pll) -> dict[str, int]:
    """Parameters of the board top for a PLL setting."""
    return {"PLL_MULTIPLY": pll.multiply, "PLL_DIVIDE": pll.divide, "PLL_POST": pll.post}


def synthesise(stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]) -> Path:
    """Verilog to a netlist, whose path it returns. Strings in `parameters` are files: relative to the checkout."""
    netlist = stages.folder / "netlist.json"
    values = [
        f'{name} "{value}"' if isinstance(value, str) else f"{name} {value}" for name, value in parameters.items()
    ]
    script = stages.folder / "synthesis.ys"
    script.write_text(
        "\n".join(
            [
                f"read_verilog -defer -Irtl {' '.join(relative(path) for path in sources)}",
                f"chparam {' '.join(f'-set {value}' for value in values)} top",
                f"synth_ecp5 -top top -json {relative(netlist)}",
                "check -assert",
                "",
            ]
        )
    )
    stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
    return netlist


def check_netlist(netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
    """Every memory is block RAM but the FIFO, every product is a multiplier block. Raises IntactError if not."""
    cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    kinds = Counter(cell["type"] for cell in cells.values())
    blocks = Counter[str]()
    for name, cell in cells.items():
        if cell["type"] == BLOCK_RAM:
            blocks.update(memory.instance for memory in memories if memory.instance in name.split("."))
    for memory in memories:
        needed = -(-memory.bits // BLOCK_RAM_BITS)
        if blocks[memory.instance] < needed:
            raise IntactError(
                f"synthesis: {memory.instance}, {memory.depth} words of {memory.width} bits, needs at least {needed} "
                f"{BLOCK_RAM} and has {blocks[memory.instance]}: it did not become block RAM"
            )
    if (known := sum(blocks.values())) != kinds[BLOCK_RAM]:
        raise IntactError(f"synthesis: {kinds[BLOCK_RAM]} {BLOCK_RAM}, {known} of them in the memories that should be")
    for name, cell in cells.items():
        if cell["type"] == LUT_RAM and FIFO not in name.split("."):
            raise IntactError(f"synthesis: {name} is {LUT_RAM}: a memory became LUT RAM")
    if kinds[MULTIPLIER] != multipliers:
        raise IntactError(
            f"synthesis: {kinds[MULTIPLIER]} {MULTIPLIER}, expected {multipliers}: a product is not one block"
        )


def place_and_route(stages: Stages, board: Board, netlist: Path, seed: int) -> tuple[list[Figure], Timing, Path]:
    """Netlist to a configuration: what it uses, its timing, and its path. A missed clock is left to the caller."""
    config, report = stages.folder / "intact.config", stages.folder / "report.json"
    command = [tool("nextpnr-ecp5"), f"--{board.device}", "--package", board.package, "--speed", board.speed]
    command += ["--json", relative(netlist), "--lpf", board.pins, "--textcfg", relative(config)]
    command += ["--report", relative(report), "--detailed-timing-report", "--seed", str(seed), "--timing-allow-fail"]
    stages.run("place and route", "nextpnr.log", command)
    result: dict[str, Any] = json.loads(report.read_text())
    return figures(result), timing(result), config


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The table's lines from nextpnr's report."""
    use = report["utilization"]
    return [Figure(name, use[key]["used"], use[key]["available"]) for name, key in RESOURCES]


def timing(report: Mapping[str, Any]) -> Timing:
    """The core's clock in nextpnr's report: the one with the most demanding ratio of achieved to wanted."""
    if not report["fmax"]:
        raise IntactError("place and route: its report names no clock")
    name, clock = min(report["fmax"].items(), key=lambda item: item[1]["achieved"] / item[1]["constraint"])
    return Timing(clock["achieved"], clock["constraint"], slowest_path(report, name))


def slowest_path(report: Mapping[str, Any], clock: str) -> str:
    """One line on the slowest path within `clock`: from, to, and how its delay divides into cells and wires."""
    wanted = f"posedge {clock}"
    for path in report["critical_paths"]:
        if path["from"] == path["to"] == wanted:
            steps = path["path"]
            wires = sum(step["delay"] for step in steps if step["type"] == "routing")
            total = sum(step["delay"] for step in steps)
            ends = " -> ".join(
                f"{end['cell']}.{end['port']}" for end in (steps[0]["from"], steps[-1].get("to", steps[-1]["from"]))
            )
            return f"{ends}: {total:.1f} ns, {wires:.1f} of it wires"
    return "none"


def pack(stages: Stages, config: Path) -> Path:
    """Configuration to a bitstream, whose path it returns."""
    bitstream = stages.folder / "intact.bit"
    command = [tool("ecppack"), "--compress", "--input", relative(config), "--bit", relative(bitstream)]
    stages.run("bitstream", "ecppack.log", command)
    if not bitstream.is_file():
        raise IntactError(f"bitstream: ecppack wrote no {bitstream.relative_to(ROOT)}")
    return bitstream
