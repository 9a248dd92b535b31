"""The layers of micronet's models, by class: those that quantise their input, and what runs on real numbers between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Pair, Value
from pyexport.readers.calls import Module
from pyexport.readers.micronet_codes import F64Array, Grid, Sum
from pyexport.readers.micronet_context import Context, Host, Real

ACCEPTED = (
    "micronet's quantised conv, transposed conv, linear, pools, add, leaky ReLU and sigmoid; batch norm right behind a "
    "layer, ReLU, ReLU6, max-pool, average pool before the output, flatten, view, dropout, softmax at the end"
)
ROUNDING = "exact-away"  # of averages; whatever the runtime, the exact ones use their own


class Batch:
    """The batch axis among the sizes of a tensor."""


BATCH = Batch()


def _map(context: Context, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        context.fail(f"needs a (channels, height, width) map but gets shape {shape}; check --input-shape")
    return shape[0], shape[1], shape[2]


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
    height, width = context.window(_map(context, value.shape), kernel, sizes)

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
        return _on_host(context, source, source.shape)
    if source.sum is None:
        context.fail("is a batch norm that no convolution or linear layer precedes; move it right behind one")
    constants, writer = source.sum
    gain, mean, beta = _batch_norm(context, module, "weight", "bias")
    if len(gain) != len(constants.unit):
        context.fail(f"normalises {len(gain)} channels but gets shape {source.shape}")
    return Real.of_sum(source.layer, source.shape, constants.normalised(gain, mean, beta), writer)


# --- IAO's other layers: their input is quantised, what they make of it is real -------------------------------------


def _max_pool_quantised(context: Context, module: Module, source: Any) -> Real:
    pooled: Real = _max_pool(context, module, _again(context, source))
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
    return _relu(context, module, _again(context, source))


def _average_quantised(context: Context, module: Module, source: Any) -> Real:
    value, _ = context.take(source)
    window = _average_window(context, module, value.shape)
    kernel, stride, padding, include, divisor = window
    height, width = context.window(_map(context, value.shape), kernel, (stride, padding, (1, 1)))
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


# --- on real numbers ------------------------------------------------------------------------------------------------


def _on_host(context: Context, source: Host, shape: tuple[int, ...]) -> Host:
    return Host(shape, shape, (*source.steps, context.layer))


def _host_conv(context: Context, module: Module, source: Any) -> Host:
    if not isinstance(source, Host):
        context.fail("is no quantised layer, but stands behind one; quantise it, or leave it out of the exported class")
    out, _, *kernel = module.shapes["weight"]
    height, width = context.window(_map(context, source.shape), (kernel[0], kernel[1]), context.sizes(module))
    return _on_host(context, source, (out, height, width))


def _host_linear(context: Context, module: Module, source: Any) -> Host:
    if not isinstance(source, Host):
        context.fail("is no quantised layer, but stands behind one; quantise it, or leave it out of the exported class")
    return _on_host(context, source, (module.shapes["weight"][0],))


def _clip(context: Context, source: Any, high: int | None) -> Any:
    """max(x, 0), or min(max(x, 0), high): on codes the same between the codes of the limits."""
    if isinstance(source, Host):
        return _on_host(context, source, source.shape)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        low_code, top = grid.quant.range
        zero = grid.quant.zero_point
        limits = (max(zero, low_code), top if high is None else min(top, zero + _half_up(Fraction(high) / grid.step)))
        if limits == (low_code, top):
            return value
        name = builder.unique(layer)
        builder.add(ir.Clamp(name, (value.tensor,), name, limits), builder.tensors[value.tensor].shape, grid.quant)
        return replace(value, tensor=name)

    return source.then(source.shape, step)


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _relu(context: Context, module: Module, source: Any) -> Any:
    return _clip(context, source, None)


def _relu6(context: Context, module: Module, source: Any) -> Any:
    return _clip(context, source, 6)


def _leaky_relu(context: Context, module: Module, source: Any) -> Any:
    """What is below 0 must not reach the next quantiser's codes, as with DoReFa's."""
    if isinstance(source, Host):
        return _on_host(context, source, source.shape)
    if float(module.attributes["negative_slope"]) < 0:
        context.fail("has a negative slope")

    def step(value: Value, grid: Grid) -> Value:
        if grid.quant.zero_point != grid.quant.range[0]:
            context.fail("runs on real numbers below 0 between two quantisers; use IAO's QuantLeakyReLU")
        return value

    return source.then(source.shape, step)


def _max_pool(context: Context, module: Module, source: Any) -> Any:
    kernel, stride, padding, dilation = (
        context.pair(module.attributes[name]) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    return _largest(context, source, kernel, stride, padding, dilation, bool(module.attributes["ceil_mode"]))


def _largest(
    context: Context, source: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil: bool
) -> Any:
    channels, height, width = _map(context, source.shape)
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        context.fail(f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation} are impossible")
    if ceil and any(
        (size + 2 * p - d * (k - 1) - 1) % s
        for size, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
    ):
        context.fail("ceil_mode adds windows beyond the map's edge; use ceil_mode=False with padding")
    shape = (channels, *context.window(source.shape, kernel, (stride, padding, dilation)))
    if isinstance(source, Host):
        return _on_host(context, source, shape)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        return builder.max_pool(layer, value, kernel, stride, padding, dilation, False)

    return source.then(shape, step)


def _average_window(
    context: Context, module: Module, shape: tuple[int, ...]
) -> tuple[Pair, Pair, Pair, bool, int | None]:
    """kernel, stride, padding, count_include_pad, divisor"""
    _, height, width = _map(context, shape)
    if "output_size" in module.attributes:
        size = module.attributes["output_size"]
        wanted = size if isinstance(size, tuple) else (size, size)
        wanted = context.pair(tuple(full if n is None else n for n, full in zip(wanted, (height, width), strict=True)))
        if min(wanted) < 1 or height % wanted[0] or width % wanted[1]:
            context.fail(f"pooling of {(height, width)} to {wanted} has unequal windows; use AvgPool2d")
        kernel = (height // wanted[0], width // wanted[1])
        return kernel, kernel, (0, 0), True, None
    if module.attributes["ceil_mode"]:
        context.fail("ceil_mode is not supported for averages; use ceil_mode=False")
    kernel, stride, padding = (context.pair(module.attributes[name]) for name in ("kernel_size", "stride", "padding"))
    divisor = module.attributes["divisor_override"]
    return kernel, stride, padding, bool(module.attributes["count_include_pad"]), divisor


def _average(context: Context, module: Module, source: Any) -> Any:
    window = _average_window(context, module, source.shape)
    return _mean(context, source, *window)


def _mean(
    context: Context, source: Any, kernel: Pair, stride: Pair, padding: Pair, include: bool, divisor: int | None
) -> Any:
    shape = (source.shape[0], *context.window(_map(context, source.shape), kernel, (stride, padding, (1, 1))))
    if isinstance(source, Host):
        return _on_host(context, source, shape)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        return builder.avg_pool(layer, value, kernel, stride, padding, include, divisor, ROUNDING)

    return source.then(shape, step, layer)


def _same(context: Context, module: Module, source: Any) -> Any:
    return source


def _softmax(context: Context, source: Any, *args: Any, **kwargs: Any) -> Any:
    """Left to the host; it must be the last step, so what it gives can only be the output."""
    if isinstance(source, Host):
        return _on_host(context, source, source.shape)
    context.notes.append(f"{context.layer!r} is left to the host: the output is what it reads; the largest is the same")
    return replace(source, last=context.layer)


# --- shapes ---------------------------------------------------------------------------------------------------------


def _reshape(context: Context, source: Any, shape: tuple[int, ...]) -> Any:
    """shape: without the batch."""
    if math.prod(shape) != math.prod(source.shape):
        context.fail(f"reshapes {source.shape} to {shape}; check --input-shape")
    if isinstance(source, Host):
        return Host(shape, source.base, source.steps)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        return builder.reshape(layer, value, shape)

    return source.then(shape, step)


@dataclass(frozen=True, eq=False)
class Groups:
    """A map seen as (groups, channels of each, H, W), or with these two axes swapped: a channel shuffle on its way."""

    source: Real | Host
    groups: int
    swapped: bool = False


def _transpose(context: Context, source: Any, first: int, second: int) -> Groups:
    if not isinstance(source, Groups) or sorted((first, second)) != [1, 2]:
        context.fail("swaps axes; accepted is a channel shuffle: view as groups, transpose(1, 2), view back")
    return replace(source, swapped=not source.swapped)


def _shuffled(context: Context, seen: Groups) -> Any:
    """Channels in another order: a 1x1 convolution with one weight of 1 for each, which keeps every code."""
    source, channels = seen.source, seen.source.shape[0]
    if not seen.swapped:
        return source
    if isinstance(source, Host):
        return _on_host(context, source, source.shape)
    order = np.arange(channels).reshape(seen.groups, -1).T.reshape(-1)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        codes = np.zeros((channels, 1, 1, channels), np.int16)
        codes[np.arange(channels), 0, 0, order] = 1
        weights = ir.Weights(codes, np.ones(channels, np.float32), np.zeros(channels, np.int32), None)
        return builder.conv(layer, value, weights, (1, 1), (0, 0), (1, 1), 1, grid.quant, False)

    return source.then(source.shape, step)


def _view(context: Context, source: Any, *args: Any) -> Any:
    sizes = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else list(args)
    if isinstance(source, Groups):
        if tuple(sizes[1:]) != source.source.shape:
            context.fail(f"reshapes {source.source.shape} in groups to {tuple(sizes[1:])}; a shuffle ends as it began")
        return _shuffled(context, source)
    if len(sizes) == 5 and len(source.shape) == 3 and sizes[1] * sizes[2] == source.shape[0]:
        return Groups(source, sizes[1])
    total = math.prod(source.shape)
    first, rest = sizes[0], sizes[1:]
    if first is not BATCH and first != -1:
        context.fail(f"reshapes to a batch of {first}; write x.size(0) or -1 there")
    if not rest or not all(isinstance(n, int) for n in rest) or sum(n == -1 for n in rest) > (first is BATCH):
        context.fail("reshapes to sizes that are not known; write numbers")
    known = math.prod(n for n in rest if n != -1)
    if known < 1 or total % known:
        context.fail(f"reshapes {source.shape} to {tuple(rest)}; check --input-shape")
    return _reshape(context, source, tuple(total // known if n == -1 else n for n in rest))


def _flatten(context: Context, source: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    if start_dim != 1 or end_dim not in (-1, len(source.shape)):
        context.fail(f"flattens axes {start_dim} to {end_dim}; accepted is all but the batch (start_dim=1)")
    return _reshape(context, source, (math.prod(source.shape),))


def _flatten_module(context: Context, module: Module, source: Any) -> Any:
    return _flatten(context, source, module.attributes["start_dim"], module.attributes["end_dim"])


def _size(context: Context, source: Any, axis: int | None = None) -> Any:
    sizes = (BATCH, *source.shape)
    return sizes if axis is None else sizes[axis]


def _attribute(context: Context, source: Any, name: str) -> Any:
    if name != "shape":
        context.fail(f"reads .{name}, which is not supported")
    return _size(context, source)


def _item(context: Context, source: Any, index: int) -> Any:
    if not isinstance(source, tuple):
        context.fail("takes a part of a tensor, which is not supported")
    return source[index]


def _divided(context: Context, size: Any, divisor: Any) -> int:
    if not isinstance(size, int) or not isinstance(divisor, int) or divisor < 1:
        context.fail("divides something that is no size")
    return size // divisor


# --- functions -------------------------------------------------------------------------------------------------------


def _dropout(context: Context, source: Any, p: float = 0.5, training: Any = False, inplace: bool = False) -> Any:
    if training not in (False, None):
        context.fail("is a dropout that stays on; write training=self.training")
    return source


def _relu_function(context: Context, source: Any, inplace: bool = False) -> Any:
    return _clip(context, source, None)


def _relu6_function(context: Context, source: Any, inplace: bool = False) -> Any:
    return _clip(context, source, 6)


def _max_pool_function(
    context: Context, source: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    kernel = context.pair(kernel_size)
    sizes = (context.pair(stride or kernel), context.pair(padding), context.pair(dilation))
    return _largest(context, source, kernel, *sizes, ceil_mode)


def _average_function(
    context: Context, source: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    attributes = {
        "kernel_size": kernel_size, "stride": stride or kernel_size, "padding": padding, "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad, "divisor_override": divisor_override,
    }  # fmt: skip
    return _average(context, Module((), attributes), source)


def _adaptive_function(context: Context, source: Any, output_size: Any) -> Any:
    size = tuple(output_size) if isinstance(output_size, list) else output_size
    return _average(context, Module((), {"output_size": size}), source)


Handler = Callable[..., Any]

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
    "ReLU": _relu,
    "ReLU6": _relu6,
    "LeakyReLU": _leaky_relu,
    "MaxPool2d": _max_pool,
    "AvgPool2d": _average,
    "AdaptiveAvgPool2d": _average,
    "Flatten": _flatten_module,
    "Identity": _same,
    "Dropout": _same,
    "Dropout2d": _same,
    "Softmax": lambda context, module, source: _softmax(context, source),
    "LogSoftmax": lambda context, module, source: _softmax(context, source),
}
FUNCTIONS: dict[str, Handler] = {
    "relu": _relu_function,
    "relu_": _relu_function,
    "relu6": _relu6_function,
    "max_pool2d": _max_pool_function,
    "avg_pool2d": _average_function,
    "adaptive_avg_pool2d": _adaptive_function,
    "dropout": _dropout,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    "transpose": _transpose,
    "floordiv": _divided,
    "contiguous": lambda context, source: source,
    "size": _size,
    "getattr": _attribute,
    "getitem": _item,
    "softmax": _softmax,
    "log_softmax": _softmax,
}
