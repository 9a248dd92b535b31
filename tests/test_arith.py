"""The requantiser's integer form: vectors worked out by hand, ties, extremes, saturation; properties of Eq. 1 to 9."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexport.arith import (
    D_BITS,
    EXC_V_BITS,
    FRACTION,
    HALF,
    R_BITS,
    Requant,
    bit_length,
    check,
    requantise,
    signed,
    tie_window,
)
from pyexport.errors import IntactError
from pyexport.fit import join

ONE = 1 << FRACTION


def requant(**fields: Any) -> Requant:
    """One channel, by default the identity rounded half up: m = 2^30, s = 30."""
    values = {"bias": 0, "m": 1 << 30, "s": 30, "r": HALF, "d": 0, "even": 0, "exc_v": 0, "exc_d": 0} | fields
    arrays = {k: np.array([v], np.int64) for k, v in values.items() if k not in ("z", "lo", "hi")}
    return Requant(**arrays, z=fields.get("z", 0), lo=fields.get("lo", -128), hi=fields.get("hi", 127))


def codes(rq: Requant, *acc: int) -> list[int]:
    """Codes of single accumulators on channel 0."""
    result: list[int] = requantise(np.array(acc, np.int64)[:, None], rq)[:, 0].tolist()
    return result


def test_identity_and_clamp() -> None:
    assert codes(requant(), -300, -128, -1, 0, 1, 127, 300) == [-128, -128, -1, 0, 1, 127, 127]
    assert codes(requant(z=-10, lo=-10, hi=20), -5, 0, 5, 30, 31) == [-10, -10, -5, 20, 20]
    assert codes(requant(bias=3), 4) == [7]


def test_half_up_and_half_even() -> None:
    """Scale one half: odd accumulators are ties."""
    assert codes(requant(s=31), -3, -1, 1, 3, 5) == [-1, 0, 1, 2, 3]
    assert codes(requant(s=31, even=1), -3, -1, 1, 3, 5) == [-2, 0, 0, 2, 2]


def test_sign_split_gives_ties_away_from_zero() -> None:
    """r one half, and one unit less for negative v: negative ties round down."""
    assert codes(requant(s=31, d=-1), -3, -2, -1, 1, 3) == [-2, -1, -1, 1, 2]


def test_tie_window_widens_with_the_code() -> None:
    """Near code 100.5 a float32 step is 2^-17: 64 units of 2^-24 to either side count as a tie, 65 do not."""
    assert tie_window(np.array([0, 1, 2, 3, 127, 128, 255, -1, -2, -3, -128, -129])).tolist() == [
        0, 1, 2, 2, 64, 128, 128, 0, 1, 2, 64, 128,
    ]  # fmt: skip
    for units, code in ((-65, 100), (-64, 100), (0, 100), (64, 100), (65, 101)):
        assert codes(requant(m=0, r=101 * ONE + units, even=1), 0) == [code]
    for units, code in ((-65, 101), (-64, 102), (64, 102)):
        assert codes(requant(m=0, r=102 * ONE + units, even=1), 0) == [code]


def test_bits_below_u_break_a_tie_on_the_window_edge() -> None:
    """u ends exactly on the window's edge: the product's dropped bits decide whether the value lies outside."""
    inside = requant(m=1 << 6, s=FRACTION + 6, r=101 * ONE + 63, even=1)
    outside = replace(inside, m=inside.m + 1)
    assert codes(inside, 1) == [100]
    assert codes(outside, 1) == [101]


def test_exception_applies_to_one_accumulator() -> None:
    rq = requant(bias=5, exc_v=12, exc_d=-1)
    assert codes(rq, 6, 7, 8) == [11, 11, 13]
    assert codes(requant(exc_v=127, exc_d=1), 127) == [127]


def test_saturation_never_wraps() -> None:
    """The largest product at the smallest shift, both signs, with every offset pushing the same way."""
    high, low = (1 << 31) - 1, -(1 << 31)
    _, r = signed(R_BITS)
    for even in (0, 1):
        top = requant(m=high, s=FRACTION, r=r, even=even, z=-128)
        bottom = requant(m=high, s=FRACTION, r=-r - 1, d=-(1 << (D_BITS - 1)), even=even, z=127)
        assert codes(top, high) == [127]
        assert codes(bottom, low) == [-128]


def test_accumulator_that_leaves_int32_is_refused() -> None:
    with pytest.raises(IntactError, match=r"channel 0: accumulator \+ bias = 2147483648"):
        codes(requant(bias=1), (1 << 31) - 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("m", 1 << 31), ("m", -1), ("s", 23), ("s", 64), ("r", 1 << (R_BITS - 1)), ("d", -(1 << (D_BITS - 1)) - 1),
        ("bias", 1 << 31), ("even", 2), ("exc_d", 2), ("exc_v", 1 << (EXC_V_BITS - 1)),
    ],
)  # fmt: skip
def test_check_names_field_and_channel(field: str, value: int) -> None:
    with pytest.raises(IntactError, match=f"channel 0: requantiser {field}"):
        check(requant(**{field: value}))


def test_check_looks_at_the_clamp() -> None:
    assert check(requant()).m[0] == 1 << 30
    with pytest.raises(IntactError, match="clamp"):
        check(requant(lo=5, hi=4))


def test_channels_are_independent() -> None:
    """Arrays of shape (rows, columns, channels) use each channel's own constants."""
    one, two = requant(), requant(s=31, even=1, bias=1)
    both = join([one, two])
    acc = np.arange(-6, 6).reshape(2, 3, 2)
    got = requantise(acc, both)
    assert got[..., 0].ravel().tolist() == codes(one, *acc[..., 0].ravel())
    assert got[..., 1].ravel().tolist() == codes(two, *acc[..., 1].ravel())


