"""TensorFlow Lite's 8-bit softmax, in the arithmetic of its kernels. It runs on the host, after the last layer.

Reference kernel, Eq. 42: 32-bit fixed point. With d = code - largest code of the row, e^(beta * scale * d) is a product
of constants for each bit of the exponent and a Taylor polynomial on [-1/4, 0); the sum's reciprocal comes from three
Newton-Raphson steps. Optimised kernel (also under XNNPACK), Eq. 43: a float32 table of e^(-beta * scale * k).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyexport.arith import clamp
from pyexport.ir import CODE_RANGE, Quant
from pyexport.runtimes.curve import IntArray
from pyexport.runtimes.tflite import REFERENCE, check_runtime, high_multiply, rounding_shift, scale_by

DIFF_BITS = 5  # integer bits of the scaled difference
SUM_BITS = 12  # integer bits of the sum of exponentials
INT32 = (1 << 31) - 1
# round(2^31 e^-(2^k)) for k = -2 .. 4: one factor for each bit of the exponent, from 1/4 up.
FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
E_EIGHTH, THIRD = 1895147668, 715827883  # 2^31 e^(-1/8), 2^31 / 3
FORTY_EIGHT_17, THIRTY_TWO_17 = 1515870810, -1010580540  # 48/17 and -32/17 with two integer bits


def softmax_codes(x: npt.ArrayLike, source: Quant, out: Quant, beta: float, runtime: str) -> IntArray:
    """Codes (..., C) -> codes of the softmax over C, int64 of the same shape.

    tflite-ref: Eq. 42.  tflite-xnnpack: Eq. 43.  x: in source's range.  beta: a float32.  out: scale 1/256, as TFLite
    demands. Raises IntactError for a runtime without a formula.
    """
    check_runtime(runtime)
    codes = np.asarray(x, np.int64)
    diff = codes - codes.max(axis=-1, keepdims=True)
    return (_fixed if runtime == REFERENCE else _table)(diff, source, out, beta)


def _fixed(diff: IntArray, source: Quant, out: Quant, beta: float) -> IntArray:
    real = min(float(np.float32(beta)) * float(source.scale) * (1 << (31 - DIFF_BITS)), float(INT32))
    mantissa, left = math.frexp(real)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, left = multiplier >> 1, left + 1
    lowest = -math.floor(((1 << DIFF_BITS) - 1) * (1 << (31 - DIFF_BITS)) / (1 << left))
    kept = diff >= lowest
    exponentials = exp_on_negative(scale_by(np.maximum(diff, lowest), multiplier, left))
    total = np.where(kept, rounding_shift(exponentials, SUM_BITS), 0).sum(axis=-1, keepdims=True)
    headroom = 31 - np.frexp(total.astype(np.float64))[1].astype(np.int64)  # leading zeros of the sum, sign bit apart
    inverse = reciprocal((total << (headroom + 1)) - (1 << 31))
    bits = SUM_BITS - headroom - 1 + 31 - 8
    product = high_multiply(inverse, exponentials)
    half, negative = (np.int64(1) << bits) >> 1, (product < 0) & (bits > 0)
    low, high = CODE_RANGE[out.dtype]
    return np.where(kept, clamp(((product + half - negative) >> bits) + low, low, high), low)


def exp_on_negative(a: IntArray) -> IntArray:
    """e^a for a <= 0 with 5 integer bits -> 0 .. 1 with none, both in 32 bits."""
    quarter = 1 << (31 - DIFF_BITS - 2)
    in_quarter = (a & (quarter - 1)) - quarter
    rest = in_quarter - a
    result = _exp_quarter(in_quarter << DIFF_BITS)
    for bit, factor in enumerate(FACTORS):
        result = np.where(rest & (quarter << bit), high_multiply(result, factor), result)
    return np.where(a == 0, INT32, result)


def _exp_quarter(a: IntArray) -> IntArray:
    """e^a for -1/4 <= a < 0: Taylor's polynomial of degree 4 around -1/8."""
    x = a + (1 << 28)
    x2 = high_multiply(x, x)
    x3, x4 = high_multiply(x2, x), high_multiply(x2, x2)
    tail = rounding_shift(high_multiply(rounding_shift(x4, 2) + x3, THIRD) + x2, 1)
    return clamp(E_EIGHTH + high_multiply(np.full_like(x, E_EIGHTH), x + tail), -INT32 - 1, INT32)


def reciprocal(a: IntArray) -> IntArray:
    """1 / (1 + a) for 0 <= a < 1, no integer bits: three Newton-Raphson steps on (1 + a) / 2."""
    total = a + INT32
    half = (total + np.where(total >= 0, 1, -1)) // 2  # a sum of non-negative numbers
    x = FORTY_EIGHT_17 + high_multiply(half, THIRTY_TWO_17)
    for _ in range(3):
        error = (1 << 29) - high_multiply(half, x)
        x = x + clamp(high_multiply(x, error) << 2, -INT32 - 1, INT32)
    return clamp(x << 1, -INT32 - 1, INT32)


def _table(diff: IntArray, source: Quant, out: Quant, beta: float) -> IntArray:
    step = -np.float32(source.scale) * np.float32(beta)
    table = np.exp((step * np.arange(256, dtype=np.float32)).astype(np.float64)).astype(np.float32)
    values = table[-diff]
    total = np.zeros(diff.shape[:-1], np.float32)
    for c in range(diff.shape[-1]):  # float32 sums depend on their order
        total = total + values[..., c]
    inverse = np.float32(1) / (total * np.float32(out.scale))
    scaled = (values * inverse[..., None]).astype(np.float64)
    low, high = CODE_RANGE[out.dtype]
    return clamp(np.floor(scaled + 0.5).astype(np.int64) + low, low, high)
