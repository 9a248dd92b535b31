"""The search for one channel's m, r and d: an integer feasibility problem, for many channels at once (Eq. 20 to 23)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyexport.arith import D_BITS, FRACTION, HALF, M_BITS, MAX_SHIFT, R_BITS, IntArray, signed, tie_window

BoolArray = npt.NDArray[np.bool_]
FREE = 1 << 61  # stands for "no constraint"; every real bound is below 2^43
REACH = 2.0**-7  # how far m is searched around the multiplier, relative; thresholds leave far less


@dataclass(frozen=True)
class Steps:
    """Staircase of each channel: t[c, i] is the smallest accumulator whose code is at least level[i] + z.

    t: (C, n), in lo .. hi + 1, never decreasing along a row.  level: (n,) consecutive.  lo, hi: (C,) reachable range.
    """

    t: IntArray
    level: IntArray
    lo: IntArray
    hi: IntArray

    def pick(self, rows: IntArray) -> Steps:
        return Steps(self.t[rows], self.level, self.lo[rows], self.hi[rows])


@dataclass
class Solution:
    """Constants per channel, (C,) each, and where the search ended.

    gap: width left for r at the best m; the constants meet every constraint where ok.
    active: (C, 4, 2) pairs (constraint kind, level index) that bound the gap on both sides of the best m, -1 for none.
    """

    bias: IntArray
    m: IntArray
    s: IntArray
    r: IntArray
    d: IntArray
    even: IntArray
    ok: BoolArray
    gap: IntArray
    active: IntArray

    def put(self, rows: IntArray, other: Solution, mask: BoolArray) -> None:
        """Takes other's channels where mask holds into self's rows."""
        for name in ("bias", "m", "s", "r", "d", "even", "ok", "gap", "active"):
            getattr(self, name)[rows[mask]] = getattr(other, name)[mask]


@dataclass(frozen=True)
class _Piece:
    """Constraints of one sign of v: lower bounds at v_low, upper bounds at v_high, each (C, n) with a mask."""

    v_low: IntArray
    v_high: IntArray
    has_low: BoolArray
    has_high: BoolArray


def _pieces(steps: Steps, split: IntArray, loosen: IntArray | None) -> list[_Piece]:
    """The two monotone pieces v >= 0 and v < 0, v = acc - split; a piece's ends constrain it like thresholds.

    loosen: (4, C, n), for each kind of constraint by how many accumulators it is moved away (dropped values).
    """
    pieces = []
    for side in (0, 1):
        low = np.maximum(steps.lo, split) if side == 0 else steps.lo
        high = steps.hi if side == 0 else np.minimum(steps.hi, split - 1)
        some = (low <= high)[:, None]
        t = np.clip(steps.t, low[:, None], (high + 1)[:, None])
        at_low, at_high = t, t - 1
        has_low, has_high = (t <= high[:, None]) & some, (t > low[:, None]) & some
        if loosen is not None:
            at_low, at_high = at_low + loosen[2 * side], at_high - loosen[2 * side + 1]
            has_low &= at_low <= high[:, None]
            has_high &= at_high >= low[:, None]
        pieces.append(_Piece(at_low - split[:, None], at_high - split[:, None], has_low, has_high))
    return pieces


def search(
    steps: Steps, split: IntArray, multiplier: npt.NDArray[np.float64], even: int, loosen: IntArray | None = None
) -> Solution:
    """Finds m by bisection on the slope of the gap, a concave function of m, and r, d in the gap.

    split: (C,) accumulator where v changes sign, bias = -split.  multiplier: (C,) > 0, where the search starts.
    """
    count, rows = len(split), np.arange(len(split))
    s = np.clip(M_BITS - 1 - np.floor(np.log2(multiplier * (1 + REACH))), FRACTION, FRACTION + MAX_SHIFT)
    s = s.astype(np.int64)
    scaled = np.minimum(np.ldexp(multiplier, s), 2.0**M_BITS - 1)
    first = np.floor(scaled * (1 - REACH)).astype(np.int64)
    last = np.minimum(np.ceil(scaled * (1 + REACH)).astype(np.int64) + 1, (1 << M_BITS) - 1)
    m = np.rint(scaled).astype(np.int64)
    shift = (s - FRACTION)[:, None]
    window = tie_window((steps.level - 1) | 1) if even else np.zeros_like(steps.level)
    pieces = _pieces(steps, split, loosen)

    zeros = np.zeros(count, np.int64)
    best = Solution(
        bias=-split, m=m.copy(), s=s, r=zeros.copy(), d=zeros.copy(), even=np.full(count, even), ok=zeros > 0,
        gap=np.full(count, -FREE), active=np.full((count, 4, 2), -1),
    )  # fmt: skip
    live = rows
    for _ in range(M_BITS + 4):
        gap, slope = np.full(live.size, FREE), np.zeros(live.size, np.int64)
        active, bounds = np.full((live.size, 2, 2), -1), []
        for side, piece in enumerate(pieces):
            low, high, at_low, at_high = _bounds(piece, live, m[live], shift[live], steps.level, window, even)
            bounds += [low, high]
            own = high - low
            both = (low > -FREE // 4) & (high < FREE // 4)
            pick = np.arange(live.size)
            tilt = np.where(both, piece.v_low[live, at_low] - piece.v_high[live, at_high], 0)
            worse = own < gap
            gap, slope = np.where(worse, own, gap), np.where(worse, tilt, slope)
            pair = np.stack([np.stack([np.full(live.size, 2 * side), at_low], 1),
                             np.stack([np.full(live.size, 2 * side + 1), at_high], 1)], 1)  # fmt: skip
            active[pick[worse]] = pair[worse]
        r, d, fits = _offsets(*bounds)
        better = gap > best.gap[live]
        rows_b = live[better]
        best.gap[rows_b], best.m[rows_b] = gap[better], m[rows_b]
        best.r[rows_b], best.d[rows_b] = r[better], d[better]
        best.ok[rows_b] = (gap >= 0)[better] & fits[better]
        half = np.where(slope > 0, 0, 2)
        for j in (0, 1):
            best.active[live, half + j] = active[:, j]
        up, down = slope > 0, slope < 0
        first[live[up]], last[live[down]] = m[live[up]] + 1, m[live[down]] - 1
        go = (gap < 0) & (up | down) & (first[live] <= last[live])
        live = live[go]
        if not live.size:
            break
        m[live] = (first[live] + last[live]) >> 1
    return best


def _bounds(
    piece: _Piece, live: IntArray, m: IntArray, shift: IntArray, level: IntArray, window: IntArray, even: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Largest lower and smallest upper bound on the offset for given m (Eq. 21), and the level index of each."""
    rows = np.arange(live.size)
    base = level << FRACTION
    odd = level & 1
    p_low, p_high = piece.v_low[live] * m[:, None], piece.v_high[live] * m[:, None]
    low, high = -(p_low >> shift), -(p_high >> shift) - 1
    if even:
        # odd level: must pass base + window, strictly; even level: base - window is enough (Eq. 7)
        mask = (np.int64(1) << shift) - 1
        low += np.where(odd, base + window + ((p_low & mask) == 0), base - window)
        high += np.where(odd, base + window + ((p_high & mask) == 0), base - window)
    else:
        low, high = low + base, high + base
    low = np.where(piece.has_low[live], low, -FREE // 2)
    high = np.where(piece.has_high[live], high, FREE // 2)
    at_low, at_high = low.argmax(1), high.argmin(1)
    return low[rows, at_low], high[rows, at_high], at_low, at_high


def _offsets(low: IntArray, high: IntArray, low_n: IntArray, high_n: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
    """r and d inside the bounds for v >= 0 and v < 0; d = 0 where one offset serves both; fits: both widths hold."""
    common_low, common_high = np.maximum(low, low_n), np.minimum(high, high_n)
    common = common_low <= common_high
    middle = _middle(common_low, common_high)
    # disjoint bounds: the ends that face each other keep d small
    r = np.where(common, middle, np.where(low > high_n, low, high))
    negative = np.where(common, middle, np.where(low > high_n, high_n, low_n))
    d = negative - r
    r_low, r_high = signed(R_BITS)
    d_low, d_high = signed(D_BITS)
    fits = (r >= r_low) & (r <= r_high) & (d >= d_low) & (d <= d_high)
    return np.clip(r, r_low, r_high), np.clip(d, d_low, d_high), fits


def _middle(low: IntArray, high: IntArray) -> IntArray:
    """Middle of an interval; where one end is free, the value nearest one half."""
    inside = (low + high) >> 1
    nearest = np.clip(HALF, low, np.maximum(low, high))
    return np.where((low > -FREE // 4) & (high < FREE // 4), inside, nearest)
