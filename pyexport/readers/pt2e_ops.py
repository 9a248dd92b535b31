"""The operations of PT2E graphs: real-valued aten layers between quantize and dequantize.

A layer's result is real until the next quantize gives it a scale: a `Real`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Builder, Pair, Value
from pyexport.readers.packed import ConvParams, LinearParams
from pyexport.readers.real import Real, RealContext
from pyexport.readers.tensors import Array, QTensor, TensorError

ACCEPTED = (
    "accepted: quantize and dequantize (per tensor; per channel for weights), conv2d, linear, relu, hardtanh, clamp, "
    "max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean over H and W, add, sub, cat, sigmoid, tanh, hardswish, "
    "hardsigmoid, leaky_relu, flatten, reshape, view, dropout"
)
CODE_TYPES: dict[int, ir.Dtype] = {1: "uint8", 2: "int8"}
TABLE: dict[str, Callable[..., Any]] = {}
QD = "quantized_decomposed."


def op(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


class Context(RealContext):
    """What the operations work on. batch: the batch size the graph was exported with, None if free."""

    def __init__(self, builder: Builder, batch: int | None) -> None:
        super().__init__(builder)
        self.batch = batch

    def pair(self, value: Any, default: Pair | None = None) -> Pair:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if not items and default is not None:
            return default
        if len(items) not in (1, 2) or not all(isinstance(n, int) and abs(n) < 1 << 40 for n in items):
            self.fail("needs one or two integers as a size")
        return items[0], items[-1]

    def scalar(self, value: Any) -> float:
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(()).item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail("needs a number")
        return value

    def quant(self, scale: Any, zero_point: Any, low: Any, high: Any, dtype: Any) -> ir.Quant:
        kind = CODE_TYPES.get(dtype) if isinstance(dtype, int) else None
        if kind is None or (low, high) != ir.CODE_RANGE[kind]:
            self.fail(f"codes {low}..{high} are not supported; use int8 or uint8 activations over their full range")
        return self.builder.quant(self.layer, self.scalar(scale), int(self.scalar(zero_point)), kind)


# --- quantise and dequantise ---------------------------------------------------------------------------------------


@op(QD + "quantize_per_tensor.default", QD + "quantize_per_tensor.tensor")
def _quantize(
    context: Context, source: Any, scale: Any, zero_point: Any, quant_min: Any, quant_max: Any, dtype: Any
) -> Any:
    if isinstance(source, np.ndarray):
        step, zero = np.asarray([context.scalar(scale)]), np.asarray([int(context.scalar(zero_point))])
        return _quantised_weights(source, step, zero, quant_min, quant_max, dtype)
    quant = context.quant(scale, zero_point, quant_min, quant_max, dtype)
    return context.quantise(context.real(source), quant)


@op(QD + "dequantize_per_tensor.default", QD + "dequantize_per_tensor.tensor")
def _dequantize(
    context: Context, source: Any, scale: Any, zero_point: Any, quant_min: Any, quant_max: Any, dtype: Any,
    out_dtype: Any = None,
) -> Any:  # fmt: skip
    if isinstance(source, np.ndarray):
        step, zero = np.asarray([context.scalar(scale)]), np.asarray([int(context.scalar(zero_point))])
        return QTensor(source, step.astype(np.float64), zero.astype(np.int64), False)
    if not isinstance(source, Value):
        context.fail("dequantises something that is not quantised")
    quant = context.quant(scale, zero_point, quant_min, quant_max, dtype)
    if quant != context.builder.codes(context.layer, source).quant:
        context.fail("dequantises with another scale than the tensor was quantised with")
    value = context.builder.dequantize(context.layer, source)
    return Real(lambda quant, relu: value, value.shape, value)


@op(QD + "quantize_per_channel.default")
def _quantize_weights(
    context: Context, source: Any, scales: Any, zero_points: Any, axis: Any, quant_min: Any, quant_max: Any, dtype: Any
) -> Array:
    if axis != 0 or not isinstance(source, np.ndarray):
        context.fail("per-channel quantisation is accepted for weights along axis 0")
    return _quantised_weights(source, scales, zero_points, quant_min, quant_max, dtype)


@op(QD + "dequantize_per_channel.default")
def _dequantize_weights(
    context: Context, source: Any, scales: Any, zero_points: Any, axis: Any, quant_min: Any, quant_max: Any, dtype: Any,
    out_dtype: Any = None,
) -> QTensor:  # fmt: skip
    if axis != 0 or not isinstance(source, np.ndarray):
        context.fail("per-channel quantisation is accepted for weights along axis 0")
    zero = np.zeros(len(scales), np.int64) if zero_points is None else np.asarray(zero_points, np.int64)
    return QTensor(source, np.asarray(scales, np.float64), zero, True)


def _quantised_weights(weight: Array, scales: Any, zero_points: Any, low: Any, high: Any, dtype: Any) -> Array:
    """clamp(RNE(w * f32(1 / s)) + z), as quantized_decomposed computes it."""
    if dtype != 2 or not -128 <= low <= high <= 127 or weight.dtype != np.float32:
        raise TensorError("weights are quantised to another type than int8; use int8 weights")
    shape = (-1, *[1] * (weight.ndim - 1))
    with np.errstate(all="ignore"):
        inverse = (1 / np.asarray(scales)).astype(np.float32).reshape(shape)
        codes = np.rint(weight * inverse) + np.asarray(zero_points).reshape(shape)
    if not np.isfinite(codes).all():
        raise TensorError("a weight or its scale is not a finite number")
    clipped: Array = np.clip(codes, low, high).astype(np.int8)
    return clipped


# --- layers --------------------------------------------------------------------------------------------------------


@op("aten.conv2d.default")
def _conv(
    context: Context, source: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: Any = 1,
) -> Real:  # fmt: skip
    sizes = (context.pair(stride), context.pair(padding), context.pair(dilation))
    params = ConvParams.of(weight, bias, *sizes, int(context.scalar(groups)))
    layer, value = context.layer, context.codes(source)
    out = len(params.weights.codes)
    pads = (params.padding[0], params.padding[0], params.padding[1], params.padding[1])
    kernel = (params.weights.codes.shape[1], params.weights.codes.shape[2])
    hwc = context.builder.map_of(layer, value)
    height, width = context.builder.windows(layer, hwc, kernel, params.stride, pads, params.dilation)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return context.builder.conv(layer, value, params.weights, *sizes, params.groups, quant, relu)

    return Real(emit, (out, height, width), weighted=True)


@op("aten.linear.default")
def _linear(context: Context, source: Any, weight: Any, bias: Any = None) -> Real:
    params = LinearParams.of(weight, bias)
    layer, value = context.layer, context.codes(source)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return context.builder.linear(layer, value, params.weights, quant, relu)

    return Real(emit, (len(params.weights.codes),), weighted=True)
