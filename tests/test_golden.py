"""The golden model on numbers worked by hand, against plain loops, and its cycle counts on layers counted by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pyexport import golden, hwconfig, ir
from pyexport.arith import Requant
from pyexport.golden import network as golden_network
from pyexport.golden.accumulate import accumulate
from pyexport.golden.cycles import _runs, tile_channels, tile_words
from pyexport.ir import window_shape
from pyexport.qlayers import Network, QLayer, QTensor

SCALE = np.float32(0.5)


def tensor(name: str, shape: tuple[int, int, int], zero_point: int = 0) -> QTensor:
    """An int8 tensor."""
    return QTensor(name, shape, zero_point, 0, ir.Quant(SCALE, zero_point, "int8"))


def identity(channels: int, bias: int = 0, low: int = -128, high: int = 127) -> Requant:
    """q = clamp(acc + bias)."""
    full = {name: np.zeros(channels, np.int64) for name in ("r", "d", "even", "exc_v", "exc_d")}
    ones, biases = np.ones(channels, np.int64), np.full(channels, bias, np.int64)
    return Requant(bias=biases, m=ones << 24, s=ones * 24, **full, z=0, lo=low, hi=high)


def layer(weights: Any, out: int, **fields: Any) -> QLayer:
    """A convolution, or a pool where weights is None; `fields` replace what a 1x1 layer without padding has."""
    kernel = fields.pop("kernel", (1, 1) if weights is None else weights.shape[1:3])
    base = QLayer(
        "layer", "conv2d", "x", "y", kernel, (1, 1), (0, 0, 0, 0), (1, 1), 1, weights, False, identity(out), 0
    )
    return replace(base, **fields)


def network(one: QLayer, source: tuple[int, int, int], out_channels: int, zero_point: int = 0) -> Network:
    """A network of this layer alone."""
    height, width = window_shape(source, one.kernel, one.stride, one.padding, one.dilation)
    tensors = {"x": tensor("x", source, zero_point), "y": tensor("y", (height, width, out_channels))}
    first, last = (ir.Port(name, tensors[name].shape, (0, 1, 2)) for name in ("x", "y"))
    return Network("test", "exact", tensors, (one,), first, last, "torch")


def image(rows: list[list[int]]) -> Any:
    """One channel, one inference: (1, H, W, 1)."""
    return np.array(rows, np.int8)[np.newaxis, :, :, np.newaxis]


def kernel(rows: list[list[int]]) -> Any:
    """One input and one output channel: (1, kh, kw, 1)."""
    return np.array(rows, np.int16)[np.newaxis, :, :, np.newaxis]


X = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
W = kernel([[1, 10], [100, -1]])


@pytest.mark.parametrize(
    ("fields", "zero_point", "expected"),
    [
        # 1 + 20 + 400 - 5 = 416, 2 + 30 + 500 - 6, 4 + 50 + 700 - 8, 5 + 60 + 800 - 9
        ({}, 0, [[416, 526], [746, 856]]),
        # every tap is one lower: 110 less
        ({}, 1, [[306, 416], [636, 746]]),
        # the first row's window is half in the padding, which holds the zero point and so adds nothing
        ({"padding": (1, 0, 0, 0)}, 0, [[98, 197], [416, 526], [746, 856]]),
        ({"padding": (1, 0, 0, 0)}, 1, [[-1, 98], [306, 416], [636, 746]]),
        ({"padding": (0, 0, 0, 1)}, 0, [[416, 526, 603], [746, 856, 906]]),
        ({"stride": (1, 2), "padding": (0, 0, 0, 1)}, 0, [[416, 603], [746, 906]]),
        # taps two apart: 1 + 30 + 700 - 9
        ({"dilation": (2, 2)}, 0, [[722]]),
        ({"dilation": (1, 2)}, 0, [[1 + 30 + 400 - 6], [4 + 60 + 700 - 9]]),
    ],
)
def test_convolution_by_hand(fields: dict[str, Any], zero_point: int, expected: list[list[int]]) -> None:
    acc = accumulate(X, layer(W, 1, **fields), tensor("x", (3, 3, 1), zero_point))
    assert acc.dtype == np.int64 and acc[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # each code times the kernel [[1, 10], [100, -1]], where it falls; 1 | 10, 100 | -1, and so on
        ({"stride": (2, 2)}, [[1, 10, 2, 20], [100, -1, 200, -2], [4, 40, 5, 50], [400, -4, 500, -5]]),
        ({}, [[1, 12, 20], [104, 244, 48], [400, 496, -5]]),
        ({"padding": (1, 0, 0, 1)}, [[104, 244], [400, 496]]),
        # an output padding: a row and a column that no tap reaches
        ({"stride": (2, 2), "padding": (3, -1, 0, -1)}, [[400, -4, 500, -5, 0], [0, 0, 0, 0, 0]]),
        # a stride above the kernel leaves holes
        ({"stride": (1, 3), "padding": (0, 1, 0, 0)}, [[1, 10, 0, 2, 20], [104, 39, 0, 205, 48]]),
        # taps two apart meet every other position
        ({"stride": (1, 2), "dilation": (1, 2)}, [[1, 0, 12, 0, 20], [104, 0, 244, 0, 48], [400, 0, 496, 0, -5]]),
    ],
)
@pytest.mark.parametrize("zero_point", [0, 7])
def test_transposed_convolution_by_hand(fields: dict[str, Any], zero_point: int, expected: list[list[int]]) -> None:
    """The zero point changes nothing: the codes are that much higher."""
    transposed = layer(W, 1, op="conv_transpose2d", **fields)
    x = image([[1, 2], [4, 5]]) + np.int8(zero_point)
    assert accumulate(x, transposed, tensor("x", (2, 2, 1), zero_point))[0, :, :, 0].tolist() == expected


def test_groups_by_hand() -> None:
    """Four inputs in two groups, two outputs each: a group sees its own inputs only."""
    x = np.array([1, 2, 30, 40], np.int8).reshape(1, 1, 1, 4)
    weights = np.array([[1, 1], [1, -1], [1, 1], [2, 3]], np.int16).reshape(4, 1, 1, 2)
    acc = accumulate(x, layer(weights, 4, groups=2), tensor("x", (1, 1, 4)))
    assert acc.reshape(-1).tolist() == [3, -1, 70, 60 + 120]


def test_pools_by_hand() -> None:
    x = image([[-128, -100, 3], [-127, -101, 6], [7, -8, 9]])
    pool = layer(None, 1, kernel=(2, 2), maximum=True)
    assert accumulate(x, pool, tensor("x", (3, 3, 1)))[0, :, :, 0].tolist() == [[-100, 6], [7, 9]]
    # padding never wins, not even against the lowest code
    padded = replace(pool, stride=(2, 2), padding=(1, 0, 1, 0))
    assert accumulate(x, padded, tensor("x", (3, 3, 1), 50))[0, :, :, 0].tolist() == [[-128, 3], [7, 9]]
    summed = replace(pool, maximum=False, padding=(0, 1, 0, 0))
    # codes less the zero point 5, taps in the padding 0
    expected = [[-456 - 20, -192 - 20], [-229 - 20, -94 - 20], [-1 - 10, 1 - 10]]
    assert accumulate(x, summed, tensor("x", (3, 3, 1), 5))[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("seed", range(12))
def test_convolution_against_plain_loops(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    groups, per_in, per_out = rng.randint(1, 3), rng.randint(1, 3), rng.randint(1, 2)
    size = (rng.randint(4, 6), rng.randint(4, 6), groups * per_in)
    taps = (rng.randint(1, 3), rng.randint(1, 2))
    weights = numbers.integers(-255, 256, (groups * per_out, *taps, per_in)).astype(np.int16)
    padding = (rng.randint(0, 2), rng.randint(0, 2), rng.randint(0, 2), rng.randint(0, 2))
    stride, dilation = (rng.randint(1, 2), rng.randint(1, 3)), (rng.randint(1, 2), rng.randint(1, 2))
    one = layer(weights, len(weights), padding=padding, stride=stride, dilation=dilation, groups=groups)
    zero_point = rng.choice([-128, 0, 3, 127])
    x = numbers.integers(-128, 128, (2, *size)).astype(np.int8)
    acc = accumulate(x, one, tensor("x", size, zero_point))
    assert acc.shape[1:3] == window_shape(size, taps, stride, padding, dilation)
    for n, oy, ox, oc in np.ndindex(acc.shape):
        total = 0
        for ky, kx, c in np.ndindex(*taps, per_in):
            row = oy * stride[0] - padding[0] + ky * dilation[0]
            column = ox * stride[1] - padding[2] + kx * dilation[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                code = int(x[n, row, column, oc // per_out * per_in + c])
                total += (code - zero_point) * int(weights[oc, ky, kx, c])
        assert acc[n, oy, ox, oc] == total


@pytest.mark.parametrize("last", [3, 4, 5])
def test_sums_beyond_float32(last: int) -> None:
    """258 weights of 255 and one of `last`, all times 255: 2^24 - 1 with 3, then past float32's integers."""
    weights = np.full((1, 1, 1, 259), 255, np.int16)
    weights[..., -1] = last
    x = np.full((1, 1, 1, 259), 127, np.int8)
    acc = accumulate(x, layer(weights, 1), tensor("x", (1, 1, 259), -128))
    assert int(acc[0, 0, 0, 0]) == 255 * (258 * 255 + last)
    assert last != 3 or int(acc[0, 0, 0, 0]) == (1 << 24) - 1
    assert last != 5 or int(np.float32(acc[0, 0, 0, 0])) != int(acc[0, 0, 0, 0])


