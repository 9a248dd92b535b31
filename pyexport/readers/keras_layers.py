"""Keras's layers, by class: each takes its inputs and gives a real or quantised `Value`.

A weighted layer's real output is scale * (codes summed) + bias, in float64; a batch normalisation behind it multiplies
scale and bias per channel, exactly as the float layer does, and a negative factor turns the codes' sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers import keras_quant
from pyexport.readers.keras_file import Variables
from pyexport.readers.keras_graph import NO_PADDING, REMEDY, Context, Padding, Pair, Pending, Shape, Value
from pyexport.readers.keras_quant import Width
from pyexport.readers.tensors import Array

MAX_SIZE = 1 << 16


@dataclass(frozen=True)
class Layer:
    """One layer without its wrapper. config: its settings. variables: by name. widths: of its quantisers, by role.

    ranges_of: what to call the class of its QuantizeConfig in messages. transposed: its weights' ranges belong to the
    last axis but one.
    """

    kind: str
    config: dict[str, Any]
    variables: Variables
    widths: dict[str, Width]
    ranges_of: str = ""
    transposed: bool = False


Handler = Callable[[Context, Layer, list[Value]], Value]
TABLE: dict[str, Handler] = {}


def layer(*names: str) -> Callable[[Handler], Handler]:
    """Registers the reader of one or several classes."""

    def register(function: Handler) -> Handler:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def only(context: Context, inputs: list[Value]) -> Value:
    if len(inputs) != 1:
        context.fail(f"has {len(inputs)} inputs; one is accepted")
    return inputs[0]


def pair(context: Context, config: dict[str, Any], key: str, default: Any = None) -> Pair:
    """A setting of two sizes."""
    value = config.get(key, default)
    sizes = [value, value] if isinstance(value, int) else value
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(n) is int and 0 < n <= MAX_SIZE for n in sizes):
        context.fail(f"{key} {value} is not supported; one or two sizes of 1 to {MAX_SIZE} are accepted")
    return sizes[0], sizes[1]


def channels_last(context: Context, config: dict[str, Any]) -> None:
    if config.get("data_format", "channels_last") not in (None, "channels_last"):
        context.fail(f"data_format {config['data_format']!r} is not supported; use channels_last")


# --- weights -------------------------------------------------------------------------------------------------------


def weight_codes(context: Context, layer: Layer, name: str) -> tuple[Array, Array, Array]:
    """Codes of the kernel as Keras lays it out, int16, and float64 scale and zero point, one or one per last axis."""
    values, low, high = (layer.variables.get(key) for key in (name, f"{name}_min", f"{name}_max"))
    if values is None:
        context.fail(f"has no variable {name!r}; save the model again")
    if low is None or high is None:
        context.fail(
            "its weights are not quantised; annotate it: tfmot.quantization.keras.quantize_model(model), or "
            "quantize_annotate_layer(layer) and quantize_apply"
        )
    if layer.transposed and low.ndim:
        values = values.swapaxes(-1, -2)
    codes, scale, zero = keras_quant.weight_codes(values, low, high, width(context, layer, "weights"))
    if layer.transposed and low.ndim:
        codes = codes.swapaxes(-1, -2)
    return codes, scale.astype(np.float64), zero


def width(context: Context, layer: Layer, role: str) -> Width:
    """How wide the layer's quantisers of a role are."""
    if role not in layer.widths:
        context.fail(
            f"the file does not say how many bits {layer.ranges_of} gives its {role}: let its get_config return its "
            'quantizers, or say it: --quantizers FILE.json with {"' + layer.ranges_of + '": {"' + role + '": '
            '{"num_bits": 4, "narrow_range": false}}}'
        )
    return layer.widths[role]


def bias(context: Context, layer: Layer) -> Array | None:
    """The real bias, float64; quantised if it has a quantiser."""
    if not layer.config.get("use_bias", True):
        return None
    values, low, high = (layer.variables.get(key) for key in ("bias", "bias_min", "bias_max"))
    if values is None:
        context.fail("has no variable 'bias'; save the model again")
    if low is not None and high is not None:
        codes, scale, zero = keras_quant.weight_codes(values, low, high, width(context, layer, "weights"))
        values = ((codes - zero).astype(np.float32) * scale).astype(np.float32)
    return values.astype(np.float64)


def weights(codes: Array, scale: Array, zero: Array, offset: Array | None) -> ir.Weights:
    """codes: (out, kh, kw, in / groups). scale, zero: one, or one per output channel."""
    out = codes.shape[0]
    return ir.Weights(
        np.ascontiguousarray(codes),
        np.broadcast_to(scale, (out,)).astype(np.float64),
        np.broadcast_to(zero, (out,)).astype(np.int32),
        offset,
        False,
        scale.ndim > 0,
    )


