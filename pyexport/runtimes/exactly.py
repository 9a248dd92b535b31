"""Arithmetic without any float error: the real value, rounded once (Eq. 19).

"exact" rounds half to even, "exact-up" half up, "exact-away" half away from zero; the zero point is added after that.
These are no runtime's own kernels: they say what a model's scales mean, and are what fake-quantised training computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import Lookup, Quant
from pyexport.runtimes.codes import codes, saturate
from pyexport.runtimes.curve import Curve, F64Array, IntArray


def _up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _away(value: Fraction) -> int:
    return _up(value) if value >= 0 else -_up(-value)


ROUNDINGS: dict[str, Callable[[Fraction], int]] = {"exact": round, "exact-up": _up, "exact-away": _away}
NEAR_TIE = 1e-9  # further from a tie than this, float64 tells the side


def curve(name: str, slope: list[Fraction], start: list[Fraction], z: int, limits: tuple[int, int]) -> Curve:
    """slope * acc + start per channel, rounded as `name` says, plus z."""
    rounding = ROUNDINGS[name]
    near_m, near_b = np.array([float(x) for x in slope]), np.array([float(x) for x in start])

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        acc, ch = np.broadcast_arrays(acc, ch)
        product = acc * near_m[ch]
        value = product + near_b[ch]
        unsure = 1e-12 + 2.0**-50 * (np.abs(product) + np.abs(near_b[ch]))  # four roundings of 2^-53 and to spare
        value = np.clip(value, -1e6, 1e6)
        whole = np.floor(value)
        found = whole.astype(np.int64) + (value - whole > 0.5)
        for where in map(tuple, np.argwhere((np.abs(value - whole - 0.5) < unsure) & (np.abs(value) < 1e3))):
            c = int(ch[where])
            found[where] = rounding(slope[c] * int(acc[where]) + start[c])
        return clamp(found + z, *limits)

    offset = near_b / np.maximum(near_m, 1e-300)
    return Curve(name, evaluate, near_m, offset, z, *limits, name == "exact")


def mean_curve(
    runtime: str, taps: int, divisor: int, channels: int, source: Quant, out: Quant, limits: tuple[int, int]
) -> Curve:
    """The mean of a window, which may change the scale: sum of (code - zero point) * sx / (sy * divisor)."""
    slope = Fraction(float(source.scale)) / Fraction(float(out.scale)) / divisor
    return curve(runtime, [slope] * channels, [Fraction(0)] * channels, out.zero_point, limits)


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b (sign 1) or a - b (sign -1) for all pairs, int64 (256, 256): [code of a, code of b]."""
    x, y = codes(a)[:, None] - a.zero_point, codes(b)[None, :] - b.zero_point
    ra, rb = (Fraction(float(quant.scale)) / Fraction(float(out.scale)) for quant in (a, b))

    def exact(i: int, j: int) -> Fraction:
        return int(x[i, 0]) * ra + sign * int(y[0, j]) * rb

    return saturate(_rounded(np.asarray(x * float(ra) + y * (sign * float(rb))), exact, runtime), out, limits)


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): [code of a, code of b]."""
    product = (codes(a)[:, None] - a.zero_point) * (codes(b)[None, :] - b.zero_point)
    ratio = Fraction(float(a.scale)) * Fraction(float(b.scale)) / Fraction(float(out.scale))
    return saturate(
        _rounded(np.asarray(product * float(ratio)), lambda i, j: int(product[i, j]) * ratio, runtime), out, limits
    )


def unary_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of a function of each code, int64 (256,). Transcendental functions are evaluated in float64."""
    step, ratio = codes(source) - source.zero_point, Fraction(float(source.scale)) / Fraction(float(out.scale))
    alpha, real = Fraction(node.alpha), step * np.float64(source.scale)
    linear: dict[str, Callable[[int], Fraction]] = {
        "requantise": lambda x: x * ratio,
        "relu": lambda x: x * ratio,
        "leaky_relu": lambda x: x * ratio * (alpha if x < 0 else 1),
    }
    smooth: dict[str, Callable[[], F64Array]] = {
        "logistic": lambda: 1 / (1 + np.exp(-real)),
        "tanh": lambda: np.tanh(real),
        "hard_swish": lambda: real * np.clip(real + 3, 0, 6) / 6,
        "hard_sigmoid": lambda: np.clip(real / 6 + 0.5, 0, 1),
    }
    if node.function in linear:
        function = linear[node.function]
        return saturate(np.array([ROUNDINGS[runtime](function(int(x))) for x in step]), out)
    if node.function not in smooth:
        raise IntactError(f"function {node.function!r} is not known")
    with np.errstate(over="ignore"):
        values = smooth[node.function]() / np.float64(out.scale)
    return saturate(np.array([ROUNDINGS[runtime](Fraction(float(value))) for value in values]), out)


def _rounded(near: npt.NDArray[np.float64], exact: Callable[[int, int], Fraction], runtime: str) -> IntArray:
    """near: the values in float64, (256, 256). exact: the value at an index, asked where float64 may be wrong."""
    whole = np.floor(near)
    found: IntArray = whole.astype(np.int64) + (near - whole > 0.5)
    unsure = np.abs(near - whole - 0.5) < NEAR_TIE * np.maximum(1, np.abs(near))
    for i, j in np.argwhere(unsure & (np.abs(near) < 1e3)):
        found[i, j] = ROUNDINGS[runtime](exact(int(i), int(j)))
    return found
