"""From a runtime's formula to hardware constants: thresholds, search, exceptions, proof (docs/arithmetic.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyexport.arith import (
    EXC_V_BITS,
    FRACTION,
    HALF,
    INT32,
    IntArray,
    Requant,
    check,
    requantise_channels,
    signed,
)
from pyexport.errors import IntactError
from pyexport.proof import Map, differing, thresholds
from pyexport.runtimes.curve import Curve
from pyexport.solve import REACH, BoolArray, Solution, Steps, search

MAX_MULTIPLIER = 128.0  # 2^31 / 2^24: a larger m does not fit, Eq. 2
BATCH = 256  # channels per pass: keeps the (channels x codes) arrays in cache


@dataclass(frozen=True)
class FitResult:
    """requant: the constants.  differing: per channel the accumulators whose code differs (empty: proved equal).

    exceptions: channels that use their exception.  constant: channels with one code for every accumulator.
    """

    requant: Requant
    differing: list[IntArray]
    exceptions: int
    constant: int

    @property
    def exact(self) -> bool:
        """Whether every channel is proved equal to the runtime."""
        return not any(values.size for values in self.differing)


def accumulator_bounds(weights: npt.ArrayLike, x_low: int, x_high: int) -> tuple[IntArray, IntArray]:
    """Reachable accumulators of each channel, two int64 (C,), Eq. 25.

    weights: integers w - zw, (C, ...).  x_low <= x_high: range of x - zx. Padding contributes 0, and so does an x
    equal to its zero point, so 0 is included for every tap.
    """
    w = np.asarray(weights, np.int64)
    w = w.reshape(len(w), -1)
    low, high = min(x_low, 0), max(x_high, 0)
    positive, negative = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
    return positive * low + negative * high, positive * high + negative * low


def fit(curve: Curve, acc_lo: IntArray, acc_hi: IntArray, shift: int = 0) -> FitResult:
    """Constants that reproduce `curve` on acc_lo .. acc_hi (C,), with the proof or the accumulators that differ.

    shift: what is added to the source's codes to make on-chip codes (-128 for uint8).
    """
    lo, hi = np.asarray(acc_lo, np.int64), np.asarray(acc_hi, np.int64)
    bad = np.flatnonzero((lo > hi) | (hi - lo > INT32[1] - INT32[0]))
    if bad.size:  # pyexport/overflow.py lets no such range through
        raise IntactError(f"channel {bad[0]}: no bias brings accumulators {lo[bad[0]]}..{hi[bad[0]]} into int32")
    parts = [_fit_batch(curve, np.arange(a, min(a + BATCH, lo.size)), lo, hi, shift) for a in range(0, lo.size, BATCH)]
    return FitResult(
        join([p.requant for p in parts]),
        [values for p in parts for values in p.differing],
        sum(p.exceptions for p in parts),
        sum(p.constant for p in parts),
    )


def join(parts: list[Requant]) -> Requant:
    """The channels of several parts of one layer, in order; z, lo and hi are the layer's."""

    def column(name: str) -> IntArray:
        return np.concatenate([getattr(p, name) for p in parts])

    return Requant(
        bias=column("bias"), m=column("m"), s=column("s"), r=column("r"), d=column("d"), even=column("even"),
        exc_v=column("exc_v"), exc_d=column("exc_d"), z=parts[0].z, lo=parts[0].lo, hi=parts[0].hi,
    )  # fmt: skip


def _fit_batch(curve: Curve, rows: IntArray, all_lo: IntArray, all_hi: IntArray, shift: int) -> FitResult:
    lo, hi = all_lo[rows], all_hi[rows]
    z, low_code, high_code = curve.z + shift, curve.lo + shift, curve.hi + shift

    def f(acc: IntArray, ch: IntArray) -> IntArray:
        return curve(acc, rows[ch]) + shift

    every = np.arange(lo.size)
    constant = f(lo, every) == f(hi, every)
    steep = np.flatnonzero(~constant & (curve.multiplier[rows] * (1 + REACH) >= MAX_MULTIPLIER))
    if steep.size:
        c = rows[steep[0]]
        raise IntactError(f"channel {c}: scale ratio {curve.multiplier[c]:g} is above {MAX_MULTIPLIER * (1 - REACH):g}")
    codes = np.arange(low_code + 1, max(high_code, low_code + 1) + 1)
    steps = Steps(thresholds(f, lo, hi, codes), codes - z, lo, hi)
    solution = _solve(steps, curve.multiplier[rows], curve.offset[rows], curve.half_even, constant)
    _constants(solution, np.flatnonzero(constant), f(lo, every) - z)
    zero = np.zeros(lo.size, np.int64)
    rq = Requant(
        solution.bias, solution.m, solution.s, solution.r, solution.d, solution.even, zero, zero, z, low_code, high_code
    )
    left = differing(f, lo, hi, check(rq))
    rq = _use_exceptions(f, rq, left)
    if rq.exc_d.any():
        left = differing(f, lo, hi, check(rq))
    return FitResult(rq, left, int(np.count_nonzero(rq.exc_d)), int(np.count_nonzero(constant)))


