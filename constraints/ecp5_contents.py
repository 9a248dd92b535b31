"""ECP5: what block RAMs hold at power-up, in a netlist (INITVAL_nn) and in a placed configuration (.bram_init).

A block has 2048 words of 9 bits. A netlist has 64 values of 16 pairs of words, a pair every 20 bits, the even word low.
A configuration has a section for each block, numbered by place and route, of three hexadecimal digits a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from constraints.contents import Words
from constraints.ecp5_registers import BLOCK_RAM
from pyexport.errors import IntactError

A_LINE = 8  # words in a line of a configuration
SECTION = re.compile(r"^\.bram_init (\d+)\n((?:[0-9a-f ]+\n)*)", re.MULTILINE)


def block_rams(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The block RAMs among a module's cells, by name."""
    return {name: cell for name, cell in cells.items() if cell["type"] == BLOCK_RAM}


def held(cell: Mapping[str, Any]) -> Words:
    """The words of a netlist's block RAM. Raises IntactError where a bit of it is undefined."""
    words: list[int] = []
    for number in range(64):
        bits = str(cell["parameters"][f"INITVAL_{number:02X}"])
        if set(bits) - {"0", "1"}:
            raise IntactError("synthesis: a block RAM holds undefined bits")
        value = int(bits, 2)
        for pair in range(16):
            both = value >> (20 * pair)
            words += [both & 0x1FF, (both >> 9) & 0x1FF]
    return tuple(words)


def shape(cell: Mapping[str, Any]) -> list[int]:
    """Bits of a block RAM's ports A and B."""
    return [int(cell["parameters"][f"DATA_WIDTH_{port}"], 2) for port in "AB"]


def sections(config: str) -> dict[str, Words]:
    """The words of each block in a configuration, by its number."""
    return {match[1]: tuple(int(word, 16) for word in match[2].split()) for match in SECTION.finditer(config)}


def section(place: str, words: Words) -> str:
    """The section of block number `place`."""
    lines = (words[start : start + A_LINE] for start in range(0, len(words), A_LINE))
    return f".bram_init {place}\n" + "".join(" ".join(f"{word:03x}" for word in line) + "\n" for line in lines)
