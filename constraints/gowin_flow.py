"""Gowin GW1N and GW2A: yosys, nextpnr's Himbächel and gowin_pack, and what their results are checked for.

nextpnr 0.11 knows no timing of the multipliers here: paths that begin or end in one are not in its fmax. So the clock
that a build asks for must leave a margin: fmax times DERATING must reach it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraints.boards import Board
from constraints.ecp5_flow import slowest_path
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
from constraints.gowin_registers import use_output_registers
from pyexport.devices import FAMILIES
from pyexport.errors import IntactError

BLOCK_RAMS = ("SDPX9B", "SDPB", "DPX9B", "DPB", "SPX9", "SP")
MULTIPLIERS = {"MULT9X9": 1, "MULT18X18": 2}  # in 9 x 9 multipliers
LUT_RAM = "RAM16SDP"
DERATING = 0.5
NOTE = f"nextpnr has no timing of the multipliers here, nor of some wires: {DERATING:.0%} of its fmax is trusted"


@dataclass(frozen=True)
class Die:
    """What the tools call a device's die.

    synthesis: yosys' family.  vco: MHz of the PLL's oscillator, lowest and highest, as apycula's gowin_pll has them
    from data sheets DS117 (GW1NR, grade C6/I5) and DS226 (GW2AR, C8/I7).
    """

    name: str
    synthesis: str
    vco: tuple[float, float]


DIES = {
    "GW1NR-LV9": Die("GW1N-9C", "gw1n", (400, 1200)),
    "GW2AR-LV18": Die("GW2A-18C", "gw2a", (500, 1250)),
}
POSTS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)  # ODIV_SEL


class Gowin(Flow):
    """Gowin GW1N-9C and GW2A-18C, the dies of GW1NR-9 and GW2AR-18."""

    family = FAMILIES["gowin"]

    def pll(self, board: Board, wanted: float) -> tuple[float, dict[str, int | str]]:
        pll = gowin_pll(board.clock_in, wanted, DIES[board.device].vco)
        return pll.clock, pll.parameters()

    def synthesise(
        self, stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]
    ) -> Path:
        """Logic may be as slow as the cycle that place and route aims at: slower logic is smaller."""
        netlist, script = stages.folder / "netlist.json", stages.folder / "synthesis.ys"
        clock = board.clock_in * int(parameters["PLL_MULTIPLY"]) / int(parameters["PLL_DIVIDE"])
        logic = f"scratchpad -set abc9.D {1e6 * DERATING / clock:.0f}"
        command = f"synth_gowin -top top -family {DIES[board.device].synthesis} -json {relative(netlist)}"
        script.write_text(synthesis_script(sources, parameters, f"{logic}\n{command}"))
        stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
        use_output_registers(netlist, "top")
        return netlist

    def check_netlist(self, netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
        """Only the FIFO may be LUT RAM. Raises IntactError if not."""
        cells = cells_of(netlist)
        blocks = Counter[str]()
        known = 0
        for name, cell in cells.items():
            if cell["type"] in BLOCK_RAMS:
                found = [memory.instance for memory in memories if memory.instance in name.split(".")]
                blocks.update(found)
                known += bool(found)
        for memory in memories:
            if blocks[memory.instance] < (needed := self.block_rams(memory)):
                raise IntactError(
                    f"synthesis: {memory.instance}, {memory.depth} words of {memory.width} bits, needs at least "
                    f"{needed} block RAMs and has {blocks[memory.instance]}: it did not become block RAM"
                )
        kinds = Counter(cell["type"] for cell in cells.values())
        if (all_blocks := sum(kinds[kind] for kind in BLOCK_RAMS)) != known:
            raise IntactError(f"synthesis: {all_blocks} block RAMs, {known} of them in the memories that should be")
        for name, cell in cells.items():
            if cell["type"].startswith(LUT_RAM) and FIFO not in name.split("."):
                raise IntactError(f"synthesis: {name} is {cell['type']}: a memory became LUT RAM")
        if (found_all := sum(kinds[kind] * size for kind, size in MULTIPLIERS.items())) != multipliers:
            raise IntactError(
                f"synthesis: {kinds['MULT9X9']} MULT9X9 and {kinds['MULT18X18']} MULT18X18 are {found_all} 9 x 9 "
                f"multipliers, expected {multipliers}: a product is not one block"
            )

    def place_and_route(
        self, stages: Stages, board: Board, netlist: Path, seed: int, more: Sequence[str] = ()
    ) -> tuple[list[Figure], Timing, Path]:
        placed, report = stages.folder / "placed.json", stages.folder / "report.json"
        target = clock_of(netlist, board)
        command = [tool("nextpnr-himbaechel-gowin"), "--device", f"{board.device}{board.package}{board.speed}"]
        command += ["--vopt", f"family={DIES[board.device].name}", "--vopt", f"cst={board.pins}"]
        command += ["--json", relative(netlist), "--write", relative(placed), "--freq", f"{target / DERATING:g}"]
        command += ["--report", relative(report), "--detailed-timing-report", "--seed", str(seed)]
        stages.run("place and route", "nextpnr.log", [*command, "--timing-allow-fail", *more])
        result: dict[str, Any] = json.loads(report.read_text())
        return figures(result), timing(result, target), placed

    def pack(self, stages: Stages, board: Board, placed: Path) -> Path:
        bitstream = stages.folder / "intact.fs"
        command = [tool("gowin_pack"), "-d", DIES[board.device].name, "-o", relative(bitstream), relative(placed)]
        stages.run("bitstream", "gowin_pack.log", command)
        if not bitstream.is_file():
            raise IntactError(f"bitstream: gowin_pack wrote no {bitstream.relative_to(ROOT)}")
        return bitstream


def gowin_pll(clock_in: float, wanted: float, vco: tuple[float, float]) -> Pll:
    """The fastest setting of an rPLL, fed back inside, that does not exceed `wanted` MHz; divided by as little as goes:
    clock_in * multiply / divide, from an oscillator at `post` times that.

    vco: lowest and highest MHz of its oscillator. Behind the input divider it takes 3 MHz and more.
    Raises IntactError where there is no such setting.
    """
    best: Pll | None = None
    for divide in range(1, min(64, int(clock_in / 3)) + 1):
        for multiply in range(1, 65):
            clock = clock_in * multiply / divide
            posts = [post for post in POSTS if vco[0] <= clock * post <= vco[1]]
            if clock > wanted + 1e-9 or not posts:
                continue
            if best is None or clock > best.clock + 1e-9:
                best = Pll(multiply, divide, posts[0], clock)
    return in_reach(clock_in, wanted, (10, 400), best)


def cells_of(netlist: Path) -> dict[str, Any]:
    """The cells of a netlist that yosys wrote, by name."""
    cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    return cells


def clock_of(netlist: Path, board: Board) -> float:
    """MHz that the netlist's PLL makes. nextpnr does not work that out here."""
    for cell in cells_of(netlist).values():
        if cell["type"] == "rPLL":
            settings = cell["parameters"]
            return board.clock_in * (int(settings["FBDIV_SEL"], 2) + 1) / (int(settings["IDIV_SEL"], 2) + 1)
    raise IntactError("synthesis: the netlist has no rPLL")


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """The table's lines from nextpnr's report, which counts a LUT for a carry bit, four for a cell of LUT RAM."""
    use = report["utilization"]
    nines = sum(use[kind]["used"] * size for kind, size in MULTIPLIERS.items())
    return [
        Figure("LUT4", use["LUT4"]["used"], use["LUT4"]["available"]),
        Figure("FF", use["DFF"]["used"], use["DFF"]["available"]),
        Figure("9x9 multipliers", nines, use["MULT9X9"]["available"]),
        Figure("block RAM", use["BSRAM"]["used"], use["BSRAM"]["available"]),
    ]


def timing(report: Mapping[str, Any], target: float) -> Timing:
    """The slowest clock in nextpnr's report, which is the core's, with the margin that this family needs."""
    if not report["fmax"]:
        raise IntactError("place and route: its report names no clock")
    name, clock = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    return Timing(clock["achieved"], target, slowest_path(report, name, name)[1], DERATING, NOTE)
