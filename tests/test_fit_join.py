"""A tensor added to a layer before it is rounded: every pair of accumulator and code, by brute force in rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pyexport.arith import requantise_channels
from pyexport.errors import IntactError
from pyexport.fit_join import RANGE, Sum, fit_join


def code(given: Sum, channel: int, acc: int, other: int) -> int:
    """The real sum, rounded once, half to even."""
    real = given.step[channel] * acc + given.bias[channel] + given.other_step * other
    return min(max(round(real / given.sy) + given.zy, given.lo), given.hi)


def drawn(seed: int, power: bool) -> Sum:
    """Three channels with few accumulators. power: scales that are powers of two, whose sums meet exact ties."""
    rng = np.random.default_rng(seed)

    def scale(low: float, high: float) -> Fraction:
        value = np.exp(rng.uniform(np.log(low), np.log(high)))
        return Fraction(float(np.float32(2.0 ** np.rint(np.log2(value)) if power else value)))

    weight = rng.integers(1, 128, 3)
    span = rng.integers(30, 120, 3)
    bias = rng.normal(size=3) * 4
    return Sum(
        step=[scale(2e-2, 0.5) for _ in range(3)],
        bias=[Fraction(float(np.float32(np.rint(b * 8) / 8 if power else b))) for b in bias],
        other_step=scale(5e-3, 0.5),
        sy=scale(1e-2, 0.5),
        acc_lo=-span,
        acc_hi=span + rng.integers(0, 9, 3),
        weight=weight,
        other=((-128, 127), (0, 90), (-3, 20))[seed % 3],
        zy=int(rng.integers(0, 256)),
        lo=int(rng.integers(0, 3)),
        hi=255,
    )


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_pair(seed: int, power: bool) -> None:
    """The hardware's codes on all pairs; those that differ are the ones that the fit says, and they are few."""
    given = drawn(seed, power)
    found = fit_join(given, -128)
    wrong = total = 0
    for c, (a, b) in enumerate(found.factors.tolist()):
        accs = np.arange(given.acc_lo[c], given.acc_hi[c] + 1)
        others = np.arange(given.other[0], given.other[1] + 1)
        v = a * accs[:, None] + b * others[None, :]
        assert (v.min(), v.max()) == (found.low[c], found.high[c]) and v.max() - v.min() <= RANGE
        ours = requantise_channels(v, found.requant, np.array(c)) + 128
        theirs = np.array([[code(given, c, int(acc), int(other)) for other in others] for acc in accs])
        different = ours != theirs
        assert np.abs(ours - theirs).max(initial=0) <= 1
        assert np.array_equal(np.unique(v[different]), found.differing[c])
        wrong, total = wrong + int(different.sum()), total + v.size
        assert len(np.unique(theirs)) > 20
    assert found.pairs == (wrong, total)
    assert wrong == 0 if power else wrong * 10_000 <= total


def test_counts_what_few_bits_get_wrong() -> None:
    """Sums so wide that A stays small: pairs differ, and each of them is counted."""
    wide = Sum([Fraction(1, 9973)], [Fraction(1, 7)], Fraction(2, 7), Fraction(1, 3), np.array([-300]), np.array([300]),
               np.array([3_000_000]), (-9, 9), 0, -128, 127)  # fmt: skip
    found = fit_join(wide, 0)
    (a, b), wrong = found.factors[0].tolist(), 0
    assert a <= 2
    for acc in range(-300, 301):
        for other in range(-9, 10):
            ours = int(requantise_channels(np.array([a * acc + b * other]), found.requant, np.array(0))[0])
            wrong += ours != code(wide, 0, acc, other)
    assert found.pairs == (wrong, 601 * 19)


def test_scales_that_no_weights_hold() -> None:
    drowned = Sum([Fraction(1, 10**9)], [Fraction(0)], Fraction(1), Fraction(1), np.array([-9]), np.array([9]),
                  np.array([1]), (0, 255), 0, 0, 255)  # fmt: skip
    with pytest.raises(IntactError, match=r"channel 0: one code of the tensor that is added is 1e\+09 accumulator"):
        fit_join(drowned, -128)
