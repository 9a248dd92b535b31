"""Launches the benches of the host interface: registers, streams in and out, width adapters."""

from __future__ import annotations

import pytest

from sim.runner import RTL, SIMULATORS, lint, run_bench, simulator_missing

REGISTER_NAMES = ("ROWS", "COLS", "LANES", "ACT_DEPTH", "WGT_DEPTH", "PRM_DEPTH", "PRG_DEPTH", "LAYERS", "TABLES",
                  "PACKED", "PRM_SERIAL")  # fmt: skip
REGISTER_SETS = [
    (8, 8, 8, 4096, 1024, 256, 1024, 256, 0, 0, 0),
    (1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1),
    (3, 3, 3, 100, 77, 33, 40, 7, 3, 0, 1),
    (5, 10, 5, 1 << 24, 1 << 24, 1 << 24, 1 << 24, 4096, 255, 1, 0),
]
STREAM_ROWS = [(1, 6), (3, 4), (5, 1), (8, 9)]  # bytes in a word, address bits


def _run(sim: str, top: str, bench: str, parameters: dict[str, int | str], name: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    sources = [RTL / f"{top}.v"]
    lint(sim, top, sources, parameters)
    run_bench(sim, top, f"sim.{bench}", sources, parameters, f"{top}_{name}")


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize("values", REGISTER_SETS, ids=lambda values: f"{values[0]}x{values[1]}")
def test_registers(sim: str, values: tuple[int, ...]) -> None:
    parameters: dict[str, int | str] = dict(zip(REGISTER_NAMES, values, strict=True))
    _run(sim, "axil_regs", "bench_axil_regs", parameters, f"{values[0]}x{values[1]}")


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "addr"), STREAM_ROWS)
@pytest.mark.parametrize("top", ["stream_in", "stream_out"])
def test_stream(sim: str, top: str, rows: int, addr: int) -> None:
    _run(sim, top, f"bench_{top}", {"ROWS": rows, "ADDR": addr}, f"rows{rows}")


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize("rows", [1, 3, 5, 8])
@pytest.mark.parametrize("top", ["axis_widen", "axis_narrow"])
def test_width_adapter(sim: str, top: str, rows: int) -> None:
    _run(sim, top, "bench_axis_width", {"ROWS": rows}, f"rows{rows}")
