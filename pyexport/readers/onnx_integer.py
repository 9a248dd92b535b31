"""Integer products with float scales around them: what onnxruntime's quantize_dynamic writes.

    codes -> MatMulInteger or ConvInteger -> Cast -> Mul (input scale * weight scale) -> Add (bias) -> ReLU ...

The activations' scales must be constants here. In the quantiser's own file they are computed from each input
(DynamicQuantizeLinear), which hardware with constants in memory cannot do; `--quantize` fixes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.onnx_file import Op
from pyexport.readers.onnx_graph import Context, Unfinished, op
from pyexport.readers.real import Real
from pyexport.readers.tensors import Array

STATIC = (
    "chooses the scale of its activations from each input, which fixed hardware has no means to do. Fix the scales to "
    "the ranges of your data with --quantize --inputs data.npz, or quantise the float model with quantize_static"
)


@dataclass(frozen=True)
class Sums(Unfinished):
    """Accumulators of a layer: write(scale, bias, quant, relu). scale: float32 (1,) or (out,), what a step is worth."""

    write: Callable[[Array, Array | None, ir.Quant, bool], Value]
    shape: tuple[int, ...]

    def combined(self, context: Context, kind: str, constant: Any) -> Real:
        """Times a scale: real numbers."""
        if kind != "Mul" or not _is_vector(constant, (1, self.shape[0])):
            context.fail("integer sums must be multiplied by a float32 constant, or one for each channel")
        scale = constant.reshape(-1)

        def emit(quant: ir.Quant, relu: bool) -> Value:
            return self.write(scale, None, quant, relu)

        return Scaled(emit, self.shape, write=self.write, scale=scale)


@dataclass(frozen=True)
class Scaled(Real, Unfinished):
    """Real numbers that are accumulators times a scale; a bias may still be added."""

    write: Callable[[Array, Array | None, ir.Quant, bool], Value] | None = None
    scale: Array | None = None

    def combined(self, context: Context, kind: str, constant: Any) -> Real:
        """Plus a bias: real numbers that are finished."""
        if kind != "Add" or self.relu or self.steps or not _is_vector(constant, (self.shape[0],)):
            context.fail(f"is combined with something else than a bias of {self.shape[0]} float32 values")
        write, scale, bias = self.write, self.scale, constant.reshape(-1)
        assert write is not None and scale is not None

        def emit(quant: ir.Quant, relu: bool) -> Value:
            return write(scale, bias, quant, relu)

        return Real(emit, self.shape)


def _is_vector(constant: Any, sizes: tuple[int, ...]) -> bool:
    """Whether it is a float32 constant of one of these sizes, all along one axis."""
    real = isinstance(constant, np.ndarray) and constant.dtype == np.float32
    return bool(real and constant.size in sizes and max(constant.shape, default=1) == constant.size)


@op("DynamicQuantizeLinear")
def dynamic(context: Context, op: Op, *inputs: Any) -> Any:
    context.fail(STATIC)


def _weights(context: Context, value: Value, codes: Any, zero: Any, order: Callable[[Array], Array]) -> tuple[Any, Any]:
    """int16 (out, kh, kw, in / groups) and int32 (out,)."""
    if not isinstance(codes, np.ndarray) or codes.dtype.name not in ("int8", "uint8") or not codes.size:
        context.fail("its weights are no int8 or uint8 constant")
    ordered = np.ascontiguousarray(order(codes), np.int16)
    if zero is None:
        zero = np.zeros(1, codes.dtype)
    if not isinstance(zero, np.ndarray) or zero.dtype != codes.dtype or zero.size not in (1, len(ordered)):
        context.fail("its weights' zero point does not fit them")
    return ordered, np.ascontiguousarray(np.broadcast_to(zero.reshape(-1).astype(np.int32), len(ordered)))


def _check_zero_point(context: Context, value: Value, zero: Any) -> None:
    known = context.builder.tensors[value.tensor].quant.zero_point
    given = 0 if zero is None else zero
    if not isinstance(given, (int, np.ndarray)) or np.size(given) != 1 or int(np.reshape(given, ())) != known:
        context.fail(f"takes another zero point than its input's, {known}")


def _sums(
    context: Context,
    value: Value,
    codes: Array,
    zero: Array,
    shape: tuple[int, ...],
    layer: Callable[[ir.Weights, ir.Quant, bool], Value],
) -> Sums:
    sx, name, builder = context.builder.tensors[value.tensor].quant.scale, context.layer, context.builder

    def write(scale: Array, bias: Array | None, quant: ir.Quant, relu: bool) -> Value:
        sw = _divided(scale, sx)
        if sw is None:
            builder.fail(name, "its scale is not input scale * weight scale")
        step = np.ascontiguousarray(np.broadcast_to(sw.reshape(-1), len(codes)))
        bias = None if bias is None else bias.astype(np.float64)
        return layer(ir.Weights(codes, step, zero, bias, False, scale.size > 1), quant, relu)

    context.match = "ort-dynamic"
    return Sums(write, shape)


def _divided(scale: Array, sx: np.float32) -> Array | None:
    """float32 factors that times sx round to `scale`: the weights' scales, of which the file keeps the product."""
    near = scale / sx
    for guess in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))):
        near = np.where(near * sx == scale, near, guess)
    found: Array = near.astype(np.float32)
    return found if (found * sx == scale).all() else None


@op("MatMulInteger")
def matmul_integer(
    context: Context, op: Op, source: Any, weight: Any, zero: Any = None, weight_zero: Any = None
) -> Sums:
    value = _codes(context, source)
    _check_zero_point(context, value, zero)
    if not isinstance(weight, np.ndarray) or weight.ndim != 2:
        context.fail("multiplies by something else than a constant matrix")
    codes, zeros = _weights(context, value, weight, weight_zero, lambda w: w.T[:, None, None, :])
    builder, layer = context.builder, context.layer
    return _sums(
        context, value, codes, zeros, (len(codes),), lambda w, quant, relu: builder.linear(layer, value, w, quant, relu)
    )


@op("ConvInteger")
def conv_integer(context: Context, op: Op, source: Any, weight: Any, zero: Any = None, weight_zero: Any = None) -> Sums:
    value, builder, layer = _codes(context, source), context.builder, context.layer
    _check_zero_point(context, value, zero)
    if not isinstance(weight, np.ndarray) or weight.ndim != 4:
        context.fail("its weights are no (out, in, kh, kw) constant; two spatial axes are accepted")
    codes, zeros = _weights(context, value, weight, weight_zero, lambda w: w.transpose(0, 2, 3, 1))
    hwc, kernel = builder.map_of(layer, value), (codes.shape[1], codes.shape[2])
    stride, dilation = context.pair(op, "strides"), context.pair(op, "dilations")
    pads = context.pads(op, (hwc[0], hwc[1]), kernel, stride, dilation)
    groups = context.integers([op.attributes.get("group", 1)], "group")[0]
    size = builder.windows(layer, hwc, kernel, stride, pads, dilation)

    def write(weights: ir.Weights, quant: ir.Quant, relu: bool) -> Value:
        return builder.conv(layer, value, weights, stride, pads, dilation, groups, quant, relu)

    return _sums(context, value, codes, zeros, (len(codes), *size), write)


def _codes(context: Context, source: Any) -> Value:
    if not isinstance(source, Value) or not source.quantised:
        context.fail("multiplies something else than the codes of an activation")
    return source
