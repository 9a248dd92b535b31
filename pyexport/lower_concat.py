"""A concatenation's jobs: each operand is copied to its place in the output (docs/architecture.md).

Results are written in groups of `lanes` channels. Where an operand's first channel falls inside a group, a job of two
taps merges that group with the operand's channels: it reads the output's word, which holds the operands before, and
writes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.arith import FRACTION
from pyexport.hwconfig import HwConfig
from pyexport.memory import MemoryPlan
from pyexport.qlayers import Network, QLayer

Emitted = tuple[dict[str, int], npt.NDArray[np.int8], list[int]]  # descriptor fields, weight words, packed parameters


def concat_jobs(layer: QLayer, network: Network, config: HwConfig, memory: MemoryPlan) -> Iterator[Emitted]:
    """The jobs in order, but for the layer's index and their bases in weight and parameter memory."""
    start = 0  # along the axis
    for name in layer.operands:
        shape = network.tensors[name].shape
        copy = _Copy(layer, name, network, config, memory)
        if layer.axis != 2:
            copy.pixel = start * (network.tensors[layer.output].shape[1] if layer.axis == 0 else 1)
            yield from copy.channels(0, 0)
        else:
            filled = start % config.lanes
            taken = min(config.lanes - filled, shape[2]) if filled else 0
            if taken:
                yield copy.merge(start - filled, filled, taken)
            if taken < shape[2]:
                yield from copy.channels(taken, start + taken)
        start += shape[layer.axis]


class _Copy:
    """One operand. pixel: the output's pixel where it begins."""

    def __init__(self, layer: QLayer, name: str, network: Network, config: HwConfig, memory: MemoryPlan) -> None:
        self.layer, self.config, self.pixel = layer, config, 0
        self.shape = network.tensors[name].shape
        self.out_width = network.tensors[layer.output].shape[1]
        self.source, self.target = memory.placements[name], memory.placements[layer.output]

    def merge(self, first: int, filled: int, taken: int) -> Emitted:
        """The group at the output's channel `first`: `filled` channels that it has, then `taken` of the operand."""
        rows, at = self.config.rows, self.target.base + first // self.config.rows
        words = np.zeros((2, self.config.cols, rows), np.int8)
        for column in range(filled):
            words[0, column, first % rows + column] = 1
        for column in range(taken):
            words[1, filled + column, column] = 1
        act = [(1, 1), (2, self.source.base - at), (1, 0), (1, 0), (1, 0)]
        wgt = [(1, 1), (2, 1), (1, 0), (1, 0), (1, 0)]
        assert self.source.pixel_words == self.target.pixel_words or self.shape[0] * self.shape[1] == 1
        return (
            self._job(at, act, wgt, self.config.lanes, first, filled + taken),
            words,
            self._parameters(filled + taken),
        )

    def channels(self, first: int, to: int) -> Iterator[Emitted]:
        """The operand's channels from `first` on, to the output's from `to` on, where a group begins."""
        rows, cols, lanes, end = self.config.rows, self.config.cols, self.config.lanes, self.shape[2]
        size = min(cols, -(-(end - first) // lanes) * lanes)
        tiles = [range(at, min(at + size, end)) for at in range(first, end, size)]
        count = max(tile[-1] // rows - tile[0] // rows + 1 for tile in tiles)
        # every tile reads as many words as the widest one, and never past its pixel
        starts = [min(tile[0] // rows, -(-end // rows) - count) for tile in tiles]
        for stretch in stretches(starts):
            words = np.zeros((len(stretch), count, cols, rows), np.int8)
            for t, i in enumerate(stretch):
                for column, channel in enumerate(tiles[i]):
                    lane = channel - starts[i] * rows
                    words[t, lane // rows, column, lane % rows] = 1
            once = bool((words == words[:1]).all())
            step = starts[stretch[1]] - starts[stretch[0]] if len(stretch) > 1 else 0
            act = [(count, 1), (1, 0), (1, 0), (1, 0), (len(stretch), step)]
            wgt = [(count, 1), (1, 0), (1, 0), (1, 0), (len(stretch), 0 if once else count)]
            held = tiles[stretch[-1]][-1] + 1 - tiles[stretch[0]][0]
            fields = self._job(
                self.source.base + starts[stretch[0]], act, wgt, size, to + tiles[stretch[0]][0] - first, held
            )
            yield fields, words[: 1 if once else None].reshape(-1, cols, rows), self._parameters(held, size)

    def _job(
        self, base: int, act: list[tuple[int, int]], wgt: list[tuple[int, int]], size: int, channel: int, held: int
    ) -> dict[str, int]:
        """One descriptor. act, wgt: count and address step of the loops within a pixel.

        size: channels of a tile.  channel: the output's, where the job begins.  held: channels that it writes.
        """
        config, (height, width, _) = self.config, self.shape
        read, written = self.source.pixel_words, self.target.pixel_words
        beats = size // config.lanes
        fields: dict[str, int] = {}
        pixels = [(width, read), (height, width * read)]
        for level, (count, _), a, w in zip(
            isa.LEVELS,
            act + pixels,
            increments(act + pixels),
            increments([*wgt, (width, 0), (height, 0)]),
            strict=True,
        ):
            fields |= {f"{level}_count": count - 1, f"{level}_act": a, f"{level}_wgt": w}
        return fields | {
            "opcode": isa.OPCODE_ACCUMULATE,
            "gap": config.gap(act[0][0] * act[1][0], beats),
            "act_base": base,
            "map_h": height,
            "map_w": width,
            "ox_x": 1,
            "oy_y": 1,
            "low": self.layer.requant.lo,
            "high": self.layer.requant.hi,
            "last_beat": beats - 1,
            "out_base": self.target.base + self.pixel * written + channel // config.rows,
            "out_group": channel % config.rows // config.lanes,
            "out_groups": -(-held // config.lanes),
            "out_ox": written,
            "out_oy": (self.out_width - width + 1) * written,
        }

    def _parameters(self, held: int, size: int = 0) -> list[int]:
        """The code itself for each channel; zeros fill up the last tile of `size` channels."""
        (identity,) = isa.encode(isa.PARAMETER, {"m": 1 << FRACTION})
        whole = size or self.config.lanes
        return [identity] * held + [0] * (-held % whole)


def increments(loops: list[tuple[int, int]]) -> list[int]:
    """What is added when a loop advances: its step, less the way back of the loops inside. loops: count and step."""
    found, back = [], 0
    for count, step in loops:
        found.append(step - back)
        back += (count - 1) * step
    return found


def stretches(starts: list[int]) -> list[range]:
    """Indices, left to right, over which the values advance by a constant, each as long as possible."""
    found: list[range] = []
    first = 0
    for i in range(1, len(starts) + 1):
        if i == len(starts) or (i - first > 1 and starts[i] - starts[i - 1] != starts[first + 1] - starts[first]):
            found.append(range(first, i))
            first = i
    return found
