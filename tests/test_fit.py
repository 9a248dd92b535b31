"""The fit and its proof: against brute force on every accumulator of small ranges, and with constants made wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport.arith import HALF, Requant, check, requantise, requantise_channels
from pyexport.errors import IntactError
from pyexport.fit import BATCH, accumulator_bounds, fit
from pyexport.proof import differing, thresholds
from pyexport.runtimes import LAYERS, POOLS, Curve, Layer, layer_curve, pool_curve

f32 = np.float32
IntArray = npt.NDArray[np.int64]


def random_layer(rng: np.random.Generator, count: int, exponent: tuple[float, float], z: int = -128) -> Layer:
    """Scales whose ratio M lies in 2^exponent, float biases of some ten codes."""
    ratio = 2.0 ** rng.uniform(*exponent, count)
    sx, sy = f32(rng.uniform(0.01, 0.03)), f32(rng.uniform(0.03, 0.06))
    bias = (rng.normal(size=count) * 20 * sy).astype(f32).astype(np.float64)
    return Layer(sx, (ratio * sy / sx).astype(f32), sy, z, -128, 127, bias)


def brute(curve: Curve, rq: Requant, lo: IntArray, hi: IntArray, shift: int = 0) -> list[list[int]]:
    """Every accumulator, one by one."""
    result = []
    for c in range(lo.size):
        acc = np.arange(lo[c], hi[c] + 1)
        channel = np.full(acc.size, c)
        wrong = curve(acc, channel) + shift != requantise_channels(acc, rq, channel)
        result.append(acc[wrong].tolist())
    return result


@pytest.mark.parametrize("name", LAYERS)
def test_fit_equals_runtime_on_every_accumulator(name: str) -> None:
    """M from 2^-9 to 1, both output zero points; the proof's verdict is what brute force finds."""
    rng = np.random.default_rng(11)
    for z in (-128, 7):
        curve = layer_curve(name, random_layer(rng, 24, (-9, 0), z))
        hi = rng.integers(1, 40_000, 24)
        lo = -rng.integers(0, 40_000, 24)
        result = fit(curve, lo, hi)
        assert [d.tolist() for d in result.differing] == brute(curve, result.requant, lo, hi)
        assert result.exact


@pytest.mark.parametrize("name", ["ort", "qnnpack", "tflite-xnnpack", "exact", "tflite-ref", "tflite-ruy"])
def test_integer_bias_runtimes_need_no_exception(name: str) -> None:
    """M down to 2^-14 and accumulators of 1,152 taps: the tie window and the sign split are enough."""
    curve = layer_curve(name, random_layer(np.random.default_rng(5), 96, (-14, 0)))
    bound = np.full(96, 1152 * 127 * 255)
    result = fit(curve, -bound, bound)
    assert result.exact and result.exceptions == 0


@pytest.mark.parametrize("z", [-128, 0])
def test_fbgemm_is_exact_down_to_2_to_minus_12(z: int) -> None:
    curve = layer_curve("fbgemm", random_layer(np.random.default_rng(6), 500, (-12, 0), z))
    bound = np.full(500, 1152 * 127 * 255)
    result = fit(curve, -bound, bound)
    assert result.exact and result.exceptions <= 10


def test_power_of_two_scales_use_the_tie_rule() -> None:
    """Exact ties alternate between up and down; only the even bit can follow."""
    ratio = np.exp2(-np.arange(1, 13.0)).astype(f32)
    layer = Layer(f32(1), ratio, f32(1), 0, -128, 127)
    bound = np.full(12, 1 << 22)
    for name in ("ort", "fbgemm", "exact"):
        result = fit(layer_curve(name, layer), -bound, bound)
        assert result.exact and result.exceptions == 0 and (result.requant.even == 1).all()


