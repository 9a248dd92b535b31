"""Xilinx 7 series: yosys for a count of what the design takes, then a script for Vivado, which makes the bitstream.

There is no open place and route here: the stages that need Vivado end in an error that says which command to run.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from constraints.boards import Board
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

BLOCK_RAM_BITS = 18432  # of a RAMB18E1; a RAMB36E1 is two
BLOCK_RAMS = {"RAMB18E1": 1, "RAMB36E1": 2}
MULTIPLIER = "DSP48E1"
MULTIPLY = list("1010000")  # its mode, lowest bit first: the product alone
PAIR = "pair"  # of rtl/mac_array.v: two products in a block, instantiated with a sum
LUT_RAM = ("RAM32M", "RAM64M", "RAM32X1D", "RAM64X1D", "RAM128X1D", "RAM32X1S", "RAM64X1S")
DESIGN = "design.tcl"
BITSTREAM, PACKAGE = "constraints/xilinx/vivado.tcl", "constraints/xilinx/package_ip.tcl"


class Xilinx(Flow):
    """Xilinx 7 series."""

    family = FAMILIES["xilinx"]
    routes = False

    def pll(self, board: Board, wanted: float) -> tuple[float, dict[str, int | str]]:
        if not board.serial:  # the processor makes the clock
            return wanted, {}
        pll = xilinx_pll(board.clock_in, wanted)
        return pll.clock, pll.parameters()

    def block_rams(self, memory: Memory) -> int:
        """yosys and Vivado need not map alike."""
        return -(-memory.bits // BLOCK_RAM_BITS)

    def synthesise(
        self, stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]
    ) -> Path:
        netlist, script = stages.folder / "netlist.json", stages.folder / "synthesis.ys"
        command = f"synth_xilinx -family xc7 -flatten -top top -json {relative(netlist)}"
        script.write_text(synthesis_script(sources, parameters, command))
        stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
        (stages.folder / DESIGN).write_text(design(board, sources, parameters))
        return netlist

    def check_netlist(self, netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
        """Only the FIFO may be LUT RAM, and multiplier blocks multiply alone: yosys 0.70 can lose signs in a sum of
        products that it puts into one. Raises IntactError if not.
        """
        cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
        blocks = Counter[str]()
        for name, cell in cells.items():
            parts = name.split(".")
            if cell["type"] in BLOCK_RAMS:
                for memory in memories:
                    blocks[memory.instance] += BLOCK_RAMS[cell["type"]] * (memory.instance in parts)
            if cell["type"] in LUT_RAM and FIFO not in parts:
                raise IntactError(f"synthesis: {name} is {cell['type']}: a memory became LUT RAM")
            if cell["type"] == MULTIPLIER and PAIR not in parts and cell["connections"]["OPMODE"] != MULTIPLY:
                raise IntactError(f"synthesis: {name} is a {MULTIPLIER} with a sum in it: yosys can lose signs there")
        for memory in memories:
            if blocks[memory.instance] < (needed := self.block_rams(memory)):
                raise IntactError(
                    f"synthesis: {memory.instance}, {memory.depth} words of {memory.width} bits, needs at least "
                    f"{needed} RAMB18E1 and has {blocks[memory.instance]}: it did not become block RAM"
                )
        found = sum(cell["type"] == MULTIPLIER for cell in cells.values())
        if found != multipliers:
            raise IntactError(f"synthesis: {found} {MULTIPLIER}, expected {multipliers}: a product is not one block")

    def place_and_route(
        self, stages: Stages, board: Board, netlist: Path, seed: int, more: Sequence[str] = ()
    ) -> tuple[list[Figure], Timing, Path]:
        """Prints yosys' figures and raises IntactError: the rest is Vivado's."""
        for figure in figures(netlist, board):
            stages.console.print(f"{figure.name:<18} {figure.used:6} of {figure.available}", highlight=False)
            if figure.used > figure.available:
                raise IntactError(f"{board.name}: has {figure.available} {figure.name}, the design takes {figure.used}")
        vivado(board, stages.folder)

    def pack(self, stages: Stages, board: Board, placed: Path) -> Path:
        vivado(board, stages.folder)


def vivado(board: Board, folder: Path) -> NoReturn:
    """Raises the IntactError that says which command makes the bitstream."""
    result, script = ("a bitstream", BITSTREAM) if board.serial else ("a block for a Zynq design", PACKAGE)
    command = f"vivado -mode batch -source {script} -tclargs {relative(folder)}"
    raise IntactError(f"{board.name}: the design fits; {result} takes Vivado, in this folder: {command}")


def figures(netlist: Path, board: Board) -> list[Figure]:
    """What yosys' netlist takes of the device. LUTs: each cell one, though two small ones may share; memories apart.

    There are two flip-flops to a LUT.
    """
    cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    kinds = Counter(cell["type"] for cell in cells.values())
    luts = sum(count for kind, count in kinds.items() if kind.startswith(("LUT", "SRL")) or kind in LUT_RAM)
    flip_flops = sum(kinds[kind] for kind in ("FDRE", "FDSE", "FDCE", "FDPE"))
    return [
        Figure("LUT", luts, board.holds.luts),
        Figure("FF", flip_flops, 2 * board.holds.luts),
        Figure(MULTIPLIER, kinds[MULTIPLIER], board.holds.multipliers),
        Figure("RAMB18E1", sum(count * kinds[kind] for kind, count in BLOCK_RAMS.items()), board.holds.block_rams),
    ]


def braced(text: str) -> str:
    """A Tcl word. Raises IntactError for what Tcl would take apart: braces and backslashes."""
    if set(text) & set("{}\\\n"):
        raise IntactError(f"{text!r}: Tcl scripts cannot name a path with braces, backslashes or line breaks")
    return f"{{{text}}}"


def design(board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]) -> str:
    """What Vivado's scripts read: part, sources, pins, parameters; all paths absolute."""
    values = []
    for name, value in parameters.items():
        values.append(braced(f'{name}="{ROOT / value}"') if isinstance(value, str) else braced(f"{name}={value}"))
    lines = ["# Written by constraints/build.py for constraints/xilinx/*.tcl"]
    lines += [f"set part {braced(board.device + board.package + board.speed)}"]
    lines += [f"set pins {braced(str(ROOT / board.pins))}", f"set includes {braced(str(ROOT / 'rtl'))}"]
    for name, items in (("sources", [braced(str(path)) for path in sources]), ("generics", values)):
        lines += [f"set {name} [list \\", *(f"    {item} \\" for item in items), "]"]
    return "\n".join(lines) + "\n"


def xilinx_pll(clock_in: float, wanted: float) -> Pll:
    """The fastest setting of a PLLE2 that does not exceed `wanted` MHz, the oscillator as slow as it may be: clock_in *
    multiply / divide / post.

    Limits of the slowest speed grade (DS181): the oscillator at 800 to 1600 MHz, its comparison at 19 MHz or more;
    multiplied by 2 to 64, divided by 1 to 56 and 1 to 128. Raises IntactError where there is no such setting.
    """
    settings = []
    for divide in range(1, min(56, int(clock_in / 19)) + 1):
        for multiply in range(2, 65):
            oscillator = clock_in * multiply / divide
            post = math.ceil(oscillator / wanted - 1e-9)
            if 800 <= oscillator <= 1600 and 1 <= post <= 128:
                settings.append(Pll(multiply, divide, post, oscillator / post))
    best = max(settings, key=lambda pll: (round(pll.clock, 6), -pll.divide, -pll.multiply), default=None)
    return in_reach(clock_in, wanted, (7, 800), best)
