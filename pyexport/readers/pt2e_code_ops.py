"""PT2E operations on codes: sums, concatenations, and functions of each code. See pt2e_ops.py.

Each operand must be quantised; the graph dequantises it, computes in float32 and quantises the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.pt2e_ops import Context, op
from pyexport.readers.real import Real

ARITHMETIC = "pt2e"


def _sum(context: Context, source: Any, other: Any, alpha: Any, sign: int) -> Real:
    if not isinstance(other, Real) or alpha not in (1, 1.0):
        context.fail("adds something else than two activations; give each its own scale (quantise both)")
    if sign == 1 and (joined := context.joined(source, other)) is not None:
        return joined
    builder, layer = context.builder, context.layer
    a, b = context.codes(source), context.codes(other)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return builder.sum(layer, a, b, quant, relu, ARITHMETIC, sign)

    return Real(emit, a.shape)


@op("aten.add.Tensor", "aten.add_.Tensor")
def _add(context: Context, source: Any, other: Any, alpha: Any = 1) -> Real:
    return _sum(context, source, other, alpha, 1)


@op("aten.sub.Tensor", "aten.sub_.Tensor")
def _sub(context: Context, source: Any, other: Any, alpha: Any = 1) -> Real:
    return _sum(context, source, other, alpha, -1)


@op("aten.cat.default")
def _cat(context: Context, tensors: Any, dim: Any = 0) -> Real:
    if not isinstance(tensors, list) or not tensors or not isinstance(dim, int):
        context.fail("joins something else than a list of activations")
    builder, layer = context.builder, context.layer
    values = [context.codes(item) for item in tensors]
    axis = dim - 1 if dim > 0 else dim + len(values[0].shape)
    if not 0 <= axis < len(values[0].shape):
        context.fail(f"joins along axis {dim}; an axis after the batch is accepted")
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values if len(value.shape) > axis)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return builder.concat(layer, values, axis, quant, relu, ARITHMETIC)

    return Real(emit, tuple(shape))


def _function(name: str) -> Callable[..., Real]:
    def read(context: Context, source: Any) -> Real:
        return _lookup(context, source, name, 0.0)

    return read


def _lookup(context: Context, source: Any, function: str, alpha: float) -> Real:
    builder, layer, value = context.builder, context.layer, context.codes(source)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        return builder.lookup(layer, value, function, quant, ARITHMETIC, alpha, relu)

    return Real(emit, value.shape)


for _operation, _name in (
    ("sigmoid", "logistic"),
    ("tanh", "tanh"),
    ("hardswish", "hard_swish"),
    ("hardsigmoid", "hard_sigmoid"),
):
    op(f"aten.{_operation}.default", f"aten.{_operation}_.default")(_function(_name))


@op("aten.leaky_relu.default", "aten.leaky_relu_.default")
def _leaky_relu(context: Context, source: Any, negative_slope: Any = 0.01) -> Real:
    slope = context.scalar(negative_slope)
    if not abs(slope) < 1e6:
        context.fail(f"slope {slope} is not supported")
    return _lookup(context, source, "leaky_relu", slope)
