"""One layer -> accumulate jobs, loop nests over activation words and weight words (docs/architecture.md).

A layer becomes one job, or several where its tiles' first activation words do not advance evenly (some grouped layers).
Every increment that the address generator adds is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.arith import FRACTION
from pyexport.fit_add import digits
from pyexport.hwconfig import HwConfig
from pyexport.lower_concat import Emitted, increments, stretches
from pyexport.memory import MemoryPlan
from pyexport.patches import over_patches
from pyexport.phases import Pixels
from pyexport.qlayers import Network, QLayer


@dataclass(frozen=True)
class Tile:
    """Output channels of one tile, and the activation word within a pixel where it starts to read."""

    channels: range
    first_word: int


class LayerLowering:
    """One layer on one array. A tile is the output channels computed at once; a job is tiles that advance evenly.

    Or several runs of so many tiles each, whose first tiles advance evenly: as where one activation word holds the
    channels of several tiles. The loop over a run is then that of the passes.
    """

    def __init__(
        self, layer: QLayer, network: Network, config: HwConfig, memory: MemoryPlan, pixels: Pixels | None = None
    ) -> None:
        """pixels: the part of the output that it writes (None: all); the layer's padding is that of its first pixel."""
        self.source, self.target = network.tensors[layer.input], network.tensors[layer.output]
        self.pixels = pixels or Pixels(0, 0, self.target.shape[0], self.target.shape[1])
        self.read_from, self.write_to = memory.placements[layer.input], memory.placements[layer.output]
        self.map = self.source.shape
        if self.read_from.patches:
            layer, self.map = over_patches(layer), self.read_from.patches.shape
        self.layer, self.config = layer, config
        self.adds = layer.second is not None
        self.digits = digits(layer.factors)
        self.passes = len(self.digits[0]) if self.adds else 2 if layer.wide else layer.digits
        self.taps = (1, 2) if self.adds else layer.kernel  # an add's two taps are its operands
        other = network.tensors[layer.second or layer.input]
        self.zero_points = (self.source.zero_point, other.zero_point)
        self.between = memory.placements[other.name].base - self.read_from.base
        out_channels = self.target.shape[2]
        self.group_in, self.group_out = self.map[2] // layer.groups, out_channels // layer.groups
        whole_beats = -(-out_channels // config.lanes) * config.lanes
        self.tile_size = min(config.cols, whole_beats)
        if layer.weights is None:
            # pooling: the tile's channels lie in one word, so that no other word takes part in the maximum
            while config.rows % self.tile_size or self.tile_size % config.lanes:
                self.tile_size -= 1
        spans = []
        for first in range(0, out_channels, self.tile_size):
            last = min(first + self.tile_size, out_channels) - 1
            low, high = first // self.group_out * self.group_in, (last // self.group_out + 1) * self.group_in - 1
            spans.append((range(first, last + 1), low // config.rows, high // config.rows))
        # every tile reads as many words as the widest one, and never past its pixel
        self.words = max(high - low + 1 for _, low, high in spans)
        limit = -(-self.map[2] // config.rows) - self.words
        self.tiles = [Tile(channels, min(low, limit)) for channels, low, _ in spans]

    def emit(self) -> Iterator[Emitted]:
        """The jobs in order, but for the layer's index and their bases in weight and parameter memory."""
        for tiles, run in self.jobs():
            words, rewind = self.weight_words(tiles, run)
            yield self.fields(tiles, run, rewind), words, self.parameters(tiles)

    def jobs(self) -> list[tuple[list[Tile], int]]:
        """Each job's tiles, and how many of them are a run: all, or a part of which the job has several.

        Runs are stretches over which the first word advances by a constant, greedily from the left. Those that are
        alike, and whose first tiles advance by a constant, are one job where the layer leaves the loop of passes free.
        """
        firsts = [tile.first_word for tile in self.tiles]
        runs = stretches(firsts)
        alike: list[list[range]] = []
        for run in runs:
            shape = [firsts[i] - firsts[run[0]] for i in run]
            last = alike[-1] if alike else []
            if (
                self.passes > 1
                or not last
                or shape != [firsts[i] - firsts[last[0][0]] for i in last[0]]
                or (len(last) > 1 and firsts[run[0]] - firsts[last[-1][0]] != firsts[last[1][0]] - firsts[last[0][0]])
            ):
                alike.append([run])
            else:
                last.append(run)
        return [([self.tiles[i] for run in job for i in run], len(job[0])) for job in alike]

    def weight_words(self, tiles: list[Tile], run: int) -> tuple[npt.NDArray[np.int8], dict[str, int]]:
        """int8 (words, cols, rows) in the order read, and the weight address's increment for each loop.

        A weight is zero where the input lane is not the output lane's business. Unit weights are the same at every tap,
        and often in every tile: stored once and read again.
        """
        layer, rows, cols = self.layer, self.config.rows, self.config.cols
        taps = (1, 1) if layer.weights is None else layer.kernel
        if self.adds:  # both operands' highest digits first
            units = np.array(self.digits, np.int16).T.reshape(-1)
            taps = (len(units), 1)
        else:
            units = np.ones(1, np.int16)
        block = np.zeros((len(tiles), *taps, self.words, cols, rows), np.int32)
        for t, tile in enumerate(tiles):
            for column, channel in enumerate(tile.channels):
                lanes = np.zeros((*taps, self.words * rows), np.int32)
                low = channel // self.group_out * self.group_in - tile.first_word * rows
                lanes[..., low : low + self.group_in] = (
                    units.reshape(-1, 1, 1) if layer.weights is None else layer.weights[channel]
                )
                block[t, ..., column, :] = lanes.reshape(*taps, self.words, rows)
        words = block.reshape(len(tiles), -1, cols, rows)
        low_part = np.clip(words, -128, 127)
        if layer.wide:  # w = first pass - second pass, each an int8 (|w| <= 255)
            words = np.concatenate([low_part, low_part - words], axis=1)
        if layer.digits > 1:
            words = np.concatenate(_digits(words, layer.digits), axis=1)
        rewind = dict.fromkeys(isa.LEVELS, 1)
        if layer.weights is None:
            if not self.adds:
                rewind["kx"] = rewind["ky"] = 1 - self.words
            if (words == words[:1]).all():
                rewind["tile"] = 1 - words.shape[1]
                rewind["pass"] = rewind["pass"] if run == len(tiles) else rewind["tile"]
                words = words[:1]
            elif run < len(tiles) and (words.reshape(-1, run, *words.shape[1:]) == words[:run]).all():
                rewind["tile"] = 1 - run * words.shape[1]
                words = words[:run]
        stored = words.astype(np.int8).reshape(-1, cols, rows)
        rewind["ox"] = rewind["oy"] = 1 - len(stored)
        return stored, rewind

    def fields(self, tiles: list[Tile], run: int, rewind: dict[str, int]) -> dict[str, int]:
        """The descriptor of one job but for its layer's index and its bases in weight and parameter memory."""
        layer, config, channel = self.layer, self.config, tiles[0].channels.start
        beats = self.tile_size // config.lanes
        steps = self.passes * self.taps[0] * self.taps[1] * self.words
        pixel_bytes = -(-self.target.shape[2] // config.rows) * config.rows
        pixels, row, pixel = self.pixels, self.write_to.row_words, self.write_to.pixel_words
        out_ox = pixels.step[1] * pixel
        return self._loops(tiles, run, rewind) | {
            "opcode": isa.OPCODE_ACCUMULATE,
            "accumulate_max": int(layer.maximum),
            "pass_subtracts": int(layer.wide),
            "pass_shifts": int(self.adds or self.layer.digits > 1),
            "gap": config.gap(steps, beats),
            "pad": -128 if layer.maximum else self.source.zero_point,
            "zero_point": layer.requant.z,
            "low": layer.requant.lo,
            "high": layer.requant.hi,
            "last_beat": beats - 1,
            "out_base": self.write_to.base + pixels.y * row + pixels.x * pixel + channel // config.rows,
            "out_group": channel % config.rows // config.lanes,
            "out_groups": min(len(tiles) * self.tile_size, pixel_bytes - channel) // config.lanes,
            "out_ox": out_ox,
            "out_oy": pixels.step[0] * row - (pixels.width - 1) * out_ox,
        }

    def _loops(self, tiles: list[Tile], run: int, rewind: dict[str, int]) -> dict[str, int]:
        """Counts, address increments and window coordinates of the loop nest.

        An increment takes the address from the last iteration of all inner loops to the first one of the next: it holds
        the way back.
        """
        layer = self.layer
        height, width, _ = self.map
        (kernel_h, kernel_w), (stride_y, stride_x) = self.taps, layer.stride
        pixel, row = self.read_from.pixel_words, self.read_from.row_words
        tap_y, tap_x = layer.dilation[0] * row, self.between if self.adds else layer.dilation[1] * pixel
        next_y, next_x = layer.dilation[0], 0 if self.adds else layer.dilation[1]
        runs, within = tiles[::run], tiles[:run]
        if len(runs) == 1:
            again, each = (self.passes, 0), (run, step(within))
        else:
            again, each = (run, step(within)), (len(runs), step(runs))
        loops = {  # count, step of the activation address
            "word": (self.words, 1),
            "kx": (kernel_w, tap_x),
            "ky": (kernel_h, tap_y),
            "pass": again,
            "tile": each,
            "ox": (self.pixels.width, stride_x * pixel),
            "oy": (self.pixels.height, stride_y * row),
        }
        fields: dict[str, int] = {}
        for (loop, (count, _)), increment in zip(loops.items(), increments(list(loops.values())), strict=True):
            fields |= {f"{loop}_count": count - 1, f"{loop}_act": increment, f"{loop}_wgt": rewind[loop]}
        top, _, left, _ = layer.padding
        back_x, back_y = -(kernel_w - 1) * next_x, -(kernel_h - 1) * next_y
        first = self.read_from.base + tiles[0].first_word - top * row - left * pixel
        return fields | {
            "act_base": first % (1 << 24),
            "map_h": height,
            "map_w": width,
            "x0": -left,
            "y0": -top,
            "kx_x": next_x,
            "back_x": back_x,
            "ox_x": back_x + stride_x,
            "ky_y": next_y,
            "back_y": back_y,
            "oy_y": back_y + stride_y,
        }

    def parameters(self, tiles: list[Tile]) -> list[int]:
        """One 160-bit integer per channel, all zero for those that only fill up a tile (docs/formats.md)."""
        rq = self.layer.requant
        bias = folded_bias(self.layer, self.zero_points)
        packed = [0] * (len(tiles) * self.tile_size)
        for i, channel in enumerate(c for tile in tiles for c in tile.channels):
            values = {
                "bias": bias[channel],
                "m": rq.m[channel],
                "even": rq.even[channel],
                "r": rq.r[channel],
                "exc_v": rq.exc_v[channel],
                "d": rq.d[channel],
                "shift": rq.s[channel] - FRACTION,
                "exc_d": rq.exc_d[channel],
            }
            (packed[i],) = isa.encode(isa.PARAMETER, {name: int(value) for name, value in values.items()})
        return packed


def step(tiles: list[Tile]) -> int:
    """Activation words from a tile's first one to the next tile's."""
    return tiles[1].first_word - tiles[0].first_word if len(tiles) > 1 else 0


def _digits(weights: npt.NDArray[np.int32], count: int) -> list[npt.NDArray[np.int32]]:
    """Each weight's int8 digits to base 256, highest first."""
    parts: list[npt.NDArray[np.int32]] = []
    for _ in range(count):
        low = ((weights + 128) & 255) - 128
        parts.insert(0, low)
        weights = (weights - low) >> 8
    return parts


def folded_bias(layer: QLayer, zero_points: tuple[int, int]) -> npt.NDArray[np.int64]:
    """What parameter memory holds as bias, int32 (C,). zero_points: of the input and of an add's second one, on chip.

    The hardware sums x * w without zero points, so bias - zx * (sum of w), modulo 2^32 like the accumulator.
    """
    if layer.maximum or layer.operands:
        return layer.requant.bias
    if layer.second is not None:
        return layer.requant.bias - zero_points[0] * layer.factors[0] - zero_points[1] * layer.factors[1]
    taps = layer.kernel[0] * layer.kernel[1]
    total = taps if layer.weights is None else layer.weights.astype(np.int64).sum(axis=(1, 2, 3))
    return (layer.requant.bias - zero_points[0] * total).astype(np.int32).astype(np.int64)
