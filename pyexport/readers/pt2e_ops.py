"""The operations of PT2E graphs: real-valued aten layers between quantize and dequantize.

A layer's result is real until the next quantize gives it a scale. Between the two only monotone steps are accepted
(ReLU, clips, max-pool, changes of shape): quantising is monotone, so they may as well act on the codes,
q(max(a, b)) = max(q(a), q(b)). `Real` is such a result on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.builder import Builder, Pair, Value
from pyexport.readers.packed import ConvParams, LinearParams
from pyexport.readers.tensors import Array, QTensor, TensorError

ACCEPTED = (
    "accepted: quantize and dequantize (per tensor; per channel for weights), conv2d, linear, relu, hardtanh, clamp, "
    "max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean over H and W, flatten, reshape, view, dropout"
)
CODE_TYPES: dict[int, ir.Dtype] = {1: "uint8", 2: "int8"}
TABLE: dict[str, Callable[..., Any]] = {}
QD = "quantized_decomposed."


def op(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True)
class Real:
    """A real tensor: what a layer writes once it is told its scale and whether a ReLU is fused, then monotone steps.

    shape: after the steps, no batch. source: the quantised tensor behind it, if it was dequantised.
    """

    emit: Callable[[ir.Quant, bool], Value]
    shape: tuple[int, ...]
    source: Value | None = None
    relu: bool = False
    steps: tuple[Callable[[Value], Value], ...] = ()
    exact: bool = True

    @staticmethod
    def of_input(value: Value) -> Real:
        return Real(lambda quant, relu: value, value.shape, value)


class Context:
    """What the operations work on. batch: the batch size the graph was exported with, None if free."""

    def __init__(self, builder: Builder, batch: int | None) -> None:
        self.builder, self.batch, self.layer = builder, batch, ""

    def fail(self, text: str) -> NoReturn:
        self.builder.fail(self.layer, text)

    def real(self, value: Any) -> Real:
        if not isinstance(value, Real):
            self.fail("works on codes or constants where real numbers are expected; use the PT2E flow's own output")
        return value

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

    def quantise(self, real: Real, quant: ir.Quant) -> Value:
        """The codes of a real tensor: its layer is written now, then its steps act on the codes."""
        value = real.emit(quant, real.relu)
        if not value.quantised:
            value = self.builder.quantize(self.layer, value, quant)
        for step in real.steps:
            value = step(value)
        return value

    def codes(self, real: Any) -> Value:
        """The quantised tensor that a layer reads."""
        real = self.real(real)
        if real.source is None or not real.source.tensor:
            self.fail("reads real numbers that were never quantised; quantise the layer before it (see the quantizer)")
        if not real.exact:
            self.fail("reads a clip whose limits are no codes; quantise the clip's output")
        return self.quantise(real, self.builder.tensors[real.source.tensor].quant)

    def quantised_output(self, real: Real, output_range: tuple[float, float] | None) -> Value:
        """The model's last layer, which the source leaves real, in uint8 over the range that the user gives."""
        self.layer = "output"
        if output_range is None:
            raise IntactError(
                f"{self.builder.file}: the last layer's output is not quantised (X86InductorQuantizer leaves it real); "
                "give its range with --output-range=LOW,HIGH, or a quantizer that annotates outputs (XNNPACKQuantizer)"
            )
        low, high = min(0.0, output_range[0]), max(0.0, output_range[1])
        scale = (high - low) / 255
        quant = self.builder.quant(self.layer, scale, round(-low / scale) if scale > 0 else 0, "uint8")
        self.builder.notes.append(f"the output is quantised to uint8 over {low}..{high}; in the source it is real")
        return self.quantise(real, quant)


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

    return Real(emit, (out, height, width))


@op("aten.linear.default")
def _linear(context: Context, source: Any, weight: Any, bias: Any = None) -> Real:
    params = LinearParams.of(weight, bias)
    layer, value = context.layer, context.codes(source)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return context.builder.linear(layer, value, params.weights, quant, relu)

    return Real(emit, (len(params.weights.codes),))
