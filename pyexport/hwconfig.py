"""One checked configuration object for the hardware: what the Verilog parameters are and what follows from them.

The array is named rows x columns: `rows` input lanes (multipliers per output lane, bytes per activation word) by `cols`
output lanes (accumulators). See docs/architecture.md.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pyexport.errors import IntactError

PARAM_BITS = 160  # one channel's requantise parameters, docs/formats.md
PROGRAM_BITS = 64  # one program word
SERIAL_CYCLES = 6  # from a tile to the next where parameters are read in parts (rtl/parameter_memory.v)


def bits_for(depth: int) -> int:
    """Address bits of a memory with `depth` words (at least 1)."""
    return max(1, (depth - 1).bit_length())


def _padded(bits: int) -> int:
    """Memories that the host loads are a whole number of 32-bit slices wide."""
    return -(-bits // 32) * 32


@dataclass(frozen=True)
class HwConfig:
    """Parameters of rtl/intact_core.v. Depths are in words of the memory concerned.

    rows, cols: 1..64 each.  lanes: requantise lanes, a divisor of rows and of cols.
    act_depth: activation words of `rows` bytes.  wgt_depth: weight words of rows * cols bytes.
    prm_depth: parameter words of lanes * 160 bits.  prg_depth: program words of 64 bits.  layers: cycle counters.
    tables: tables of 256 codes; with 0 there is no hardware for them.
    packed: 1 where two columns of the array share multiplier blocks, a block computing two products; 0 elsewhere.
    prm_serial: 1 where a parameter word is read in five parts, one after another; there are as many lanes as columns.
    """

    rows: int = 8
    cols: int = 8
    lanes: int = 8
    act_depth: int = 4096
    wgt_depth: int = 1024
    prm_depth: int = 256
    prg_depth: int = 1024
    layers: int = 256
    tables: int = 0
    packed: int = 0
    prm_serial: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("rows", 1, 64), ("cols", 1, 64), ("lanes", 1, 64)):
            if not low <= getattr(self, name) <= high:
                raise IntactError(f"array: {name}={getattr(self, name)} lies outside {low}..{high}")
        if self.rows % self.lanes or self.cols % self.lanes:
            raise IntactError(f"array {self.array}: lanes={self.lanes} must divide both rows and columns")
        if self.rows * self.cols < 2:
            raise IntactError("array 1x1: the smallest arrays are 1x2 and 2x1")
        for name in ("act_depth", "wgt_depth", "prm_depth", "prg_depth"):
            if not 2 <= getattr(self, name) <= 1 << 24:
                raise IntactError(f"array {self.array}: {name}={getattr(self, name)} lies outside 2..{1 << 24}")
        if not 1 <= self.layers <= 4096:
            raise IntactError(f"array {self.array}: layers={self.layers} lies outside 1..4096")
        if not 0 <= self.tables <= 255:
            raise IntactError(f"array {self.array}: tables={self.tables} lies outside 0..255")
        if self.packed not in (0, 1):
            raise IntactError(f"array {self.array}: packed={self.packed} is neither 0 nor 1")
        if self.prm_serial not in (0, 1):
            raise IntactError(f"array {self.array}: prm_serial={self.prm_serial} is neither 0 nor 1")
        if self.prm_serial and self.lanes != self.cols:
            raise IntactError(f"array {self.array}: serial parameters take as many requantise lanes as columns")

    @property
    def array(self) -> str:
        """The array's name, e.g. `8x8`."""
        return f"{self.rows}x{self.cols}"

    @property
    def multipliers(self) -> int:
        """int8 products that the array computes in a cycle."""
        return self.rows * self.cols

    @property
    def multiplier_blocks(self) -> int:
        """Multiplier blocks that the array's products take: one each, or one for two columns."""
        return self.rows * (-(-self.cols // 2) if self.packed else self.cols)

    @property
    def beats(self) -> int:
        """Cycles that the drain of one tile of `cols` results takes."""
        return self.cols // self.lanes

    def gap(self, steps: int, beats: int) -> int:
        """Cycles without a word after a tile of `steps` words, so that the drain of `beats` beats keeps up."""
        return max(0, max(beats, SERIAL_CYCLES if self.prm_serial else 1) - steps)

    @property
    def groups_per_word(self) -> int:
        """Groups of `lanes` bytes in an activation word: what one drain beat writes."""
        return self.rows // self.lanes

    @property
    def tree_levels(self) -> int:
        """Registers on the way through the adder tree of one output lane, one behind every second level."""
        return ((self.rows - 1).bit_length() + 1) // 2

    @property
    def window(self) -> bool:
        """Whether the array has a 3x3 window: each lane's multipliers can take taps of the lane's own channel.

        It needs as many rows as columns and requantise lanes, and eight at least: nine taps in two words. Columns that
        share multiplier blocks share their operands too, so a packed array has none; and serial parameters come slower
        than its pixels.
        """
        return self.rows == self.cols == self.lanes and self.rows >= 8 and not self.packed and not self.prm_serial

    @property
    def act_bits(self) -> int:
        """Width of an activation word."""
        return 8 * self.rows

    @property
    def wgt_bits(self) -> int:
        """Width of a weight word in memory."""
        return _padded(8 * self.rows * self.cols)

    @property
    def prm_bits(self) -> int:
        """Width of a parameter word in memory."""
        return PARAM_BITS * self.lanes

    def verilog_parameters(self) -> dict[str, int]:
        """Parameters of `intact_core` by name."""
        return {
            "ROWS": self.rows,
            "COLS": self.cols,
            "LANES": self.lanes,
            "ACT_DEPTH": self.act_depth,
            "WGT_DEPTH": self.wgt_depth,
            "PRM_DEPTH": self.prm_depth,
            "PRG_DEPTH": self.prg_depth,
            "LAYERS": self.layers,
            "TABLES": self.tables,
            "PACKED": self.packed,
            "PRM_SERIAL": self.prm_serial,
        }


def parse_array(text: str) -> tuple[int, int]:
    """`8x8` -> (8, 8). Raises IntactError on anything else."""
    match = re.fullmatch(r"(\d{1,3})[xX](\d{1,3})", text.strip())
    if not match:
        raise IntactError(f"array {text!r}: write it as rows x columns, for example 8x8 or 16x4")
    return int(match[1]), int(match[2])


def for_array(
    rows: int, cols: int, most_lanes: int = 64, packed: bool = False, serial: bool = False, **depths: int
) -> HwConfig:
    """The configuration of an array with as many requantise lanes as a drain beat can write, `most_lanes` at most."""
    if rows < 1 or cols < 1:
        raise IntactError(f"array {rows}x{cols}: rows and columns must be at least 1")
    if most_lanes < 1:
        raise IntactError(f"lanes: at least 1, not {most_lanes}")
    shared = math.gcd(rows, cols)
    lanes = max(n for n in range(1, min(shared, most_lanes) + 1) if shared % n == 0)
    return HwConfig(rows=rows, cols=cols, lanes=lanes, packed=int(packed), prm_serial=int(serial), **depths)
