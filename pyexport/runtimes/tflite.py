"""TensorFlow Lite's integer arithmetic beyond convolutions: adds, products and scale changes, as tables over codes.

"tflite-ref": the reference kernels, which scale by 31-bit multipliers, round the high half of the product, shift and
round again. "tflite-xnnpack": the default runtime, XNNPACK's kernels for every layer that XNNPACK takes.
Every input of these layers is an 8-bit code, so a table says all there is to know. Rows and columns are codes in
ascending order: entry [i] belongs to code low + i.
"""

from __future__ import annotations

import math

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import Quant
from pyexport.runtimes.codes import codes, saturate
from pyexport.runtimes.curve import IntArray

REFERENCE, XNNPACK = "tflite-ref", "tflite-xnnpack"
RUNTIMES = (REFERENCE, XNNPACK)


def check_runtime(runtime: str) -> None:
    """Raises IntactError for a runtime that has no tables."""
    if runtime not in RUNTIMES:
        raise IntactError(f"runtime {runtime!r} has no formula for this layer; choose one of {', '.join(RUNTIMES)}")


def _taken(runtime: str, *tests: bool) -> bool:
    """Whether XNNPACK computes the layer. Where it declines, other kernels step in that are not modelled here."""
    check_runtime(runtime)
    if runtime == XNNPACK and not all(tests):
        raise IntactError("XNNPACK does not take this layer, its scales are too far apart; use --match tflite-ref")
    return runtime == XNNPACK


# --- fixed point --------------------------------------------------------------------------------------------------


def quantise_multiplier(real: float) -> tuple[int, int]:
    """real ~ q * 2^(shift - 31), 2^30 <= q < 2^31; (0, 0) where real is below 2^-32."""
    mantissa, shift = math.frexp(real)
    q = math.floor(mantissa * (1 << 31) + 0.5)
    if q == 1 << 31:
        q, shift = q >> 1, shift + 1
    return (0, 0) if shift < -31 else (q, shift)


def high_multiply(a: IntArray, b: IntArray | int, bits: int = 32) -> IntArray:
    """Rounding doubling high multiply: (2ab) / 2^bits, rounded half up (the runtime's two branches are one)."""
    return (a * b + (1 << (bits - 2))) >> (bits - 1)


def rounding_shift(x: IntArray, shift: int) -> IntArray:
    """x / 2^shift, rounded half away from zero."""
    return (x + ((1 << shift) >> 1) - ((x < 0) & (shift > 0))) >> shift


def scale_by(x: IntArray, q: int, shift: int) -> IntArray:
    """x * q * 2^(shift - 31) with the two roundings of the reference kernels, Eq. 37."""
    left, right = max(shift, 0), max(-shift, 0)
    wide = clamp(x << left, -(1 << 31), (1 << 31) - 1)
    return rounding_shift(high_multiply(wide, q), right)


def scaled(x: IntArray, real: float) -> IntArray:
    """x * real as the reference kernels compute it, Eq. 37; real may be negative."""
    q, shift = quantise_multiplier(abs(real))
    return scale_by(x, q if real >= 0 else -q, shift)


# --- add and subtract ----------------------------------------------------------------------------------------------


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b (sign 1) or a - b (sign -1) for all pairs, int64 (256, 256): [code of a, code of b].

    tflite-ref: Eq. 40.  tflite-xnnpack: Eq. 41.  limits: lowest and highest code that a fused activation leaves.
    """
    x, y = codes(a)[:, None] - a.zero_point, codes(b)[None, :] - b.zero_point
    ratios = np.float32(a.scale) / np.float32(out.scale), np.float32(b.scale) / np.float32(out.scale)
    if _taken(runtime, *(bool(2.0**-10 <= ratio < 2.0**8) for ratio in ratios)):
        exponent = math.frexp(max(ratios))[1] - 1
        shift = 20 - exponent
        ma, mb = (int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios)
        return saturate((x * ma + sign * y * mb + (1 << (shift - 1))) >> shift, out, limits)
    twice = 2 * max(float(a.scale), float(b.scale))
    total = scaled(x << 20, float(a.scale) / twice) + sign * scaled(y << 20, float(b.scale) / twice)
    return saturate(scaled(total, twice / ((1 << 20) * float(out.scale))), out, limits)


# --- product -------------------------------------------------------------------------------------------------------


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): [code of a, code of b]."""
    product = (codes(a)[:, None] - a.zero_point) * (codes(b)[None, :] - b.zero_point)
    single = (np.float32(a.scale) * np.float32(b.scale)) / np.float32(out.scale)
    if _taken(runtime, bool(2.0**-16 <= single < 2.0**8)):
        rounded = np.rint(product.astype(np.float32) * single).astype(np.int64)
        return saturate(rounded, out, limits)
    return saturate(scaled(product, float(a.scale) * float(b.scale) / float(out.scale)), out, limits)


# --- change of scale -----------------------------------------------------------------------------------------------


def requantise_table(source: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of one scale in another, int64 (256,)."""
    x = codes(source) - source.zero_point
    ratio = np.float32(source.scale) / np.float32(out.scale)
    if _taken(runtime, bool(2.0**-8 <= ratio <= 2.0**7)):
        return saturate(_eight_bits(x, ratio), out, limits)
    return saturate(scaled(x, float(source.scale) / float(out.scale)), out, limits)


def relu_table(source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of one scale in another, int64 (256,), in a ReLU: XNNPACK leaves it to TFLite's kernel."""
    check_runtime(runtime)
    return requantise_table(source, out, REFERENCE)


def leaky_relu_table(source: Quant, out: Quant, runtime: str, alpha: float) -> IntArray:
    """Codes of x where x >= 0 and of alpha * x below, int64 (256,). alpha is a float32."""
    x = codes(source) - source.zero_point
    ratio = np.float32(source.scale) / np.float32(out.scale)
    slope = ratio * np.float32(alpha)
    steep = abs(slope) >= 2.0**-8 and -127.99609375 <= slope <= 2.0**7
    if _taken(runtime, bool(2.0**-8 <= ratio <= 2.0**7), bool(steep)):
        return saturate(np.where(x >= 0, _eight_bits(x, ratio), _eight_bits(x, slope)), out)
    real = float(source.scale) / float(out.scale)
    return saturate(np.where(x >= 0, scaled(x, real), scaled(x, real * float(np.float32(alpha)))), out)


def _eight_bits(x: IntArray, ratio: np.float32) -> IntArray:
    """XNNPACK's change of scale: the ratio with 8 fraction bits, half up."""
    multiplier = int(np.rint(np.float32(256) * ratio))
    return (x * multiplier + 128) >> 8
