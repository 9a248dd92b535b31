"""A layer and another tensor in one sum, rounded once: conv(x) + o, conv(x) without codes of its own (Eq. 80 to 82).

    v = A * acc + B * (o - zo),   code = requantise(v)   (Eq. 1 to 9)

A and B are integers of each channel with A : B near sx * sw : so. The array computes v by itself: A times the layer's
weights are weights of up to three int8 digits, and B is one more weight, of the other tensor's channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pyexport import fit
from pyexport.arith import FRACTION, HALF, INT32, IntArray, Requant, check, requantise_channels
from pyexport.errors import IntactError
from pyexport.proof import thresholds
from pyexport.runtimes import exact_curve

LARGEST = {1: 127, 2: 127 * 257, 3: 127 * 65793}  # by digits: all of them are int8
RANGE = 1 << 30  # from the lowest v to the highest: a quarter of int32, so that biases and zero points fit too
SAMPLED = 1 << 16  # values of A that are looked at, the largest
COARSE = 1e-6  # codes: two digits that are further off than this are too few


@dataclass(frozen=True)
class JoinFit:
    """factors: A and B, int64 (C, 2).  requant: takes v.

    low, high: int64 (C,), the range of v.  differing: per channel the values of v whose code is not the exact one
    for some pair of acc and o.  pairs: how many pairs differ, and how many there are, over all channels.
    """

    factors: IntArray
    requant: Requant
    low: IntArray
    high: IntArray
    differing: list[IntArray]
    pairs: tuple[int, int]
    exceptions: int


@dataclass(frozen=True)
class Sum:
    """What is added, as the source has it; real = step * acc + bias + other_step * (o - zo), then divided by sy.

    step, bias: a Fraction for each channel.  other_step, sy: Fractions.
    acc_lo, acc_hi: reachable accumulators, int64 (C,).  weight: largest |w - zw|, int64 (C,).
    other: lowest and highest o - zo.  zy, lo, hi: output zero point and clamp, in the source's code type.
    """

    step: list[Fraction]
    bias: list[Fraction]
    other_step: Fraction
    sy: Fraction
    acc_lo: IntArray
    acc_hi: IntArray
    weight: IntArray
    other: tuple[int, int]
    zy: int
    lo: int
    hi: int


def fit_join(given: Sum, shift: int) -> JoinFit:
    """Factors and constants, and every pair of acc and o whose code is then another.

    shift: what is added to the source's codes to make on-chip codes.
    Raises IntactError where one side drowns the other.
    """
    channels = range(len(given.step))
    for digits in (2, 3):
        picks = [_factors(given, c, LARGEST[digits]) for c in channels]
        if all(pick is not None and pick[2] < COARSE for pick in picks):
            break
    factors = np.array([pick[:2] if pick is not None else _refused(given, c) for c, pick in enumerate(picks)], np.int64)
    a, b = factors[:, 0], factors[:, 1]
    ends = np.sort(b[:, None] * np.array(given.other), axis=1)
    low, high = a * given.acc_lo + ends[:, 0], a * given.acc_hi + ends[:, 1]
    slope = [step / (given.sy * int(factor)) for step, factor in zip(given.step, a, strict=True)]
    start = [bias / given.sy for bias in given.bias]
    limits = given.lo, given.hi
    curve = exact_curve("exact", slope, start, given.zy, limits)
    pairs = int((given.acc_hi - given.acc_lo + 1).sum()) * (given.other[1] - given.other[0] + 1)
    if all(Fraction(int(b[c]), int(a[c])) == given.other_step / given.step[c] for c in channels):
        found = fit.fit(curve, low, high, shift)
        if found.exact:  # and v is the real sum itself
            return JoinFit(factors, found.requant, low, high, found.differing, (0, pairs), found.exceptions)
    every = np.arange(low.size)
    same = curve(low, every) == curve(high, every)
    requant = check(_constants(slope, start, low, high, given.zy + shift, (given.lo + shift, given.hi + shift),
                               curve(low, every) - given.zy, same))  # fmt: skip
    wrong = [_wrong(given, c, factors[c], low[c], high[c], requant, shift) for c in channels]
    return JoinFit(
        factors, requant, low, high, [values for values, _ in wrong], (sum(count for _, count in wrong), pairs), 0
    )


def _refused(given: Sum, c: int) -> NoReturn:
    ratio = float(given.other_step / given.step[c])
    raise IntactError(
        f"channel {c}: one code of the tensor that is added is {ratio:g} accumulator steps, and sums reach "
        f"{given.acc_lo[c]:,}..{given.acc_hi[c]:,}: no weights hold both; quantise the layer's own output"
    )


def _factors(given: Sum, c: int, largest: int) -> tuple[int, int, float] | None:
    """A, B, and by how many codes B / A is off for a middling o; None where nothing fits."""
    ratio = given.other_step / given.step[c]
    span, reach = int(given.acc_hi[c] - given.acc_lo[c]), given.other[1] - given.other[0]
    most = min(largest // max(int(given.weight[c]), 1), int(min(largest / ratio, RANGE / (span + ratio * reach))))
    a = np.arange(max(1, most - SAMPLED), most + 1)
    b = np.rint(a * float(ratio)).astype(np.int64)
    fits = (b <= largest) & (a * span + b * reach <= RANGE)
    a, b = a[fits], b[fits]
    if not a.size:
        return None
    off = np.abs(b / a - float(ratio))
    off[off < float(ratio) * 2.0**-50] = 0
    best = int(np.argmin(off))
    return int(a[best]), int(b[best]), float(off[best] * reach / 2 * float(given.step[c] / given.sy))


def _constants(
    slope: list[Fraction], start: list[Fraction], low: IntArray, high: IntArray, z: int, limits: tuple[int, int],
    code: IntArray, same: npt.NDArray[np.bool_],
) -> Requant:  # fmt: skip
    """slope * v + start, as close as the bits go. code, same: a channel's only code above z, if it has one."""
    bias, m, s, r = (np.zeros(low.size, np.int64) for _ in range(4))
    for c, (one, offset) in enumerate(zip(slope, start, strict=True)):
        if same[c]:  # Eq. 23
            s[c], r[c] = FRACTION, (int(code[c]) << FRACTION) + HALF
            continue
        shift = min(30 - math.floor(math.log2(one)), 63)
        if shift < FRACTION or (round(one * 2**shift) >> 31 and shift == FRACTION):
            raise IntactError(f"channel {c}: scale ratio {float(one):g} is above 127; re-calibrate the model")
        if round(one * 2**shift) >> 31:
            shift -= 1
        m[c], s[c] = round(one * 2**shift), shift
        bias[c] = min(max(round(offset / one), INT32[0] - int(low[c])), INT32[1] - int(high[c]))
        rest = round((offset - one * int(bias[c])) * 2**FRACTION) + HALF
        r[c] = min(max(rest, -(1 << 33)), (1 << 33) - 1)
    zero = np.zeros(low.size, np.int64)
    return Requant(bias, m, s, r, zero, zero, zero, zero, z, *limits)


