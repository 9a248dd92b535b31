"""ONNX operations that move nothing or rename positions, and those that compute shapes from constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.onnx_file import Op
from pyexport.readers.onnx_graph import Constant, Context, op
from pyexport.readers.real import Real


@op("Identity", "Dropout")
def _same(context: Context, op: Op, source: Any, *rest: Any) -> Any:
    if len(rest) > 1 and not (isinstance(rest[1], np.ndarray) and not rest[1].any()):
        context.fail("dropout is active; export the model in evaluation mode")
    return source


@op("Constant")
def _constant(context: Context, op: Op) -> Any:
    attributes = op.attributes
    if attributes.get("value") is not None:
        return context.model.array(attributes["value"])
    for name, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    return context.fail("holds a constant of a kind that is not supported")


def _reshaped(context: Context, source: Any, shape: tuple[int, ...]) -> Any:
    layer, builder = context.layer, context.builder
    old = context.shape(source)
    if math.prod(shape) != math.prod(old):
        context.fail(f"reshapes {old} (without the batch) to {shape}; check the input shape")

    def step(value: Value) -> Value:
        moved = [n for n in value.shape if n > 1] != [n for n in shape if n > 1]
        height, width, channels = builder.tensors[value.tensor].shape if value.tensor else (1, 1, 1)
        if value.tensor and moved and len(shape) == 3 and (channels, height, width) == shape and not value.hwc:
            return replace(value, shape=shape)
        return builder.reshape(layer, value, shape)

    return context.step(source, step, shape)


def _is_activation(value: Any) -> bool:
    return isinstance(value, (Value, Real))


@op("Flatten")
def _flatten(context: Context, op: Op, source: Any) -> Any:
    shape = context.shape(source)
    axis = context.integers([op.attributes.get("axis", 1)], "axis")[0]
    if axis % (len(shape) + 1) != 1:
        context.fail(f"flatten at axis {axis} mixes the batch into the features; use axis 1")
    return _reshaped(context, source, (math.prod(shape),))


@op("Reshape")
def _reshape(context: Context, op: Op, source: Any, sizes: Any) -> Any:
    target = context.integers(sizes, "shape")
    if isinstance(source, np.ndarray):
        return source.reshape(target)
    if isinstance(source, Constant):
        if source.axis is not None:
            context.fail("reshapes weights with several scales; run quant_pre_process before quantising")
        return replace(source, codes=source.codes.reshape(target))
    old = context.shape(source)
    if len(target) < 2:
        context.fail(f"reshape to {target} must keep the batch axis; use Flatten")
    keep = not op.attributes.get("allowzero", 0)
    rest = [old[i] if n == 0 and keep and i < len(old) else n for i, n in enumerate(target[1:])]
    batch, total = target[0], math.prod(old)
    if batch == -1 and -1 not in rest and math.prod(rest) == total:
        return _reshaped(context, source, tuple(rest))
    if rest.count(-1) == 1:
        rest = [total // max(-math.prod(rest), 1) if n == -1 else n for n in rest]
    if batch not in (0, -1, context.batch) or min(rest) < 1 or math.prod(rest) != total:
        context.fail(f"reshape of {old} (without the batch) to {target} does not keep the batch axis apart")
    return _reshaped(context, source, tuple(rest))


@op("Squeeze", "Unsqueeze")
def _squeeze(context: Context, op: Op, source: Any, axes: Any = None) -> Any:
    given = op.attributes.get("axes") if axes is None else axes
    found = None if given is None else context.integers(given, "axes")
    if isinstance(source, np.ndarray):
        if op.kind == "Squeeze":
            return np.squeeze(source, None if found is None else tuple(found))
        return np.expand_dims(source, tuple(found or ()))
    shape = context.shape(source)
    rank = len(shape) + 1
    if op.kind == "Unsqueeze":
        rank += len(found or ())
        places = {axis % rank for axis in found or ()}
        rest = iter((0, *shape))
        full = [1 if i in places else next(rest) for i in range(rank)]
    else:
        places = {i for i in range(1, rank) if shape[i - 1] == 1} if found is None else {axis % rank for axis in found}
        full = [n for i, n in enumerate((0, *shape)) if i not in places]
        if any(axis == 0 or shape[axis - 1] != 1 for axis in places):
            context.fail(f"squeezes axes {sorted(places)} of {shape} (without the batch), which are not of size 1")
    if not full or full[0] != 0:
        context.fail("moves the batch axis")
    return _reshaped(context, source, tuple(full[1:]))


@op("Transpose")
def _transpose(context: Context, op: Op, source: Any) -> Any:
    perm = op.attributes.get("perm")
    if isinstance(source, np.ndarray):
        return source.transpose(perm)
    if isinstance(source, Constant):
        order = context.integers(perm if perm is not None else list(range(source.codes.ndim))[::-1], "perm")
        return replace(
            source,
            codes=source.codes.transpose(order),
            axis=None if source.axis is None else order.index(source.axis),
        )
    shape, layer = context.shape(source), context.layer
    order = context.integers(perm, "perm")
    if sorted(order) != list(range(len(shape) + 1)) or order[0] != 0:
        context.fail(f"order {order} does not fit a tensor with {len(shape) + 1} axes, the batch first")
    target = tuple(shape[i - 1] for i in order[1:])
    moved = [i for i in order[1:] if shape[i - 1] > 1]

    def step(value: Value) -> Value:
        if order == [0, 2, 3, 1] and not value.hwc:
            return replace(value, shape=target, hwc=True)
        if order == [0, 3, 1, 2] and value.hwc:
            return replace(value, shape=target, hwc=False)
        if moved == sorted(moved):
            return replace(value, shape=target)
        return context.builder.fail(
            layer, f"order {order} moves values; N, C, H, W to N, H, W, C and back are accepted"
        )

    if isinstance(source, Real) and source.source is not None and not source.source.tensor:
        return Real.of_input(step(source.source))
    return context.step(source, step, target)


@op("Pad")
def _pad(context: Context, op: Op, source: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    """Zeros around a map: a convolution of each channel by itself with one weight of 1, whose own padding they are."""
    if op.attributes.get("mode", "constant") != "constant" or axes is not None:
        context.fail("pads other than with a constant, on all axes, are not supported")
    shape, layer, builder = context.shape(source), context.layer, context.builder
    rank = len(shape) + 1
    sizes = context.integers(op.attributes.get("pads") if pads is None else pads, "pads")
    if len(sizes) != 2 * rank or not all(0 <= n < 1 << 16 for n in sizes):
        context.fail(f"pads {sizes} do not fit {rank} axes, or cut something off")
    if not any(sizes):
        return source
    if rank != 4 or sizes[0] or sizes[1] or sizes[4] or sizes[5]:
        context.fail(f"pads {sizes} are accepted along height and width only")
    around = (sizes[2], sizes[6], sizes[3], sizes[7])
    filler = value.real if isinstance(value, Constant) and value.codes.size == 1 else value
    if filler is not None and (not isinstance(filler, np.ndarray) or filler.size != 1):
        context.fail("its value is no constant")

    def step(codes: Value) -> Value:
        quant = builder.codes(layer, codes).quant
        zero = quant.zero_point if isinstance(source, Value) else 0
        if (0 if filler is None else float(filler.reshape(()))) != zero:
            builder.fail(layer, "pads with another value than zero (the zero point, in codes)")
        channels = builder.map_of(layer, codes)[2]
        context.take(channels)
        ones = np.ones((channels, 1, 1, 1), np.int16)
        weights = ir.Weights(ones, np.ones(channels, np.float32), np.zeros(channels, np.int32), None)
        result = builder.conv(layer, codes, weights, (1, 1), around, (1, 1), channels, quant, False)
        return replace(result, channels_last=False)

    return context.step(source, step, (shape[0], shape[1] + sizes[2] + sizes[6], shape[2] + sizes[3] + sizes[7]))


# --- shapes --------------------------------------------------------------------------------------------------------


@op("Shape")
def _shape(context: Context, op: Op, source: Any) -> Any:
    """A free batch is given as 0, which Reshape copies."""
    if isinstance(source, np.ndarray):
        return np.asarray(source.shape, np.int64)
    full = np.asarray((context.batch or 0, *context.shape(source)), np.int64)
    return full[op.attributes.get("start", 0) : op.attributes.get("end")]


@op("Gather")
def _gather(context: Context, op: Op, source: Any, indices: Any) -> Any:
    if not isinstance(source, np.ndarray) or not isinstance(indices, np.ndarray) or source.ndim != 1:
        context.fail("picks from something else than a shape, which is not supported")
    return np.asarray(source[indices])


@op("Slice")
def _slice(
    context: Context, op: Op, source: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Any:
    if not isinstance(source, np.ndarray) or source.ndim != 1 or starts is None or ends is None or steps is not None:
        context.fail("slices something else than a shape, which is not supported")
    return source[context.integers(starts, "start")[0] : context.integers(ends, "end")[0]]


@op("Cast")
def _cast(context: Context, op: Op, source: Any) -> Any:
    if not isinstance(source, np.ndarray):
        context.fail("changes a tensor's type; only shapes are cast")
    return source if op.attributes.get("to") == 7 else context.fail("casts to another type than int64")
