"""micronet's quantisers as integers: DoReFa's weights and activations, IAO's, and the constants of a layer.

Everything is evaluated in float64, in the order of operations of micronet's own forward, because a module in double
precision is what the golden model is compared with. Sums and scales are then exact: fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import ir

F64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BITS = range(2, 9)
MOST_ZERO = 1 << 20  # far beyond what the hardware holds


class QuantiserError(ValueError):
    """A quantiser that cannot be followed. The reader turns it into an IntactError that names the layer."""


@dataclass(frozen=True)
class Grid:
    """What an activation quantiser makes of real numbers.

    step: the real distance between neighbouring codes, before the quantiser; quant.scale is its float32.
    unit: what one code is worth behind the quantiser (DoReFa multiplies by 0.1 on the way).
    """

    quant: ir.Quant
    step: Fraction
    unit: Fraction


@dataclass(frozen=True, eq=False)
class Codes:
    """Quantised weights: codes, int64, in the source's layout, channels along `axis`, and per output channel what code
    0 stands for and the real value of one step.
    """

    codes: IntArray
    zero_point: IntArray
    unit: tuple[Fraction, ...]


def half_away(x: npt.NDArray[Any]) -> F64Array:
    """Round half away from zero, as micronet's Round does."""
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5), np.float64)


# --- DoReFa --------------------------------------------------------------------------------------------------------


def dorefa_grid(bits: int) -> Grid:
    """round(clamp(0.1 x, 0, 1) A) / A with A = 2^bits - 1: codes 0 .. A, ten units of x wide."""
    _check_bits(bits, "a_bits")
    top = (1 << bits) - 1
    step = Fraction(10, top)
    return Grid(ir.Quant(np.float32(float(step)), 0, "uint8", (0, top)), step, Fraction(1, top))


def dorefa_codes(weight: npt.NDArray[np.float32], bits: int, channels: int) -> Codes:
    """round(B (tanh w / (2 max|tanh w|) + 1/2)) = k with B = 2^bits - 1, and the odd code 2k - B, worth 1 / B."""
    _check_bits(bits, "w_bits")
    top = (1 << bits) - 1
    bent = np.tanh(weight.astype(np.float64))
    largest = np.abs(bent).max(initial=0)
    if not (np.isfinite(largest) and largest > 0):
        raise QuantiserError("every weight is 0, or one is not finite: DoReFa divides by the largest; train it again")
    k = half_away((bent / 2 / largest + 0.5) / (1 / float(top)))
    return _symmetric(2 * k - top, [Fraction(1, top)] * channels)


def dorefa_stored(weight: npt.NDArray[np.float32], bits: int, channels: int) -> Codes:
    """Weights that are stored as quantised values already, (2k - B) / B (quant_inference)."""
    _check_bits(bits, "w_bits")
    top = (1 << bits) - 1
    k = half_away((weight.astype(np.float64) + 1) / 2 * top)
    _check_stored(np.abs((2 * k - top) / top - weight), 1.0)
    return _symmetric(2 * k - top, [Fraction(1, top)] * channels)


# --- IAO -----------------------------------------------------------------------------------------------------------


def iao_grid(scale: float, zero: float, low: float, high: float, asymmetric: bool) -> Grid:
    """(clamp(round(x / scale - zero), low, high) + zero) scale: the code that stands for 0 is -zero.

    scale, zero, low, high: the buffers scale, zero_point, quant_min_val and quant_max_val.
    """
    point, limits = -int(zero), (int(low), int(high))
    dtype: ir.Dtype = "uint8" if asymmetric else "int8"
    full = ir.CODE_RANGE[dtype]
    if not (np.isfinite(scale) and scale > 0) or not full[0] <= limits[0] <= limits[1] <= full[1]:
        raise QuantiserError(f"scale {scale:g} with codes {limits[0]}..{limits[1]} is no quantisation to 2..8 bits")
    if not limits[0] <= point <= limits[1]:
        raise QuantiserError(
            f"its range does not contain 0 (zero_point {zero:g}), which padding needs; calibrate it on data with zeros"
        )
    step = Fraction(scale)
    return Grid(ir.Quant(np.float32(scale), point, dtype, None if limits == full else limits), step, step)


def iao_codes(
    weight: F64Array, scale: npt.NDArray[np.float32], zero: npt.NDArray[np.float32], low: float, high: float,
    channels: int,
) -> Codes:  # fmt: skip
    """clamp(round(w / s - z), low, high), worth (code + z) s; scale and zero broadcast against the weights."""
    steps, zeros = scale.astype(np.float64), zero.astype(np.float64)
    if not (np.isfinite(steps).all() and (steps > 0).all() and np.isfinite(weight).all()):
        raise QuantiserError("a weight or its scale is not a positive finite number; train it again")
    if np.abs(zeros).max(initial=0) > MOST_ZERO:
        raise QuantiserError(f"a zero point of its weights is above {MOST_ZERO}; use symmetric weights (q_type=0)")
    codes = np.clip(half_away(weight / steps - zeros), low, high).astype(np.int64)
    return _iao(codes, steps, zeros, channels)


