"""Averages: which formula rounds one, and TFLite's MEAN, which may change the scale (Eq. 38, 39)."""

from __future__ import annotations

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import Quant
from pyexport.runtimes import exactly, ort_elementwise, qonnx
from pyexport.runtimes.curve import Curve, IntArray, finish
from pyexport.runtimes.pools import pool_curve, pool_rule
from pyexport.runtimes.tflite import REFERENCE, check_runtime, quantise_multiplier, scale_by


def average_curve(
    arithmetic: str,
    runtime: str,
    taps: int,
    divisor: int,
    channels: int,
    source: Quant,
    out: Quant,
    limits: tuple[int, int],
) -> Curve:
    """The formula of an average pool or mean, monotone in d = sum of (code - zero point) over `taps` positions.

    arithmetic: the source's own kernel (ir.AvgPool2d), which `runtime` may replace. Raises IntactError where that
    kernel keeps the scale and the layer does not.
    """
    if arithmetic in qonnx.TRUNC:
        return qonnx.trunc_curve(arithmetic, divisor, channels, source, out, limits)
    if runtime == qonnx.RUNTIME:
        return qonnx.mean_curve(divisor, channels, source, out, limits)
    if runtime in exactly.ROUNDINGS and source != out:
        return exactly.mean_curve(runtime, taps, divisor, channels, source, out, limits)
    if arithmetic == "tflite-mean":
        return mean_curve(runtime, taps, channels, source, out, limits)
    if arithmetic in ort_elementwise.AVERAGES and (source != out or pool_rule(arithmetic, runtime) == arithmetic):
        return ort_elementwise.mean_curve(arithmetic, divisor, channels, source, out, limits)
    if source != out:
        raise IntactError("average pooling must keep scale and zero point")
    return pool_curve(pool_rule(arithmetic, runtime), divisor, channels, out.zero_point, *limits, out.scale)


def mean_curve(runtime: str, n: int, channels: int, source: Quant, out: Quant, limits: tuple[int, int]) -> Curve:
    """The formula of TFLite's `runtime` for means of n codes over `channels` channels, monotone in d.

    tflite-ref, Eq. 38: the multiplier sx/sy is divided by n in fixed point, then the two roundings of Eq. 37.
    tflite-xnnpack, Eq. 39: c = (sx/sy)(1/n), RNE(F(S) c + (zy - F(n zx) c)) with every step in float32, S the sum of
    codes.
    limits: lowest and highest code, in the source's code type.
    """
    check_runtime(runtime)
    if not 1 <= n <= 1 << 16:
        raise IntactError(f"mean of {n} codes; 1..65536 are accepted")
    low, high = limits
    ratio = float(source.scale) / float(out.scale)
    if not 2.0**-30 < ratio < 2.0**30:
        raise IntactError(f"input scale {source.scale} and output scale {out.scale} are too far apart; re-calibrate")
    q, shift = quantise_multiplier(ratio)
    fold = min(n.bit_length() - 1, 32, 31 + shift)
    multiplier = (q << fold) // n
    c = (np.float32(source.scale) / np.float32(out.scale)) * (np.float32(1) / np.float32(n))
    offset = np.float32(out.zero_point) - np.float32(n * source.zero_point) * c

    def fixed(acc: IntArray, ch: IntArray) -> IntArray:
        return clamp(scale_by(acc, multiplier, shift - fold) + out.zero_point, low, high)

    def real(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(np.rint((acc + n * source.zero_point).astype(np.float32) * c + offset), 0, low, high)

    slope, reference = np.full(channels, ratio / n), runtime == REFERENCE
    start = 0.0 if reference else out.zero_point * n / ratio
    z = out.zero_point if reference else 0
    return Curve(runtime, fixed if reference else real, slope, np.full(channels, start), z, low, high, not reference)
