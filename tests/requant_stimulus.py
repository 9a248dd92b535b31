"""Stimulus for the requantiser: channels fitted to runtimes at their thresholds, any constants at their edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyexport.arith import FRACTION, INT32, IntArray, Requant, signed, tie_window
from pyexport.fit import fit
from pyexport.proof import thresholds
from pyexport.runtimes import Curve, Layer, layer_curve
from tests.requant_vectors import Batch

f32 = np.float32


@dataclass(frozen=True)
class Fitted:
    """A layer fitted to a runtime's formula: every threshold of every channel with its neighbours, and random values.

    want: the runtime's own codes, (n, C) on chip.  listed: where the fit itself reports a difference.
    """

    batch: Batch
    want: IntArray
    listed: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def fitted(runtime: str, channels: int, seed: int, ties: bool = False, more: int = 200) -> Fitted:
    """`channels` (a multiple of the lanes) with multipliers 2^-14 .. 2^3, or powers of two where ties must happen."""
    rng = np.random.default_rng(seed)
    sx, sy = (f32(0.5), f32(0.25)) if ties else (f32(rng.uniform(0.01, 0.03)), f32(rng.uniform(0.03, 0.06)))
    exponent = rng.integers(-12, 0, channels) if ties else rng.uniform(-14, 3, channels)
    sw = (2.0**exponent * sy / sx).astype(f32)
    bias = rng.integers(-3000, 3000, channels) * (sx.astype(np.float64) * sw) + (
        0 if ties else rng.normal(size=channels)
    )
    z = int(rng.integers(-100, 100))
    low, high = (z, 127) if seed % 3 == 0 else (-128, 127)  # with and without a fused ReLU
    layer = Layer(sx, sw, sy, z, low, high, bias.astype(f32).astype(np.float64))
    span = np.minimum(300 / (sw.astype(np.float64) * sx / sy) + 10, 1 << 24).astype(np.int64)
    centre = (-bias / (sw.astype(np.float64) * sx)).astype(np.int64)
    lo, hi = np.maximum(centre - span, -(1 << 29)), np.minimum(centre + span, 1 << 29)
    curve: Curve = layer_curve(runtime, layer)
    result = fit(curve, lo, hi)
    codes = np.arange(low + 1, high + 1)
    edges = thresholds(curve, lo, hi, codes)
    acc = np.concatenate(
        [edges, edges - 1, edges + 1, rng.integers(lo[:, None], hi[:, None] + 1, (channels, more))], axis=1
    )
    acc = np.clip(acc, lo[:, None], hi[:, None])
    want = curve(acc, np.broadcast_to(np.arange(channels)[:, None], acc.shape))
    listed = np.stack([np.isin(acc[c], result.differing[c]) for c in range(channels)])
    return Fitted(Batch(result.requant, acc.T.copy()), want.T, listed.T)


def random_constants(rng: np.random.Generator, channels: int, even: bool) -> Requant:
    """Any legal constants, with the ends of every range and round numbers among them."""

    def draw(low: int, high: int, *special: int) -> IntArray:
        values = rng.integers(low, high + 1, channels)
        return np.where(rng.random(channels) < 0.3, rng.choice(np.array([low, high, *special]), channels), values)

    m = draw(0, (1 << 31) - 1, 1, 1 << 30, 1 << 24)
    m = np.where(rng.random(channels) < 0.3, np.int64(1) << rng.integers(0, 31, channels), m)
    wide, small = draw(*signed(34), 0), rng.integers(-4, 5, channels) << (FRACTION - 1)
    z, ends = int(rng.integers(-128, 128)), np.sort(rng.integers(-128, 128, 2))
    low, high = (-128, 127) if rng.random() < 0.5 else ends.tolist()
    return Requant(
        bias=draw(*INT32, 0),
        m=m,
        s=FRACTION + draw(0, 39, 8, 16, 24, 32),
        r=np.where(rng.random(channels) < 0.5, small, wide),
        d=draw(*signed(24), 0),
        even=np.full(channels, int(even)),
        exc_v=draw(*signed(30), 0, -1),
        exc_d=rng.integers(-1, 2, channels),
        z=z,
        lo=low,
        hi=high,
    )


def fine_constants(rng: np.random.Generator, channels: int) -> Requant:
    """Constants for which u moves by at most 2 from one v to the next, so that every bit of it decides somewhere."""
    rq = random_constants(rng, channels, True)
    shift = rng.integers(0, 16, channels)
    m = rng.integers(1, 2 << shift)
    r = (rng.integers(-200, 200, channels) << FRACTION) + rng.integers(-3, 4, channels)
    return replace(rq, m=m, s=FRACTION + shift, r=r, z=0, lo=-128, hi=127)


def edges_of(rq: Requant, rng: np.random.Generator, count: int) -> IntArray:
    """acc (count, C): where u crosses a code (ties and their window), the exception, the ends of int32, anything."""
    channels = rq.m.size
    shape = (count, channels)
    code = rng.integers(-520, 520, shape)
    close = rng.choice(np.array([-1, 1]), shape) * tie_window(code) + rng.integers(-1, 2, shape)
    near = np.where(rng.random(shape) < 0.5, close, rng.integers(-600, 601, shape))
    target = (code << FRACTION) + near - rq.r
    target = target - np.where(target < 0, rq.d, 0)
    scaled = target.astype(np.float64) * np.exp2((rq.s - FRACTION).astype(np.float64)) / np.maximum(rq.m, 1)
    v = np.clip(np.rint(scaled), -(2.0**40), 2.0**40).astype(np.int64) + rng.integers(-1, 2, shape)
    kind = rng.random(shape)
    span = np.int64(1) << rng.integers(1, 31, shape)
    v = np.where((v < INT32[0]) | (v > INT32[1]), rng.integers(-span, span), v)
    v = np.where(kind < 0.1, rng.integers(-span, span), v)
    v = np.where((kind >= 0.1) & (kind < 0.15), rq.exc_v + rng.integers(-1, 2, shape), v)
    ends = np.array([INT32[0], INT32[0] + 1, -1, 0, 1, INT32[1] - 1, INT32[1]])
    v = np.where((kind >= 0.15) & (kind < 0.2), rng.choice(ends, shape), v)
    return np.clip(v, *INT32) - rq.bias


def arbitrary(seed: int, channels: int, count: int) -> list[Batch]:
    """Three batches: any constants without and with the half-to-even bit, and fine ones."""
    rng = np.random.default_rng(seed)
    constants = [random_constants(rng, channels, even) for even in (False, True)] + [fine_constants(rng, channels)]
    return [Batch(rq, edges_of(rq, rng, count)) for rq in constants]
