"""The layers of micronet's models, by class: those that quantise their input, and those that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.calls import Module
from pyexport.readers.micronet_codes import F64Array, Grid, Sum
from pyexport.readers.micronet_context import Context, Host, Real
from pyexport.readers.micronet_steps import (
    ROUNDING,
    Handler,
    average,
    average_window,
    flatten_module,
    leaky_relu,
    map_of,
    max_pool,
    on_host,
    relu,
    relu6,
    same,
    softmax,
)

ACCEPTED = (
    "micronet's quantised conv, transposed conv, linear, pools, add, leaky ReLU and sigmoid; batch norm right behind a "
    "layer, ReLU, ReLU6, max-pool, average pool before the output, flatten, view, dropout, softmax at the end"
)


# --- layers with weights -------------------------------------------------------------------------------------------


def _conv(context: Context, module: Module, source: Any) -> Real:
    stored = context.tensor(f"{context.layer}.weight")
    bias = context.bias(module)
    stride, padding, dilation = sizes = context.sizes(module)
    groups = int(module.attributes["groups"])
    if (
        "gamma" in module.shapes
    ):  # IAO's QuantBNFuseConv2d: the batch norm goes into the weights before they are quantised
        gain, mean, beta = _batch_norm(context, module, "gamma", "beta")
        stored = stored.astype(np.float64) * gain.reshape(-1, 1, 1, 1)
        bias = beta + ((0 if bias is None else bias.astype(np.float64)) - mean) * gain
    value, grid = context.take(source)
    constants = context.weights(module, stored.transpose(0, 2, 3, 1), bias, grid)
    layer, builder = context.layer, context.builder
    kernel = (stored.shape[2], stored.shape[3])
    height, width = context.window(map_of(context, value.shape), kernel, sizes)

    def write(constants: Sum, target: Grid) -> Value:
        weights = constants.weights(grid.quant, target)
        return builder.conv(layer, value, weights, stride, padding, dilation, groups, target.quant, False)

    return Real.of_sum(layer, (len(stored), height, width), constants, write)


def _transposed(context: Context, module: Module, source: Any) -> Real:
    stored = context.tensor(f"{context.layer}.weight")
    groups = int(module.attributes["groups"])
    inputs, per_out, *kernel = stored.shape
    # (in, out / groups, kh, kw) -> (out, kh, kw, in / groups)
    grouped = stored.reshape(groups, inputs // groups, per_out, *kernel).transpose(0, 2, 3, 4, 1)
    value, grid = context.take(source)
    stored = grouped.reshape(groups * per_out, *kernel, inputs // groups)
    constants = context.weights(module, stored, context.bias(module), grid)
    stride, (py, px), dilation = context.sizes(module)
    extra = context.pair(module.attributes["output_padding"])
    pads = (py, py - extra[0], px, px - extra[1])
    layer, builder = context.layer, context.builder
    source_map = builder.map_of(layer, value)
    if source_map[2] != inputs:
        context.fail(f"takes {inputs} channels but gets shape {value.shape}; check --input-shape")
    height, width = ir.transposed_shape(source_map, (kernel[0], kernel[1]), stride, pads, dilation)
    out = len(stored)
    if min(height, width) < 1:
        context.fail(f"padding {pads} cuts everything off; check --input-shape")

    def write(constants: Sum, target: Grid) -> Value:
        name = builder.unique(layer)
        weights = constants.weights(grid.quant, target)
        clamp = target.quant.range
        node = ir.ConvTranspose2d(name, (value.tensor,), name, weights, stride, pads, dilation, groups, clamp)
        builder.add(node, (height, width, out), target.quant)
        return Value(name, (out, height, width), True, True)

    return Real.of_sum(layer, (out, height, width), constants, write)


def _linear(context: Context, module: Module, source: Any) -> Real:
    stored = context.tensor(f"{context.layer}.weight")
    value, grid = context.take(source)
    constants = context.weights(module, stored[:, None, None, :], context.bias(module), grid)
    layer, builder = context.layer, context.builder
    if value.shape != (stored.shape[1],):
        context.fail(f"takes {stored.shape[1]} features but gets shape {value.shape}; check --input-shape and flatten")

    def write(constants: Sum, target: Grid) -> Value:
        return builder.linear(layer, value, constants.weights(grid.quant, target), target.quant, False)

    return Real.of_sum(layer, (len(stored),), constants, write)


def _batch_norm(context: Context, module: Module, gamma: str, beta: str) -> tuple[F64Array, F64Array, F64Array]:
    """gain = gamma / sqrt(var + eps), mean and beta, in float64."""
    names = (gamma, beta, "running_mean", "running_var")
    if any(name not in module.shapes for name in names):
        context.fail("is a batch norm without statistics or without weights; use affine=True, track_running_stats=True")
    g, b, mean, var = (context.tensor(f"{context.layer}.{name}").astype(np.float64) for name in names)
    if (var < 0).any():
        context.fail("has a negative variance; the checkpoint is damaged")
    return g / np.sqrt(var + float(module.attributes["eps"])), mean, b


def _norm(context: Context, module: Module, source: Any) -> Any:
    """A batch norm right behind a weighted layer is part of that layer."""
    if isinstance(source, Host):
        return on_host(context, source, source.shape)
    if source.sum is None:
        context.fail("is a batch norm that no convolution or linear layer precedes; move it right behind one")
    constants, writer = source.sum
    gain, mean, beta = _batch_norm(context, module, "weight", "bias")
    if len(gain) != len(constants.unit):
        context.fail(f"normalises {len(gain)} channels but gets shape {source.shape}")
    return Real.of_sum(source.layer, source.shape, constants.normalised(gain, mean, beta), writer)


# --- IAO's other layers: their input is quantised, what they make of it is real -------------------------------------


def _max_pool_quantised(context: Context, module: Module, source: Any) -> Real:
    pooled: Real = max_pool(context, module, _again(context, source))
    return pooled


def _again(context: Context, source: Any) -> Real:
    """The real values of a tensor's codes: the next quantiser changes their scale, by a table over the codes."""
    value, grid = context.take(source)
    return _looked_up(context, value, grid, "requantise")


