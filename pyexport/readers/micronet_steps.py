"""What runs on real numbers between micronet's quantised layers: steps that commute with quantising, and shapes."""

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
from pyexport.readers.micronet_codes import Grid
from pyexport.readers.micronet_context import Context, Host, Real

Handler = Callable[..., Any]
ROUNDING = "exact-away"  # of averages; whatever the runtime, the exact ones use their own


class Batch:
    """The batch axis among the sizes of a tensor."""


BATCH = Batch()


def map_of(context: Context, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        context.fail(f"needs a (channels, height, width) map but gets shape {shape}; check --input-shape")
    return shape[0], shape[1], shape[2]


# --- on real numbers ------------------------------------------------------------------------------------------------


def on_host(context: Context, source: Host, shape: tuple[int, ...]) -> Host:
    return Host(shape, shape, (*source.steps, context.layer))


def _clip(context: Context, source: Any, high: int | None) -> Any:
    """max(x, 0), or min(max(x, 0), high): on codes the same between the codes of the limits."""
    if isinstance(source, Host):
        return on_host(context, source, source.shape)
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


def relu(context: Context, module: Module, source: Any) -> Any:
    return _clip(context, source, None)


def relu6(context: Context, module: Module, source: Any) -> Any:
    return _clip(context, source, 6)


def leaky_relu(context: Context, module: Module, source: Any) -> Any:
    """What is below 0 must not reach the next quantiser's codes, as with DoReFa's."""
    if isinstance(source, Host):
        return on_host(context, source, source.shape)
    if float(module.attributes["negative_slope"]) < 0:
        context.fail("has a negative slope")

    def step(value: Value, grid: Grid) -> Value:
        if grid.quant.zero_point != grid.quant.range[0]:
            context.fail("runs on real numbers below 0 between two quantisers; use IAO's QuantLeakyReLU")
        return value

    return source.then(source.shape, step)


def max_pool(context: Context, module: Module, source: Any) -> Any:
    kernel, stride, padding, dilation = (
        context.pair(module.attributes[name]) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    return _largest(context, source, kernel, stride, padding, dilation, bool(module.attributes["ceil_mode"]))


def _largest(
    context: Context, source: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil: bool
) -> Any:
    channels, height, width = map_of(context, source.shape)
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        context.fail(f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation} are impossible")
    if ceil and any(
        (size + 2 * p - d * (k - 1) - 1) % s
        for size, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
    ):
        context.fail("ceil_mode adds windows beyond the map's edge; use ceil_mode=False with padding")
    shape = (channels, *context.window(source.shape, kernel, (stride, padding, dilation)))
    if isinstance(source, Host):
        return on_host(context, source, shape)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        return builder.max_pool(layer, value, kernel, stride, padding, dilation, False)

    return source.then(shape, step)


def average_window(
    context: Context, module: Module, shape: tuple[int, ...]
) -> tuple[Pair, Pair, Pair, bool, int | None]:
    """kernel, stride, padding, count_include_pad, divisor"""
    _, height, width = map_of(context, shape)
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


def average(context: Context, module: Module, source: Any) -> Any:
    window = average_window(context, module, source.shape)
    return _mean(context, source, *window)


def _mean(
    context: Context, source: Any, kernel: Pair, stride: Pair, padding: Pair, include: bool, divisor: int | None
) -> Any:
    shape = (source.shape[0], *context.window(map_of(context, source.shape), kernel, (stride, padding, (1, 1))))
    if isinstance(source, Host):
        return on_host(context, source, shape)
    layer, builder = context.layer, context.builder

    def step(value: Value, grid: Grid) -> Value:
        return builder.avg_pool(layer, value, kernel, stride, padding, include, divisor, ROUNDING)

    return source.then(shape, step, layer)


def same(context: Context, module: Module, source: Any) -> Any:
    return source


def softmax(context: Context, source: Any, *args: Any, **kwargs: Any) -> Any:
    """Left to the host; it must be the last step, so what it gives can only be the output."""
    if isinstance(source, Host):
        return on_host(context, source, source.shape)
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
        return on_host(context, source, source.shape)
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


def flatten_module(context: Context, module: Module, source: Any) -> Any:
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
    return average(context, Module((), attributes), source)


def _adaptive_function(context: Context, source: Any, output_size: Any) -> Any:
    size = tuple(output_size) if isinstance(output_size, list) else output_size
    return average(context, Module((), {"output_size": size}), source)


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
    "softmax": softmax,
    "log_softmax": softmax,
}