def test_requantise_bias_and_clamp() -> None:
    one = replace(layer(kernel([[1]]), 1), requant=identity(1, bias=-3, low=-2, high=4))
    codes = golden.run(network(one, (3, 3, 1), 1), X)
    assert codes["y"].dtype == np.int8 and codes["y"].reshape(-1).tolist() == [-2, -1, 0, 1, 2, 3, 4, 4, 4]
    assert np.array_equal(codes["x"], X)


def test_large_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    one = layer(W, 1, padding=(1, 1, 1, 1))
    net = network(one, (3, 3, 1), 1)
    x = np.random.default_rng(0).integers(-128, 128, (7, 3, 3, 1)).astype(np.int8)
    whole = golden.run(net, x)
    monkeypatch.setattr(golden_network, "WINDOW_BYTES", 3 * 16 * 4 * 8)  # three inferences at a time
    parts = golden.run(net, x)
    assert all(np.array_equal(whole[name], parts[name]) for name in ("x", "y"))
    last = golden.run(net, x, keep=False)
    assert list(last) == ["y"] and np.array_equal(last["y"], whole["y"])


def weights(out: int, taps: int, inputs: int, largest: int = 1) -> Any:
    return np.full((out, taps, taps, inputs), largest, np.int16)


# Cycles: pixels x tiles x words issued, and once per job what the pipeline holds: 22, the adder tree's registers, and the
# drain's beats.
@pytest.mark.parametrize(
    ("array", "cycles"),
    [
        ("8x8", 256 * 4 * (9 * 4) + 22 + 2 + 1),  # 4 tiles of 8 channels, 4 words a pixel
        ("4x16", 256 * 2 * (9 * 8) + 22 + 1 + 4),  # 2 tiles of 16, 8 words; 4 requantise lanes
        ("16x4", 256 * 8 * (9 * 2) + 22 + 2 + 1),
        ("3x7", 256 * 5 * (9 * 11) + 22 + 1 + 7),  # 5 tiles of 7 for 32 channels, 11 words for 32
        ("32x32", 256 * 1 * (9 * 1) + 22 + 3 + 1),
    ],
)
def test_cycles_of_a_large_convolution(array: str, cycles: int) -> None:
    one = layer(weights(32, 3, 32), 32, padding=(1, 1, 1, 1))
    config = hwconfig.for_array(*hwconfig.parse_array(array))
    assert golden.network_cycles(network(one, (16, 16, 32), 32), config) == [cycles]


