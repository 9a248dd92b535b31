"""Integer primitives of the requantiser, as the hardware computes them (equations in docs/arithmetic.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError

IntArray = npt.NDArray[np.int64]

FRACTION = 24  # F: fraction bits of r, d and u
HALF = 1 << (FRACTION - 1)  # r of a channel that only rounds half up
M_BITS = 31
MAX_SHIFT = 39  # largest s - F
D_BITS = 24
R_BITS = 34  # 10 bits of codes: r alone can hold any code, and any position of the sign split
EXC_V_BITS = 30
Y_BITS = 10  # u saturates to FRACTION + Y_BITS signed bits, Eq. 5
INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Requant:
    """Constants of one layer's requantiser; arrays are int64 of shape (C,), ranges as stored in hardware.

    bias: int32.  m: 0 .. 2^31 - 1.  s: 24 .. 63.  r: 34 bits and d: 24 bits signed, in units of 2^-24 codes.
    even: 0 or 1, the tie rule of Eq. 7.  exc_v: 30 bits signed and exc_d: -1, 0 or 1, the exception of Eq. 8.
    z: zero point; lo, hi: clamp; all three in -128 .. 127.
    """

    bias: IntArray
    m: IntArray
    s: IntArray
    r: IntArray
    d: IntArray
    even: IntArray
    exc_v: IntArray
    exc_d: IntArray
    z: int
    lo: int
    hi: int


def signed(bits: int) -> tuple[int, int]:
    """Lowest and highest value of a signed field."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def check(rq: Requant) -> Requant:
    """Returns rq if every field fits its hardware width, else raises IntactError naming field and channel."""
    ranges = {
        "bias": INT32,
        "m": (0, (1 << M_BITS) - 1),
        "s": (FRACTION, FRACTION + MAX_SHIFT),
        "r": signed(R_BITS),
        "d": signed(D_BITS),
        "even": (0, 1),
        "exc_v": signed(EXC_V_BITS),
        "exc_d": (-1, 1),
    }
    for name, (low, high) in ranges.items():
        values = getattr(rq, name)
        bad = np.flatnonzero((values < low) | (values > high))
        if bad.size:
            raise IntactError(f"channel {bad[0]}: requantiser {name} = {values[bad[0]]} lies outside {low}..{high}")
    if not -128 <= rq.lo <= rq.hi <= 127 or not -128 <= rq.z <= 127:
        raise IntactError(f"requantiser clamp {rq.lo}..{rq.hi} or zero point {rq.z} lies outside -128..127")
    return rq


def wrapped(sums: IntArray) -> IntArray:
    """Sums modulo 2^32, as an int32 register holds them."""
    return np.asarray(((sums - INT32[0]) & 0xFFFFFFFF) + INT32[0], np.int64)


def clamp(values: IntArray, low: int, high: int) -> IntArray:
    """Saturates to low .. high."""
    result: IntArray = np.clip(values, low, high)
    return result


def bit_length(values: IntArray) -> IntArray:
    """Bits needed for each value, 0 <= value < 2^53: 0 for 0, 1 for 1, 8 for 128 .. 255."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def tie_window(y: IntArray) -> IntArray:
    """Half width of the tie window in units of 2^-24 codes, Eq. 6: half a float32 ulp of a value near y."""
    return np.left_shift(np.int64(1), bit_length(np.where(y < 0, ~y, y))) >> 1


def requantise(acc: IntArray, rq: Requant, wraps: bool = False) -> IntArray:
    """Accumulators (..., C) -> codes (..., C) in rq.lo .. rq.hi, Eq. 1 to 9.

    Where acc + bias leaves int32 it wraps modulo 2^32, as in hardware, with `wraps`; else IntactError is raised.
    """
    if wraps:
        acc = wrapped(np.asarray(acc, np.int64) + rq.bias) - rq.bias
    return requantise_channels(acc, rq, np.arange(rq.m.size))


def requantise_channels(acc: IntArray, rq: Requant, channel: IntArray, exception: bool = True) -> IntArray:
    """As requantise, for any acc and channel index arrays that broadcast; exception=False leaves Eq. 8 out."""
    v = np.asarray(acc, np.int64) + rq.bias[channel]  # Eq. 1
    if v.size and (int(v.min()) < INT32[0] or int(v.max()) > INT32[1]):
        bad = np.argwhere((v < INT32[0]) | (v > INT32[1]))[0]
        where = np.broadcast_to(channel, v.shape)[tuple(bad)]
        raise IntactError(f"channel {where}: accumulator + bias = {v[tuple(bad)]} does not fit int32")
    shift = rq.s[channel] - FRACTION
    p = v * rq.m[channel]  # Eq. 2: |p| <= 2^31 (2^31 - 1), fits int64
    u = (p >> shift) + rq.r[channel] + np.where(v < 0, rq.d[channel], 0)  # Eq. 3
    limit = 1 << (FRACTION + Y_BITS - 1)
    u = clamp(u, -limit, limit - 1)  # Eq. 5
    y = u >> FRACTION  # Eq. 4
    if rq.even.any():
        sticky = (p & ((np.int64(1) << shift) - 1)) != 0
        y = y + rq.even[channel] * _to_even(u, y, sticky)  # Eq. 7
    if exception:
        y = y + np.where(v == rq.exc_v[channel], rq.exc_d[channel], 0)  # Eq. 8
    return clamp(y + rq.z, rq.lo, rq.hi)  # Eq. 9


def _to_even(u: IntArray, y: IntArray, sticky: npt.NDArray[np.bool_]) -> IntArray:
    """Correction -1, 0 or 1 that takes an odd y to its even neighbour inside the tie window, Eq. 7."""
    window = tie_window(y)
    fraction = u & ((1 << FRACTION) - 1)
    below = (fraction < window) | ((fraction == window) & ~sticky)
    above = fraction >= (1 << FRACTION) - window
    return np.where(y & 1, above.astype(np.int64) - below, 0)
