"""Cycle-exact prediction of the hardware, from the layers and the configuration alone (docs/architecture.md).

The array takes one activation word a cycle. A tile (one output pixel, `cols` channels) takes as many cycles as its
window has words, and at least as many as its drain has beats. A layer is one job, or several where the channel groups
do not advance evenly from tile to tile, and where output pixels have different taps (a transposed convolution). A job
ends a fixed number of cycles after its last word. Depthwise layers and adds on a square array take a slot for each word
of weights or each new column of the window (`_window_slots`).
"""

from __future__ import annotations

import itertools

import numpy as np

from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network, QLayer

# From the last word issued to the next job's first word: memory 2, operands 1, multiplier 3, accumulator 1,
# requantise 11 and the write; the adder tree and the drain's beats come on top.
PIPELINE = 23
TABLE = 2  # more where the codes go through a table
SERIAL = 6  # from a tile's end to the next one's where a parameter word is read in five parts


def _gap(words: int, beats: int, config: HwConfig) -> int:
    """Cycles that a tile of `words` words is too short by: for its drain's beats, for its parameters."""
    return max(0, beats - words, SERIAL - words if config.prm_serial else 0)


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
    overhead = PIPELINE - 1 + config.tree_levels + (TABLE if layer.table is not None else 0)
    if _uses_window(layer, network, config):
        return _window_slots(layer, source.shape, target.shape, config) + overhead + 1
    channels, taps = source.shape[2], layer.kernel[0] * layer.kernel[1]
    if _reads_patches(layer, network, config):
        channels, taps = taps * channels, 1
    tiles = tile_words(layer, channels, target.shape[2], config)
    words = max(end - start for start, end in tiles)
    pixel_words = -(-channels // config.rows)
    passes = 2 if layer.wide else layer.digits
    if layer.second is not None:  # both operands, once for each base-256 digit of the factors
        passes = 2 * (2 if _two_digits(layer) else 3)
    beats = tile_channels(layer, target.shape[2], config) // config.lanes
    parts = [(area.height * area.width, passes * taps) for area in layer.areas]
    if layer.transposed:
        parts = _phases(layer, target.shape)
    total = 0
    for count in _jobs([min(start, pixel_words - words) for start, _ in tiles], passes == 1):
        for pixels, reads in parts or [(target.shape[0] * target.shape[1], passes * taps)]:
            jobs_tiles, issue = pixels * count, reads * words
            total += jobs_tiles * issue + (jobs_tiles - 1) * _gap(issue, beats, config) + overhead + beats
    return total


def _phases(layer: QLayer, target: tuple[int, int, int]) -> list[tuple[int, int]]:
    """A transposed convolution's phases: pixels with the same taps, and how often a word of each tap is read.

    Output position p meets tap k where p + padding - k * dilation is a multiple of the stride; a phase that meets none
    reads one word for nothing.
    """
    assert layer.weights is not None
    axes = []
    for axis in (0, 1):
        stride, before = layer.stride[axis], layer.padding[2 * axis]
        phase: dict[int, list[int]] = {}  # positions by what is left of the stride
        for position in range(target[axis]):
            phase.setdefault((position + before) % stride, []).append(position)
        taps = np.arange(layer.kernel[axis]) * layer.dilation[axis] % stride
        axes.append([(len(positions), taps == rest) for rest, positions in phase.items()])
    parts = []
    for height, rows in axes[0]:
        for width, columns in axes[1]:
            met = layer.weights[:, rows][:, :, columns]
            wide = met.size and (met.min() < -128 or met.max() > 127)
            parts.append((height * width, max(1, met.shape[1] * met.shape[2]) * (2 if wide else 1)))
    return parts


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
            total += 2 * height * width + (height * width - 1) * _gap(2, 1, config) + depth + 1
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
            total += tiles * words + (tiles - 1) * _gap(words, beats, config) + depth + beats
    return total


def _reads_patches(layer: QLayer, network: Network, config: HwConfig) -> bool:
    """Whether the frame holds this layer's windows: fewer words to read, and at most four times the words to hold."""
    name = network.input.tensor
    alone = sum(name in other.inputs for other in network.layers) == 1 and name != network.output.tensor
    if layer.input != name or not alone or layer.weights is None or layer.transposed or layer.groups > 1:
        return False
    height, width, channels = network.tensors[name].shape
    out_h, out_w, _ = network.tensors[layer.output].shape
    taps, pixel = layer.kernel[0] * layer.kernel[1], -(-channels // config.rows)
    patch = -(-taps * channels // config.rows)
    return patch < taps * pixel and out_h * out_w * patch <= 4 * height * width * pixel


def _two_digits(layer: QLayer) -> bool:
    return max(map(abs, layer.factors)) <= 127 * 257


def _uses_window(layer: QLayer, network: Network, config: HwConfig) -> bool:
    """Whether lanes see their own channel's 3x3 window: depthwise up to 3x3, adds of two tensors laid out alike."""
    if config.packed or config.prm_serial or not (config.rows == config.cols == config.lanes >= 8):
        return False
    if any(_concatenated(name, network) for name in (*layer.inputs, layer.output)):
        return False
    channels = network.tensors[layer.input].shape[2]
    if layer.second is not None:
        return (
            _added_at_once(layer)
            and channels % config.rows == 0
            and all(len(_added_to(name, network)) < 4 for name in layer.inputs)
        )
    if layer.weights is None or layer.transposed or layer.wide or channels == 1:
        return False
    depthwise = layer.groups == channels == layer.weights.shape[0]
    return depthwise and max(layer.kernel) <= 3 and layer.dilation == (1, 1) and max(layer.stride) < 256


def _concatenated(name: str, network: Network) -> bool:
    """Whether the tensor, or one that adds tie to it, is an end of a concatenation: such rows leave no gaps."""
    tied, size = {name}, 0
    while size < len(tied):
        size = len(tied)
        for layer in network.layers:
            if layer.second is not None and tied & {layer.input, layer.second}:
                tied |= {layer.input, layer.second}
    return any(tied & {*layer.operands, layer.output} for layer in network.layers if layer.operands)


def _added_at_once(layer: QLayer) -> bool:
    return layer.second is not None and layer.second != layer.input and _two_digits(layer)


def _added_to(name: str, network: Network) -> set[str]:
    """The tensors that other operands of adds with this tensor are."""
    pairs = [layer.inputs for layer in network.layers if _added_at_once(layer) and name in layer.inputs]
    return {other for pair in pairs for other in pair if other != name}


def _window_slots(layer: QLayer, source: tuple[int, int, int], target: tuple[int, int, int], config: HwConfig) -> int:
    """A pixel takes a slot for each word of weights, or for each column that it reads, whichever is more."""
    height, width, channels = target
    words = -(-channels // config.rows)
    if layer.second is not None:
        return 2 * height * width * words
    weights = 1 if config.rows >= 9 else 2
    columns, stride, left = layer.kernel[1], layer.stride[1], layer.padding[2]
    beyond = (width - 1) * stride - left + columns - source[1]  # columns right of the map
    lead = columns - min(left, max(0, beyond), columns - 1)  # pads serve the next row too
    rows = words * height
    slots = columns + (rows - 1) * max(lead, weights) + rows * (width - 1) * max(stride, weights)
    return slots + weights - 1


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


def _jobs(starts: list[int], merge: bool) -> list[int]:
    """Tiles of each job: runs, or where `merge` as many runs of the same shape as follow one another evenly."""
    jobs: list[list[list[int]]] = []  # for each, its runs' first words
    for length in _runs(starts):
        run, starts = starts[:length], starts[length:]
        offsets = [start - run[0] for start in run]
        if merge and jobs and [start - jobs[-1][0][0] for start in jobs[-1][0]] == offsets:
            begins = [earlier[0] for earlier in jobs[-1]] + [run[0]]
            if len({after - before for before, after in itertools.pairwise(begins)}) == 1:
                jobs[-1].append(run)
                continue
        jobs.append([run])
    return [sum(map(len, job)) for job in jobs]


def network_cycles(network: Network, config: HwConfig) -> list[int]:
    """Cycles of each layer; a run takes their sum."""
    return [layer_cycles(layer, network, config) for layer in network.layers]
