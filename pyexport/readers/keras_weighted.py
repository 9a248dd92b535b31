"""Keras's layers with weights, and batch normalisation.

A weighted layer's real output is scale * (codes summed) + bias, in float64; a batch normalisation behind it multiplies
scale and bias per channel, exactly as the float layer does, and a negative factor turns the codes' sign.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyexport import ir
from pyexport.readers import keras_quant
from pyexport.readers.keras_graph import NO_PADDING, REMEDY, Context, Pair, Pending, Value
from pyexport.readers.keras_quant import Width
from pyexport.readers.keras_table import Layer, channels_last, layer, only, pair, window
from pyexport.readers.tensors import Array

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