def iao_stored(
    weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], zero: npt.NDArray[np.float32], low: float,
    high: float, channels: int,
) -> Codes:  # fmt: skip
    """Weights that are stored as quantised values already (quant_inference)."""
    found = iao_codes(weight.astype(np.float64), scale, zero, low, high, channels)
    value = (found.codes + zero.astype(np.float64)) * scale.astype(np.float64)
    _check_stored(np.abs(value - weight), float(np.abs(weight).max(initial=0)))
    return found


def _iao(codes: IntArray, steps: F64Array, zeros: F64Array, channels: int) -> Codes:
    unit = np.broadcast_to(steps.reshape(-1), channels)
    point = -np.broadcast_to(zeros.reshape(-1), channels).astype(np.int64)
    return Codes(codes, point, tuple(Fraction(float(value)) for value in unit))


def _symmetric(values: F64Array, unit: list[Fraction]) -> Codes:
    return Codes(values.astype(np.int64), np.zeros(len(unit), np.int64), tuple(unit))


def _check_bits(bits: int, name: str) -> None:
    if bits not in BITS:
        raise QuantiserError(f"{name}={bits} is not supported; use 2 to 8")


def _check_stored(error: npt.NDArray[Any], size: float) -> None:
    if error.max(initial=0) > 2.0**-22 * size:
        raise QuantiserError(
            "quant_inference is on, but its weights are not quantised values, and micronet computes with them as they "
            "are; build the model with quant_inference=False"
        )


# --- a layer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sum:
    """A layer's real result, unit[c] * accumulator + offset[c], before the next quantiser.

    codes: int64 (out, ...), in the IR's order. unit: what one accumulator step is worth; may be negative.
    """

    codes: IntArray
    zero_point: IntArray
    unit: tuple[Fraction, ...]
    offset: F64Array

    @staticmethod
    def of(weights: Codes, source: Grid, bias: npt.NDArray[np.float32] | F64Array | None) -> Sum:
        """codes of `weights` have the output channels first. source: the grid of the layer's input."""
        out = len(weights.unit)
        offset = np.zeros(out) if bias is None else np.asarray(bias, np.float64)
        return Sum(weights.codes, weights.zero_point, tuple(u * source.unit for u in weights.unit), offset)

    def normalised(self, gain: F64Array, mean: F64Array, beta: F64Array) -> Sum:
        """Batch norm: (y - mean) * gain + beta, gain = gamma / sqrt(var + eps)."""
        unit = tuple(u * Fraction(float(g)) for u, g in zip(self.unit, gain, strict=True))
        return Sum(self.codes, self.zero_point, unit, (self.offset - mean) * gain + beta)

    def weights(self, source: ir.Quant, target: Grid) -> ir.Weights:
        """The layer's constants where its result goes into `target`.

        The IR's real arithmetic is sx * sw / sy with float32 sx and sy, so what their rounding takes away goes back
        into sw and the bias. A negative unit (a batch norm's gamma below 0) turns the weights' signs instead.
        """
        signs = np.array([-1 if u < 0 else 1 for u in self.unit], np.int64)
        wide = (-1, *[1] * (self.codes.ndim - 1))
        codes, zero = self.codes * signs.reshape(wide), self.zero_point * signs
        sx, sy = Fraction(float(source.scale)), Fraction(float(target.quant.scale))
        scale = np.array([_at_least(abs(u) / sx * (sy / target.step)) for u in self.unit])
        flat = scale == 0  # a batch norm's gamma of 0: the accumulator does not count
        codes = np.where(flat.reshape(wide), zero.reshape(wide), codes)
        scale = np.where(flat, 1.0, scale)
        most = int(np.abs(codes - zero.reshape(wide)).max(initial=0))
        if most > 255:
            raise QuantiserError(
                f"a weight lies {most} codes from the one that stands for 0, more than the 255 that fit: the range of "
                "its channel does not contain 0; use symmetric weights (q_type=0)"
            )
        single = scale.astype(np.float32)
        exact = bool((single == scale).all())
        bias = self.offset if target.step == sy else self.offset * float(sy / target.step)
        return ir.Weights(
            codes.astype(np.int16), single if exact else scale, zero.astype(np.int32), np.asarray(bias, np.float64)
        )


def _at_least(value: Fraction) -> float:
    """The smallest float64 that is not below `value`: exact ties still go away from zero."""
    near = float(value)
    return near if Fraction(near) >= value else float(np.nextafter(near, np.inf))