def _wrong(
    given: Sum, c: int, factors: IntArray, low: np.int64, high: np.int64, requant: Requant, shift: int
) -> tuple[IntArray, int]:
    """The values of v at pairs of acc and o whose code is another than the real sum's, and how many pairs those are.

    For each o the code is k or more from a threshold of acc on, in hardware and over the rationals; what lies between
    the two differs.
    """
    a, b = int(factors[0]), int(factors[1])
    others = np.arange(given.other[0], given.other[1] + 1)
    codes = np.arange(given.lo + 1, given.hi + 1)
    row = np.array([c])

    def hardware(v: IntArray, channel: IntArray) -> IntArray:
        return requantise_channels(v, requant, row[channel])

    (reached,) = thresholds(hardware, np.array([low]), np.array([high]), codes + shift)
    have = -((b * others[None, :] - reached[:, None]) // a)
    ratio, steps = given.other_step / given.step[c], codes - given.zy
    ties = [((int(k) - Fraction(1, 2)) * given.sy - given.bias[c]) / given.step[c] for k in steps]
    start, back = np.array([float(tie) for tie in ties])[:, None], float(ratio) * others[None, :]
    near = start - back
    want = np.ceil(near).astype(np.int64)
    unsure = np.abs(near - np.rint(near)) < 1e-9 + 2.0**-49 * (np.abs(start) + np.abs(back))
    bottom, top = int(given.acc_lo[c]), int(given.acc_hi[c]) + 1
    for i, j in np.argwhere(unsure & (near > bottom - 1) & (near < top + 1)):
        tie = ties[i] - ratio * int(others[j])
        want[i, j] = math.ceil(tie)
        want[i, j] += want[i, j] == tie and steps[i] % 2  # only an even code is reached at a tie
    have, want = np.clip(have, bottom, top), np.clip(want, bottom, top)
    first, count = np.minimum(have, want), np.abs(have - want)
    places = np.repeat(np.arange(count.size), count.reshape(-1))
    within = np.arange(places.size) - np.repeat(np.cumsum(count) - count.reshape(-1), count.reshape(-1))
    acc = first.reshape(-1)[places] + within
    return np.unique(a * acc + b * others[places % others.size]), int(count.sum())
