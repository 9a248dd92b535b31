"""QDQ graphs: QuantizeLinear and DequantizeLinear around float operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Pads, Pair, Value
from pyexport.readers.onnx_file import Op
from pyexport.readers.onnx_graph import MS, Constant, Context, Unfinished, op
from pyexport.readers.real import Real

MAX_SIZE = 1 << 20  # along one axis


@op("QuantizeLinear", MS + "QuantizeLinear")
def quantize(context: Context, op: Op, source: Any, scale: Any, zero_point: Any = None) -> Any:
    if op.attributes.get("block_size", 0):
        context.fail("quantises in blocks; one scale, or one for each channel is accepted")
    if isinstance(source, np.ndarray):
        return _quantised_constant(context, op, source, scale, zero_point)
    dtype = {2: "uint8", 3: "int8"}.get(op.attributes.get("output_dtype", 0))  # where there is no zero point
    found = context.quant(scale, zero_point, dtype)
    if op.limits is not None and op.limits != found.range:
        found = replace(found, limits=op.limits)
    return context.quantise(context.real(source), found)


def _quantised_constant(context: Context, op: Op, source: Any, scale: Any, zero_point: Any) -> Any:
    """A float constant that the graph quantises itself: RNE(x / s) + z."""
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    if source.dtype != np.float32 or dtype.name not in ("int8", "uint8", "int32"):
        context.fail(f"quantises {source.dtype} constants to {dtype}; float32 to int8, uint8 or int32 is accepted")
    step, zero = context.scale_of(scale, zero_point, dtype.name)
    context.take(source.size)
    shape = [1] * source.ndim
    if step.ndim:
        shape[_axis(context, op, source, step.size)] = -1
    codes = np.rint(source / step.reshape(shape)).astype(np.float64) + zero.reshape(shape)
    if not np.isfinite(codes).all():
        context.fail("a constant or its scale is not a finite number")
    low, high = op.limits or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.clip(codes, low, high).astype(dtype)


def _axis(context: Context, op: Op, array: Any, count: int) -> int:
    axis = context.integers([op.attributes.get("axis", 1)], "axis")[0]
    if not -array.ndim <= axis < array.ndim or array.shape[axis] != count:
        context.fail(f"has {count} scales along axis {axis} of a constant of shape {array.shape}")
    return int(axis % array.ndim)


@op("DequantizeLinear", MS + "DequantizeLinear")
def dequantize(context: Context, op: Op, source: Any, scale: Any, zero_point: Any = None) -> Any:
    if op.attributes.get("block_size", 0):
        context.fail("dequantises in blocks; one scale, or one for each channel is accepted")
    if not isinstance(source, np.ndarray):
        return context.activation(source, scale, zero_point)
    return constant(context, op, source, scale, zero_point)


def constant(context: Context, op: Op, codes: Any, scale: Any, zero_point: Any) -> Constant:
    """Constant codes with their scales."""
    if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu":
        context.fail("its weights are no constant integers")
    step, zero = context.scale_of(scale, zero_point, codes.dtype.name)
    return Constant(codes, step, zero, _axis(context, op, codes, step.size) if step.ndim else None)


# --- functions of each code, sums ----------------------------------------------------------------------------------


def _function(context: Context, source: Any, function: str, alpha: float = 0.0) -> Real:
    layer, value = context.layer, context.codes(source)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return context.lookup(layer, value, function, quant, alpha)

    return Real(emit, value.shape)


@op("Sigmoid")
def sigmoid(context: Context, op: Op, source: Any) -> Real:
    return _function(context, source, "logistic")


@op("LeakyRelu")
def leaky_relu(context: Context, op: Op, source: Any) -> Real:
    alpha = float(op.attributes.get("alpha", 0.01))
    if not abs(alpha) < 1e6:
        context.fail(f"slope {alpha} is not supported")
    return _function(context, source, "leaky_relu", alpha)


@op("Add", "Sub", "Mul")
def pairs(context: Context, op: Op, a: Any, b: Any) -> Any:
    """A sum or difference of two activations, or either or a product with one constant for the whole tensor."""
    function = {"Add": "add", "Sub": "subtract", "Mul": "multiply"}[op.kind.rpartition(".QLinear")[2]]
    constants = [i for i, item in enumerate((a, b)) if isinstance(item, (Constant, np.ndarray))]
    layer, builder = context.layer, context.builder
    if all(isinstance(item, np.ndarray) and item.dtype == np.float32 for item in (a, b)) and op.kind == "Mul":
        return np.asarray(a * b)  # a scale
    for item, other in ((a, b), (b, a)):
        if isinstance(item, Unfinished) and isinstance(other, np.ndarray):
            return item.combined(context, op.kind, other)
    if constants:
        return _with_constant(context, function, (a, b), constants)
    if function == "multiply":
        context.fail("multiplies two activations; a constant is accepted")
    if function == "add" and not context.qonnx and (joined := context.joined(a, b)) is not None:
        return joined
    values = [context.codes(item) for item in (a, b)]
    tensors = [builder.tensors[value.tensor] for value in values]
    if tensors[0].shape != tensors[1].shape or values[0].shape != values[1].shape or values[0].hwc != values[1].hwc:
        context.fail(f"takes shapes {values[0].shape} and {values[1].shape}; equal shapes are accepted")

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return builder.sum(layer, values[0], values[1], quant, relu, sign=1 if function == "add" else -1)

    return Real(emit, values[0].shape)


def _with_constant(context: Context, function: str, items: tuple[Any, Any], constants: list[int]) -> Real:
    which, layer = constants[0], context.layer
    stored = items[which]
    if len(constants) == 2 or not isinstance(stored, Constant) or stored.axis is not None:
        context.fail("takes an activation and a quantised constant with one scale")
    context.take(stored.codes.size)
    codes = np.unique(stored.codes)
    if codes.size != 1:
        context.fail("its constant has several values; one value for the whole tensor is accepted")
    quant_ = context.quant(stored.scale, stored.zero_point.astype(stored.codes.dtype))
    value = context.codes(items[1 - which])

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return context.lookup(layer, value, function, quant, 0.0, (int(codes[0]), quant_), which == 0)

    return Real(emit, value.shape)


@op("Concat")
def concat(context: Context, op: Op, *items: Any) -> Any:
    if all(isinstance(item, np.ndarray) and item.dtype.kind in "iu" and item.ndim == 1 for item in items):
        context.take(sum(item.size for item in items))
        return np.concatenate(items)  # a shape
    layer, builder = context.layer, context.builder
    values = [context.codes(item) for item in items]
    if not 1 <= len(values) <= 256:
        context.fail(f"has {len(values)} inputs; 1 to 256 are accepted")
    rank = len(values[0].shape) + 1
    axis = context.integers([op.attributes.get("axis")], "axis")[0]
    axis += rank if axis < 0 else 0
    if not 1 <= axis < rank or any(len(value.shape) + 1 != rank or value.hwc != values[0].hwc for value in values):
        context.fail(f"axis {axis} is not supported for {rank} axes")
    tensors = [builder.tensors[value.tensor] for value in values]
    if rank == 2 and any(tensor.shape[:2] != (1, 1) for tensor in tensors):
        context.fail("joins flattened maps; flatten after the concatenation")
    for value in values if rank > 2 else ():
        if not value.hwc:
            builder.map_of(layer, value)
    hwc_axis = 2 if rank == 2 else axis - 1 if values[0].hwc else (2, 0, 1)[axis - 1]
    sizes = [tensor.shape for tensor in tensors]
    if any(size[:hwc_axis] + size[hwc_axis + 1 :] != sizes[0][:hwc_axis] + sizes[0][hwc_axis + 1 :] for size in sizes):
        context.fail(f"inputs of shapes {', '.join(str(value.shape) for value in values)} do not fit side by side")
    total = sum(size[hwc_axis] for size in sizes)
    if total > MAX_SIZE:
        context.fail(f"has {total} positions along axis {axis}; {MAX_SIZE} are accepted")
    height, width, channels = (total if i == hwc_axis else n for i, n in enumerate(sizes[0]))
    shape = tuple(sum(v.shape[i] for v in values) if i == axis - 1 else n for i, n in enumerate(values[0].shape))

    def emit(quant: ir.Quant, relu: bool) -> Value:
        name = builder.unique(layer)
        clamp = builder.clamp_of(quant, relu)
        builder.add(ir.Concat(name, tuple(tensor.name for tensor in tensors), name, hwc_axis, clamp),
                    (height, width, channels), quant)  # fmt: skip
        return Value(name, shape, False, True, values[0].hwc)

    return Real(emit, shape)


# --- pools ---------------------------------------------------------------------------------------------------------


@op("AveragePool")
def average_pool(context: Context, op: Op, source: Any) -> Real:
    kernel, stride = context.pair(op, "kernel_shape", (0, 0)), context.pair(op, "strides")
    if context.pair(op, "dilations") != (1, 1) or op.attributes.get("ceil_mode", 0):
        context.fail("dilations and ceil_mode are not supported for AveragePool")
    value = context.codes(source)
    height, width, _ = context.builder.map_of(context.layer, value)
    pads = context.pads(op, (height, width), kernel, stride, (1, 1))
    return _average(
        context, value, kernel, stride, pads, bool(op.attributes.get("count_include_pad", 0)), "ort-average"
    )


@op("GlobalAveragePool")
def global_average_pool(context: Context, op: Op, source: Any) -> Real:
    value = context.codes(source)
    height, width, _ = context.builder.map_of(context.layer, value)
    return _average(context, value, (height, width), (1, 1), (0, 0, 0, 0), True, "ort-global")


@op("ReduceMean")
def reduce_mean(context: Context, op: Op, source: Any, axes: Any = None) -> Real:
    found = context.integers(op.attributes.get("axes") if axes is None else axes, "axes")
    if sorted(axis % 4 for axis in found) != [2, 3] or len(context.shape(source)) != 3:
        context.fail("ReduceMean is accepted over height and width only (axes [2, 3] of a map)")
    value = context.codes(source)
    height, width, channels = context.builder.map_of(context.layer, value)
    real = _average(context, value, (height, width), (1, 1), (0, 0, 0, 0), True, "ort-mean")
    if op.attributes.get("keepdims", 1):
        return real
    layer = context.layer
    return context.step(real, lambda v: context.builder.reshape(layer, v, (channels,)), (channels,))  # type: ignore[no-any-return]


def _average(
    context: Context, value: Value, kernel: Pair, stride: Pair, pads: Pads, include_pad: bool, arithmetic: str
) -> Real:
    builder, layer = context.builder, context.layer
    hwc = builder.map_of(layer, value)
    size = builder.windows(layer, hwc, kernel, stride, pads, (1, 1))
    step = builder.tensors[value.tensor].quant.scale

    def emit(quant: ir.Quant, relu: bool) -> Value:
        if arithmetic != "ort-global" and kernel[0] * kernel[1] % 2 == 0 and np.frexp(step)[0] != 0.5:
            builder.notes.append(f"layer {layer!r}: onnxruntime averages in float; its ties may fall to either side")
        result = builder.avg_pool(layer, value, kernel, stride, pads, include_pad, None, arithmetic, quant)
        return builder.clamp(layer, result, 0.0, None) if relu else result

    return Real(emit, (hwc[2], *size))


@op("MaxPool")
def max_pool(context: Context, op: Op, source: Any) -> Any:
    shape, layer, builder = context.shape(source), context.layer, context.builder
    if len(shape) != 3:
        context.fail(f"needs a (channels, height, width) map but gets shape {shape}")
    kernel, stride = context.pair(op, "kernel_shape", (0, 0)), context.pair(op, "strides")
    dilation = context.pair(op, "dilations")
    pads = context.pads(op, (shape[1], shape[2]), kernel, stride, dilation)
    if op.attributes.get("storage_order", 0) or (
        op.attributes.get("ceil_mode", 0) and (pads[0], pads[2]) != (pads[1], pads[3])
    ):
        context.fail("storage_order, and ceil_mode with unequal pads, are not supported")
    if op.attributes.get("ceil_mode", 0):
        pads = builder.ceil_pads((shape[1], shape[2], shape[0]), kernel, stride, (pads[0], pads[2]), dilation)
    size = builder.windows(layer, (shape[1], shape[2], shape[0]), kernel, stride, pads, dilation)

    def step(value: Value) -> Value:
        return builder.max_pool(layer, value, kernel, stride, pads, dilation, False)

    return context.step(source, step, (shape[0], *size))


# --- clips ---------------------------------------------------------------------------------------------------------


@op("Relu")
def relu(context: Context, op: Op, source: Any) -> Any:
    real = source
    if isinstance(real, Real) and real.source is None and not real.steps:
        return replace(real, relu=True)
    return _clip(context, source, 0.0, None)


@op("Clip")
def clip(context: Context, op: Op, source: Any, low: Any = None, high: Any = None) -> Any:
    if all(isinstance(item, np.ndarray) and item.dtype.kind in "iu" for item in (source, low, high)):
        return np.clip(source, low, high).astype(source.dtype)  # weights of fewer bits than their type has
    limits = []
    for name, given in (("min", low), ("max", high)):
        given = given.real if isinstance(given, Constant) and given.codes.size == 1 else given
        if given is None and name in op.attributes:
            given = np.asarray(op.attributes[name], np.float32)
        if given is not None and (not isinstance(given, np.ndarray) or given.size != 1 or given.dtype != np.float32):
            context.fail(f"its {name} is no float32 constant")
        number = None if given is None else float(given.reshape(()))
        limits.append(None if number is None or not math.isfinite(number) else number)
    return _clip(context, source, limits[0], limits[1])


def _clip(context: Context, source: Any, low: float | None, high: float | None) -> Any:
    layer, builder = context.layer, context.builder
    step: Callable[[Value], Value] = lambda value: builder.clamp(layer, value, low, high)  # noqa: E731
    return context.step(source, step, context.shape(source), exact=(low, high) == (0.0, None))
