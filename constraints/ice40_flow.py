"""iCE40 UltraPlus: yosys, nextpnr and icepack, and what their results are checked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constraints import ice40_contents
from constraints.boards import Board
from constraints.contents import Refill, cells_of, note_blocks
from constraints.ecp5_flow import slowest_path, timing
from constraints.flow import ROOT, Figure, Flow, Memory, Stages, Timing, relative, synthesis_script, tool
from constraints.ice40_contents import BLOCK_RAM
from pyexport.devices import FAMILIES, is_large, large_blocks
from pyexport.errors import IntactError

FAMILY = FAMILIES["ice40"]
LARGE_RAM = "SB_SPRAM256KA"
CONFIG = "intact.asc"  # placed
MULTIPLIER = "SB_MAC16"
RESOURCES = (
    ("logic cells", "ICESTORM_LC"),
    (MULTIPLIER, "ICESTORM_DSP"),
    (BLOCK_RAM, "ICESTORM_RAM"),
    (LARGE_RAM, "ICESTORM_SPRAM"),
)
# comparisons with powers of two become few LUTs before carry chains are made of the rest; never -dsp: yosys 0.70 then
# overwrites the parameters of SB_MAC16
SYNTHESIS = (
    "read_verilog -lib -D ICE40_U +/ice40/cells_sim.v; hierarchy -check -top {top}; proc; flatten; opt -full; "
    "synth_ice40 -device u -top {top}"
)


class Ice40(Flow):
    """Lattice iCE40 UltraPlus."""

    family = FAMILY
    refill = Refill(ice40_contents, f"{SYNTHESIS.format(top='top')} -run begin:map_ffram", CONFIG)

    def pll(self, board: Board, wanted: float) -> tuple[float, dict[str, int | str]]:
        """As Flow. The PLL makes twice the clock, for the SPRAMs, and the clock as half of that."""
        try:
            clock_2x, multiply, power = ice40_pll(board.clock_in, 2 * wanted)
        except IntactError as error:
            raise IntactError(f"clock: {wanted:g} MHz is half of what the PLL cannot make: {error}") from None
        return clock_2x / 2, {"PLL_DIVF": multiply - 1, "PLL_DIVQ": power}

    def synthesise(
        self, stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]
    ) -> Path:
        netlist = stages.folder / "netlist.json"
        script = stages.folder / "synthesis.ys"
        command = f"{SYNTHESIS.format(top='top')} -json {relative(netlist)}"
        script.write_text(synthesis_script(sources, parameters, command))
        stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
        return netlist

    def check_netlist(self, netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
        """Memories that FAMILY.large names lie in SPRAM, all other memories in block RAM. Raises IntactError if not."""
        cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
        kinds = Counter(cell["type"] for cell in cells.values())
        found: dict[str, Counter[str]] = {BLOCK_RAM: Counter(), LARGE_RAM: Counter()}
        names = [memory.instance for memory in (*memories, *FAMILY.own)]
        for name, cell in cells.items():
            if cell["type"] in found:
                found[cell["type"]].update(part for part in names if part in name.split("."))
        for memory in memories:
            kind = LARGE_RAM if is_large(memory, FAMILY) else BLOCK_RAM
            depth, width = FAMILY.shapes[0]
            needed = large_blocks(memory, FAMILY) if kind == LARGE_RAM else -(-memory.bits // (depth * width))
            if found[kind][memory.instance] < needed:
                raise IntactError(
                    f"synthesis: {memory.instance}, {memory.depth} words of {memory.width} bits, needs at least "
                    f"{needed} {kind} and has {found[kind][memory.instance]}: it did not become one"
                )
        for kind, blocks in found.items():
            if (known := sum(blocks.values())) != kinds[kind]:
                raise IntactError(f"synthesis: {kinds[kind]} {kind}, {known} of them in the memories that should be")
        if kinds[MULTIPLIER] != multipliers:
            raise IntactError(
                f"synthesis: {kinds[MULTIPLIER]} {MULTIPLIER}, expected {multipliers}: a product is not one block"
            )

    def place_and_route(
        self, stages: Stages, board: Board, netlist: Path, seed: int, more: Sequence[str] = ()
    ) -> tuple[list[Figure], Timing, Path]:
        config, report, placed = (stages.folder / name for name in (CONFIG, "report.json", "placed.json"))
        command = [tool("nextpnr-ice40"), f"--{board.device}", "--package", board.package, "--json", relative(netlist)]
        command += ["--pcf", board.pins, "--asc", relative(config), "--report", relative(report), "--seed", str(seed)]
        command += ["--write", relative(placed), "--detailed-timing-report", "--timing-allow-fail", *more]
        stages.run("place and route", "nextpnr.log", command)
        note_blocks(ice40_contents, netlist, tiles(placed), config, stages.folder)
        placed.unlink()
        result: dict[str, Any] = json.loads(report.read_text())
        use = result["utilization"]
        figures = [Figure(name, use[key]["used"], use[key]["available"]) for name, key in RESOURCES]
        return figures, of_both_clocks(result), config

    def pack(self, stages: Stages, board: Board, placed: Path) -> Path:
        bitstream = stages.folder / "intact.bin"
        stages.run("bitstream", "icepack.log", [tool("icepack"), relative(placed), relative(bitstream)])
        if not bitstream.is_file():
            raise IntactError(f"bitstream: icepack wrote no {bitstream.relative_to(ROOT)}")
        return bitstream


def tiles(placed: Path) -> dict[str, str]:
    """The tile of each block RAM in nextpnr's netlist, x and y, by the cell's name in the netlist before."""
    found = {}
    for name, cell in cells_of(placed).items():
        if cell["type"] == "ICESTORM_RAM":
            x, y, _ = cell["attributes"]["NEXTPNR_BEL"].split("/")
            found[name.removesuffix("_RAM")] = f"{x.removeprefix('X')} {y.removeprefix('Y')}"
    return found


def of_both_clocks(report: Mapping[str, Any]) -> Timing:
    """As `timing`, with the paths between clk and clk_2x, which nextpnr reports and does not judge.

    Their registers' edges are half a cycle of clk apart.
    """
    found = timing(report)
    for begin, end in (("clk", "clk_2x"), ("clk_2x", "clk")):
        delay, path = slowest_path(report, begin, end)
        if delay and (fmax := 500 / delay) / report["fmax"]["clk"]["constraint"] < found.fmax / found.target:
            found = Timing(fmax, report["fmax"]["clk"]["constraint"], f"{path}, in half a cycle")
    return found


def ice40_pll(clock_in: float, wanted: float) -> tuple[float, int, int]:
    """The fastest clock of at most `wanted` MHz: MHz, multiplier, power of two that divides.

    Limits of the iCE40 UltraPlus data sheet (FPGA-DS-02008): inputs of 10 to 133 MHz, the oscillator at 533 to 1066
    MHz, outputs of 16 to 275 MHz. Raises IntactError where there is no such setting.
    """
    best = None
    for multiply in range(1, 129):
        for power in range(1, 7):
            clock = clock_in * multiply / 2**power
            fits = 533 <= clock_in * multiply <= 1066 and 16 <= clock <= 275
            if fits and clock <= wanted + 1e-9 and (best is None or clock > best[0] + 1e-9):
                best = (clock, multiply, power)
    if best is None:
        raise IntactError(f"{wanted:g} MHz cannot be made from {clock_in:g} MHz; it makes 16 to 275 MHz")
    return best
