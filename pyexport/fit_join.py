"""A layer and another tensor in one sum, rounded once: conv(x) + o where conv(x) has no codes of its own (Eq. 80 to 82).

    v = A * acc + B * (o - zo),   code = requantise(v)   (Eq. 1 to 9)

A and B are integers of each channel with A : B near sx * sw : so. The array computes v by itself: A times the layer's
weights are weights of up to three int8 digits, and B is one more weight, of the other tensor's channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pyexport import fit
from pyexport.arith import IntArray, Requant
from pyexport.errors import IntactError
from pyexport.runtimes import exact_curve

LARGEST = {1: 127, 2: 127 * 257, 3: 127 * 65793}  # by digits: all of them are int8
RANGE = (1 << 31) - 1  # from the lowest v to the highest: half of int32, so that any bias fits
SAMPLED = 1 << 16  # values of A that are looked at, the largest
TRIED = 4  # of these, the ones whose ratio comes closest
NEAR = 1e-6  # accumulator steps within which a threshold is worked out in exact integers


@dataclass(frozen=True)
class JoinFit:
    """factors: A and B, int64 (C, 2).  requant: takes v.

    v_low, v_high: int64 (C,), the range of v.  differing: per channel the values of v whose code is not the exact one
    for some pair of acc and o.  pairs: how many pairs differ, and how many there are, over all channels.
    """

    factors: IntArray
    requant: Requant
    v_low: IntArray
    v_high: IntArray
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
    """Factors and constants. Two digits where no pair of acc and o then differs, else three.

    shift: what is added to the source's codes to make on-chip codes.
    Raises IntactError where one side drowns the other.
    """
    for digits in (2, 3):
        found = [_factors(given, c, LARGEST[digits]) for c in range(len(given.step))]
        if all(pick is not None and not pick[2] for pick in found):
            break
    picks = []
    for c, pick in enumerate(found):
        if pick is None:
            ratio = given.other_step / given.step[c]
            raise IntactError(
                f"channel {c}: one code of the tensor that is added is {float(ratio):g} accumulator steps, and sums "
                f"reach {given.acc_lo[c]:,}..{given.acc_hi[c]:,}: no weights hold both; quantise the layer's own output"
            )
        picks.append(pick)
    factors = np.array([pick[:2] for pick in picks], np.int64)
    a, b = factors[:, 0], factors[:, 1]
    ends = np.sort(b[:, None] * np.array(given.other), axis=1)
    v_low, v_high = a * given.acc_lo + ends[:, 0], a * given.acc_hi + ends[:, 1]
    slope = [step / (given.sy * int(factor)) for step, factor in zip(given.step, a, strict=True)]
    start = [bias / given.sy for bias in given.bias]
    curve = exact_curve("exact", slope, start, given.zy, (given.lo, given.hi))
    result = fit.fit(curve, v_low, v_high, shift)
    differing = [np.union1d(own, pick[3]) for own, pick in zip(result.differing, picks, strict=True)]
    reachable = int((given.acc_hi - given.acc_lo + 1).sum()) * (given.other[1] - given.other[0] + 1)
    wrong = sum(pick[2] for pick in picks)
    return JoinFit(factors, result.requant, v_low, v_high, differing, (wrong, reachable), result.exceptions)


def _factors(given: Sum, c: int, largest: int) -> tuple[int, int, int, IntArray] | None:
    """A, B, how many pairs of acc and o differ, and their v; None where nothing fits."""
    ratio = given.other_step / given.step[c]
    span, reach = int(given.acc_hi[c] - given.acc_lo[c]), given.other[1] - given.other[0]
    most = min(largest // max(int(given.weight[c]), 1), int(min(largest / ratio, RANGE / (span + ratio * reach))))
    if most < 1:
        return None
    a = np.arange(max(1, most - SAMPLED), most + 1)
    b = np.rint(a * float(ratio)).astype(np.int64)
    fits = (b <= largest) & (a * span + b * reach <= RANGE)
    a, b = a[fits], b[fits]
    if not a.size:
        return None
    order = np.lexsort((a, np.abs(b / a - float(ratio))))[:TRIED]
    best: tuple[int, int, int, IntArray] | None = None
    for i in order:
        values, count = _differing(given, c, int(a[i]), int(b[i]), ratio)
        if best is None or count < best[2]:
            best = int(a[i]), int(b[i]), count, values
        if not count:
            break
    return best


def _differing(given: Sum, c: int, a: int, b: int, ratio: Fraction) -> tuple[IntArray, int]:
    """The values of v at pairs of acc and o whose code is another than the real sum's, and how many pairs those are.

    The code is k or more from a threshold of acc on, for each o: two thresholds, of the real ratio and of B / A, are
    compared, and what lies between them differs.
    """
    hardware = Fraction(b, a)
    if hardware == ratio:
        return np.zeros(0, np.int64), 0
    others = np.arange(given.other[0], given.other[1] + 1)
    steps = np.arange(given.lo + 1, given.hi + 1) - given.zy  # codes to reach, from the zero point
    ties = [((int(k) - Fraction(1, 2)) * given.sy - given.bias[c]) / given.step[c] for k in steps]
    near = np.array([float(tie) for tie in ties])[:, None] - float(ratio) * others[None, :]
    # the two thresholds lie less than this apart, and float64 is nearer still
    apart = abs(float(hardware - ratio)) * np.abs(others) + NEAR + 2.0**-48 * np.abs(near)
    between = np.ceil(near - apart) <= np.floor(near + apart)  # an integer may lie between them
    inside = (near + apart >= given.acc_lo[c]) & (near - apart <= given.acc_hi[c] + 1)
    values, count = [np.zeros(0, np.int64)], 0
    for i, j in np.argwhere(between & inside):
        o = int(others[j])
        first, second = sorted(_reached(ties[i] - one * o, int(steps[i])) for one in (ratio, hardware))
        first, second = max(first, int(given.acc_lo[c])), min(second, int(given.acc_hi[c]) + 1)
        if first < second:
            count += second - first
            values.append(a * np.arange(first, second) + b * o)
    return np.unique(np.concatenate(values)), count


def _reached(tie: Fraction, step: int) -> int:
    """The lowest accumulator whose value reaches `step` codes; at a tie only an even one is reached."""
    least = math.ceil(tie)
    return least + (1 if least == tie and step % 2 else 0)
