"""ECP5 block RAM: takes the flip-flops behind it into its own output registers, which yosys leaves unused.

A block RAM's output comes 5.8 ns after the clock, its output register's 1 ns. rtl/ram.v has a register behind every
memory; here each block whose outputs go to such flip-flops alone gets REGMODE OUTREG and drives what they drove.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from constraints.netlist import Cell, Net, change_module, readers_of

BLOCK_RAM = "DP16KD"
FLIP_FLOP = "TRELLIS_FF"
PORTS = ("A", "B")
WIDTH = 18  # bits of a port's output pins


def outputs(block: Cell) -> Iterator[tuple[str, Net]]:
    """Connected output pins of a block RAM and their nets."""
    for port in PORTS:
        for bit in range(WIDTH):
            for net in block["connections"].get(f"DO{port}{bit}", []):
                yield f"DO{port}{bit}", net


def is_plain(flip_flop: Cell, clock: list[Net]) -> bool:
    """Whether a flip-flop takes its input at every rising edge of `clock` and has neither reset nor enable."""
    pins, modes = flip_flop["connections"], flip_flop["parameters"]  # a text of ones and zeros has a space behind it
    return bool(
        pins["CLK"] == clock
        and modes.get("CLKMUX", "CLK") == "CLK"
        and (modes.get("CEMUX", "").strip() == "1" or pins.get("CE") == ["1"])
        and (pins.get("LSR", ["0"]) == ["0"])
        and modes.get("LSRMUX", "LSR") == "LSR"
        and "M" not in pins
    )


def absorb(module: dict[str, Any]) -> tuple[int, int]:
    """Changes a module of a yosys JSON netlist in place. Returns how many blocks there are and how many were changed.

    Both ports of a block get the register, as a word of 36 bits is on the pins of both; or the one that has a clock.
    """
    cells: dict[str, Cell] = module["cells"]
    loads, readers = readers_of(module, FLIP_FLOP, "DI")

    blocks = [cell for cell in cells.values() if cell["type"] == BLOCK_RAM]
    changed = 0
    for block in blocks:
        ports = [port for port in PORTS if isinstance(block["connections"][f"CLK{port}"][0], int)]
        used = [(pin, net) for pin, net in outputs(block) if loads[net]]
        behind = [readers.get(net) for _, net in used]
        clocks = [block["connections"][f"CLK{port}"] for port in ports]
        done = any(block["parameters"].get(f"REGMODE_{port}") == "OUTREG" for port in PORTS)
        if (
            done
            or not used
            or any(clock != clocks[0] for clock in clocks)
            or any(pin[2] not in ports for pin, _ in used)
        ):
            continue
        clock = clocks[0]
        if not all(
            name and loads[net] == 1 and is_plain(cells[name], clock)
            for name, (_, net) in zip(behind, used, strict=True)
        ):
            continue
        for (pin, _), taken in zip(used, behind, strict=True):
            assert taken is not None  # checked above
            block["connections"][pin] = cells.pop(taken)["connections"]["Q"]
        for port in ports:
            block["parameters"][f"REGMODE_{port}"] = "OUTREG"
            block["connections"][f"OCE{port}"] = ["1"]
            block["port_directions"][f"OCE{port}"] = "input"
        changed += 1
    return len(blocks), changed


def use_output_registers(netlist: Path, top: str) -> tuple[int, int]:
    """`absorb` for the module `top` of a netlist's file, which it writes anew."""
    return change_module(netlist, top, absorb)
