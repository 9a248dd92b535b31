"""A plain evaluation of an ir.Graph with torch's fbgemm formulas, to compare the readers with torch end to end.

    A = sx * sw;  M = A / sy;  v = F(acc) + b / A  (per-tensor weights: fma(b, 1 / A, F(acc)));  q = RNE(v * M) + zy

every step rounded once to float32. Slow and simple on purpose; shares nothing with the exporter but the IR.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyexport import ir

Array = Any  # NumPy arrays of several types
F32 = np.float32


def run(graph: ir.Graph, images: Array) -> Array:
    """Real inputs in the source's layout (N, *shape) -> output codes in the source's layout."""
    quant = graph.tensors["input"].quant
    real: Array = graph.input.to_hwc(images.astype(np.float32))
    values = {"input": _quantised(graph, real, quant)}
    for node in graph.nodes:
        values[node.output] = _node(graph, node, values[node.inputs[0]])
    return graph.output.from_hwc(values[graph.output.tensor])


def _quantised(graph: ir.Graph, real: Array, quant: ir.Quant) -> Array:
    """Codes of float32 values, as the source's own quantiser gives them."""
    if graph.float_input == "torch":
        # x * (1/s) is exact in float64, and so is adding z: one rounding, as an fma has
        scaled = (real.astype(np.float64) * F32(F32(1) / quant.scale) + quant.zero_point).astype(np.float32)
    else:
        scaled = np.rint(real * F32(F32(1) / quant.scale)) + F32(quant.zero_point)
    return np.clip(np.rint(scaled), *ir.CODE_RANGE[quant.dtype]).astype(np.int64)


def _node(graph: ir.Graph, node: ir.AnyNode, x: Array) -> Array:
    source, target = graph.tensors[node.inputs[0]].quant, graph.tensors[node.output].quant
    if isinstance(node, ir.Clamp):
        return np.clip(x, *node.clamp)
    if isinstance(node, ir.Lookup):
        assert node.function == "requantise", f"no reference for {node.function}"
        return _quantised(graph, (x - source.zero_point).astype(np.float32) * source.scale, target)
    if isinstance(node, ir.Linear):
        acc = np.einsum("nhwc,ohwc->no", x - source.zero_point, _centred(node.weights))[:, None, None, :]
        return _requantise(acc, node.weights, source, target, node.clamp)
    if isinstance(node, ir.Conv2d):
        windows = _windows(x - source.zero_point, node, 0, node.dilation, node.weights.codes.shape[1:3])
        weights = _centred(node.weights)
        parts = []
        for group in range(node.groups):
            count, inputs = len(weights) // node.groups, weights.shape[3]
            part = windows[..., group * inputs : (group + 1) * inputs, :, :]
            parts.append(np.einsum("nhwcij,oijc->nhwo", part, weights[group * count : (group + 1) * count]))
        return _requantise(np.concatenate(parts, axis=3), node.weights, source, target, node.clamp)
    if isinstance(node, ir.MaxPool2d):
        return np.clip(_windows(x, node, -1000, node.dilation, node.kernel).max((4, 5)), *node.clamp)
    assert isinstance(node, ir.AvgPool2d), f"no reference for {type(node).__name__}"
    return _average(x, node, source)


def _average(x: Array, node: ir.AvgPool2d, quant: ir.Quant) -> Array:
    total = _windows(x - quant.zero_point, node, 0, (1, 1), node.kernel).sum((4, 5))
    count = np.full(total.shape[1:3], node.kernel[0] * node.kernel[1])
    if not node.count_include_pad:
        count = _windows(np.ones((1, *x.shape[1:3], 1), np.int64), node, 0, (1, 1), node.kernel).sum((4, 5))[0, ..., 0]
    inverse = (F32(1) / (count if node.divisor is None else np.asarray(node.divisor)).astype(np.float32))[..., None]
    scaled = total.astype(np.float32) * inverse
    inside, outside = np.rint(F32(quant.zero_point) + scaled), np.rint(scaled) + quant.zero_point
    lanes = 16 if node.arithmetic == "torch-channels-last" else x.shape[3] + 1
    vector = np.arange(x.shape[3]) < x.shape[3] // lanes * lanes
    return np.clip(np.where(vector, outside, inside).astype(np.int64), *node.clamp)


def _centred(weights: ir.Weights) -> Array:
    return weights.codes.astype(np.int64) - weights.zero_point.reshape(-1, 1, 1, 1)


def _windows(x: Array, node: Any, fill: int, dilation: tuple[int, int], kernel: tuple[int, ...]) -> Array:
    """(N, H, W, C) -> (N, out H, out W, C, kernel H, kernel W)."""
    top, bottom, left, right = node.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    return view[:, :: node.stride[0], :: node.stride[1], :, :: dilation[0], :: dilation[1]]


def _requantise(acc: Array, weights: ir.Weights, source: ir.Quant, target: ir.Quant, clamp: tuple[int, int]) -> Array:
    a = source.scale * weights.scale
    value = acc.astype(np.float32)
    if weights.bias is not None:
        bias = weights.bias.astype(np.float32)
        if weights.per_channel:
            value = value + bias / a
        else:
            # the product of two float32 is exact in float64; the sum may round there once more, which ties may see
            value = (bias.astype(np.float64) * (F32(1) / a) + value).astype(np.float32)
    codes = np.rint(value * (a / target.scale)) + target.zero_point
    return np.clip(codes, *clamp).astype(np.int64)
