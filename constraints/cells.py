"""Cells of a synthesised hierarchy: what a family's cost, and which part of the design they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyexport.errors import IntactError

GLUE = "joins"  # what belongs to no part
# module -> part; what a module contains belongs to it unless it is a part of its own
PARTS = {
    "mul8": "multipliers",
    "mul8_pair": "multipliers",
    "mac_lane": "MAC lane",
    "requant_lane": "requantise lane",
    "drain": "drain",
    "code_table": "code tables",
    "operand_window": "operands",
    "address_gen": "address generator",
    "window_gen": "window generator",
    "sequencer": "sequencer",
    "activation_memory": "activation memory",
    "ram": "other memories",
    "stream_in": "input stream",
    "stream_out": "output stream",
    "axil_regs": "AXI4-Lite registers",
    "uart_host": "UART host",
    "axis_widen": "byte streams",
    "axis_narrow": "byte streams",
}


@dataclass(frozen=True)
class Cost:
    """LUTs (of four inputs, of Xilinx six, or what takes their place), flip-flops, multiplier blocks, block RAMs."""

    luts: int = 0
    ffs: int = 0
    multipliers: int = 0
    block_rams: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.luts + other.luts,
            self.ffs + other.ffs,
            self.multipliers + other.multipliers,
            self.block_rams + other.block_rams,
        )


@dataclass(frozen=True)
class Cells:
    """A family's synthesis, and its cells as regular expressions for whole names.

    synthesis: yosys' command, hierarchy kept, with {top} for the module.  luts, multipliers, block_rams: how many a
    cell counts as.  free: cells that take nothing of these, multiplexers behind LUTs above all.
    """

    synthesis: str
    luts: Mapping[str, int]
    ffs: str
    multipliers: Mapping[str, int]
    block_rams: Mapping[str, int]
    free: str

    def cost(self, cell: str) -> Cost:
        """One cell's cost. Raises IntactError on a cell that the table does not know: the sum would be wrong."""
        for pattern, count in self.luts.items():
            if re.fullmatch(pattern, cell):
                return Cost(luts=count)
        for pattern, count in self.multipliers.items():
            if re.fullmatch(pattern, cell):
                return Cost(multipliers=count)
        for pattern, count in self.block_rams.items():
            if re.fullmatch(pattern, cell):
                return Cost(block_rams=count)
        if re.fullmatch(self.ffs, cell):
            return Cost(ffs=1)
        if re.fullmatch(self.free, cell):
            return Cost()
        raise IntactError(f"synthesis: the cell {cell} is in no table of constraints/cells.py")


CELLS = {
    # a carry cell takes two LUTs, a LUT RAM four and two for its write port: as nextpnr packs them
    "ecp5": Cells(
        synthesis="synth_ecp5 -noflatten -top {top}",
        luts={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
        ffs="TRELLIS_FF",
        multipliers={"MULT18X18D": 1},
        block_rams={"DP16KD": 1},
        free="PFUMX|L6MUX21",
    ),
    # a LUT or the carry bit in its place, or four of them as memory, as nextpnr counts them
    "gowin": Cells(
        synthesis="synth_gowin -noflatten -noiopads -top {top}",
        luts={"LUT[1-4]": 1, "INV": 1, "ALU": 1, "RAM16SDP[124]": 4},
        ffs="DFF[A-Z]*",
        multipliers={"MULT9X9": 1, "MULT18X18": 2},
        block_rams={"SDPX9B|SDPB|DPX9B|DPB|SPX9|SP": 1},
        free="MUX2_LUT[5-8]|GND|VCC",
    ),
    # a carry cell lies beside a LUT, its own or an empty one
    "ice40": Cells(
        synthesis="synth_ice40 -noflatten -device u -top {top}",
        luts={"SB_LUT4": 1},
        ffs="SB_DFF[A-Z]*",
        multipliers={"SB_MAC16": 1},
        block_rams={"SB_RAM40_4K": 1},
        free="SB_CARRY|SB_SPRAM256KA",
    ),
    # LUTs of up to six inputs, one place each though two small ones may share it, and four for a LUT RAM. An inverter
    # goes into the LUT or register behind it
    "xilinx": Cells(
        synthesis="synth_xilinx -family xc7 -noiopad -noclkbuf -top {top}",
        luts={"LUT[1-6]": 1, "SRL16E|SRLC32E": 1, "RAM32M|RAM64M": 4},
        ffs="FD[RSCP]E",
        multipliers={"DSP48E1": 1},
        block_rams={"RAMB18E1": 1, "RAMB36E1": 2},
        free="CARRY4|MUXF[78]|INV",
    ),
}


def module_name(key: str) -> str:
    """A module's name as the Verilog has it, of the name that yosys gives it with its parameters."""
    name = key.lstrip("\\")
    if not name.startswith("$paramod"):
        return name
    parts = name.split("\\")
    # $paramod$<hash>\name, or $paramod\name\PARAMETER=... where that is short
    return parts[1] if len(parts) > 1 else name


def parts_of(statistics: Mapping[str, Any], top: str, cells: Cells) -> dict[str, tuple[int, Cost]]:
    """Part -> how many and what all of them cost, most LUTs first. statistics: of yosys' `stat -json`.

    Each cell belongs to the innermost module around it that PARTS names, so that the parts add up to the whole.
    """
    modules = {key.lstrip("\\"): module["num_cells_by_type"] for key, module in statistics["modules"].items()}
    counts: dict[str, int] = {GLUE: 1}
    costs: dict[str, Cost] = {}

    def walk(key: str, owner: str) -> None:
        part = PARTS.get(module_name(key), owner)
        if part == "other memories" and owner != GLUE:
            part = owner  # a memory inside a part is that part's
        if part != owner:
            counts[part] = counts.get(part, 0) + 1
        for cell, number in modules[key].items():
            inner = cell.lstrip("\\")
            for _ in range(number if inner in modules else 1):
                if inner in modules:
                    walk(inner, part)
                else:
                    one = cells.cost(inner)
                    each = Cost(one.luts * number, one.ffs * number, one.multipliers * number, one.block_rams * number)
                    costs[part] = costs.get(part, Cost()) + each

    roots = [key for key in modules if module_name(key) == top]
    if len(roots) != 1:
        raise IntactError(f"synthesis: {len(roots)} modules are called {top}")
    walk(roots[0], GLUE)
    return {
        part: (counts[part], cost) for part, cost in sorted(costs.items(), key=lambda item: (-item[1].luts, item[0]))
    }
