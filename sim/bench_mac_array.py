"""rtl/mac_array.v: every result of every cycle against NumPy, under random words, controls and gaps."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from sim.runner import bench_parameters
from sim.streams import CLOCK_NS

P = {name: int(value) for name, value in bench_parameters().items()}
ROWS, COLS = P["ROWS"], P["COLS"]
PACKED = P.get("PACKED", 0)
LATENCY = 3 + ((ROWS - 1).bit_length() + 1) // 2  # from a word to its sum
CYCLES = 3000 if ROWS * COLS <= 16 else 1000
CONTROLS = ("sum_valid", "sum_first", "sum_subtract", "sum_scale_up", "sum_max")


def expected_results(
    x: npt.NDArray[np.int8], w: npt.NDArray[np.int8], controls: dict[str, npt.NDArray[np.bool_]]
) -> npt.NDArray[np.int64]:
    """x, w: (cycles, COLS, ROWS) -> results after each cycle (cycles, COLS), from LATENCY on, where `first` is set."""
    sums = np.zeros((len(x), COLS), np.int64)
    sums[LATENCY:] = np.einsum("tcr,tcr->tc", x.astype(np.int64), w.astype(np.int64))[:-LATENCY]
    results = np.zeros_like(sums)
    acc = np.zeros(COLS, np.int64)
    for t, total in enumerate(sums):
        if controls["sum_first"][t]:
            result = total
        elif controls["sum_max"][t]:
            result = np.maximum(acc, total)
        else:
            scaled = acc << 8 if controls["sum_scale_up"][t] else acc
            result = scaled - total if controls["sum_subtract"][t] else scaled + total
        result = result.astype(np.int32).astype(np.int64)  # the accumulator wraps
        if controls["sum_valid"][t]:
            acc = result
        results[t] = acc
    return results


def stimulus(rng: np.random.Generator) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], dict[str, Any]]:
    """Random words, a fifth of them at the ends of the range; controls with gaps, maxima in stretches."""
    x = rng.integers(-128, 128, (CYCLES, COLS, ROWS), dtype=np.int8)
    w = rng.integers(-128, 128, (CYCLES, COLS, ROWS), dtype=np.int8)
    ends = rng.random(CYCLES) < 0.2
    x[ends] = rng.choice(np.array([-128, 127], np.int8), (int(ends.sum()), 1, 1))
    w[ends] = rng.choice(np.array([-128, 127], np.int8), (int(ends.sum()), 1, 1))
    if PACKED:  # columns 2k and 2k + 1 share their operands
        x[:, 1::2] = x[:, : COLS - 1 : 2]
    controls = {
        "sum_valid": rng.random(CYCLES) < 0.8,
        "sum_first": rng.random(CYCLES) < 0.1,
        "sum_subtract": rng.random(CYCLES) < 0.4,
        "sum_scale_up": rng.random(CYCLES) < 0.1,
        "sum_max": np.repeat(rng.random(CYCLES // 20 + 1) < 0.3, 20)[:CYCLES],
    }
    controls["sum_valid"][:LATENCY] = False
    controls["sum_valid"][LATENCY] = controls["sum_first"][LATENCY] = True
    counted = np.flatnonzero(controls["sum_valid"])
    begins = np.flatnonzero(np.diff(controls["sum_max"][counted].astype(int)) > 0) + 1
    controls["sum_first"][counted[begins]] = True  # a maximum is one of all words of its accumulation
    return x, w, controls


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(seed=[1, 2])
async def every_cycle(dut: Any, seed: int) -> None:
    """Whatever the controls, results are right in every cycle: those of the cycle before."""
    x, w, controls = stimulus(np.random.default_rng(seed))
    expected = expected_results(x, w, controls).astype(np.int32)
    Clock(dut.clk, CLOCK_NS, unit="ns").start(start_high=False)
    await RisingEdge(dut.clk)
    for t in range(CYCLES):
        dut.x.value = int.from_bytes(x[t].tobytes(), "little")
        dut.w.value = int.from_bytes(w[t].tobytes(), "little")
        for name in CONTROLS:
            getattr(dut, name).value = int(controls[name][min(t + 1, CYCLES - 1)])  # a cycle ahead of their sums
        await RisingEdge(dut.clk)
        if t > LATENCY:
            got = np.frombuffer(dut.results.value.to_bytes(byteorder="little"), np.int32)
            assert (got == expected[t - 1]).all(), f"cycle {t}: {got} instead of {expected[t - 1]}"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def long_sums(dut: Any) -> None:
    """Thousands of the largest product: no level of the tree or the accumulator is too narrow, up to int32's wrap."""
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start(start_high=False)
    dut.x.value = int.from_bytes(bytes([0x80] * (ROWS * COLS)), "little")
    dut.w.value = int.from_bytes(bytes([0x80] * (ROWS * COLS)), "little")
    for name in CONTROLS:
        getattr(dut, name).value = int(name in ("sum_valid", "sum_first"))
    await ClockCycles(dut.clk, LATENCY + 2)
    dut.sum_first.value = 0
    total = ROWS << 14
    cycles = 20_000 if cocotb.SIM_NAME.lower() == "verilator" else 600  # 8 rows wrap after 16,384
    # the controls arrive at the next edge; from the one after that on the accumulator gains a sum at each
    await ClockCycles(dut.clk, cycles)
    got = np.frombuffer(dut.results.value.to_bytes(byteorder="little"), np.int32)
    assert (got == np.array((cycles - 1) * total).astype(np.int64).astype(np.int32)).all(), got
