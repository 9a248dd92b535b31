"""What a runtime's formula looks like to the fit: a monotone map from accumulator to code, with its rough slope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32Array = npt.NDArray[np.float32]
F64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """A layer's requantise in one runtime, monotone in the accumulator (Eq. 10).

    evaluate(acc, channel): int64 arrays that broadcast -> int64 codes in lo .. hi, in the source's code type.
    multiplier, offset: float64 (C,); code ~ z + multiplier * (acc + offset). Hints only: the fit proves what it finds.
    z: where the runtime's ties count as even from (its zero point, or 0 where it adds the zero point before rounding).
    half_even: whether the runtime rounds float32 values half to even; decides what the fit tries first.
    added: float64 (C,) holding integers, the bias that the runtime adds to acc in int32; None: it adds none there.
    """

    name: str
    evaluate: Callable[[IntArray, IntArray], IntArray]
    multiplier: F64Array
    offset: F64Array
    z: int
    lo: int
    hi: int
    half_even: bool
    added: F64Array | None = None

    def __call__(self, acc: IntArray, channel: IntArray) -> IntArray:
        with np.errstate(over="ignore", invalid="ignore"):  # infinities saturate
            return self.evaluate(acc, channel)


def finish(rounded: npt.NDArray[np.floating], z: int, lo: int, hi: int) -> IntArray:
    """Rounded float values -> codes: saturate, never wrap."""
    return np.clip(rounded.astype(np.float64) + z, lo, hi).astype(np.int64)


def fma32(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], c: npt.NDArray[np.float32]) -> F32Array:
    """float32 fused multiply-add, rounded once (Eq. 11).

    The product is exact in float64; the sum is rounded to odd there (TwoSum tells whether it was inexact and on which
    side), and 53 >= 2 * 24 + 2 bits rounded to odd round once more to float32 without double rounding.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    wide = np.asarray(c, np.float64)
    with np.errstate(invalid="ignore"):  # an infinite total has no error term
        total = np.asarray(product + wide)
        back = total - product
        error = (product - (total - back)) + (wide - back)
    bits = total.view(np.int64) if total.ndim else np.atleast_1d(total).view(np.int64)
    inexact_even = (error != 0) & ((bits.reshape(total.shape) & 1) == 0) & np.isfinite(total)
    toward = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact_even, np.nextafter(total, toward), total).astype(np.float32)
