"""onnxruntime's arithmetic beyond convolutions, on x86: sums and products of codes, and functions of single codes.

Every input of these layers is an 8-bit code, so a table says all there is to know. Rows and columns are codes in
ascending order: entry [i] belongs to code low + i. No kernel here treats the end of a tensor differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.errors import IntactError
from pyexport.ir import Lookup, Quant
from pyexport.runtimes.codes import codes
from pyexport.runtimes.curve import Curve, F32Array, IntArray, finish, fma32

RUNTIMES = ("ort",)
AVERAGES = ("ort-global", "ort-average", "ort-mean")
ONE = np.float32(1)
# The logistic function as a quotient of polynomials in x^2, highest power first.
LOGISTIC_RANGE = np.float32(18)
ALPHA = tuple(map(np.float32, (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
                               2.48287947061529e-01)))  # fmt: skip
BETA = tuple(map(np.float32, (6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
                              1.16817656904453e-01, 9.93151921023180e-01)))  # fmt: skip


def _centred(quant: Quant) -> F32Array:
    return (codes(quant) - quant.zero_point).astype(np.float32)


def _limits(out: Quant, limits: tuple[int, int] | None) -> tuple[int, int]:
    return limits or out.range


# --- pairs of codes ------------------------------------------------------------------------------------------------


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b for all pairs, int64 (256, 256): [code of a, code of b], Eq. 45.

    Ra = sa/sy, Rb = sb/sy; RNE(fma(a, Ra, fma(b, Rb, zy - fma(Ra, za, Rb zb)))). There is no difference of codes in
    onnxruntime: sign -1 subtracts the real numbers, divides by sy and rounds.
    """
    if sign < 0:
        real = (_centred(a) * np.float32(a.scale))[:, None] - (_centred(b) * np.float32(b.scale))[None, :]
        return _quantised(real, out, limits)
    ra, rb = np.float32(a.scale) / np.float32(out.scale), np.float32(b.scale) / np.float32(out.scale)
    za, zb, zy = (np.asarray(np.float32(quant.zero_point)) for quant in (a, b, out))
    start = zy - fma32(np.asarray(ra), za, np.asarray(rb * zb))
    x, y = codes(a).astype(np.float32)[:, None], codes(b).astype(np.float32)[None, :]
    return finish(np.rint(fma32(x, np.asarray(ra), fma32(y, np.asarray(rb), start))), 0, *_limits(out, limits))


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): RNE(F((a - za)(b - zb)) (sa sb / sy) + zy), Eq. 46."""
    product = _centred(a)[:, None] * _centred(b)[None, :]
    ratio = np.float32(a.scale) * np.float32(b.scale) / np.float32(out.scale)
    return finish(np.rint(product * ratio + np.float32(out.zero_point)), 0, *_limits(out, limits))


# --- single codes --------------------------------------------------------------------------------------------------


def _quantised(real: F32Array, out: Quant, limits: tuple[int, int] | None = None) -> IntArray:
    """QuantizeLinear: RNE(x / s) + z."""
    return finish(np.rint(real / np.float32(out.scale)), out.zero_point, *_limits(out, limits))


def _logistic(x: F32Array) -> F32Array:
    x = np.clip(x, -LOGISTIC_RANGE, LOGISTIC_RANGE)
    square = x * x

    def polynomial(coefficients: tuple[np.float32, ...]) -> F32Array:
        total = np.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            total = fma32(total, square, np.asarray(coefficient))
        return total

    result: F32Array = np.clip(x * polynomial(ALPHA) / polynomial(BETA) + np.float32(0.5), np.float32(0), ONE)
    return result


def unary_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of a layer's function, int64 (256,): dequantised, computed in float32, quantised, Eq. 47.

    Raises IntactError for a function without a formula.
    """
    alpha = np.float32(node.alpha)
    functions: dict[str, Callable[[F32Array], F32Array]] = {
        "requantise": lambda x: x,
        "relu": lambda x: np.maximum(x, np.float32(0)),
        "leaky_relu": lambda x: np.where(x >= 0, x, x * alpha),
        "logistic": _logistic,
    }
    if node.function not in functions:
        raise IntactError(f"function {node.function!r} has no formula in onnxruntime; use --match exact")
    with np.errstate(over="ignore"):
        return _quantised(functions[node.function](_centred(source) * np.float32(source.scale)), out)


# --- averages ------------------------------------------------------------------------------------------------------


def mean_curve(
    arithmetic: str, divisor: int, channels: int, source: Quant, out: Quant, limits: tuple[int, int]
) -> Curve:
    """The formula of an average over windows, monotone in d = sum of (code - zero point).

    ort-global, Eq. 48: RNE(F(d) (sx / (sy n))) + zy.  ort-average, Eq. 49: RNE((F(d) sx / n) / sy + zy); ort-mean: the
    zero point added after rounding. There the runtime adds real numbers one by one: their roundings decide ties, so it
    is no function of d, and the formula is its value without them (the runtime's own where sx is a power of two).
    """
    sx, sy, n = np.float32(source.scale), np.float32(out.scale), np.float32(divisor)
    low, high = limits

    def whole(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(np.rint(acc.astype(np.float32) * (sx / (sy * n))), out.zero_point, low, high)

    def window(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(np.rint(acc.astype(np.float32) * sx / n / sy + np.float32(out.zero_point)), 0, low, high)

    def mean(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(np.rint(acc.astype(np.float32) * sx / n / sy), out.zero_point, low, high)

    inside = arithmetic == "ort-average"
    slope = float(sx) / (float(sy) * divisor)
    start = out.zero_point / slope if inside else 0.0
    rule = {"ort-global": whole, "ort-average": window, "ort-mean": mean}[arithmetic]
    return Curve(
        arithmetic, rule, np.full(channels, slope), np.full(channels, start),
        0 if inside else out.zero_point, low, high, True,
    )  # fmt: skip