def test_cycles_of_other_layers() -> None:
    config = hwconfig.for_array(8, 8)
    tall = hwconfig.for_array(1, 4)

    def count(one: QLayer, source: tuple[int, int, int], out: int, where: hwconfig.HwConfig = config) -> int:
        return golden.layer_cycles(one, network(one, source, out), where)

    # 3 inputs and 5 outputs fill neither a word nor a tile
    assert count(layer(weights(5, 1, 3), 5), (2, 2, 3), 5) == 4 + 25
    # weights beyond int8 take two passes
    assert count(layer(weights(5, 1, 3, 200), 5), (2, 2, 3), 5) == 8 + 25
    # depthwise without a window: each tile of 4 channels reads the one word that holds them
    small = hwconfig.for_array(4, 4)
    assert count(layer(weights(16, 3, 1), 16, groups=16), (4, 4, 16), 16, small) == 4 * 4 * 9 + 24
    # a pool reads a word per tap
    pool = layer(None, 16, kernel=(2, 2), stride=(2, 2), groups=16, maximum=True)
    assert count(pool, (4, 4, 16), 16) == 4 * 2 * 4 + 25
    # one row, four columns, one lane: 4 beats a tile and only 3 words, so the drain holds the next tile up by one cycle
    assert count(layer(weights(4, 1, 3), 4), (2, 2, 3), 4, tall) == 4 * 3 + 3 * 1 + (22 + 0 + 4)