def test_uint8_codes_move_to_int8() -> None:
    layer = replace(random_layer(np.random.default_rng(1), 40, (-8, -1)), zy=100, lo=100, hi=255)
    curve = layer_curve("fbgemm", layer)
    bound = np.full(40, 9000)
    result = fit(curve, -bound, bound, shift=-128)
    assert result.exact and (result.requant.z, result.requant.lo, result.requant.hi) == (-28, -28, 127)
    assert brute(curve, result.requant, -bound, bound, -128) == [[]] * 40


@pytest.mark.parametrize("bias", [0.0, 2.0, 100.0, 10_000.0, 1e30, -10_000.0])
@pytest.mark.parametrize("name", LAYERS)
def test_all_zero_channel(name: str, bias: float) -> None:
    """Weight scale float32 epsilon: the bias in accumulator units leaves int32, r alone gives the code."""
    for z in (-128, 0, 127):
        layer = Layer(f32(0.03), np.array([np.finfo(f32).eps], f32), f32(0.05), z, -128, 127, np.array([bias]))
        zero = np.zeros(1, np.int64)
        curve = layer_curve(name, layer)
        result = fit(curve, zero, zero)
        assert result.exact and result.constant == 1 and result.requant.m[0] == 0
        code = requantise(zero, result.requant)[0]
        if not name.startswith("tflite-r"):  # fixed-point TFLite multiplies an int32 bias by 2^-31 or less
            assert abs(code - np.clip(z + bias / 0.05, -128, 127)) <= 1


def test_saturated_channel_with_huge_bias() -> None:
    """A live channel whose bias pushes every accumulator past the clamp."""
    layer = Layer(f32(0.03), np.array([1e-6, 1e-6], f32), f32(0.05), 0, -128, 127, np.array([1e6, -1e6]))
    bound = np.full(2, 1 << 25)
    result = fit(layer_curve("fbgemm", layer), -bound, bound)
    assert result.exact and requantise(bound, result.requant).tolist() == [127, -128]


@pytest.mark.parametrize("exponent", [-30, -26, -22, -18])
def test_tiny_multipliers(exponent: int) -> None:
    """M far below 2^-14, where one unit of r is a large part of an accumulator: legal constants, an honest list."""
    layer = replace(random_layer(np.random.default_rng(3), 16, (exponent, exponent + 1), 5), bias=None)
    bound = np.full(16, 1 << 27)
    curve = layer_curve("exact", layer)
    result = fit(curve, -bound, bound)
    check(result.requant)
    assert result.exact or exponent > -26
    for c, acc in enumerate(result.differing):
        channel = np.full(acc.size, c)
        error = curve(acc, channel) - requantise_channels(acc, result.requant, channel)
        assert (np.abs(error) == 1).all()


def test_multipliers_of_one_and_more() -> None:
    """Every ratio from 1 to 100; codes are skipped, so one accumulator may pass several thresholds."""
    layer = random_layer(np.random.default_rng(4), 64, (0, 6.6), -3)
    bound = np.full(64, 5000)
    for name in ("fbgemm", "ort", "exact", "qnnpack"):
        curve = layer_curve(name, layer)
        result = fit(curve, -bound, bound)
        assert result.exact
        assert brute(curve, result.requant, -bound, bound) == [[]] * 64


def test_steep_channel_is_refused_by_name() -> None:
    layer = Layer(f32(1), np.array([0.5, 200], f32), f32(1), 0, -128, 127)
    bound = np.full(2, 100)
    with pytest.raises(IntactError, match=r"channel 1: scale ratio 200 is above"):
        fit(layer_curve("ort", layer), -bound, bound)
    with pytest.raises(IntactError, match="channel 0: no bias brings accumulators"):
        fit(layer_curve("ort", layer), bound, -bound)


def test_one_code_clamp() -> None:
    layer = Layer(f32(0.1), np.array([0.1], f32), f32(0.1), 5, 5, 5)
    result = fit(layer_curve("ort", layer), np.array([-99]), np.array([99]))
    assert result.exact and requantise(np.array([[-99], [99]]), result.requant).ravel().tolist() == [5, 5]