@given(st.integers(0, 2**50))
def test_bit_length(value: int) -> None:
    assert bit_length(np.array([value]))[0] == value.bit_length()


def reference(acc: int, rq: Requant) -> int:
    """Eq. 1 to 9 as one real number and Python integers, with no intermediate floor."""
    field = {n: int(getattr(rq, n)[0]) for n in ("bias", "m", "s", "r", "d", "even", "exc_v", "exc_d")}
    v = acc + field["bias"]
    offset = field["r"] + (field["d"] if v < 0 else 0)
    real = Fraction(v * field["m"], 1 << field["s"]) + Fraction(offset, ONE)
    real = max(Fraction(-512), min(Fraction(512) - Fraction(1, ONE), real))
    y = floor(real)
    if field["even"] and y % 2:
        magnitude = y if y >= 0 else -y - 1
        window = Fraction((1 << magnitude.bit_length()) >> 1, ONE)
        if real - y <= window:
            y -= 1
        elif y + 1 - real <= window:
            y += 1
    if field["exc_d"] and v == field["exc_v"]:
        y += field["exc_d"]
    return max(rq.lo, min(rq.hi, y + rq.z))


fields = st.fixed_dictionaries(
    {
        "bias": st.integers(-(2**20), 2**20),
        "m": st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([1 << i for i in range(31)])),
        "s": st.integers(24, 63),
        "r": st.one_of(st.integers(*signed(R_BITS)), st.integers(-200, 200).map(lambda i: i * HALF)),
        "d": st.one_of(st.just(0), st.integers(*signed(D_BITS))),
        "even": st.integers(0, 1),
        "exc_v": st.integers(-50, 50),
        "exc_d": st.integers(-1, 1),
        "z": st.integers(-128, 127),
    }
)


@given(fields, st.one_of(st.integers(-(2**26), 2**26), st.integers(-60, 60)))
def test_equals_one_floor_of_the_real_value(values: dict[str, int], acc: int) -> None:
    """Nested floors collapse: the integer pipeline is one floor of the exact rational."""
    rq = requant(**values)
    assert codes(rq, acc) == [reference(acc, rq)]


@given(fields, st.lists(st.integers(-(2**26), 2**26), min_size=2, max_size=20))
def test_monotone_on_each_sign(values: dict[str, int], accs: list[int]) -> None:
    """Without the exception the code never falls as v grows, on v < 0 and on v >= 0 (what the proof relies on)."""
    rq = requant(**(values | {"exc_d": 0}))
    for side in (True, False):
        got = codes(rq, *sorted(a for a in accs if (a + values["bias"] < 0) == side))
        assert got == sorted(got)
