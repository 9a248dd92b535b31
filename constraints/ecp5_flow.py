"""ECP5: yosys, nextpnr and ecppack, and what their results are checked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constraints import ecp5_contents
from constraints.boards import Board
from constraints.contents import Refill, cells_of, note_blocks
from constraints.ecp5_contents import block_rams
from constraints.ecp5_registers import BLOCK_RAM, use_output_registers
from constraints.flow import (
    FIFO,
    ROOT,
    Figure,
    Flow,
    Memory,
    Pll,
    Stages,
    Timing,
    in_reach,
    relative,
    synthesis_script,
    tool,
)
from pyexport.devices import FAMILIES
from pyexport.errors import IntactError

MULTIPLIER = "MULT18X18D"
LUT_RAM = "TRELLIS_DPR16X4"
CONFIG = "intact.config"  # placed
CROWDED = 0.9  # of the block RAMs: what nextpnr's usual placer makes of more is not routed in half an hour
RESOURCES = (("LUT4", "TRELLIS_COMB"), ("FF", "TRELLIS_FF"), (MULTIPLIER, MULTIPLIER), (BLOCK_RAM, BLOCK_RAM))


class Ecp5(Flow):
    """Lattice ECP5."""

    family = FAMILIES["ecp5"]
    refill = Refill(ecp5_contents, "synth_ecp5 -top top -run begin:map_ffram", CONFIG)

    def pll(self, board: Board, wanted: float) -> tuple[float, dict[str, int | str]]:
        pll = ecp5_pll(board.clock_in, wanted)
        return pll.clock, pll.parameters()

    def synthesise(
        self, stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]
    ) -> Path:
        netlist = stages.folder / "netlist.json"
        script = stages.folder / "synthesis.ys"
        script.write_text(synthesis_script(sources, parameters, f"synth_ecp5 -top top -json {relative(netlist)}"))
        stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
        use_output_registers(netlist, "top")
        return netlist

    def check_netlist(self, netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
        """Only the FIFO may be LUT RAM. Raises IntactError if not."""
        cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
        kinds = Counter(cell["type"] for cell in cells.values())
        blocks = Counter[str]()
        for name, cell in cells.items():
            if cell["type"] == BLOCK_RAM:
                blocks.update(memory.instance for memory in memories if memory.instance in name.split("."))
        for memory in memories:
            needed = self.block_rams(memory)
            if blocks[memory.instance] < needed:
                raise IntactError(
                    f"synthesis: {memory.instance}, {memory.depth} words of {memory.width} bits, needs at least "
                    f"{needed} {BLOCK_RAM} and has {blocks[memory.instance]}: it did not become block RAM"
                )
        if (known := sum(blocks.values())) != kinds[BLOCK_RAM]:
            raise IntactError(
                f"synthesis: {kinds[BLOCK_RAM]} {BLOCK_RAM}, {known} of them in the memories that should be"
            )
        for name, cell in cells.items():
            if cell["type"] == LUT_RAM and FIFO not in name.split("."):
                raise IntactError(f"synthesis: {name} is {LUT_RAM}: a memory became LUT RAM")
        if kinds[MULTIPLIER] != multipliers:
            raise IntactError(
                f"synthesis: {kinds[MULTIPLIER]} {MULTIPLIER}, expected {multipliers}: a product is not one block"
            )

    def place_and_route(
        self, stages: Stages, board: Board, netlist: Path, seed: int, more: Sequence[str] = ()
    ) -> tuple[list[Figure], Timing, Path]:
        config, report, placed = (stages.folder / name for name in (CONFIG, "report.json", "placed.json"))
        command = [tool("nextpnr-ecp5"), f"--{board.device}", "--package", board.package, "--speed", board.speed]
        command += ["--json", relative(netlist), "--lpf", board.pins, "--textcfg", relative(config)]
        command += [
            "--report",
            relative(report),
            "--detailed-timing-report",
            "--seed",
            str(seed),
            "--timing-allow-fail",
            "--write",
            relative(placed),
            *placer(netlist, board, more),
            *more,
        ]
        stages.run("place and route", "nextpnr.log", command)
        numbered = block_rams(cells_of(placed))
        numbers = {name: str(int(cell["attributes"]["WID"], 2)) for name, cell in numbered.items()}
        note_blocks(ecp5_contents, netlist, numbers, config, stages.folder)
        placed.unlink()
        result: dict[str, Any] = json.loads(report.read_text())
        return figures(result), timing(result), config

    def pack(self, stages: Stages, board: Board, placed: Path) -> Path:
        bitstream = stages.folder / "intact.bit"
        command = [tool("ecppack"), "--compress", "--input", relative(placed), "--bit", relative(bitstream)]
        stages.run("bitstream", "ecppack.log", command)
        if not bitstream.is_file():
            raise IntactError(f"bitstream: ecppack wrote no {bitstream.relative_to(ROOT)}")
        return bitstream


def placer(netlist: Path, board: Board, more: Sequence[str]) -> list[str]:
    """nextpnr's options for the placer: none, its usual one, where block RAMs leave room or `more` names one."""
    crowded = len(block_rams(cells_of(netlist))) > CROWDED * board.holds.block_rams
    named = any(option.split("=")[0] == "--placer" for option in more)
    return ["--placer", "static"] if crowded and not named else []


def ecp5_pll(clock_in: float, wanted: float) -> Pll:
    """The fastest setting of an ECP5's PLL, fed back from its output, that does not exceed `wanted` MHz: clock_in *
    multiply / divide, from an oscillator at `post` times that.

    Limits of the ECP5 family data sheet (FPGA-DS-02012): inputs of 8 to 400 MHz, here behind the input
    divider too, and the oscillator at 400 to 800 MHz. Raises IntactError where there is no such setting.
    """
    best: Pll | None = None
    for divide in range(1, int(clock_in / 8) + 1):
        for multiply in range(1, 81):
            clock = clock_in * multiply / divide
            post = max(1, min(128, round(600 / clock)))
            if clock > wanted + 1e-9 or not 400 <= clock * post <= 800:
                continue
            if best is None or clock > best.clock + 1e-9:
                best = Pll(multiply, divide, post, clock)
    return in_reach(clock_in, wanted, (10, 400), best)


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The table's lines from nextpnr's report."""
    use = report["utilization"]
    return [Figure(name, use[key]["used"], use[key]["available"]) for name, key in RESOURCES]


def timing(report: Mapping[str, Any]) -> Timing:
    """The core's clock in nextpnr's report: the one with the most demanding ratio of achieved to wanted."""
    if not report["fmax"]:
        raise IntactError("place and route: its report names no clock")
    name, clock = min(report["fmax"].items(), key=lambda item: item[1]["achieved"] / item[1]["constraint"])
    return Timing(clock["achieved"], clock["constraint"], slowest_path(report, name, name)[1])


def slowest_path(report: Mapping[str, Any], begin: str, end: str) -> tuple[float, str]:
    """The slowest path from clock `begin` to clock `end`: its ns, and a line on its ends and its wires."""
    for path in report["critical_paths"]:
        if (path["from"], path["to"]) == (f"posedge {begin}", f"posedge {end}"):
            steps = path["path"]
            wires = sum(step["delay"] for step in steps if step["type"] == "routing")
            total = sum(step["delay"] for step in steps)
            ends = " -> ".join(
                f"{at['cell']}.{at['port']}" for at in (steps[0]["from"], steps[-1].get("to", steps[-1]["from"]))
            )
            return total, f"{ends}: {total:.1f} ns, {wires:.1f} of it wires"
    return 0.0, "none"
