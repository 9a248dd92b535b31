"""Requantise formulas of convolution and linear layers, one per runtime, vectorised and bit-exact (Eq. 12 to 19).

`acc` is the exact sum of (x - zx)(w - zw). Every step below is monotone in acc, which the fit relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.runtimes import exactly
from pyexport.runtimes.curve import Curve, F32Array, F64Array, IntArray, finish, fma32

ONE = np.float32(1)


@dataclass(frozen=True)
class Layer:
    """Quantisation of a convolution or linear layer, as the source stores it.

    sx, sy: float32 input and output scales.  zy, lo, hi: output zero point and clamp in the source's code type.
    sw: float32 (C,).  bias: float64 (C,), real values (float32 values) or, with bias_is_integer, codes at sx * sw.
    per_channel: whether the source stored one weight scale per channel.  op: which kernel, where a runtime has several.
    delegated: whether TFLite's delegate takes the layer (ir.ConvTranspose2d).
    dtype: the activations' code type.  wide: float64 (C,), sw as exact as the source has it, for exact runtimes.
    """

    sx: np.float32
    sw: F32Array
    sy: np.float32
    zy: int
    lo: int
    hi: int
    bias: F64Array | None = None
    bias_is_integer: bool = False
    per_channel: bool = True
    op: Literal["conv", "depthwise", "linear", "transposed"] = "conv"
    delegated: bool = True
    dtype: str = "int8"
    wide: F64Array | None = None


def _float_bias(layer: Layer) -> F64Array:
    """Real bias, float64 (C,): exact for a float bias, rounded once for an integer bias."""
    if layer.bias is None:
        return np.zeros(layer.sw.size)
    if not layer.bias_is_integer:
        return layer.bias
    return layer.bias * (np.float64(layer.sx) * layer.sw.astype(np.float64))


def _integer_bias(layer: Layer) -> F64Array:
    """Integer bias, float64 (C,) holding integers; a float bias is rounded as exporters to these formats do."""
    if layer.bias is None:
        return np.zeros(layer.sw.size)
    if layer.bias_is_integer:
        return layer.bias
    return np.rint(layer.bias / (np.float64(layer.sx) * layer.sw.astype(np.float64)))


def _to_float(acc: IntArray, bias: F64Array) -> F32Array:
    """F(acc + bias): the int32 sum rounded once to float32; exact in float64 first, so a huge bias saturates later."""
    return (acc.astype(np.float64) + bias).astype(np.float32)


def fbgemm(layer: Layer) -> Curve:
    """torch fbgemm, Eq. 12: v = F(acc) + b/A in float32 (per tensor: fma with 1/A), q = RNE(v * M) + zy."""
    a = layer.sx * layer.sw
    scale = a / layer.sy
    bias = _float_bias(layer).astype(np.float32)
    term, inverse = bias / a, ONE / a
    fused = not layer.per_channel and layer.bias is not None

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        wide = acc.astype(np.float32)
        v = fma32(bias[ch], inverse[ch], wide) if fused else wide + term[ch]
        return finish(np.rint(v * scale[ch]), layer.zy, layer.lo, layer.hi)

    return _curve("fbgemm", layer, evaluate, scale, term)


def qnnpack(layer: Layer) -> Curve:
    """torch qnnpack, Eq. 13: integer bias RNE(b * 1/(sx sw)), M = (sw sx)(1/sy), q = RNE(F(acc + bias) * M) + zy.

    A bias that leaves int32 makes qnnpack itself return nonsense; here it keeps its value, so the code saturates.
    """
    product = layer.sx * layer.sw
    bias = np.rint(_float_bias(layer).astype(np.float32) * (ONE / product)).astype(np.float64)
    scale = product * (ONE / layer.sy)
    return _integer_bias_curve("qnnpack", layer, bias, scale)


def onnxruntime(layer: Layer) -> Curve:
    """onnxruntime QLinear*, and TFLite with XNNPACK, Eq. 14: M = (sx sw)/sy, q = RNE(F(acc + bias) * M) + zy."""
    return _integer_bias_curve("ort", layer, _integer_bias(layer), (layer.sx * layer.sw) / layer.sy)


def xnnpack(layer: Layer) -> Curve:
    """TFLite with XNNPACK: the arithmetic of Eq. 14; it leaves uint8 depthwise layers to TFLite's kernel, Eq. 16, and
    some transposed convolutions.
    """
    if layer.op == "transposed" and not layer.delegated:
        return _transposed_alone("tflite-xnnpack", layer)
    if layer.op == "depthwise" and layer.dtype == "uint8":
        return _fixed_point("tflite-xnnpack", layer, two_roundings=True, away_from_zero=True)
    return _integer_bias_curve("tflite-xnnpack", layer, _integer_bias(layer), (layer.sx * layer.sw) / layer.sy)


def _integer_bias_curve(name: str, layer: Layer, bias: F64Array, scale: F32Array) -> Curve:
    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(np.rint(_to_float(acc, bias[ch]) * scale[ch]), layer.zy, layer.lo, layer.hi)

    return _curve(name, layer, evaluate, scale, bias)


def onednn(layer: Layer) -> Curve:
    """torch onednn, Eq. 15: v = F(acc) r(sx) sw + b, q = RNE(v * (1/r(sy)) + zy), r(s) = 1/(1/s) in float32.

    The zero point goes in before rounding; a linear layer's weight scales go through r too.
    """

    def r(scale: F32Array) -> F32Array:
        return np.asarray(ONE / (ONE / scale), np.float32)

    sw = r(layer.sw) if layer.op == "linear" else layer.sw
    sx = r(np.asarray(layer.sx))
    bias = _float_bias(layer).astype(np.float32)
    inverse = ONE / r(np.asarray(layer.sy))
    zero = np.float32(layer.zy)

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        v = acc.astype(np.float32) * sx * sw[ch] + bias[ch]
        return finish(np.rint(v * inverse + zero), 0, layer.lo, layer.hi)

    multiplier = (sx * sw * inverse).astype(np.float64)
    offset = bias.astype(np.float64) / (sx * sw) + layer.zy / multiplier
    return _curve("onednn", layer, evaluate, multiplier, offset, z=0)


def tflite_reference(layer: Layer) -> Curve:
    """TFLite reference kernels, int8, Eq. 16 (convolution: two roundings) and Eq. 17 (fully connected: one)."""
    return _fixed_point("tflite-ref", layer, two_roundings=layer.op != "linear", away_from_zero=True)


def tflite_ruy(layer: Layer) -> Curve:
    """TFLite optimised kernels without a delegate, Eq. 18: two roundings, both half up."""
    if layer.op == "transposed":
        return _transposed_alone("tflite-ruy", layer)
    return _fixed_point("tflite-ruy", layer, two_roundings=True, away_from_zero=False)


def _transposed_alone(name: str, layer: Layer) -> Curve:
    """TFLite's own optimised TRANSPOSE_CONV, int8: Eq. 16. For uint8 it rounds by Eq. 18 in blocks of 16 codes of the
    whole output, and what is left at the end by Eq. 16, which no constants of a channel do.
    """
    if layer.dtype == "uint8":
        raise IntactError(
            f"{name} has no delegate for this uint8 transposed convolution, and TFLite's own kernel rounds the last "
            "codes of its output unlike the rest; use int8, a fixed batch and a kernel no smaller than the stride, or "
            "--match tflite-ref"
        )
    return _fixed_point(name, layer, two_roundings=True, away_from_zero=True)


def _fixed_point(name: str, layer: Layer, two_roundings: bool, away_from_zero: bool) -> Curve:
    real = np.float64(layer.sx) * layer.sw.astype(np.float64) / np.float64(layer.sy)
    mantissa, exponent = np.frexp(real)
    qm = np.floor(mantissa * (1 << 31) + 0.5).astype(np.int64)  # TfLiteRound of a positive value
    carry = qm == 1 << 31
    qm, exponent = np.where(carry, qm >> 1, qm), np.where(carry, exponent + 1, exponent).astype(np.int64)
    bias = _integer_bias(layer)
    int32 = np.iinfo(np.int32)
    whole = np.clip(bias, int32.min, int32.max).astype(np.int64)
    tiny = exponent < -31  # TFLite's own rule: such a channel has multiplier 0
    qm, exponent = np.where(tiny, 0, qm), np.where(tiny, 0, np.minimum(exponent, 30))

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        v, e, q = clamp(acc + whole[ch], int32.min, int32.max), exponent[ch], qm[ch]
        total = 31 - e
        if not two_roundings:
            return clamp(((v * q + (np.int64(1) << (total - 1))) >> total) + layer.zy, layer.lo, layer.hi)
        left, right = np.maximum(e, 0), np.maximum(-e, 0)
        high = clamp(v << left, int32.min, int32.max) * q
        # (p + 2^30) >> 31 for both signs: the reference divides p + 1 - 2^30 toward zero where p < 0, which is the same
        high = (high + (1 << 30)) >> 31
        half = (np.int64(1) << right) >> 1
        minus = (high < 0).astype(np.int64) * (right > 0) if away_from_zero else np.int64(0)
        return clamp(((high + half - minus) >> right) + layer.zy, layer.lo, layer.hi)

    return _curve(name, layer, evaluate, real, whole.astype(np.float64), half_even=False)


def exact(layer: Layer) -> Curve:
    """RNE of the real-valued (sx sw acc + b)/sy, plus zy, Eq. 19: correctly rounded, no float error anywhere."""
    return _exact("exact", layer)


def exact_up(layer: Layer) -> Curve:
    """The same value, half rounded up."""
    return _exact("exact-up", layer)


def exact_away(layer: Layer) -> Curve:
    """The same value, half rounded away from zero."""
    return _exact("exact-away", layer)


def _exact(name: str, layer: Layer) -> Curve:
    real_bias = np.zeros(layer.sw.size) if layer.bias is None else layer.bias
    sx, sy = Fraction(float(layer.sx)), Fraction(float(layer.sy))
    slope = [sx * Fraction(float(w)) / sy for w in (layer.sw if layer.wide is None else layer.wide)]
    start = [Fraction(float(b)) * (slope[c] if layer.bias_is_integer else 1 / sy) for c, b in enumerate(real_bias)]
    return _curve_checked(layer, exactly.curve(name, slope, start, layer.zy, (layer.lo, layer.hi)))


def _curve(
    name: str,
    layer: Layer,
    evaluate: Callable[[IntArray, IntArray], IntArray],
    multiplier: F32Array | F64Array,
    offset: F32Array | F64Array,
    z: int | None = None,
    half_even: bool = True,
) -> Curve:
    wide, zero = np.asarray(multiplier, np.float64), layer.zy if z is None else z
    return _curve_checked(
        layer, Curve(name, evaluate, wide, np.asarray(offset, np.float64), zero, layer.lo, layer.hi, half_even)
    )


def _curve_checked(layer: Layer, curve: Curve) -> Curve:
    """The curve, after checking that its scales can be used."""
    wide, offset = curve.multiplier, curve.offset
    bad = np.flatnonzero(~(np.isfinite(wide) & (wide > 0)) | ~np.isfinite(np.asarray(offset, np.float64)))
    if bad.size:
        raise IntactError(
            f"channel {bad[0]}: weight scale {layer.sw[bad[0]]:g} with input scale {layer.sx:g} and output scale "
            f"{layer.sy:g} overflows or underflows float32; re-calibrate the model"
        )
    return curve
