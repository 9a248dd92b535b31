"""QONNX graphs, as Brevitas and others write them: `Quant` nodes around float operations, on float weights.

A `Quant` node rounds to codes of 2 to 8 bits and gives their real values: RNE((x / s) + z) in float32, clamped. Its
scale, zero point and bit width are inputs; the weights' and biases' own codes are worked out here in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.onnx_file import QONNX, Op
from pyexport.readers.onnx_graph import HINTS, Constant, Context, op
from pyexport.readers.real import Real
from pyexport.readers.tensors import Array

TRUNC = {"ROUND": "trunc-round", "HALF_EVEN": "trunc-round", "FLOOR": "trunc-floor"}


@op(QONNX + "Quant", QONNX + "IntQuant")
def quant(context: Context, op: Op, source: Any, scale: Any, zero_point: Any, bits: Any) -> Constant | Real:
    rounding = str(op.attributes.get("rounding_mode", "ROUND"))
    if rounding.upper() not in ("ROUND", "HALF_EVEN"):
        context.fail(f"rounding_mode {rounding!r} is not supported; ROUND, half to even, is")
    if isinstance(source, np.ndarray):
        return _constant(context, op, source, scale, zero_point, bits)
    real = source if isinstance(source, Real) else context.fail("quantises what is neither activation nor constant")
    step, zero = _one(context, scale, "scale"), _one(context, zero_point, "zero point")
    return context.dequantised(context.quantise(real, _activation(context, op, step, zero, _bits(context, bits, 8))))


def _activation(context: Context, op: Op, scale: float, zero_point: float, bits: int) -> ir.Quant:
    """Quantisation of an activation."""
    limits = _limits(op, bits)
    dtype: ir.Dtype = "int8" if limits[0] < 0 else "uint8"
    if not zero_point.is_integer() or not limits[0] <= zero_point <= limits[1]:
        context.fail(f"zero point {zero_point:g} is none of its codes {limits[0]}..{limits[1]}; re-calibrate the model")
    found = context.builder.quant(context.layer, scale, int(zero_point), dtype)
    return found if limits == found.range else replace(found, limits=limits)


def _limits(op: Op, bits: int) -> tuple[int, int]:
    """Lowest and highest code."""
    signed, narrow = bool(op.attributes.get("signed", 1)), int(bool(op.attributes.get("narrow", 0)))
    return (narrow - (1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1 - narrow)


def _bits(context: Context, bits: Any, most: int) -> int:
    found = _one(context, bits, "bit width")
    if found == 1:
        context.fail("has 1 bit, which is not supported; 2 to 8 are")
    if not found.is_integer() or not 2 <= found <= most:
        context.fail(f"has bit width {found:g}; whole numbers from 2 to {most} are accepted")
    return int(found)


def _one(context: Context, value: Any, what: str) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in "fiu":
        context.fail(f"its {what} is no single constant number")
    return float(value.reshape(()))


def _constant(context: Context, op: Op, source: Array, scale: Any, zero_point: Any, bits: Any) -> Constant:
    """Weights, or a bias (one axis), which may have up to 32 bits."""
    context.take(source.size)
    wide = source.ndim == 1
    low, high = _limits(op, _bits(context, bits, 32 if wide else 8))
    step, axis = _along(context, source, scale, "scale")
    zero, other = _along(context, source, zero_point, "zero point")
    if source.dtype != np.float32 or (other is not None and other != axis):
        context.fail(f"{source.dtype} weights, or zero points along another axis than the scales; not supported")
    if not (np.isfinite(step) & (step > 0)).all():
        context.fail("a scale is not a positive finite number; re-calibrate the model")
    shape = [1] * source.ndim
    if axis is not None:
        shape[axis] = -1
    rounded = np.rint(source / step.reshape(shape) + zero.reshape(shape)).astype(np.float64)
    if not np.isfinite(rounded).all() or not np.isin(zero, np.rint(zero)).all() or np.abs(zero).max() > 1 << 15:
        context.fail("a weight is not a finite number, or a zero point no small integer")
    codes = np.clip(rounded, low, high).astype(np.int32 if wide else np.int8 if low < 0 else np.uint8)
    zeros = np.broadcast_to(zero, step.shape).astype(np.int64)
    return Constant(codes, step, zeros, axis)


def _along(context: Context, source: Array, value: Any, what: str) -> tuple[npt.NDArray[np.float32], int | None]:
    """One number of shape (), or one for each index along an axis, as the shape (.., n, ..) tells."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not value.size:
        context.fail(f"its {what} is no constant")
    found = value.astype(np.float32)
    if found.size == 1:
        return found.reshape(()), None
    full = (1,) * (source.ndim - found.ndim) + found.shape
    axes = [i for i, n in enumerate(full) if n > 1]
    if len(full) != source.ndim or len(axes) != 1 or full[axes[0]] != source.shape[axes[0]]:
        context.fail(f"its {what} has shape {found.shape} for a constant of shape {source.shape}; one each is accepted")
    return found.reshape(-1), axes[0]


