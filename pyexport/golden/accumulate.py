"""Exact accumulators of a layer: windows of codes against weights, by matrix products that cannot round."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport.ir import window_shape
from pyexport.qlayers import QLayer, QTensor

IntArray = npt.NDArray[np.int64]
FLOAT32_EXACT = 1 << 24  # sums of integers below this are exact in float32, in any order


def windows(x: npt.NDArray[np.int16], layer: QLayer, fill: int) -> npt.NDArray[np.int16]:
    """(N, H, W, C) -> (N, out H, out W, kh, kw, C), a read-only view; taps in the padding are `fill`."""
    top, bottom, left, right = layer.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    out_h, out_w = window_shape(x.shape[1:4], layer.kernel, layer.stride, layer.padding, layer.dilation)
    n, row, column, channel = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (len(x), out_h, out_w, *layer.kernel, x.shape[3]),
        (
            n,
            row * layer.stride[0],
            column * layer.stride[1],
            row * layer.dilation[0],
            column * layer.dilation[1],
            channel,
        ),
        writeable=False,
    )


def accumulate(x: npt.NDArray[np.int8], layer: QLayer, source: QTensor) -> IntArray:
    """On-chip codes (N, H, W, C) -> accumulators (N, out H, out W, out C).

    Sum of (x - zx) * w over the window (padding adds nothing), or the largest code of the window.
    Transposed: every input pixel's products, each added where its tap puts it.
    """
    if layer.maximum:
        # any code beats the padding's; a window wholly in the padding does not exist
        largest: IntArray = windows(x.astype(np.int16), layer, -128).max(axis=(3, 4)).astype(np.int64)
        return largest
    centred = x.astype(np.int16) - np.int16(source.zero_point)
    if layer.transposed:
        return _spread(centred, layer)
    view = windows(centred, layer, 0)
    if layer.weights is None:
        summed: IntArray = view.sum(axis=(3, 4), dtype=np.int64)
        return summed
    return np.concatenate([_group(view, layer, g) for g in range(layer.groups)], axis=3)


def _spread(x: npt.NDArray[np.int16], layer: QLayer) -> IntArray:
    """Transposed convolution of centred codes (N, H, W, C): tap by tap into the full result, which is then cut."""
    assert layer.weights is not None
    (n, height, width, channels), out = x.shape, len(layer.weights)
    spans = [(layer.dilation[i] * (layer.kernel[i] - 1), layer.stride[i] * (x.shape[1 + i] - 1) + 1) for i in (0, 1)]
    top, bottom, left, right = layer.padding
    # negative padding at the bottom and right is rows and columns that no tap meets
    (down, tall), (across, wide) = spans
    full = np.zeros((n, down + tall + max(0, -bottom), across + wide + max(0, -right), out), np.int64)
    per_group, outs = channels // layer.groups, out // layer.groups
    for group in range(layer.groups):
        mine = slice(group * outs, (group + 1) * outs)
        pixels, weights = x[..., group * per_group : (group + 1) * per_group], layer.weights[mine]
        dtype = _exact_dtype(weights)
        columns = pixels.reshape(-1, per_group).astype(dtype)
        for ky in range(layer.kernel[0]):
            for kx in range(layer.kernel[1]):
                products = (columns @ weights[:, ky, kx].T.astype(dtype)).astype(np.int64)
                y, x0 = ky * layer.dilation[0], kx * layer.dilation[1]
                rows, places = slice(y, y + tall, layer.stride[0]), slice(x0, x0 + wide, layer.stride[1])
                full[:, rows, places, mine] += products.reshape(n, height, width, outs)
    return full[:, top : full.shape[1] - max(0, bottom), left : full.shape[2] - max(0, right)]


def add(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8], layer: QLayer, first: QTensor, second: QTensor) -> IntArray:
    """Residual add, Eq. 34: on-chip codes of both operands, one shape -> (a - za) * pa + (b - zb) * pb."""
    centred_a, centred_b = a.astype(np.int64) - first.zero_point, b.astype(np.int64) - second.zero_point
    return centred_a * layer.factors[0] + centred_b * layer.factors[1]


def _group(view: npt.NDArray[np.int16], layer: QLayer, group: int) -> IntArray:
    assert layer.weights is not None
    out, _, _, per_group = layer.weights.shape
    outs = out // layer.groups
    weights = layer.weights[group * outs : (group + 1) * outs].reshape(outs, -1)
    dtype = _exact_dtype(weights)
    taps = view[..., group * per_group : (group + 1) * per_group]
    columns = taps.reshape(-1, weights.shape[1]).astype(dtype)
    sums: IntArray = (columns @ weights.T.astype(dtype)).astype(np.int64)
    return sums.reshape(*view.shape[:3], outs)


def _exact_dtype(weights: npt.NDArray[np.int16] | npt.NDArray[np.int32]) -> type[np.float32] | type[np.float64]:
    """The float type whose sums of codes times `weights` (out, ...) cannot round."""
    bound = int(np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1).max()) * 255
    return np.float32 if bound < FLOAT32_EXACT else np.float64  # float64: below 2^53 for any layer that int32 holds
