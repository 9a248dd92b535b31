"""Keras's layers without weights: activations, pools, shapes, and those with several inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pyexport import ir
from pyexport.readers.keras_graph import NO_PADDING, REMEDY, Context, Padding, Pair, Pending, Shape, Value
from pyexport.readers.keras_table import MAX_SIZE, Layer, channels_last, layer, only, pair, window

# --- activations ------------------------------------------------------------------------------------------------------


def activate(context: Context, value: Value, name: str, alpha: float = 0.2) -> Value:
    """An activation function by Keras's name."""
    if name in ("linear", "NoOpActivation"):
        return value
    if name in ("relu", "relu6"):
        return clip(context, value, 0.0, 6.0 if name == "relu6" else None)
    functions = {"sigmoid": "logistic", "tanh": "tanh", "leaky_relu": "leaky_relu"}
    if name not in (*functions, "softmax"):
        context.fail(
            f"activation {name[:40]!r} is not supported; accepted: relu, relu6, linear, softmax, {', '.join(functions)}"
        )
    if value.pending is not None:
        if name == "softmax":  # only the order of the outputs counts
            return replace(value, pending=replace(value.pending, monotone=name))
        context.fail(f"applies {name} to the output of {value.pending.layer!r}, which is not quantised; {REMEDY}")
    context.tensor(value)
    return replace(
        value,
        tensor="",
        pending=context.function(functions.get(name, name), value, alpha, "" if name == "leaky_relu" else name),
    )


def clip(context: Context, value: Value, low: float, high: float | None) -> Value:
    """ReLU and the like."""
    pending = value.pending
    if pending is None:
        pending = context.function("requantise", value)
        value = replace(value, tensor="")
    elif pending.monotone:
        context.fail(f"reads the output of {pending.layer!r}, which is not quantised; {REMEDY}")
    low = low if pending.low is None else max(low, pending.low)
    tops = [top for top in (high, pending.high) if top is not None]
    return replace(value, pending=replace(pending, low=low, high=min(tops, default=None)))