@pytest.mark.parametrize(
    ("array", "padding", "stride", "slots"),
    [
        # 4x6 map, two tiles. 8x8: two slots a pixel; the job's first pixel reads 3 columns, a last slot ends it
        ("8x8", (1, 1, 1, 1), 1, 3 + 7 * 2 + 8 * 5 * 2 + 1),  # rows share a pad: 2 columns, as many as slots
        ("8x8", (0, 0, 0, 0), 1, 3 + 3 * 3 + 4 * 3 * 2 + 1),
        ("8x8", (0, 1, 0, 1), 2, 3 + 3 * 3 + 4 * 2 * 2 + 1),
        ("8x8", (1, 1, 1, 1), 3, 3 + 3 * 3 + 4 * 1 * 3 + 1),
        # 16x16: one tile, a slot a pixel
        ("16x16", (1, 1, 1, 1), 1, 3 + 3 * 2 + 4 * 5),
        ("16x16", (0, 1, 0, 1), 2, 3 + 1 * 3 + 2 * 2 * 2),
    ],
)
def test_cycles_of_a_window(array: str, padding: tuple[int, int, int, int], stride: int, slots: int) -> None:
    one = layer(weights(16, 3, 1), 16, groups=16, padding=padding, stride=(stride, stride))
    config = hwconfig.for_array(*hwconfig.parse_array(array))
    overhead = 22 + config.tree_levels + 1
    assert golden.network_cycles(network(one, (4, 6, 16), 16), config) == [slots + overhead]


def test_cycles_over_patches() -> None:
    """27 codes are 4 words; on 4x4 the frame would be 7 times as large as with pixels, and stays as it is."""
    one = layer(weights(8, 3, 3), 8, padding=(1, 1, 1, 1))
    whole = network(one, (6, 6, 3), 8)
    assert golden.network_cycles(whole, hwconfig.for_array(8, 8)) == [36 * 4 + 25]
    assert golden.network_cycles(whole, hwconfig.for_array(4, 4)) == [36 * 2 * 9 + 24]


def test_tiles_of_groups() -> None:
    """24 channels in groups of 12 on 8 columns: the middle tile straddles both groups and so reads all three words."""
    one = layer(weights(24, 1, 12), 24, groups=2)
    config = hwconfig.for_array(8, 8)
    assert tile_channels(one, 24, config) == 8
    assert tile_words(one, 24, 24, config) == [(0, 2), (0, 3), (1, 3)]
    # the others read three words as well, from word 0: one job of three equal tiles
    assert golden.layer_cycles(one, network(one, (1, 1, 24), 24), config) == 3 * 3 + 25


@pytest.mark.parametrize(
    ("starts", "lengths"),
    [
        ([], []),
        ([4], [1]),
        ([0, 0, 0], [3]),
        ([0, 1, 2, 3], [4]),
        ([0, 1, 1, 2], [2, 2]),
        ([0, 2, 4, 5, 6, 6], [3, 2, 1]),
    ],
)
def test_stretches_of_tiles(starts: list[int], lengths: list[int]) -> None:
    assert _runs(starts) == lengths
