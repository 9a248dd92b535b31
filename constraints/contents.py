"""What block RAMs hold at power-up: noted when a build is placed, changed in the finished build by `make weights`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from constraints.flow import Stages, noted, reading, relative, tool
from pyexport.errors import IntactError

BLOCKS = "block_rams.json"  # of a finished build
AGAIN = "make bitstream builds it again"
Words = tuple[int, ...]


class Contents(Protocol):
    """How a family's files say what block RAMs hold: constraints/ecp5_contents.py, constraints/ice40_contents.py."""

    def block_rams(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """The block RAMs among a netlist's cells, by name."""

    def held(self, cell: Mapping[str, Any]) -> Words:
        """The words of a netlist's block RAM."""

    def shape(self, cell: Mapping[str, Any]) -> list[int]:
        """What must be the same of two block RAMs that take each other's words."""

    def sections(self, config: str) -> dict[str, Words]:
        """The words of each block RAM in a placed configuration, by what that calls it."""

    def section(self, place: str, words: Words) -> str:
        """A block RAM's part of a placed configuration."""

    @property
    def SECTION(self) -> re.Pattern[str]:
        """Any block RAM's part of a placed configuration; its first group is what that calls it."""


@dataclass(frozen=True)
class Refill:
    """How a family's finished build takes other memory images. command: yosys' synthesis up to the mapping of memories.
    placed: the file of the placed configuration.
    """

    contents: Contents
    command: str
    placed: str


def cells_of(netlist: Path) -> dict[str, Any]:
    """The cells of the module `top`, by name."""
    cells: dict[str, Any] = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    return cells


def version(log: Path) -> str:
    """The yosys that wrote a log, as it calls itself."""
    with log.open(errors="replace") as lines:
        return next((line.strip() for line in lines if line.startswith(" Yosys ")), "")


def note_blocks(family: Contents, netlist: Path, places: Mapping[str, str], config: Path, folder: Path) -> None:
    """Notes what the placed configuration calls each block RAM, and what else `refill` needs, in `folder`.

    places: these names, by cell. Raises IntactError where the configuration does not hold the netlist's contents there.
    """
    cells = family.block_rams(cells_of(netlist))
    if family.sections(config.read_text()) != {places.get(name, ""): family.held(cell) for name, cell in cells.items()}:
        raise IntactError("place and route: the configuration's block RAMs do not hold what the netlist's do")
    blocks = {name: {"place": places[name], "shape": family.shape(cell)} for name, cell in cells.items()}
    (folder / BLOCKS).write_text(
        json.dumps({"synthesised_by": version(folder / "yosys.log"), "blocks": blocks}, indent=1)
    )


def replaced(family: Contents, config: str, contents: Mapping[str, Words]) -> str:
    """The configuration with other words in its blocks. contents: of every block, by what the configuration calls it.

    Raises IntactError where the configuration has other blocks, or blocks of another size.
    """
    before = family.sections(config)
    sizes = {place: len(words) for place, words in contents.items()}
    if sizes != {place: len(words) for place, words in before.items()}:
        raise IntactError("placed configuration: its block RAMs are not those of the netlist")
    return family.SECTION.sub(lambda match: family.section(match[1], contents[match[1]]), config)


def refill(
    how: Refill, stages: Stages, sources: Sequence[Path], parameters: Mapping[str, int | str], finished: Path
) -> Path:
    """A finished build's placed configuration with other memory images: nothing is placed again.

    yosys itself lays the images out in the blocks, as in the whole. sources, parameters: the finished build's but for
    the images. finished: its folder. Raises IntactError where its memories are not those of `sources`.
    """
    family, placed = how.contents, finished / how.placed
    netlist, script = stages.folder / "memories.json", stages.folder / "memories.ys"
    writing = f"select -module top\nwrite_json -selected {relative(netlist)}\n"
    script.write_text(f"{reading(sources, parameters)}{how.command}\n{writing}")
    stages.run("memories", "yosys.log", [tool("yosys"), "-s", relative(script)])
    before = noted(finished / BLOCKS)
    if version(stages.folder / "yosys.log") != before.get("synthesised_by"):
        raise IntactError(f"weights: {relative(finished)} was built by another yosys: {AGAIN}")
    every = family.block_rams(cells_of(netlist))
    # what is synthesised after the memories leaves out the blocks that nothing reads
    cells = {name: every[name] for name in before["blocks"] if name in every}
    shapes = {name: block["shape"] for name, block in before["blocks"].items()}
    if {name: family.shape(cell) for name, cell in cells.items()} != shapes:
        raise IntactError(f"weights: {relative(finished)} has other memories: {AGAIN}")
    config = stages.folder / placed.name
    contents = {before["blocks"][name]["place"]: family.held(cell) for name, cell in cells.items()}
    config.write_text(replaced(family, placed.read_text(), contents))
    (stages.folder / BLOCKS).write_text(json.dumps(before, indent=1))
    return config