def _looked_up(context: Context, value: Value, grid: Grid, function: str, alpha: float = 0.0) -> Real:
    layer, builder = context.layer, context.builder

    def write(target: Grid) -> Value:
        if function == "requantise" and target == grid:
            return value
        name = builder.unique(layer)
        node = ir.Lookup(name, (value.tensor,), name, function, target.quant.range, alpha)
        builder.add(node, builder.tensors[value.tensor].shape, target.quant)
        return replace(value, tensor=name)

    return Real(layer, value.shape, write)


def _leaky_relu_quantised(context: Context, module: Module, source: Any) -> Real:
    value, grid = context.take(source)
    return _looked_up(context, value, grid, "leaky_relu", float(module.attributes["negative_slope"]))


def _sigmoid_quantised(context: Context, module: Module, source: Any) -> Real:
    value, grid = context.take(source)
    return _looked_up(context, value, grid, "logistic")


def _relu_quantised(context: Context, module: Module, source: Any) -> Any:
    return relu(context, module, _again(context, source))


def _average_quantised(context: Context, module: Module, source: Any) -> Real:
    value, _ = context.take(source)
    window = average_window(context, module, value.shape)
    kernel, stride, padding, include, divisor = window
    height, width = context.window(map_of(context, value.shape), kernel, (stride, padding, (1, 1)))
    layer, builder = context.layer, context.builder

    def write(target: Grid) -> Value:
        return builder.avg_pool(
            layer, value, kernel, stride, padding, include, divisor, ROUNDING, target.quant
        )  # fmt: skip

    return Real(layer, (value.shape[0], height, width), write)


def _add_quantised(context: Context, module: Module, first: Any, second: Any) -> Real:
    (a, _), (b, _) = context.take(first), context.take(second)
    if a.shape != b.shape:
        context.fail(f"adds shapes {a.shape} and {b.shape}; they must be equal")
    layer, builder = context.layer, context.builder

    def write(target: Grid) -> Value:
        name = builder.unique(layer)
        builder.add(
            ir.Add(name, (a.tensor, b.tensor), name, 1, target.quant.range),
            builder.tensors[a.tensor].shape,
            target.quant,
        )
        return replace(a, tensor=name)

    return Real(layer, a.shape, write)


# --- layers that stay real --------------------------------------------------------------------------------------------


def _host_conv(context: Context, module: Module, source: Any) -> Host:
    if not isinstance(source, Host):
        context.fail("is no quantised layer, but stands behind one; quantise it, or leave it out of the exported class")
    out, _, *kernel = module.shapes["weight"]
    height, width = context.window(map_of(context, source.shape), (kernel[0], kernel[1]), context.sizes(module))
    return on_host(context, source, (out, height, width))


def _host_linear(context: Context, module: Module, source: Any) -> Host:
    if not isinstance(source, Host):
        context.fail("is no quantised layer, but stands behind one; quantise it, or leave it out of the exported class")
    return on_host(context, source, (module.shapes["weight"][0],))


QUANTISED: dict[str, Handler] = {
    "Conv2d": _conv,
    "ConvTranspose2d": _transposed,
    "Linear": _linear,
    "MaxPool2d": _max_pool_quantised,
    "AvgPool2d": _average_quantised,
    "AdaptiveAvgPool2d": _average_quantised,
    "LeakyReLU": _leaky_relu_quantised,
    "Sigmoid": _sigmoid_quantised,
    "ReLU": _relu_quantised,
    "QuantAdd": _add_quantised,
}
PLAIN: dict[str, Handler] = {
    "Conv2d": _host_conv,
    "Linear": _host_linear,
    "BatchNorm2d": _norm,
    "BatchNorm1d": _norm,
    "ReLU": relu,
    "ReLU6": relu6,
    "LeakyReLU": leaky_relu,
    "MaxPool2d": max_pool,
    "AvgPool2d": average,
    "AdaptiveAvgPool2d": average,
    "Flatten": flatten_module,
    "Identity": same,
    "Dropout": same,
    "Dropout2d": same,
    "Softmax": lambda context, module, source: softmax(context, source),
    "LogSoftmax": lambda context, module, source: softmax(context, source),
}