def _use_exceptions(f: Map, rq: Requant, left: list[IntArray]) -> Requant:
    """Spends each channel's exception on the first differing accumulator that is off by one."""
    exc_v, exc_d = np.zeros_like(rq.bias), np.zeros_like(rq.bias)
    for c, values in enumerate(left):
        if not values.size:
            continue
        channel = np.full(values.size, c)
        error = f(values, channel) - requantise_channels(values, rq, channel)
        v_low, v_high = signed(EXC_V_BITS)
        v = values + rq.bias[c]
        one = np.flatnonzero((np.abs(error) == 1) & (v >= v_low) & (v <= v_high))
        if one.size:
            exc_v[c], exc_d[c] = v[one[0]], error[one[0]]
    return replace(rq, exc_v=exc_v, exc_d=exc_d)


def _solve(
    steps: Steps,
    multiplier: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    half_even: bool,
    skip: BoolArray,
) -> Solution:
    """Tries tie rules and sign splits without an exception, then drops thresholds one at a time.

    skip: channels that need no search.
    """
    natural = _split(steps, np.ceil(-offset))
    rest = np.arange(natural.size)
    tries: list[tuple[int, IntArray]] = [(int(half_even), natural)]
    tries += [(1, split) for split in _binade_splits(steps, offset)] if half_even else []
    tries.append((1 - int(half_even), natural))
    best: Solution | None = None
    for even, split in tries:
        found = search(steps.pick(rest), split[rest], multiplier[rest], even)
        if best is None:
            best = found
            best.ok |= skip
        else:
            best.put(rest, found, found.ok)
        rest = np.flatnonzero(~best.ok)
        if not rest.size:
            return best
    assert best is not None
    for even, split in tries:
        if rest.size:
            found = _drop_one(steps.pick(rest), split[rest], multiplier[rest], even)
            best.put(rest, found, found.ok)
            rest = np.flatnonzero(~best.ok)
    if rest.size:
        found = _drop_many(steps.pick(rest), natural[rest], multiplier[rest], int(half_even))
        best.put(rest, found, np.ones(rest.size, bool))
    return best


def _split(steps: Steps, split: npt.NDArray[np.float64]) -> IntArray:
    """Nearest sign split that keeps v = acc - split in int32."""
    return np.clip(split, steps.hi - INT32[1], steps.lo - INT32[0]).astype(np.int64)


def _binade_splits(steps: Steps, offset: npt.NDArray[np.float64]) -> list[IntArray]:
    """Splits at the top float32 binades in use: acc + bias is rounded differently on either side (Eq. 22)."""
    inner = (steps.t > steps.lo[:, None]) & (steps.t <= steps.hi[:, None])
    v = np.where(inner, steps.t + offset[:, None], 0)
    splits = []
    for back in (0, 1, 2):
        for sign, top in ((1, v.max(1)), (-1, -v.min(1))):
            edge = np.exp2(np.floor(np.log2(np.maximum(top, 4))) - back)
            splits.append(_split(steps, np.ceil(sign * edge - offset)))
    return splits


def _drop_one(steps: Steps, split: IntArray, multiplier: npt.NDArray[np.float64], even: int) -> Solution:
    """Searches again without each of the constraints that stand in the way, one at a time."""
    best = search(steps, split, multiplier, even)
    active = best.active.copy()
    for slot in range(4):
        rest = np.flatnonzero(~best.ok & (active[:, slot, 0] >= 0))
        if not rest.size:
            continue
        loosen = np.zeros((4, rest.size, steps.level.size), np.int64)
        loosen[active[rest, slot, 0], np.arange(rest.size), active[rest, slot, 1]] = 1
        found = search(steps.pick(rest), split[rest], multiplier[rest], even, loosen)
        best.put(rest, found, found.ok)
    return best


def _drop_many(steps: Steps, split: IntArray, multiplier: npt.NDArray[np.float64], even: int) -> Solution:
    """Drops the constraint that opens the gap most, again and again; leaves few differing accumulators, not fewest."""
    best = search(steps, split, multiplier, even)
    loosen = np.zeros((4, split.size, steps.level.size), np.int64)
    for _ in range(24):
        rest = np.flatnonzero(~best.ok)
        if not rest.size:
            break
        step: Solution | None = None
        chosen = np.zeros(rest.size, np.int64)
        for slot in range(4):
            trial = loosen[:, rest].copy()
            kind, index = best.active[rest, slot, 0], best.active[rest, slot, 1]
            trial[kind, np.arange(rest.size), index] += kind >= 0
            found = search(steps.pick(rest), split[rest], multiplier[rest], even, trial)
            if step is None:
                step = found
                continue
            better = found.gap > step.gap
            chosen[better] = slot
            step.put(np.arange(rest.size), found, better)
        assert step is not None
        kind = best.active[rest, chosen, 0]
        loosen[kind, rest, best.active[rest, chosen, 1]] += kind >= 0
        best.put(rest, step, np.ones(rest.size, bool))
    return best


def _constants(solution: Solution, rows: IntArray, y: IntArray) -> None:
    """Channels whose code never changes, Eq. 23: m = 0, and r alone gives the code y[rows] above the zero point."""
    solution.bias[rows], solution.m[rows], solution.s[rows] = 0, 0, FRACTION
    solution.r[rows] = (y[rows] << FRACTION) + HALF
    solution.d[rows] = solution.even[rows] = 0
