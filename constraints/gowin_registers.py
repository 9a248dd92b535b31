"""Gowin block RAM: takes the flip-flops behind it into its own output registers, which yosys leaves unused.

A flip-flop that does not follow a LUT takes a LUT's place too, so these cost twice. rtl/ram.v has a register behind
every memory; here each block of 36 bits whose outputs go to such flip-flops alone gets READ_MODE 1, the registered
mode, and drives what they drove. Narrower blocks are left alone: the GW1N-9C has no working output registers for them,
and nextpnr would put flip-flops back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from constraints.netlist import Cell, Net, change_module, readers_of

BLOCK_RAM = "SDPX9B"
WIDTH = 36
FLIP_FLOP = "DFF"  # the kind without reset and enable


def always_reads(block: Cell) -> bool:
    """Whether a block RAM reads a whole word at every edge of its clock."""
    pins = block["connections"]
    whole = int(block["parameters"]["BIT_WIDTH_1"], 2) == WIDTH and int(block["parameters"]["READ_MODE"], 2) == 0
    return whole and pins["CEB"] == ["1"] and pins["OCE"] == ["1"] and pins["RESETB"] == ["0"]


def absorb(module: dict[str, Any]) -> tuple[int, int]:
    """Changes a module of a yosys JSON netlist in place. Returns how many blocks there are and how many changed."""
    cells: dict[str, Cell] = module["cells"]
    constants: dict[Net, str] = {
        cell["connections"][pin][0]: value
        for cell in cells.values()
        for kind, pin, value in (("VCC", "V", "1"), ("GND", "G", "0"))
        if cell["type"] == kind
    }
    loads, readers = readers_of(module, FLIP_FLOP, "D")

    blocks = [cell for cell in cells.values() if cell["type"] == BLOCK_RAM]
    changed = 0
    for block in blocks:
        pins = block["connections"]
        named = {pin: [constants.get(net, net) for net in nets] for pin, nets in pins.items()}
        used = [bit for bit, net in enumerate(pins["DO"]) if loads[net]]
        behind = {bit: readers.get(pins["DO"][bit]) for bit in used}
        if not used or not always_reads({**block, "connections": named}):
            continue
        if not all(
            name and loads[pins["DO"][bit]] == 1 and cells[name]["connections"]["CLK"] == pins["CLKB"]
            for bit, name in behind.items()
        ):
            continue
        for bit, taken in behind.items():
            assert taken is not None  # checked above
            pins["DO"][bit] = cells.pop(taken)["connections"]["Q"][0]
        block["parameters"]["READ_MODE"] = "1"
        changed += 1
    return len(blocks), changed


def use_output_registers(netlist: Path, top: str) -> tuple[int, int]:
    """`absorb` for the module `top` of a netlist's file, which it writes anew."""
    return change_module(netlist, top, absorb)
