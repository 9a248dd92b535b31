"""The rest of the PT2E operations: pools, monotone steps on real tensors, and changes of shape. See pt2e_ops.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Pair, Value
from pyexport.readers.pt2e_ops import Context, op
from pyexport.readers.real import Real


def _average(
    context: Context, source: Any, kernel: Pair, stride: Pair, padding: Pair, include_pad: bool, divisor: int | None
) -> Real:
    """An average of codes; the mean is rounded once, half to even.

    Into another scale than it reads, it is a convolution of each channel by itself with weights 1 and scale 1/n.
    """
    builder, layer, value = context.builder, context.layer, context.codes(source)
    old = builder.tensors[value.tensor].quant
    height, width, channels = builder.map_of(layer, value)
    pads = (padding[0], padding[0], padding[1], padding[1])
    size = builder.windows(layer, (height, width, channels), kernel, stride, pads, (1, 1))

    def emit(quant: ir.Quant, relu: bool) -> Value:
        if quant == old:
            result = builder.avg_pool(layer, value, kernel, stride, padding, include_pad, divisor, "exact")
            return builder.clamp(layer, result, 0.0, None) if relu else result
        count = divisor or kernel[0] * kernel[1]
        if count < 1 or (any(padding) and not include_pad and divisor is None):
            builder.fail(layer, "averages into another scale with count_include_pad=False; let both share one observer")
        ones = np.ones((channels, *kernel, 1), np.int16)
        scale = np.full(channels, np.float32(1 / count))
        weights = ir.Weights(ones, scale, np.zeros(channels, np.int32), None)
        builder.notes.append(
            f"layer {layer!r} averages into another scale: read as a convolution with weights 1/{count}"
        )
        return builder.conv(layer, value, weights, stride, padding, (1, 1), channels, quant, relu)

    return Real(emit, (channels, *size))


@op("aten.avg_pool2d.default")
def _avg_pool(
    context: Context, source: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: Any = False,
    count_include_pad: Any = True, divisor_override: Any = None,
) -> Real:  # fmt: skip
    kernel = context.pair(kernel_size)
    if ceil_mode is True:
        context.fail("avg_pool2d with ceil_mode is not supported; use ceil_mode=False")
    divisor = None if divisor_override is None else int(context.scalar(divisor_override))
    sizes = (kernel, context.pair(stride, kernel), context.pair(padding))
    return _average(context, source, *sizes, count_include_pad is True, divisor)


@op("aten.adaptive_avg_pool2d.default")
def _adaptive(context: Context, source: Any, output_size: Any) -> Real:
    size = context.pair(output_size)
    value = context.codes(source)
    height, width, _ = context.builder.map_of(context.layer, value)
    if min(size) < 1 or height % size[0] or width % size[1]:
        context.fail(f"adaptive pooling of {(height, width)} to {size} has unequal windows; use a divisor")
    kernel = (height // size[0], width // size[1])
    return _average(context, source, kernel, kernel, (0, 0), True, None)


@op("aten.mean.dim")
def _mean(context: Context, source: Any, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Real:
    axes = sorted(axis % 4 for axis in dim) if isinstance(dim, list) and all(isinstance(n, int) for n in dim) else []
    if axes != [2, 3] or dtype is not None:
        context.fail("mean is accepted over height and width only (dim [2, 3] of a map)")
    pooled = _adaptive(context, source, 1)
    return pooled if keepdim else _reshaped(context, pooled, pooled.shape[:1])


def _step(real: Real, step: Callable[[Value], Value], shape: tuple[int, ...] | None = None, exact: bool = True) -> Real:
    return replace(real, steps=(*real.steps, step), shape=shape or real.shape, exact=real.exact and exact)


@op("aten.relu.default", "aten.relu_.default")
def _relu(context: Context, source: Any) -> Real:
    real = context.real(source)
    if real.source is None and not real.steps:
        return replace(real, relu=True)
    return _clip(context, real, 0.0, None)


def _clip(context: Context, source: Any, low: float | None, high: float | None) -> Real:
    layer, builder = context.layer, context.builder
    zero = (low, high) == (0.0, None)
    return _step(context.real(source), lambda value: builder.clamp(layer, value, low, high), exact=zero)


@op("aten.hardtanh.default", "aten.hardtanh_.default")
def _hardtanh(context: Context, source: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Real:
    return _clip(context, source, context.scalar(min_val), context.scalar(max_val))


@op("aten.relu6.default", "aten.relu6_.default")
def _relu6(context: Context, source: Any) -> Real:
    return _clip(context, source, 0.0, 6.0)


@op("aten.clamp.default", "aten.clamp_.default")
def _clamp(context: Context, source: Any, min: Any = None, max: Any = None) -> Real:
    low, high = (None if limit is None else context.scalar(limit) for limit in (min, max))
    return _clip(context, source, low, high)


@op("aten.max_pool2d.default")
def _max_pool(
    context: Context, source: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: Any = False,
) -> Real:  # fmt: skip
    real, layer, builder = context.real(source), context.layer, context.builder
    kernel = context.pair(kernel_size)
    sizes = (kernel, context.pair(stride, kernel), context.pair(padding), context.pair(dilation))
    if len(real.shape) != 3:
        context.fail(f"needs a (channels, height, width) map but gets shape {real.shape}")
    hwc = (real.shape[1], real.shape[2], real.shape[0])
    pads = (sizes[2][0], sizes[2][0], sizes[2][1], sizes[2][1])
    if ceil_mode is True:
        pads = builder.ceil_pads(hwc, *sizes)
    size = builder.windows(layer, hwc, kernel, sizes[1], pads, sizes[3])
    return _step(real, lambda value: builder.max_pool(layer, value, *sizes, ceil_mode is True), (real.shape[0], *size))


def _reshaped(context: Context, real: Real, shape: tuple[int, ...]) -> Real:
    layer, builder = context.layer, context.builder
    if math.prod(shape) != math.prod(real.shape):
        context.fail(f"reshapes {real.shape} to {shape}, which mixes the batch into the features")
    return _step(real, lambda value: builder.reshape(layer, value, shape), shape)


def _reshape_any(context: Context, source: Any, shape: tuple[int, ...]) -> Any:
    """A reshape of real numbers or of codes."""
    if isinstance(source, Value):
        return context.builder.reshape(context.layer, source, shape)
    return _reshaped(context, context.real(source), shape)


@op("aten.flatten.using_ints")
def _flatten(context: Context, source: Any, start_dim: Any = 0, end_dim: Any = -1) -> Any:
    shape = source.shape if isinstance(source, Value) else context.real(source).shape
    rank = len(shape) + 1
    start, end = (int(context.scalar(axis)) % rank for axis in (start_dim, end_dim))
    if start == 0:
        context.fail("flatten from axis 0 mixes the batch into the features; use torch.flatten(x, 1)")
    if end <= start:
        return source
    merged = math.prod(shape[start - 1 : end])
    return _reshape_any(context, source, (*shape[: start - 1], merged, *shape[end:]))


@op("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
def _view(context: Context, source: Any, size: Any = None, shape: Any = None) -> Any:
    """A reshape that keeps the batch axis, which is written as -1, a symbol or the exported batch size."""
    old = source.shape if isinstance(source, Value) else context.real(source).shape
    sizes = size if size is not None else shape
    if not isinstance(sizes, list) or len(sizes) < 2 or not all(isinstance(n, int) for n in sizes[1:]):
        context.fail("reshape must keep the batch axis; use torch.flatten(x, 1)")
    total, rest = math.prod(old), list(sizes[1:])
    if rest.count(-1) == 1:
        rest = [total // max(-math.prod(rest), 1) if n == -1 else n for n in rest]
    if sizes[0] not in (None, -1, context.batch) or min(rest) < 0 or math.prod(rest) != total:
        context.fail(f"reshape of {old} (without the batch) to {rest} does not keep the batch axis apart")
    return _reshape_any(context, source, tuple(rest))


@op("aten.dropout.default", "aten.dropout_.default")
def _dropout(context: Context, source: Any, p: Any, train: Any) -> Any:
    if train is not False:
        context.fail("dropout is active; export the model in evaluation mode")
    return source


@op(
    "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.detach_.default", "aten.alias.default"
)
def _same(context: Context, source: Any, memory_format: Any = None) -> Any:
    return source
