"""QOperator graphs: an operation takes codes, its scales as further inputs. Each is its QDQ form written as one."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyexport.readers import onnx_layers, onnx_qdq
from pyexport.readers.builder import Value
from pyexport.readers.onnx_file import Op
from pyexport.readers.onnx_graph import MS, Constant, Context, op
from pyexport.readers.real import Real


def _operand(context: Context, op: Op, codes: Any, scale: Any, zero_point: Any) -> Any:
    """An activation or a constant as real numbers."""
    if isinstance(codes, np.ndarray):
        return onnx_qdq.constant(context, op, codes, scale, zero_point)
    return context.activation(codes, scale, zero_point)


def _weight(context: Context, op: Op, codes: Any, scale: Any, zero_point: Any, axis: int) -> Constant:
    """A layer's weights; several scales belong to `axis`."""
    along = Op(op.kind, op.name, op.inputs, op.outputs, {"axis": axis})
    return onnx_qdq.constant(context, along, codes, scale, zero_point)


def _bias(context: Context, source: Real, weight: Constant, bias: Any) -> Constant | None:
    """int32 codes, whose scale a QOperator takes to be input scale * weight scale."""
    if bias is None:
        return None
    if not isinstance(bias, np.ndarray) or bias.dtype != np.int32:
        context.fail("its bias is no int32 constant")
    value = context.codes(source)
    step = context.builder.tensors[value.tensor].quant.scale * weight.scale
    return Constant(
        bias.reshape(-1), np.asarray(step), np.zeros(np.shape(step), np.int64), 0 if np.ndim(step) else None
    )


def _quantised(context: Context, real: Real, scale: Any, zero_point: Any) -> Value:
    return context.quantise(real, context.quant(scale, zero_point))


@op("QLinearConv")
def _conv(
    context: Context, op: Op, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any,
    y_scale: Any, y_zero: Any, bias: Any = None,
) -> Value:  # fmt: skip
    source, weight = context.activation(x, x_scale, x_zero), _weight(context, op, w, w_scale, w_zero, 0)
    real = onnx_layers.conv(context, op, source, weight, _bias(context, source, weight, bias))
    return _quantised(context, real, y_scale, y_zero)


@op("QLinearMatMul")
def _matmul(
    context: Context, op: Op, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any,
    y_scale: Any, y_zero: Any,
) -> Value:  # fmt: skip
    source, weight = context.activation(x, x_scale, x_zero), _weight(context, op, w, w_scale, w_zero, 1)
    return _quantised(context, onnx_layers.matmul(context, op, source, weight), y_scale, y_zero)


@op(MS + "QGemm")
def _gemm(
    context: Context, op: Op, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, bias: Any = None,
    y_scale: Any = None, y_zero: Any = None,
) -> Real | Value:  # fmt: skip
    axis = 0 if op.attributes.get("transB", 0) else 1
    source, weight = context.activation(x, x_scale, x_zero), _weight(context, op, w, w_scale, w_zero, axis)
    real = onnx_layers.gemm(context, op, source, weight, _bias(context, source, weight, bias))
    return real if y_scale is None else _quantised(context, real, y_scale, y_zero)


@op(MS + "QLinearAdd", MS + "QLinearMul")
def _pairs(
    context: Context, op: Op, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any,
    y_scale: Any, y_zero: Any = None,
) -> Value:  # fmt: skip
    operands = _operand(context, op, a, a_scale, a_zero), _operand(context, op, b, b_scale, b_zero)
    return _quantised(context, onnx_qdq.pairs(context, op, *operands), y_scale, y_zero)


@op(MS + "QLinearConcat")
def _concat(context: Context, op: Op, y_scale: Any, y_zero: Any, *operands: Any) -> Value:
    """operands: codes, scale and zero point of each input in turn."""
    if len(operands) % 3:
        context.fail("its inputs are no triples of codes, scale and zero point; the file is damaged")
    reals = [context.activation(*operands[i : i + 3]) for i in range(0, len(operands), 3)]
    return _quantised(context, onnx_qdq.concat(context, op, *reals), y_scale, y_zero)


@op(MS + "QLinearSigmoid", MS + "QLinearLeakyRelu", MS + "QLinearAveragePool", MS + "QLinearGlobalAveragePool")
def _unary(context: Context, op: Op, x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None) -> Value:
    if op.attributes.get("channels_last", 0):
        context.fail("is in channels-last layout, which onnxruntime writes for itself; export the model before that")
    functions = {
        "Sigmoid": onnx_qdq.sigmoid, "LeakyRelu": onnx_qdq.leaky_relu, "AveragePool": onnx_qdq.average_pool,
        "GlobalAveragePool": onnx_qdq.global_average_pool,
    }  # fmt: skip
    real = functions[op.kind.rpartition(".QLinear")[2]](context, op, context.activation(x, x_scale, x_zero))
    return _quantised(context, real, y_scale, y_zero)