def scaled(weights: ir.Weights, factor: Array, offset: Array) -> ir.Weights:
    """The weights of factor * output + offset, per output channel."""
    turn = (factor < 0).reshape(-1, 1, 1, 1)
    codes = np.where(turn, -weights.codes, weights.codes)
    zero = np.where(turn[:, 0, 0, 0], -weights.zero_point, weights.zero_point)
    none = factor == 0  # such a channel is its offset, whatever its scale
    codes = np.where(none.reshape(-1, 1, 1, 1), zero.reshape(-1, 1, 1, 1), codes)
    bias = np.zeros(len(factor)) if weights.bias is None else weights.bias
    return replace(
        weights,
        codes=codes.astype(np.int16),
        zero_point=zero.astype(np.int32),
        scale=weights.scale * np.where(none, 1.0, np.abs(factor)),
        bias=bias * factor + offset,
    )


# --- weighted layers ------------------------------------------------------------------------------------------------


def window(
    context: Context, layer: Layer, value: Value, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> tuple[ir.Tensor, Padding, tuple[int, int], Padding]:
    """Source, padding of a window, its output's rows and columns, and how much of the padding is zeros of a layer before.

    TensorFlow's `same` puts the odd row or column at the end.
    """
    channels_last(context, layer.config)
    source, before = context.map(value)
    height, width, _ = value.shape
    pads = [0, 0, 0, 0]
    if layer.config.get("padding") == "same":
        for axis, size in enumerate((height, width)):
            span = (kernel[axis] - 1) * dilation[axis] + 1
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + span - size, 0)
            pads[2 * axis : 2 * axis + 2] = total // 2, total - total // 2
    elif layer.config.get("padding") != "valid":
        context.fail(f"padding {layer.config.get('padding')!r} is not supported; use 'same' or 'valid'")
    top, bottom, left, right = (a + b for a, b in zip(pads, before, strict=True))
    padding = (top, bottom, left, right)
    rows, columns = ir.window_shape(source.shape, kernel, stride, padding, dilation)
    if min(rows, columns) < 1:
        context.fail(f"kernel {kernel} does not fit a map of {value.shape}")
    return source, padding, (rows, columns), before


