"""iCE40: what block RAMs hold at power-up, in a netlist (INIT_n) and in a placed configuration (.ram_data).

A block has 16 words of 256 bits. A configuration has a section for each block, named by its tile's x and y, of a line
of hexadecimal digits a word. What a netlist leaves undefined is zero there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from constraints.contents import Words

BLOCK_RAM = "SB_RAM40_4K"
WORDS, BITS = 16, 256
SECTION = re.compile(r"^\.ram_data (\d+ \d+)\n((?:[0-9a-f]+\n)*)", re.MULTILINE)


def block_rams(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The block RAMs among a module's cells, by name."""
    return {name: cell for name, cell in cells.items() if cell["type"] == BLOCK_RAM}


def held(cell: Mapping[str, Any]) -> Words:
    """The words of a netlist's block RAM."""
    return tuple(int(str(cell["parameters"][f"INIT_{word:X}"]).replace("x", "0"), 2) for word in range(WORDS))


def shape(cell: Mapping[str, Any]) -> list[int]:
    """How the bits of a word are shared out at the ports that read and write."""
    return [int(cell["parameters"][f"{port}_MODE"], 2) for port in ("READ", "WRITE")]


def sections(config: str) -> dict[str, Words]:
    """The words of each block in a configuration, by its tile."""
    return {match[1]: tuple(int(word, 16) for word in match[2].split()) for match in SECTION.finditer(config)}


def section(place: str, words: Words) -> str:
    """The section of the block in the tile `place`."""
    return f".ram_data {place}\n" + "".join(f"{word:0{BITS // 4}x}\n" for word in words)
