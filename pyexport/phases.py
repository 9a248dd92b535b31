"""A transposed convolution as plain ones: output pixels whose window has the same taps are a phase.

Tap k of the kernel meets output position Y where Y + before - k * dilation is a multiple of the stride. So each
position below the stride has taps of its own, and those a multiple of the stride further on have the same ones, one
input pixel further on: a convolution with stride 1 of these taps, the last one first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pyexport.qlayers import QLayer


@dataclass(frozen=True)
class Pixels:
    """Output pixels that a job writes: `height` x `width` of them from (y, x) on, `step` (rows, columns) apart."""

    y: int
    x: int
    height: int
    width: int
    step: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class _Axis:
    """Along one axis: the first output position, how many, the taps in input order, and where the first one stands.

    dilation: input positions between two taps.  before: input positions from the first tap to the map's start.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    dilation: int
    before: int


def phases(layer: QLayer, shape: tuple[int, int, int]) -> Iterator[tuple[QLayer, Pixels]]:
    """The phases of a transposed layer with an output of `shape`: convolutions, and the pixels that they write.

    A phase without taps gives the bias: one tap with weight zero.
    """
    assert layer.weights is not None
    (stride_y, stride_x), (top, _, left, _) = layer.stride, layer.padding
    rows = list(_axis(shape[0], layer.kernel[0], stride_y, layer.dilation[0], top))
    columns = list(_axis(shape[1], layer.kernel[1], stride_x, layer.dilation[1], left))
    for y in rows:
        for x in columns:
            weights = layer.weights[:, list(y.taps)][:, :, list(x.taps)]
            if not weights.size:
                weights = np.zeros((len(weights), 1, 1, weights.shape[3]), np.int16)
            conv = replace(
                layer,
                op="conv2d",
                kernel=(weights.shape[1], weights.shape[2]),
                stride=(1, 1),
                padding=(y.before, 0, x.before, 0),
                dilation=(y.dilation, x.dilation),
                weights=weights,
            )
            yield conv, Pixels(y.first, x.first, y.count, x.count, layer.stride)


def _axis(size: int, kernel: int, stride: int, dilation: int, before: int) -> Iterator[_Axis]:
    for first in range(min(stride, size)):
        taps = [k for k in reversed(range(kernel)) if (first + before - k * dilation) % stride == 0]
        places = [(first + before - k * dilation) // stride for k in taps] or [0]
        step = places[1] - places[0] if len(places) > 1 else 1
        yield _Axis(first, len(range(first, size, stride)), tuple(taps), step, -places[0])
