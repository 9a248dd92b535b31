"""The Verilog requantiser against Eq. 1 to 9 and against the runtimes themselves, at every threshold and edge."""

from __future__ import annotations

import numpy as np
import pytest

from pyexport.arith import check, requantise
from sim.runner import RTL, lint, simulator_missing
from tests.requant_stimulus import Fitted, arbitrary, fitted
from tests.requant_vectors import LANES, SOURCES, Batch, run

RUNTIMES = ("fbgemm", "ort", "tflite-ref")
# simulator: channels of each fitted layer, layers of each runtime, random values of each of their channels,
# seeds of batches of arbitrary constants, channels of each, values of each channel
SIZES = {"icarus": (LANES, 1, 10, 6, 4 * LANES, 60), "verilator": (4 * LANES, 5, 200, 22, 8 * LANES, 200)}


def layers(sim: str) -> list[Fitted]:
    channels, count, more, *_ = SIZES[sim]
    seeds = range(count)
    return [fitted(name, channels, seed, ties, more) for name in RUNTIMES for seed in seeds for ties in (False, True)]


def first_difference(batch: Batch, got: np.ndarray, want: np.ndarray) -> str:
    """The channel's constants and the value, for the report."""
    n, c = (int(i) for i in np.argwhere(got != want)[0])
    names = ("bias", "m", "s", "r", "d", "even", "exc_v", "exc_d")
    constants = {name: int(getattr(batch.rq, name)[c]) for name in names}
    rest = {name: getattr(batch.rq, name) for name in ("z", "lo", "hi")}
    return f"acc {batch.acc[n, c]}: code {got[n, c]} instead of {want[n, c]} with {constants | rest}"


@pytest.mark.parametrize("sim", list(SIZES))
def test_requantise(sim: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    fits = layers(sim)
    _, _, _, seeds, channels, count = SIZES[sim]
    loose = [batch for seed in range(seeds) for batch in arbitrary(seed, channels, count)]
    batches = [fit.batch for fit in fits] + loose
    results = run(sim, batches, "requantise")
    values = sum(batch.acc.size for batch in batches)
    print(f"{sim}: {values} values")
    assert values > (2_000_000 if sim == "verilator" else 10_000)
    for batch, got in zip(batches, results, strict=True):
        want = requantise(batch.acc, check(batch.rq))
        assert (got == want).all(), first_difference(batch, got, want)
    for fit, got in zip(fits, results, strict=False):
        assert (got == fit.want)[~fit.listed].all(), "a code is not the runtime's"


def test_stimulus_reaches_everything() -> None:
    """Both tie outcomes, both saturations, the exception on every side: else the comparison above would say little."""
    batches = [batch for seed in range(6) for batch in arbitrary(seed, 4 * LANES, 60)]
    seen = dict.fromkeys(("even up", "even down", "exception up", "exception down", "low", "high", "between"), 0)
    for batch in batches:
        rq, code = batch.rq, requantise(batch.acc, batch.rq)
        zero = np.zeros_like(rq.even)
        plain = requantise(batch.acc, type(rq)(**{**vars(rq), "even": zero, "exc_d": zero}))
        bumped = requantise(batch.acc, type(rq)(**{**vars(rq), "even": zero}))
        evened = requantise(batch.acc, type(rq)(**{**vars(rq), "exc_d": zero}))
        seen["even up"] += int((evened > plain).sum())
        seen["even down"] += int((evened < plain).sum())
        seen["exception up"] += int((bumped > plain).sum())
        seen["exception down"] += int((bumped < plain).sum())
        seen["low"] += int((code == rq.lo).sum())
        seen["high"] += int((code == rq.hi).sum())
        seen["between"] += int(((code > rq.lo) & (code < rq.hi)).sum())
    assert all(count > 20 for count in seen.values()), seen


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("sim", ["icarus", "verilator"])
def test_lint(sim: str, lanes: int) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    lint(sim, "requantise", [RTL / f"{name}.v" for name in SOURCES], {"LANES": lanes})
