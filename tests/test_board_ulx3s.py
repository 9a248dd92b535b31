"""The ULX3S board top, simulated through its serial pins with the digits network, compared with the golden model."""

from __future__ import annotations

import pytest

from constraints import build
from constraints.boards import BOARDS
from pyexport import export
from sim.runner import ROOT, SIMULATORS, lint, run_bench
from tests.board_pins import DIGITS, digits_through_the_pins

FRAMES = 6
SOURCES = [*build.sources(BOARDS["ulx3s"]), *sorted((ROOT / "sim" / "models").glob("*.v"))]
ECP5 = ROOT / "constraints" / "ecp5"


@pytest.mark.parametrize("sim", SIMULATORS)
def test_lint(sim: str) -> None:
    lint(sim, "top", SOURCES, {})


@pytest.mark.parametrize("cell", ["mul8", "mul18"])
def test_multiplier_cells(cell: str) -> None:
    sources = [ECP5 / f"{cell}.v", ECP5 / "ecp5_mult.v", ROOT / "sim" / "models" / "MULT18X18D.v"]
    run_bench("verilator", cell, "sim.bench_mul", sources, {}, f"ecp5_{cell}")


def test_digits_through_the_pins() -> None:
    exported = export.export(str(DIGITS), BOARDS["ulx3s"].preset.array)
    digits_through_the_pins(exported, FRAMES, SOURCES, "board_ulx3s")
