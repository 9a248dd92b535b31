"""Thresholds of a runtime's formula, and the proof that constants reproduce it on every reachable accumulator.

Neither function looks at how the constants were found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.arith import INT32, IntArray, Requant, requantise_channels

Map = Callable[[IntArray, IntArray], IntArray]


def thresholds(f: Map, lo: IntArray, hi: IntArray, codes: IntArray) -> IntArray:
    """(C, n): the smallest accumulator in lo .. hi with f >= codes[i], hi + 1 where there is none (Eq. 20).

    f(acc, channel) must be monotone on lo .. hi.  lo, hi: (C,); a channel with lo > hi gives hi + 1 throughout.
    """
    channel = np.arange(lo.size)[:, None]
    first = np.repeat(np.minimum(lo, hi + 1)[:, None], codes.size, 1)
    last = np.repeat((hi + 1)[:, None], codes.size, 1)
    for _ in range(int((hi - lo).max(initial=0) + 1).bit_length() + 1):
        middle = (first + last) >> 1
        open_ = first < last
        if not open_.any():
            break
        # a closed interval may sit at hi + 1, out of reach
        reached = f(np.minimum(middle, np.maximum(hi, np.minimum(lo, hi + 1))[:, None]), channel) >= codes
        last = np.where(open_ & reached, middle, last)
        first = np.where(open_ & ~reached, middle + 1, first)
    return last


def differing(f: Map, lo: IntArray, hi: IntArray, rq: Requant) -> list[IntArray]:
    """For each channel the accumulators in lo .. hi where the hardware's code is not f's: empty means proved equal.

    Without the exception the hardware is monotone on v < 0 and on v >= 0 (Eq. 24), and f is monotone, so on each piece
    two staircases are compared: equal at every step and just before it means equal everywhere.
    """
    codes = np.arange(rq.lo + 1, rq.hi + 1)
    split = -rq.bias
    found: list[list[IntArray]] = [[] for _ in range(lo.size)]

    for side in (0, 1):
        low = np.maximum(lo, split) if side == 0 else lo
        high = hi if side == 0 else np.minimum(hi, split - 1)
        rows = np.flatnonzero(low <= high)
        if not rows.size:
            continue
        want = thresholds(_rows(f, rows), low[rows], high[rows], codes)
        hardware = _rows(lambda acc, ch: requantise_channels(acc, rq, ch, exception=False), rows)
        channel = np.arange(rows.size)[:, None]
        at = np.minimum(want, high[rows][:, None])
        before = np.maximum(want - 1, low[rows][:, None])
        wrong = (want <= high[rows][:, None]) & (hardware(at, channel) < codes)
        wrong |= (want > low[rows][:, None]) & (hardware(before, channel) >= codes)
        bad = np.flatnonzero(wrong.any(axis=1))
        if not bad.size:
            continue
        have = thresholds(_rows(hardware, bad), low[rows][bad], high[rows][bad], codes)
        for i, row in enumerate(bad):
            for a, b in zip(want[row], have[i], strict=True):
                if a != b:
                    found[rows[row]].append(np.arange(min(a, b), max(a, b)))
    result = [np.unique(np.concatenate(part)) if part else np.zeros(0, np.int64) for part in found]
    return _with_exceptions(f, lo, hi, rq, result)


def _rows(f: Map, rows: IntArray) -> Map:
    return lambda acc, ch: f(acc, rows[ch])


def _with_exceptions(f: Map, lo: IntArray, hi: IntArray, rq: Requant, result: list[IntArray]) -> list[IntArray]:
    """Looks at each channel's exception value itself: it may heal that accumulator, or break it."""
    acc = rq.exc_v - rq.bias
    used = np.flatnonzero((rq.exc_d != 0) & (acc >= lo) & (acc <= hi) & (rq.exc_v >= INT32[0]))
    equal = f(acc[used], used) == requantise_channels(acc[used], rq, used)
    for c, same in zip(used, equal, strict=True):
        result[c] = np.setdiff1d(result[c], acc[c]) if same else np.union1d(result[c], acc[c])
    return result
