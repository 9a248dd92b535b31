"""Convolutions and linear layers of ONNX graphs: weights and biases as the IR has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.onnx_file import Op
from pyexport.readers.onnx_graph import Constant, Context, op
from pyexport.readers.real import Real
from pyexport.readers.tensors import Array


def weights_of(
    context: Context, source: ir.Quant, constant: Any, axis: int, order: Callable[[Array], Array], bias: Any
) -> ir.Weights:
    """A layer's weights. source: quantisation of its input. axis: the constant's axis of output channels.

    order: puts the codes into (out, kh, kw, in / groups).
    """
    if not isinstance(constant, Constant) or constant.codes.dtype.kind not in "iu" or not constant.codes.size:
        context.fail("its weights are no quantised constant; quantise them to int8 or uint8")
    if constant.codes.dtype.itemsize != 1:
        context.fail(f"weights of type {constant.codes.dtype} are not supported; int8 and uint8 are")
    context.take(constant.codes.size)
    codes = np.ascontiguousarray(order(constant.codes), np.int16)
    out = codes.shape[0]
    if constant.axis is not None and (constant.axis % constant.codes.ndim != axis or constant.scale.shape != (out,)):
        context.fail(f"its weights have scales along axis {constant.axis}; one for each of {out} outputs is accepted")
    scale = np.ascontiguousarray(np.broadcast_to(constant.scale, out))
    zero = np.ascontiguousarray(np.broadcast_to(constant.zero_point, out), np.int32)
    step = source.scale * scale
    if context.qonnx:
        values, whole = (None, False) if bias is None else _executor_bias(context, step, bias, out)
        return ir.Weights(codes, scale, zero, values, whole, constant.axis is not None)
    real = context.in_float and isinstance(bias, np.ndarray)
    values = None if bias is None else _bias(context, step, bias, out, real)
    return ir.Weights(codes, scale, zero, values, not real, constant.axis is not None)


def _bias(context: Context, step: Array, bias: Any, out: int, real: bool) -> Array:
    """int32 codes at the scale input scale * weight scale; a float bias is quantised as onnxruntime does itself.

    real: keep a float bias as it is.
    """
    if isinstance(bias, Constant):
        if bias.codes.dtype != np.int32 or bias.codes.shape != (out,) or bias.zero_point.any():
            context.fail(f"its bias is no {out} int32 codes with zero point 0")
        if not np.allclose(bias.scale, step, rtol=1e-4, atol=0):
            context.fail(
                "its bias has another scale than input scale * weight scale, which onnxruntime takes it to have"
            )
        return bias.codes.astype(np.float64)
    if not isinstance(bias, np.ndarray) or bias.dtype != np.float32 or bias.size != out:
        context.fail(f"its bias is no constant of {out} values")
    if real:
        return bias.reshape(out).astype(np.float64)
    codes = np.rint(bias.reshape(out) / step).astype(np.float64)
    if not np.isfinite(codes).all():
        context.fail("a bias is not a finite number of accumulator steps; re-calibrate the model")
    return codes


def _executor_bias(context: Context, step: Array, bias: Any, out: int) -> tuple[Array, bool]:
    """QONNX: codes and True where the bias has the scale input scale * weight scale, else real values and False."""
    real = bias.real if isinstance(bias, Constant) else bias
    if not isinstance(real, np.ndarray) or real.dtype != np.float32 or real.size != out or not np.isfinite(real).all():
        context.fail(f"its bias is no constant of {out} finite values")
    if isinstance(bias, Constant) and np.allclose(bias.scale, step, rtol=1e-6, atol=0) and not bias.zero_point.any():
        return bias.codes.reshape(out).astype(np.float64), True
    return real.reshape(out).astype(np.float64), False


@op("Conv")
def conv(context: Context, op: Op, source: Any, weight: Any, bias: Any = None) -> Real:
    layer, value, builder = context.layer, context.codes(source), context.builder
    if not isinstance(weight, Constant) or weight.codes.ndim != 4:
        context.fail("its weights are no quantised (out, in, kh, kw) constant; two spatial axes are accepted")
    hwc = builder.map_of(layer, value)
    out, _, *kernel_shape = weight.codes.shape
    kernel = (kernel_shape[0], kernel_shape[1])
    stride, dilation = context.pair(op, "strides"), context.pair(op, "dilations")
    pads = context.pads(op, (hwc[0], hwc[1]), kernel, stride, dilation)
    groups = context.integers([op.attributes.get("group", 1)], "group")[0]
    size = builder.windows(layer, hwc, kernel, stride, pads, dilation)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        source_quant = builder.tensors[value.tensor].quant
        weights = weights_of(context, source_quant, weight, 0, lambda codes: codes.transpose(0, 2, 3, 1), bias)
        result = builder.conv(layer, value, weights, stride, pads, dilation, groups, quant, relu)
        _mark(context)
        return replace(result, channels_last=False)

    return Real(emit, (out, *size), weighted=True)


def _mark(context: Context) -> None:
    """The layer just written is one that onnxruntime computes in float, if that is so."""
    node = context.builder.nodes[-1]
    assert isinstance(node, (ir.Conv2d, ir.Linear))
    context.builder.nodes[-1] = replace(node, in_float=context.in_float)


@op("ConvTranspose")
def conv_transpose(context: Context, op: Op, source: Any, weight: Any, bias: Any = None) -> Real:
    layer, value, builder = context.layer, context.codes(source), context.builder
    height, width, channels = builder.map_of(layer, value)
    groups = context.integers([op.attributes.get("group", 1)], "group")[0]
    if not isinstance(weight, Constant) or weight.codes.ndim != 4:
        context.fail("its weights are no quantised (in, out, kh, kw) constant; two spatial axes are accepted")
    inputs, per_group, kh, kw = weight.codes.shape
    if groups < 1 or inputs != channels or inputs % groups:
        context.fail(f"weight shape {weight.codes.shape} with group {groups} does not take {channels} channels")
    if groups > 1 and weight.axis is not None:
        context.fail("has groups and a scale for each channel; use one scale")
    if op.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "") or "output_shape" in op.attributes:
        context.fail("auto_pad and output_shape are not supported; give pads")

    def order(codes: Array) -> Array:
        split = codes.reshape(groups, inputs // groups, per_group, kh, kw).transpose(0, 2, 3, 4, 1)
        return split.reshape(groups * per_group, kh, kw, inputs // groups)

    weights = weights_of(context, builder.tensors[value.tensor].quant, weight, 1, order, bias)
    stride, dilation = context.pair(op, "strides"), context.pair(op, "dilations")
    top, bottom, left, right = context.pads(op, (height, width), (kh, kw), stride, dilation)
    extra = context.pair(op, "output_padding", (0, 0))
    pads = (top, bottom - extra[0], left, right - extra[1])
    size = ir.transposed_shape((height, width, channels), (kh, kw), stride, pads, dilation)

    def emit(quant: ir.Quant, relu: bool) -> Value:
        name = builder.unique(layer)
        node = ir.ConvTranspose2d(
            name, (value.tensor,), name, weights, stride, pads, dilation, groups, builder.clamp_of(quant, relu),
            in_float=True,  # onnxruntime has no integer kernel for it
        )  # fmt: skip
        builder.add(node, (*size, len(weights.codes)), quant)
        return Value(name, (len(weights.codes), *size), False, True)

    return Real(emit, (len(weights.codes), *size))


def linear(context: Context, source: Any, weight: Any, transposed: bool, bias: Any) -> Real:
    """transposed: whether the constant is (out, in); else (in, out)."""
    layer, value, builder = context.layer, context.codes(source), context.builder
    if not isinstance(weight, Constant) or weight.codes.ndim != 2:
        context.fail("multiplies by something else than a quantised constant matrix")
    axis = 0 if transposed else 1

    def emit(quant: ir.Quant, relu: bool) -> Value:
        source_quant = builder.tensors[value.tensor].quant
        weights = weights_of(
            context, source_quant, weight, axis, lambda codes: np.moveaxis(codes, axis, 0)[:, None, None, :], bias
        )
        result = builder.linear(layer, value, weights, quant, relu)
        _mark(context)
        return result

    return Real(emit, (weight.codes.shape[axis],), weighted=True)


@op("Gemm")
def gemm(context: Context, op: Op, source: Any, weight: Any, bias: Any = None) -> Real:
    attributes = op.attributes
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA", 0):
        context.fail("alpha, beta other than 1 and transA are not supported; fold them into the weights")
    return linear(context, source, weight, bool(attributes.get("transB", 0)), bias)


@op("MatMul")
def matmul(context: Context, op: Op, source: Any, weight: Any) -> Real:
    return linear(context, source, weight, False, None)