def test_exception_heals_one_accumulator_and_the_rest_is_listed() -> None:
    """A runtime with one, two or four wrong values on top of a clean staircase."""
    lo, hi = np.full(3, -600), np.full(3, 600)
    odd = [[37], [-90, 111], [-200, -91, 14, 333]]

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        acc, ch = np.broadcast_arrays(acc, ch)
        code = np.floor(acc / 8 + 0.5).astype(np.int64)
        for c, values in enumerate(odd):
            for value in values:  # one accumulator before the step: the step comes early, still monotone
                step = -(-value // 8) * 8 + 4
                code = np.where((ch == c) & (acc == step - 1), code + 1, code)
        return np.clip(code, -128, 127)

    # two steps moved early by one of eight accumulators cannot be one slope and an offset if the others are exact
    curve = Curve("staircase", evaluate, np.full(3, 1 / 8), np.zeros(3), 0, -128, 127, False)
    result = fit(curve, lo, hi)
    assert [d.tolist() for d in result.differing] == brute(curve, result.requant, lo, hi)
    assert result.differing[0].size == 0 and sum(d.size for d in result.differing) <= 4
    for acc, ch in ((np.arange(-600, 601), c) for c in range(3)):
        channel = np.full(acc.size, ch)
        error = curve(acc, channel) - requantise_channels(acc, result.requant, channel)
        assert np.abs(error).max() <= 1


WRONG: dict[str, Callable[[Requant], Requant]] = {
    "r": lambda rq: replace(rq, r=rq.r + (1 << 20)),
    "m": lambda rq: replace(rq, m=rq.m - (1 << 19)),
    "bias": lambda rq: replace(rq, bias=rq.bias + 1),
    "d": lambda rq: replace(rq, d=rq.d - HALF // 2),
    "even": lambda rq: replace(rq, even=1 - rq.even, r=rq.r + 3),
    "exception": lambda rq: replace(rq, exc_v=rq.bias + 17, exc_d=np.ones_like(rq.exc_d)),
    "exception out of reach": lambda rq: replace(rq, exc_v=rq.bias + 100_000, exc_d=np.ones_like(rq.exc_d)),
    "clamped exception": lambda rq: replace(rq, exc_v=rq.bias + 8999, exc_d=np.ones_like(rq.exc_d)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_proof_finds_wrong_constants(kind: str) -> None:
    """Constants changed on purpose: the proof lists exactly the accumulators that brute force finds."""
    curve = layer_curve("fbgemm", random_layer(np.random.default_rng(8), 12, (-5, -1), -20))
    bound = np.full(12, 9000)
    rq = WRONG[kind](fit(curve, -bound, bound).requant)
    found = [d.tolist() for d in differing(curve, -bound, bound, rq)]
    assert found == brute(curve, rq, -bound, bound)
    assert any(found) == (kind not in ("exception out of reach", "clamped exception", "even"))


fields = st.fixed_dictionaries(
    {
        "bias": st.integers(-300, 300), "m": st.integers(0, 2**31 - 1), "s": st.integers(24, 40),
        "r": st.integers(-(2**31), 2**31), "d": st.integers(-HALF, HALF - 1), "even": st.integers(0, 1),
        "exc_v": st.integers(-500, 500), "exc_d": st.integers(-1, 1),
    }
)  # fmt: skip


@settings(max_examples=60)
@given(fields, st.integers(-400, 0), st.integers(0, 400), st.integers(-9, 3))
def test_proof_equals_brute_force_for_any_constants(values: dict[str, int], lo: int, hi: int, exponent: int) -> None:
    rq = Requant(**{k: np.array([v]) for k, v in values.items()}, z=0, lo=-128, hi=127)
    curve = layer_curve("ort", Layer(f32(2.0**exponent), np.array([0.7], f32), f32(1), 0, -128, 127))
    low, high = np.array([lo]), np.array([hi])
    assert [d.tolist() for d in differing(curve, low, high, rq)] == brute(curve, rq, low, high)


@given(st.integers(-100, 0), st.integers(0, 100), st.integers(1, 9))
def test_thresholds_are_the_first_accumulators(lo: int, hi: int, step: int) -> None:
    codes = np.arange(-15, 16)
    got = thresholds(lambda acc, ch: acc // step, np.array([lo]), np.array([hi]), codes)[0]
    for code, first in zip(codes.tolist(), got.tolist(), strict=True):
        assert first == next((a for a in range(lo, hi + 1) if a // step >= code), hi + 1)


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1), st.integers(-9, 9), st.integers(0, 9)
)
def test_accumulator_bounds(rows: list[list[int]], low: int, width: int) -> None:
    """Reached by choosing the extreme input, or a pad, for every tap."""
    lo, hi = accumulator_bounds(np.array(rows), low, low + width)
    choices = (low, 0, low + width)
    assert lo.tolist() == [sum(min(w * x for x in choices) for w in row) for row in rows]
    assert hi.tolist() == [sum(max(w * x for x in choices) for w in row) for row in rows]


@pytest.mark.parametrize(
    "name",
    sorted(POOLS),
)
def test_pools_are_exact(name: str) -> None:
    """Usual windows, uint8 and int8; even zero points where channels follow two rules (20 = 16 + 4)."""
    for n in (1, 2, 4, 6, 9, 16, 25, 36, 49, 64, 100, 144, 196):
        for z, low, high, channels in ((0, 0, 255, 20), (128, 0, 255, 20), (-128, -128, 127, 20), (5, -128, 127, 16)):
            curve = pool_curve(name, n, channels, z, low, high)
            lo, hi = np.full(channels, (low - z) * n), np.full(channels, (high - z) * n)
            result = fit(curve, lo, hi, shift=-128 if high == 255 else 0)
            assert result.exact, f"n {n} zero point {z}"


def test_batches_do_not_matter() -> None:
    """A layer longer than one batch equals its channels fitted apart."""
    layer = random_layer(np.random.default_rng(9), BATCH + 3, (-9, -2))
    bound = np.full(BATCH + 3, 5000)
    whole = fit(layer_curve("ort", layer), -bound, bound)
    assert layer.bias is not None
    tail = replace(layer, sw=layer.sw[BATCH:], bias=layer.bias[BATCH:])
    part = fit(layer_curve("ort", tail), -bound[BATCH:], bound[BATCH:])
    for name in ("bias", "m", "s", "r", "d", "even"):
        assert np.array_equal(getattr(whole.requant, name)[BATCH:], getattr(part.requant, name))


def test_large_layer_is_fast() -> None:
    """256 channels well under two seconds; the bound leaves room for a busy machine."""
    layer = random_layer(np.random.default_rng(10), 256, (-11, -5))
    bound = np.full(256, 1152 * 127 * 255)
    start = time.perf_counter()
    assert fit(layer_curve("fbgemm", layer), -bound, bound).exact
    assert time.perf_counter() - start < 5


def test_hand_checked_channel() -> None:
    """M = 3/8, bias 1/8 code, half to even: codes of 0.375 acc + 0.125 written out."""
    layer = Layer(f32(0.75), np.array([1], f32), f32(2), 0, -128, 127, np.array([0.25]))
    low, high = np.array([-9]), np.array([9])
    result = fit(layer_curve("ort", replace(layer, bias=np.array([1.0]), bias_is_integer=True)), low, high)
    acc = np.arange(-9, 10)
    want = [round(Fraction(3 * (int(a) + 1), 8)) for a in acc]
    assert requantise(acc[:, None], result.requant)[:, 0].tolist() == want
    float_bias = fit(layer_curve("fbgemm", layer), low, high)
    want = [round(Fraction(3 * int(a) + 1, 8)) for a in acc]
    assert requantise(acc[:, None], float_bias.requant)[:, 0].tolist() == want
