"""Residual add: integer factors for both operands and one requantise, proved on all 65,536 pairs of codes (Eq. 34).

    v = (a - za) * pa + (b - zb) * pb,   code = requantise(v)   (Eq. 1 to 9)

The array itself computes v: a factor is two int8 digits, p = 256 * p1 + p0, each a weight of its own. Where that is too
coarse (exact ties that the runtime's fixed point breaks either way) it is three digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyexport.arith import FRACTION, HALF, IntArray, Requant, check, requantise
from pyexport.errors import IntactError

LARGEST = {2: 127 * 256 + 127, 3: 1 << 22}  # by digits: all are int8, and v fits int32
SMALLEST = 4096  # factors below this leave too few steps between two pairs
TRIED = 100  # pairs of factors of either size, those that come closest to the ratio of the scales first
SAMPLED = 40_000  # factors of three digits that are looked at
LEAST_RATIO, MOST_RATIO = 2.0**-12, 2.0**6  # of an operand's scale to the sum's: the multiplier stays legal
SLOPES = 48  # steps of the search for the multiplier


@dataclass(frozen=True)
class AddFit:
    """factors: pa, pb.  requant: one channel.  differing: values of v whose code is not the table's (empty: proved)."""

    factors: tuple[int, int]
    requant: Requant
    differing: IntArray


def fit_add(table: IntArray, a: IntArray, b: IntArray, scales: tuple[float, float, float], z: int, sign: int) -> AddFit:
    """Factors and constants that reproduce `table`.

    table: on-chip codes, int64 (256, 256), [index of a's code, index of b's].  a, b: code - zero point of each index,
    int64 (256,).  scales: of a, b and the sum.  z: the sum's zero point on chip.  sign: 1 for a + b, -1 for a - b.
    Raises IntactError for scales of which one drowns the other.
    """
    ratios = scales[0] / scales[2], scales[1] / scales[2]
    if not LEAST_RATIO <= max(ratios) <= MOST_RATIO:
        raise IntactError(
            f"operand scales {scales[0]:g}, {scales[1]:g} with sum scale {scales[2]:g}: the larger ratio must lie in "
            f"{LEAST_RATIO:g}..{MOST_RATIO:g}; re-calibrate the model"
        )
    best: AddFit | None = None
    pairs = [*_factors(scales[0], scales[1], 2), *_rounded(scales), *_factors(scales[0], scales[1], 3)]
    for pa, pb in pairs:
        v = a[:, None] * pa + b[None, :] * (sign * pb)
        slope = scales[0] / scales[2] / pa if pa else scales[1] / scales[2] / pb
        requant, width = _constants(v, table, slope, z)
        if best is not None and width <= 0:
            continue
        # ties that go to even codes leave no room; at first only, for the nearest factors
        for one in [requant] if width > 0 else [requant, *_to_even(requant, slope)]:
            differing = np.unique(v[requantise(v[..., None], one)[..., 0] != table])
            if best is None or differing.size < best.differing.size:
                best = AddFit((pa, sign * pb), one, differing)
        if best is not None and not best.differing.size:
            break
    assert best is not None
    return best


def _factors(scale_a: float, scale_b: float, size: int) -> list[tuple[int, int]]:
    """Pairs (pa, pb) with pa / pb near scale_a / scale_b, the nearest first."""
    large, small = max(scale_a, scale_b), min(scale_a, scale_b)
    first = np.arange(max(SMALLEST, LARGEST[size] - SAMPLED), LARGEST[size] + 1)
    second = np.rint(first * (small / large)).astype(np.int64)
    error = np.abs(second / first - small / large)
    order = np.argsort(error * first, kind="stable")[:TRIED]
    pairs = [(int(first[i]), int(second[i])) for i in order]
    return pairs if scale_a >= scale_b else [(pb, pa) for pa, pb in pairs]


def _rounded(scales: tuple[float, float, float]) -> list[tuple[int, int]]:
    """Both operands' scale over the sum's, rounded to 21 and 22 bits: what a runtime's own fixed point may be."""
    a, b = float(np.float32(scales[0]) / np.float32(scales[2])), float(np.float32(scales[1]) / np.float32(scales[2]))
    exponent = int(np.floor(np.log2(max(a, b))))
    return [(int(np.rint(a * 2.0**shift)), int(np.rint(b * 2.0**shift))) for shift in (20 - exponent, 21 - exponent)]