@layer("Conv2D", "DepthwiseConv2D")
def _conv(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value = only(context, inputs)
    depthwise = layer.kind == "DepthwiseConv2D"
    codes, scale, zero = weight_codes(context, layer, "depthwise_kernel" if depthwise else "kernel")
    if codes.ndim != 4 or len(value.shape) != 3:
        context.fail(f"weights of shape {codes.shape} do not take an input of shape {value.shape}")
    kernel = codes.shape[0], codes.shape[1]
    stride, dilation = pair(context, layer.config, "strides"), pair(context, layer.config, "dilation_rate", 1)
    channels = value.shape[2]
    if depthwise:
        # (kh, kw, channels, multiplier): tfmot's "per axis" is one range per multiplier, not per channel
        out = codes.shape[2] * codes.shape[3]
        scale, zero = (np.tile(one, codes.shape[2]) if one.ndim else one for one in (scale, zero))
        codes = codes.transpose(2, 3, 0, 1).reshape(out, *kernel, 1)
    else:
        codes = codes.transpose(3, 0, 1, 2)
    groups = channels // codes.shape[3]
    if groups * codes.shape[3] != channels or groups != (channels if depthwise else layer.config.get("groups", 1)):
        context.fail(f"weights of shape {codes.shape} do not take {channels} channels")
    source, padding, (rows, columns), _ = window(context, layer, value, kernel, stride, dilation)

    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        assert weights is not None
        return ir.Conv2d(name, (source.name,), name, weights, stride, padding, dilation, groups, clamp)

    shape = rows, columns, codes.shape[0]
    stored = weights(codes, scale, zero, bias(context, layer))
    return Value(shape, pending=Pending(context.layer, emit, shape, stored))


@layer("Conv2DTranspose")
def _transposed(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value = only(context, inputs)
    channels_last(context, layer.config)
    codes, scale, zero = weight_codes(context, layer, "kernel")
    if codes.ndim != 4 or len(value.shape) != 3 or codes.shape[3] != value.shape[2]:
        context.fail(f"weights of shape {codes.shape} do not take an input of shape {value.shape}")
    if scale.ndim and not layer.transposed:
        context.fail(
            "per_axis=True gives a transposed convolution's weights a scale per input channel; use per_axis=False"
        )
    if pair(context, layer.config, "dilation_rate", 1) != (1, 1) or layer.config.get("groups", 1) != 1:
        context.fail("dilation_rate and groups other than 1 are not supported")
    source, before = context.map(value)
    if before != NO_PADDING:
        context.fail("ZeroPadding2D before Conv2DTranspose is not supported")
    kernel, stride = codes.shape[:2], pair(context, layer.config, "strides")
    extra = layer.config.get("output_padding")
    cut, size = [], []
    for axis in (0, 1):
        n, k, s = source.shape[axis], kernel[axis], stride[axis]
        same = layer.config.get("padding") == "same"
        if extra is None:
            length = n * s if same else n * s + max(k - s, 0)
        else:
            more = pair(context, {"output_padding": [m + 1 for m in extra]}, "output_padding")[axis] - 1
            length = (n - 1) * s + k - (2 * (k // 2) if same else 0) + more
        first = max((n - 1) * s + k - length, 0) // 2 if same else 0
        cut += [first, (n - 1) * s + k - first - length]
        size.append(length)
    padding = cut[0], cut[1], cut[2], cut[3]
    if min(size) < 1:
        context.fail(f"padding {padding} cuts everything off")

    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        assert weights is not None
        return ir.ConvTranspose2d(name, (source.name,), name, weights, stride, padding, (1, 1), 1, clamp)

    shape = size[0], size[1], codes.shape[2]
    stored = weights(codes.transpose(2, 0, 1, 3), scale, zero, bias(context, layer))
    return Value(shape, pending=Pending(context.layer, emit, shape, stored))


@layer("Dense")
def _dense(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value = only(context, inputs)
    codes, scale, zero = weight_codes(context, layer, "kernel")
    source = context.tensor(value)
    if codes.ndim != 2 or codes.shape[0] != value.shape[-1]:
        context.fail(f"weights of shape {codes.shape} do not take an input of shape {value.shape}")
    flat = len(value.shape) == 1
    if not flat:
        context.map(value)  # one fully connected layer for each position: a 1x1 convolution
    codes = codes.T.reshape(-1, *(source.shape if flat else (1, 1, source.shape[2])))

    def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
        assert weights is not None
        if flat:
            return ir.Linear(name, (source.name,), name, weights, clamp)
        return ir.Conv2d(name, (source.name,), name, weights, clamp=clamp)

    out = codes.shape[0]
    shape = (1, 1, out) if flat else (source.shape[0], source.shape[1], out)
    stored = weights(codes, scale, zero, bias(context, layer))
    return Value((*value.shape[:-1], out), pending=Pending(context.layer, emit, shape, stored))


@layer("BatchNormalization")
def _batch_norm(context: Context, layer: Layer, inputs: list[Value]) -> Value:
    value = only(context, inputs)
    pending, axis = value.pending, layer.config.get("axis", -1)
    if (axis if isinstance(axis, int) else axis[0]) not in (-1, len(value.shape)):
        context.fail(f"normalises axis {axis}; the last one is accepted")
    if pending is None:  # of codes: each channel by itself, with weight 1
        source, before = context.map(value)
        if before != NO_PADDING:
            context.fail("ZeroPadding2D before BatchNormalization is not supported")

        def emit(name: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
            assert weights is not None
            return ir.Conv2d(name, (source.name,), name, weights, groups=source.shape[2], clamp=clamp)

        ones = np.ones((source.shape[2], 1, 1, 1), np.int16)
        unit = weights(ones, np.ones(source.shape[2]), np.zeros(source.shape[2]), None)
        pending = Pending(context.layer, emit, source.shape, unit)
    if pending.weights is None or (pending.low, pending.high) != (None, None) or value.pad != NO_PADDING:
        context.fail(f"stands behind {pending.layer!r}, which is no weighted layer whose output is real; {REMEDY}")
    out = pending.shape[2]
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    given = {"gamma": layer.config.get("scale", True), "beta": layer.config.get("center", True)}
    found = []
    for name, default in zip(names, (1.0, 0.0, None, None), strict=True):
        values = layer.variables.get(name) if given.get(name, True) else np.full(out, default)
        if values is None or values.shape != (out,) or not np.isfinite(values).all():
            context.fail(f"its variable {name!r} is missing or not {out} finite numbers; save the model again")
        found.append(values.astype(np.float64))
    gamma, beta, mean, variance = found
    epsilon = float(layer.config.get("epsilon", 1e-3))
    if not (variance + epsilon > 0).all():
        context.fail("its variance plus epsilon is not positive; train the model again")
    factor = gamma / np.sqrt(variance + epsilon)
    stored = scaled(pending.weights, factor, beta - mean * factor)
    return replace(value, tensor="", pending=replace(pending, weights=stored))


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
            return replace(value, pending=replace(value.pending, monotone=True))
        context.fail(f"applies {name} to the output of {value.pending.layer!r}, which is not quantised; {REMEDY}")
    context.tensor(value)
    return replace(
        value, tensor="", pending=context.function(functions.get(name, name), value, alpha, name != "leaky_relu")
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
    pairs = [[n, n] if isinstance(n, int) else n for n in (amounts if isinstance(amounts, list) else [amounts] * 2)]
    flat = [n for one in pairs for n in one]
    if len(value.shape) != 3 or len(flat) != 4 or not all(type(n) is int and 0 <= n <= MAX_SIZE for n in flat):
        context.fail(f"padding {amounts} around {value.shape} is not supported")
    pad = tuple(a + b for a, b in zip(value.pad, flat, strict=True))
    height, width, channels = value.shape
    shape = height + flat[0] + flat[1], width + flat[2] + flat[3], channels
    if not value.tensor and value.pending is None:
        value = replace(value, tensor=context.tensor(value).name, axes=())
    return replace(value, shape=shape, pad=(pad[0], pad[1], pad[2], pad[3]), pad_layer=context.layer)


# --- several inputs -----------------------------------------------------------------------------------------------------


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
