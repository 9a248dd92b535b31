"""The table of Keras's layers by class, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyexport import ir
from pyexport.readers.keras_file import Variables
from pyexport.readers.keras_graph import Context, Padding, Pair, Value
from pyexport.readers.keras_quant import Width

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


def window(
    context: Context, layer: Layer, value: Value, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)
) -> tuple[ir.Tensor, Padding, tuple[int, int], Padding]:
    """Source, padding of a window, its output's rows and columns, and what of the padding a ZeroPadding2D brought.

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
