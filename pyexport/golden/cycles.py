"""Cycle-exact prediction of the hardware, from the layers and the configuration alone (docs/architecture.md).

The array takes one activation word a cycle. A tile (one output pixel, `cols` channels) takes as many cycles as its
window has words, and at least as many as its drain has beats. A layer is one job, or several where the channel groups
do not advance evenly from tile to tile. A job ends a fixed number of cycles after its last word.
"""

from __future__ import annotations

from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network, QLayer

# From the last word issued to the next job's first word: memory 2, multiplier 3, accumulator 1, requantise 11 and the
# write; the adder tree and the drain's beats come on top.
PIPELINE = 17
TABLE = 2  # more where the codes go through a table


def tile_channels(layer: QLayer, out_channels: int, config: HwConfig) -> int:
    """Output channels that one tile computes.

    All columns, or as many as there are channels (in whole drain beats). Pooling: at most what lies in one activation
    word, so that the word holds every tap of the tile's channels.
    """
    most = min(config.cols, -(-out_channels // config.lanes) * config.lanes)
    if layer.weights is None:
        return max(n for n in range(config.lanes, most + 1, config.lanes) if config.rows % n == 0)
    return most


def tile_words(layer: QLayer, in_channels: int, out_channels: int, config: HwConfig) -> list[tuple[int, int]]:
    """For each tile of output channels: first activation word of a pixel that it reads, and one past the last."""
    per_in, per_out = in_channels // layer.groups, out_channels // layer.groups
    size = tile_channels(layer, out_channels, config)
    tiles = []
    for first in range(0, out_channels, size):
        last = min(first + size, out_channels) - 1
        channels = (first // per_out * per_in, (last // per_out + 1) * per_in - 1)
        tiles.append((channels[0] // config.rows, channels[1] // config.rows + 1))
    return tiles


def layer_cycles(layer: QLayer, network: Network, config: HwConfig) -> int:
    """Cycles from the layer's first word issued to its last code written."""
    if layer.operands:
        return concat_cycles(layer, network, config)
    source, target = network.tensors[layer.input], network.tensors[layer.output]
    tiles = tile_words(layer, source.shape[2], target.shape[2], config)
    words = max(end - start for start, end in tiles)
    pixel_words = -(-source.shape[2] // config.rows)
    passes = 2 if layer.wide else 1
    if layer.second is not None:  # both operands, once for each base-256 digit of the factors
        passes = 2 * (2 if max(map(abs, layer.factors)) <= 127 * 257 else 3)
    issue = passes * layer.kernel[0] * layer.kernel[1] * words
    beats = tile_channels(layer, target.shape[2], config) // config.lanes
    overhead = PIPELINE - 1 + config.tree_levels + beats + (TABLE if layer.table is not None else 0)
    parts = [area.height * area.width for area in layer.areas] or [target.shape[0] * target.shape[1]]
    total = 0
    for count in _runs([min(start, pixel_words - words) for start, _ in tiles]):
        for pixels in parts:
            jobs_tiles = pixels * count
            total += jobs_tiles * issue + (jobs_tiles - 1) * max(0, beats - issue) + overhead
    return total


def concat_cycles(layer: QLayer, network: Network, config: HwConfig) -> int:
    """A concatenation: each operand is copied in tiles of as many channels as possible, a job for each even stretch.

    A drain beat writes `lanes` channels that begin at a multiple of `lanes`. An operand that begins elsewhere first
    fills up the beat that the one before it began, in a job that reads two words a pixel: the output's and its own.
    """
    depth = PIPELINE - 1 + config.tree_levels
    total = offset = 0
    for name in layer.operands:
        height, width, channels = network.tensors[name].shape
        begin = 0
        if layer.axis == 2 and offset % config.lanes:
            begin = min(channels, config.lanes - offset % config.lanes)
            total += 2 * height * width + depth + 1
        offset += channels
        if begin == channels:
            continue
        beats = min(config.beats, -(-(channels - begin) // config.lanes))
        size = beats * config.lanes
        spans = [(c // config.rows, (min(c + size, channels) - 1) // config.rows) for c in range(begin, channels, size)]
        words = max(last - first + 1 for first, last in spans)
        most = -(-channels // config.rows) - words
        for count in _runs([min(first, most) for first, _ in spans]):
            tiles = height * width * count
            total += tiles * words + (tiles - 1) * max(0, beats - words) + depth + beats
    return total


def _runs(starts: list[int]) -> list[int]:
    """Lengths of the longest stretches, left to right, over which the first word advances by a constant."""
    lengths: list[int] = []
    while starts:
        count = min(2, len(starts))
        while count < len(starts) and starts[count] - starts[count - 1] == starts[1] - starts[0]:
            count += 1
        lengths.append(count)
        starts = starts[count:]
    return lengths


def network_cycles(network: Network, config: HwConfig) -> list[int]:
    """Cycles of each layer; a run takes their sum."""
    return [layer_cycles(layer, network, config) for layer in network.layers]