@layer("Activation")
def _activation(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    return only(context, inputs)  # what it names follows, as for every layer with an activation


@layer("ReLU")
def _relu(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value, config = only(context, inputs), layer.config
    top = config.get("max_value")
    if config.get("threshold") not in (None, 0) or (top is not None and not 0 < float(top) < math.inf):
        context.fail(
            f"threshold {config.get('threshold')}, max_value {top}: threshold 0 and a positive max_value are accepted"
        )
    slope = float(config.get("negative_slope") or 0)
    if slope and top is None:
        return activate(context, value, "leaky_relu", slope)
    if slope:
        context.fail("negative_slope together with max_value is not supported")
    return clip(context, value, 0.0, None if top is None else float(top))


@layer("LeakyReLU")
def _leaky(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    return activate(context, only(context, inputs), "leaky_relu", float(layer.config["alpha"]))


@layer("Softmax")
def _softmax(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    return activate(context, only(context, inputs), "softmax")


# --- pools ------------------------------------------------------------------------------------------------------------


@layer("MaxPooling2D")
def _max_pool(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value, kernel = only(context, inputs), pair(context, layer.config, "pool_size")
    stride = pair(context, layer.config, "strides", list(kernel))
    source, padding, (rows, columns), before = window(context, layer, value, kernel, stride)
    quant = source.quant
    if before != NO_PADDING and quant.zero_point != quant.range[0]:
        context.fail("ZeroPadding2D before MaxPooling2D is accepted only where 0 is the lowest code")
    name, shape = context.unique(context.layer), (rows, columns, source.shape[2])
    node = ir.MaxPool2d(name, (source.name,), name, kernel, stride, padding, (1, 1), quant.range)
    return Value(shape, context.add(node, shape, quant))


@layer("AveragePooling2D")
def _average(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value, kernel = only(context, inputs), pair(context, layer.config, "pool_size")
    stride = pair(context, layer.config, "strides", list(kernel))
    source, padding, (rows, columns), before = window(context, layer, value, kernel, stride)
    if before != NO_PADDING and padding != before:
        context.fail("ZeroPadding2D before AveragePooling2D with padding 'same' is not supported")
    return _mean(context, source, kernel, stride, padding, before != NO_PADDING, (rows, columns, source.shape[2]))


def _mean(
    context: Context, source: ir.Tensor, kernel: Pair, stride: Pair, padding: Padding, pads_count: bool,
    shape: tuple[int, int, int],
) -> Value:  # fmt: skip
    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        return ir.AvgPool2d(
            name, (source.name,), name, kernel, stride, padding, pads_count, None, clamp, "exact-up"
        )  # fmt: skip

    return Value(shape, pending=Pending(context.layer, emit, shape))


@layer("GlobalAveragePooling2D")
def _global_average(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    channels_last(context, layer.config)
    source, before = context.map(only(context, inputs))
    if before != NO_PADDING:
        context.fail("ZeroPadding2D before GlobalAveragePooling2D is not supported")
    height, width, channels = source.shape
    value = _mean(context, source, (height, width), (1, 1), NO_PADDING, True, (1, 1, channels))
    return value if layer.config.get("keepdims") else replace(value, shape=(channels,))


# --- shapes -----------------------------------------------------------------------------------------------------------


@layer("Dropout", "SpatialDropout2D", "ActivityRegularization", "GaussianNoise")
def _nothing(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    return only(context, inputs)


@layer("Flatten")
def _flatten(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    channels_last(context, layer.config)
    value = only(context, inputs)
    return context.reshaped(value, (math.prod(value.shape),))


@layer("Reshape")
def _reshape(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value, target = only(context, inputs), layer.config.get("target_shape")
    if not isinstance(target, list) or not 1 <= len(target) <= 4 or not all(type(n) is int and n >= -1 for n in target):
        context.fail(f"target_shape {target} is not supported")
    known = math.prod(n for n in target if n > 0)
    shape: Shape = tuple(math.prod(value.shape) // known if n == -1 else n for n in target)
    if min(shape) < 1 or target.count(-1) > 1:
        context.fail(f"target_shape {target} does not fit {value.shape}")
    return context.reshaped(value, shape)


@layer("ZeroPadding2D")
def _zero_padding(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    channels_last(context, layer.config)
    value, amounts = only(context, inputs), layer.config.get("padding")
    sides: list[Any] = amounts if isinstance(amounts, list) else [amounts, amounts]
    flat = [n for one in sides for n in ([one, one] if isinstance(one, int) else one)]
    if len(value.shape) != 3 or len(flat) != 4 or not all(type(n) is int and 0 <= n <= MAX_SIZE for n in flat):
        context.fail(f"padding {amounts} around {value.shape} is not supported")
    pad = tuple(a + b for a, b in zip(value.pad, flat, strict=True))
    height, width, channels = value.shape
    shape = height + flat[0] + flat[1], width + flat[2] + flat[3], channels
    if not value.tensor and value.pending is None:
        value = replace(value, tensor=context.tensor(value).name, axes=())
    return replace(value, shape=shape, pad=(pad[0], pad[1], pad[2], pad[3]), pad_layer=context.layer)


# --- several inputs ------------------------------------------------------------------------------------------------


@layer("Add", "Subtract")
def _add(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    sources = [context.tensor(value) for value in inputs]
    if len(sources) != 2 or inputs[0].shape != inputs[1].shape or sources[0].shape != sources[1].shape:
        context.fail(f"adds shapes {', '.join(str(value.shape) for value in inputs)}; two equal ones are accepted")
    sign = 1 if layer.kind == "Add" else -1

    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        return ir.Add(name, (sources[0].name, sources[1].name), name, sign, clamp)

    return Value(inputs[0].shape, pending=Pending(context.layer, emit, sources[0].shape))


@layer("Concatenate")
def _concatenate(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    """Side by side. Operands that are real still, as tfmot leaves them, take the quantiser behind the concatenation."""
    axis = layer.config.get("axis", -1)
    rank = len(inputs[0].shape)
    if type(axis) is not int or not (axis == -1 or 1 <= axis <= rank) or any(len(v.shape) != rank for v in inputs):
        context.fail(f"concatenates axis {axis} of {', '.join(str(value.shape) for value in inputs)}")
    axis = rank - 1 if axis == -1 else axis - 1
    for value in inputs:
        if value.pad != NO_PADDING:
            context.tensor(value)
        if value.pending is None:
            inner = context.tensor(value).shape
        else:
            inner = value.pending.shape
        if (1, 1, 1, *value.shape)[-3:] != inner:
            context.fail(f"takes a tensor of shape {inner} as {value.shape}; reshape behind it")
    sizes = [(1, 1, 1, *value.shape)[-3:] for value in inputs]
    axis += 3 - rank
    height, width, channels = (
        sum(size[i] for size in sizes) if i == axis else sizes[0][i] for i in range(3)
    )  # fmt: skip
    shape = height, width, channels

    quants = {context.tensor(value).quant for value in inputs if value.pending is None}
    here = context.layer

    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        operands = []
        for value in inputs:
            context.layer = here if value.pending is None else value.pending.layer
            one = value if value.pending is None else context.quantise(value, quant)
            operands.append(context.tensor(one).name)
        context.layer = here
        return ir.Concat(name, tuple(operands), name, axis, clamp)

    value = Value(shape[3 - rank :], pending=Pending(here, emit, shape))
    if len(quants) == 1 and all(value.pending is None for value in inputs):
        return context.quantise(value, quants.pop())
    return value
