"""Launches the benches of the datapath: MAC array, address generator, program fetch, drain."""

from __future__ import annotations

import pytest

from sim.runner import RTL, SIMULATORS, lint, rtl_sources, run_bench, simulator_missing

ARRAY_SOURCES = [RTL / f"{name}.v" for name in ("mac_array", "mac_lane", "accumulator", "mul8", "mul8_pair")]
DRAIN_SOURCES = [RTL / f"{name}.v" for name in ("drain", "delay", "requantise", "requant_lane", "wide_mul", "mul18")]
DRAIN_SOURCES += [RTL / "code_table.v", RTL / "ram.v"]


def _need(sim: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("sim", "rows", "cols"),
    [("icarus", 1, 4), ("icarus", 5, 3), ("icarus", 8, 8), ("icarus", 16, 2), ("verilator", 8, 8)],
)
def test_mac_array(sim: str, rows: int, cols: int) -> None:
    _need(sim)
    run_bench(
        sim, "mac_array", "sim.bench_mac_array", ARRAY_SOURCES, {"ROWS": rows, "COLS": cols}, f"mac_{rows}x{cols}"
    )


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 2), (2, 1), (5, 3), (32, 32), (64, 64)])
def test_mac_array_lint(sim: str, rows: int, cols: int) -> None:
    _need(sim)
    lint(sim, "mac_array", ARRAY_SOURCES, {"ROWS": rows, "COLS": cols})


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "cols", "lanes"), [(32, 32, 32), (1, 2, 1), (2, 1, 1), (9, 6, 3), (64, 16, 8)])
def test_core_lint(sim: str, rows: int, cols: int, lanes: int) -> None:
    _need(sim)
    lint(sim, "intact_core", rtl_sources(), {"ROWS": rows, "COLS": cols, "LANES": lanes})


@pytest.mark.parametrize(("sim", "act", "wgt"), [("icarus", 12, 10), ("icarus", 1, 24), ("verilator", 9, 8)])
def test_address_gen(sim: str, act: int, wgt: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ACT_ADDR": act, "WGT_ADDR": wgt}
    run_bench(sim, "address_gen", "sim.bench_address_gen", [RTL / "address_gen.v"], parameters, f"address_{act}_{wgt}")


@pytest.mark.parametrize(("sim", "act", "wgt"), [("icarus", 12, 10), ("icarus", 3, 24), ("verilator", 9, 8)])
def test_window_gen(sim: str, act: int, wgt: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ACT_ADDR": act, "WGT_ADDR": wgt}
    run_bench(sim, "window_gen", "sim.bench_window_gen", [RTL / "window_gen.v"], parameters, f"window_{act}_{wgt}")


def test_program_fetch() -> None:
    _need("icarus")
    run_bench("icarus", "program_fetch", "sim.bench_program_fetch", [RTL / "program_fetch.v"], {"PRG_ADDR": 7}, "fetch")


@pytest.mark.parametrize(("sim", "width", "lane"), [("icarus", 32, 8), ("verilator", 64, 32)])
def test_ram(sim: str, width: int, lane: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"WIDTH": width, "SLICE": lane, "DEPTH": 100, "ADDR": 7}
    run_bench(sim, "ram", "sim.bench_ram", [RTL / "ram.v"], parameters, f"ram_{width}_{lane}")


@pytest.mark.parametrize(
    ("sim", "rows", "cols", "lanes", "tables"),
    [
        ("icarus", 4, 6, 2, 0),
        ("icarus", 1, 3, 1, 3),
        ("icarus", 8, 4, 4, 1),
        ("icarus", 9, 3, 3, 2),
        ("verilator", 4, 8, 2, 5),
    ],
)
def test_drain(sim: str, rows: int, cols: int, lanes: int, tables: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ROWS": rows, "COLS": cols, "LANES": lanes, "ACT_ADDR": 9, "PRM_ADDR": 6}
    parameters |= {"TABLES": tables, "TAB_ADDR": 8 + (max(tables, 1) - 1).bit_length()}
    run_bench(sim, "drain", "sim.bench_drain", DRAIN_SOURCES, parameters, f"drain_{rows}x{cols}_{lanes}")
