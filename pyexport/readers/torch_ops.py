"""The operations of quantised TorchScript models: one small function each, registered under its TorchScript name.

The functions' parameters and defaults are those of PyTorch's operator schemas, so that text which leaves out a default
is read correctly.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.builder import Builder, Pair, Value
from pyexport.readers.packed import ConvParams, Unpacker
from pyexport.readers.script import Name
from pyexport.readers.tensors import TensorError

ACCEPTED = (
    "accepted: quantize_per_tensor, dequantize, quantized conv2d and linear (with or without ReLU), max_pool2d, "
    "avg_pool2d, adaptive_avg_pool2d, mean over H and W, add, cat, conv_transpose2d, relu, relu6, hardtanh, clamp, "
    "leaky_relu, elu, sigmoid, tanh, hardsigmoid, hardswish, flatten, reshape, view, squeeze, dropout, contiguous"
)
QUINT8 = 13
CHANNELS_LAST, CONTIGUOUS = 2, 0
TABLE: dict[str, Callable[..., Any]] = {}


class Batch:
    """The size of the batch axis: whatever the user gives."""


BATCH = Batch()


def op(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass
class Context:
    """What the operations work on: the graph being built, the archive's weights, and where the interpreter is."""

    builder: Builder
    unpacker: Unpacker
    location: Callable[[], tuple[str, str, str]]
    kind: str = ""

    def call(self, name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        """Runs operation `name`; an unknown one, or arguments that do not fit, is an error."""
        function = TABLE.get(name)
        self.kind = name.rsplit(".", 1)[-1]
        if function is None:
            self.fail(f"operation {name[:80]} is not supported; {ACCEPTED}")
        try:
            bound = inspect.signature(function).bind(self, *args, **keywords)
        except TypeError as error:
            raise IntactError(
                f"{self.builder.file}: layer {self.layer()!r}: {name} is called with unknown arguments ({error})"
            ) from error
        try:
            return function(*bound.args, **bound.kwargs)
        except TensorError as error:
            self.fail(str(error))

    def layer(self) -> str:
        """The layer's name: its module's path; for functions called in a model's own code, path and variable."""
        path, cls, target = self.location()
        if path and cls.startswith("__torch__.torch."):
            return path
        generic = not target or target.startswith(("_", "input", "x", "result", "argument"))
        return ".".join(part for part in (path, self.kind if generic else target) if part)

    def fail(self, text: str) -> NoReturn:
        self.builder.fail(self.layer(), text)

    def value(self, value: Any) -> Value:
        if not isinstance(value, Value):
            self.fail(f"{self.kind} of something that is no activation; {ACCEPTED}")
        return value

    def number(self, value: Any) -> float:
        value = self.unpacker.tensors.decode(value)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(()).item()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.fail(f"{self.kind} needs a finite number for a scale, limit or size")
        return value

    def integer(self, value: Any) -> int:
        number = self.number(value)
        if number != int(number) or abs(number) > 1 << 40:
            self.fail(f"{self.kind} needs an integer, not {number}")
        return int(number)

    def pair(self, value: Any, default: Pair | None = None) -> Pair:
        """(vertical, horizontal) from a number or a list of one or two; an empty list is `default`."""
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if not items and default is not None:
            return default
        if len(items) not in (1, 2):
            self.fail(f"{self.kind} needs two sizes, not {len(items)}")
        return self.integer(items[0]), self.integer(items[-1])

    def out_quant(self, scale: Any, zero_point: Any) -> ir.Quant:
        return self.builder.quant(self.layer(), self.number(scale), self.integer(zero_point), "uint8")


# --- plain values --------------------------------------------------------------------------------------------------


def _same(context: Context, a: Any, b: Any) -> bool:
    if isinstance(a, (Value, Batch)) or isinstance(b, (Value, Batch)):
        context.fail("a comparison that depends on the data or the batch size")
    return bool(type(a) is type(b) and a == b) if isinstance(a, str) or isinstance(b, str) else bool(a == b)


@op("torch.__is__")
def _is(context: Context, a: Any, b: Any) -> bool:
    return (a is None) == (b is None) if a is None or b is None else _same(context, a, b)


@op("torch.__isnot__")
def _is_not(context: Context, a: Any, b: Any) -> bool:
    return not _is(context, a, b)


@op("torch.eq")
def _eq(context: Context, a: Any, b: Any) -> bool:
    return _same(context, a, b)


@op("torch.ne")
def _ne(context: Context, a: Any, b: Any) -> bool:
    return not _same(context, a, b)


@op("torch.gt")
def _gt(context: Context, a: Any, b: Any) -> bool:
    return context.number(a) > context.number(b)


@op("torch.lt")
def _lt(context: Context, a: Any, b: Any) -> bool:
    return context.number(a) < context.number(b)


@op("torch.__not__")
def _not(context: Context, a: Any) -> bool:
    if not isinstance(a, bool):
        context.fail("'not' of something that is no truth value")
    return not a


@op("torch.mul")
def _mul(context: Context, a: Any, b: Any) -> int:
    if isinstance(a, Value) or isinstance(b, Value):
        context.fail(f"operation torch.mul on activations is not supported; {ACCEPTED}")
    return context.integer(a) * context.integer(b)


@op("torch.len")
def _len(context: Context, items: Any) -> int:
    if not isinstance(items, (list, tuple)):
        context.fail("the length of something that is no list")
    return len(items)


@op("torch.dim")
def _dim(context: Context, x: Any) -> int:
    return len(context.value(x).shape) + 1


@op("torch.size")
def _size(context: Context, x: Any, dim: Any = None) -> Any:
    sizes = [BATCH, *context.value(x).shape]
    if dim is None:
        return sizes
    axis = context.integer(dim)
    if not -len(sizes) <= axis < len(sizes):
        context.fail(f"size of axis {axis} of a tensor with {len(sizes)}")
    return sizes[axis]


@op("float")
def _float(context: Context, value: Any) -> float:
    return float(context.number(value))


@op("int", "ops.prim.NumToTensor", "torch.Int")
def _int(context: Context, value: Any) -> Any:
    return value if isinstance(value, Batch) else context.integer(value)


@op("bool")
def _bool(context: Context, value: Any) -> bool:
    return bool(context.number(value)) if not isinstance(value, bool) else value


@op("annotate", "unchecked_cast")
def _cast(context: Context, kind: Name, value: Any) -> Any:
    return value


@op("uninitialized")
def _uninitialized(context: Context, kind: Name) -> None:
    return None


@op("ops.prim.RaiseException")
def _raise(context: Context, message: Any, kind: Any = None) -> NoReturn:
    context.fail(f"the model itself rejects this input shape: {str(message)[:120] if isinstance(message, str) else ''}")


# --- quantised layers ----------------------------------------------------------------------------------------------


@op("torch.quantize_per_tensor")
def _quantize(context: Context, x: Any, scale: Any, zero_point: Any, dtype: Any) -> Value:
    if dtype != QUINT8:
        context.fail("activations quantised to another type than quint8; use the fbgemm or qnnpack qconfig's quint8")
    quant = context.out_quant(scale, zero_point)
    return context.builder.quantize(context.layer(), context.value(x), quant)


@op("torch.dequantize")
def _dequantize(context: Context, x: Any) -> Value:
    return context.builder.dequantize(context.layer(), context.value(x))


@op("ops.quantized.conv2d_prepack")
def _conv_prepack(
    context: Context, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> ConvParams:
    weight, bias = (context.unpacker.tensors.decode(record) for record in (weight, bias))
    sizes = (context.pair(stride), context.pair(padding), context.pair(dilation), context.integer(groups))
    return ConvParams.of(weight, bias, *sizes)


def _conv(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any, relu: bool) -> Value:
    params = context.unpacker.conv(packed)
    if params.output_padding is not None:
        context.fail("conv2d with a conv_transpose2d's parameters; the file is damaged")
    quant = context.out_quant(scale, zero_point)
    sizes = (params.stride, params.padding, params.dilation, params.groups)
    return context.builder.conv(context.layer(), context.value(x), params.weights, *sizes, quant, relu)


@op("ops.quantized.conv2d")
def _conv2d(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any) -> Value:
    return _conv(context, x, packed, scale, zero_point, False)


@op("ops.quantized.conv2d_relu")
def _conv2d_relu(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any) -> Value:
    return _conv(context, x, packed, scale, zero_point, True)


@op("ops.quantized.conv_transpose2d_prepack")
def _conv_transpose_prepack(
    context: Context, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: Any
) -> ConvParams:
    weight, bias = (context.unpacker.tensors.decode(record) for record in (weight, bias))
    sizes = (context.pair(stride), context.pair(padding), context.pair(dilation), context.integer(groups))
    return ConvParams.of_transposed(weight, bias, *sizes, context.pair(output_padding))


@op("ops.quantized.conv_transpose2d")
def _conv_transpose2d(context: Context, qx: Any, packed: Any, scale: Any, zero_point: Any) -> Value:
    params = context.unpacker.conv(packed)
    if params.output_padding is None:
        context.fail("conv_transpose2d with a conv2d's parameters; the file is damaged")
    quant = context.out_quant(scale, zero_point)
    sizes = (params.stride, params.padding, params.output_padding, params.dilation, params.groups)
    return context.builder.conv_transpose(context.layer(), context.value(qx), params.weights, *sizes, quant, False)


def _linear_layer(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any, relu: bool) -> Value:
    params = context.unpacker.linear(packed)
    quant = context.out_quant(scale, zero_point)
    return context.builder.linear(context.layer(), context.value(x), params.weights, quant, relu)


@op("ops.quantized.linear")
def _linear(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any) -> Value:
    return _linear_layer(context, x, packed, scale, zero_point, False)


@op("ops.quantized.linear_relu")
def _linear_relu(context: Context, x: Any, packed: Any, scale: Any, zero_point: Any) -> Value:
    return _linear_layer(context, x, packed, scale, zero_point, True)