def _constants(v: IntArray, table: IntArray, slope: float, z: int) -> tuple[Requant, float]:
    """The constants with most room at every threshold, and that room in codes (0 or less: some pair differs)."""
    values, codes = v.reshape(-1), table.reshape(-1)
    low, high = int(codes.min()), int(codes.max())
    largest = np.full(high - low + 1, np.iinfo(np.int64).min)
    smallest = np.full(high - low + 1, np.iinfo(np.int64).max)
    np.maximum.at(largest, codes - low, values)
    np.minimum.at(smallest, codes - low, values)
    below = np.maximum.accumulate(largest)[:-1]  # largest v with a code below k, for k = low + 1 .. high
    above = np.minimum.accumulate(smallest[::-1])[::-1][1:]  # smallest v with code k or more
    steps = np.arange(low + 1, high + 1) - z

    def offsets(multiplier: float) -> tuple[float, float, float]:
        """Room, offset for v >= 0 and for v < 0."""
        least, most = steps - multiplier * above, steps - multiplier * below
        rooms, middles = [], []
        for low_side, high_side in ((above >= 0, below >= 0), (above < 0, below < 0)):
            floor = least[low_side].max(initial=-np.inf)
            ceiling = most[high_side].min(initial=np.inf)
            rooms.append(ceiling - floor)
            # the middle, or a quarter of a code inside the only bound
            floor, ceiling = max(floor, min(0.25, ceiling - 0.5)), min(ceiling, max(0.75, floor + 0.5))
            middles.append((floor + ceiling) / 2)
        return min(rooms), middles[0], middles[1]

    left, right = slope * (1 - 2.0**-10), slope * (1 + 2.0**-10)
    for _ in range(SLOPES):  # the room is concave in the multiplier
        third = (right - left) / 3
        if offsets(left + third)[0] < offsets(right - third)[0]:
            left += third
        else:
            right -= third
    multiplier = (left + right) / 2
    shift = min(30 - int(np.floor(np.log2(multiplier))), 63)
    m = int(np.rint(multiplier * 2.0**shift))
    if m == 1 << 31:
        m, shift = m >> 1, shift - 1
    room, positive, negative = offsets(m / 2.0**shift)
    r = int(np.rint(positive * 2.0**FRACTION))
    d = int(np.clip(np.rint(negative * 2.0**FRACTION) - r, -(1 << 23), (1 << 23) - 1))
    zero = _one(0)
    requant = Requant(zero, _one(m), _one(shift), _one(r), _one(d), zero, zero, zero, z, low, high)
    return check(requant), room


def _one(value: int) -> IntArray:
    return np.array([value], np.int64)


def _to_even(requant: Requant, slope: float) -> list[Requant]:
    """The slope itself, half to even: as counted from the zero point, and from code 0."""
    shift = min(30 - int(np.floor(np.log2(slope))), 63)
    m = int(np.rint(slope * 2.0**shift))
    if m == 1 << 31:
        m, shift = m >> 1, shift - 1
    exact = replace(requant, m=_one(m), s=_one(shift), d=_one(0), even=_one(1))
    return [check(replace(exact, r=_one(HALF + (start << FRACTION)), z=requant.z - start)) for start in (0, requant.z)]


def spread(requant: Requant, channels: int) -> Requant:
    """One channel's constants for every channel of a layer."""

    def wide(values: IntArray) -> IntArray:
        return np.repeat(values, channels)

    return Requant(
        wide(requant.bias), wide(requant.m), wide(requant.s), wide(requant.r), wide(requant.d), wide(requant.even),
        wide(requant.exc_v), wide(requant.exc_d), requant.z, requant.lo, requant.hi,
    )  # fmt: skip


def digits(factors: tuple[int, int]) -> list[tuple[int, ...]]:
    """Each factor's int8 digits to base 256, highest first; both have as many, two or three."""
    count = 2 if max(map(abs, factors)) <= LARGEST[2] else 3
    found = []
    for factor in factors:
        parts: list[int] = []
        for _ in range(count):
            low = ((factor + 128) & 255) - 128
            parts.insert(0, low)
            factor = (factor - low) >> 8
        found.append(tuple(parts))
    return found