@op(QONNX + "BipolarQuant")
def bipolar(context: Context, op: Op, *inputs: Any) -> NoReturn:
    context.fail("BipolarQuant has 1 bit, which is not supported; 2 to 8 bits are")


@op(QONNX + "Trunc")
def trunc(
    context: Context, op: Op, source: Any, scale: Any, zero_point: Any, bits: Any, out_scale: Any, out_bits: Any = None
) -> Real:
    """Behind an average pool: the window's sum of codes over a power of two."""
    rounding = TRUNC.get(str(op.attributes.get("rounding_mode", "FLOOR")).upper())
    if out_bits is None:
        context.fail("is of QONNX's first version, which gives no output scale; export with Brevitas 0.12 or later")
    if rounding is None or _one(context, zero_point, "zero point"):
        context.fail(f"rounding_mode {op.attributes.get('rounding_mode')!r} or a zero point other than 0; FLOOR and "
                     "ROUND without a zero point are accepted")  # fmt: skip
    real, builder, layer = context.real(source), context.builder, context.layer
    target = _activation(context, op, _one(context, out_scale, "output scale"), 0.0, _bits(context, out_bits, 8))
    value = real.emit(target, real.relu)
    node = builder.nodes[-1] if builder.nodes else None
    if not isinstance(node, ir.AvgPool2d) or node.output != value.tensor or real.steps:
        context.fail("stands elsewhere than directly behind an average pool, which is not supported; use Quant")
    taps, sx = node.kernel[0] * node.kernel[1], float(builder.tensors[node.inputs[0]].quant.scale)
    counted = node.count_include_pad or not any(node.padding)
    exact = abs(sx / (_one(context, scale, "scale") * taps) - 1) * 256 * taps
    power = np.log2(float(target.scale) * taps / sx)
    if not counted or exact > 0.25 or abs(power - np.rint(power)) > 1e-3 or abs(power) > 24:
        builder.fail(layer, "its scales are no input scale / window and a power of two times that; use Quant")
    builder.nodes[-1] = replace(node, arithmetic=rounding)
    return context.dequantised(value)


@op("BatchNormalization")
def batch_normalization(context: Context, op: Op, source: Any, *parts: Any) -> Real:
    """Between a layer and its Quant: goes into the layer's weight scales and bias."""
    if not context.qonnx:
        context.fail(
            f"is not supported here; {HINTS[op.kind]}; with Brevitas, call brevitas.nn.utils.merge_bn, or export QONNX"
        )
    real, builder, layer = context.real(source), context.builder, context.layer
    if len(parts) != 4 or any(not isinstance(part, np.ndarray) or part.shape != (real.shape[0],) for part in parts):
        context.fail("its parameters are no constants, one for each channel")
    if real.source is not None or real.steps or real.relu or op.attributes.get("training_mode", 0):
        context.fail("stands elsewhere than directly behind a layer with weights; quantise its input")
    wide = [part.astype(np.float64) for part in parts]
    factor = wide[0] / np.sqrt(wide[3] + float(op.attributes.get("epsilon", 1e-5)))
    offset = wide[1] - wide[2] * factor
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        context.fail("its parameters are not finite; re-train the model")

    def emit(quant: ir.Quant, relu: bool) -> Value:
        value = real.emit(quant, relu)
        node = builder.nodes[-1]
        if not isinstance(node, (ir.Conv2d, ir.ConvTranspose2d, ir.Linear)) or node.output != value.tensor:
            builder.fail(layer, "stands elsewhere than directly behind a layer with weights; quantise its input")
        weights = scaled(node.weights, float(builder.tensors[node.inputs[0]].quant.scale), factor, offset)
        builder.nodes[-1] = replace(node, weights=weights)
        return value

    return Real(emit, real.shape)


def scaled(
    weights: ir.Weights, input_scale: float, factor: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]
) -> ir.Weights:
    """The layer `factor * result + offset`: the same codes, or their negatives, with other scales and biases."""
    zero = weights.zero_point.reshape(-1, 1, 1, 1)
    centred = (weights.codes - zero) * np.sign(factor).astype(np.int64).reshape(-1, 1, 1, 1)
    bias = np.zeros(len(factor)) if weights.bias is None else weights.bias
    if weights.bias_is_integer:
        bias = bias * (input_scale * weights.scale.astype(np.float64))
    scale = np.where(factor == 0, weights.scale, np.abs(factor) * weights.scale).astype(np.float32)
    return replace(
        weights,
        codes=centred.astype(np.int16),
        scale=scale,
        zero_point=np.zeros_like(weights.zero_point),
        bias=bias * factor + offset,
        bias_is_integer=False,
        per_channel=True,
    )
