"""The arithmetic of QONNX's own executor: every operation in float32, and `Quant` nodes that round to codes (Eq. 60).

    Quant: RNE((x / s) + z), the division and the sum in float32, clamped

The zero point goes in before the rounding. A convolution's or average's sum here is the exact one, rounded once to
float32. The executor's own sums are of float32 products, one after the other, so near a tie it may take the other code;
where the scales are powers of two nothing is rounded before the division and both are the same number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.errors import IntactError
from pyexport.ir import Lookup, Quant
from pyexport.runtimes.codes import codes
from pyexport.runtimes.curve import Curve, F32Array, F64Array, IntArray, finish

RUNTIME = "qonnx"

# Arithmetic of an average pool that a `Trunc` node rounds -> how.
TRUNC: dict[str, Callable[[F64Array], F64Array]] = {"trunc-round": np.rint, "trunc-floor": np.floor}


def quant(real: F32Array, out: Quant, limits: tuple[int, int] | None = None) -> IntArray:
    """A `Quant` node on float32 values: their codes, int64 of the same shape. limits: narrower than out's own range."""
    low, high = limits or out.range
    return finish(np.rint(np.asarray(real, np.float32) / out.scale + np.float32(out.zero_point)), 0, low, high)


def real(quantised: Quant) -> F32Array:
    """The float32 value of every code of the type in ascending order, (256,)."""
    return (codes(quantised) - quantised.zero_point).astype(np.float32) * quantised.scale


def sum_curve(
    product: F64Array, start: F64Array, bias: F64Array, scale: np.float32, z: int, limits: tuple[int, int]
) -> Curve:
    """Quant of float32((acc + start) * product + bias) per channel. product: exact in float64."""
    zero = np.float32(z)

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        v = ((acc + start[ch]) * product[ch] + bias[ch]).astype(np.float32)
        return finish(np.rint(v / scale + zero), 0, *limits)

    multiplier = product / np.float64(scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = start + bias / product + z / multiplier
    return Curve(RUNTIME, evaluate, multiplier, offset, 0, *limits, True)


def mean_curve(divisor: int, channels: int, source: Quant, out: Quant, limits: tuple[int, int]) -> Curve:
    """Quant of float32(sum of (code - zero point) * sx / divisor)."""
    product = np.full(channels, np.float64(source.scale) / divisor)
    zeros = np.zeros(channels)
    return sum_curve(product, zeros, zeros, out.scale, out.zero_point, limits)


def trunc_curve(
    arithmetic: str, divisor: int, channels: int, source: Quant, out: Quant, limits: tuple[int, int]
) -> Curve:
    """A `Trunc` node behind an average: the sum of codes, an integer, over a power of two, rounded (Eq. 61)."""
    shift = round(np.log2(np.float64(out.scale) * divisor / np.float64(source.scale)))
    rounding = TRUNC[arithmetic]

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        return finish(rounding(np.ldexp(np.asarray(acc, np.float64), -shift)), out.zero_point, *limits)

    slope, half_even = np.full(channels, 2.0**-shift), rounding is np.rint
    start = np.full(channels, 0.0 if half_even else -0.5 * 2.0**shift)
    return Curve(arithmetic, evaluate, slope, start, out.zero_point, *limits, half_even)


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b (sign 1) or a - b (sign -1) for all pairs, int64 (256, 256): [code of a, code of b]."""
    return quant(real(a)[:, None] + np.float32(sign) * real(b)[None, :], out, limits)


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): [code of a, code of b]."""
    return quant(real(a)[:, None] * real(b)[None, :], out, limits)


def unary_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of a function of each code, int64 (256,). Raises IntactError for a function without a formula."""
    x = real(source)
    functions: dict[str, Callable[[], F32Array]] = {
        "requantise": lambda: x,
        "relu": lambda: np.maximum(x, np.float32(0)),
        "leaky_relu": lambda: np.where(x < 0, x * np.float32(node.alpha), x),
    }
    if node.function not in functions:
        raise IntactError(f"function {node.function!r} has no formula of {RUNTIME}; choose --match exact")
    return quant(functions[node.function](), out)
