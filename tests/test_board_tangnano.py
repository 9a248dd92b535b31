"""The Tang Nano tops, simulated through their serial pins with the digits network, compared with the golden model."""

from __future__ import annotations

from typing import Any

import pytest

from constraints import build
from constraints.boards import BOARDS
from pyexport import export
from sim.runner import ROOT, SIMULATORS, lint, run_bench
from tests.board_pins import DIGITS, digits_through_the_pins

FRAMES = 3
GOWIN = ROOT / "constraints" / "gowin"
MODELS = [ROOT / "sim" / "models" / f"{name}.v" for name in ("MULT9X9", "MULT18X18", "rPLL")]
NAMES = ("tangnano9k", "tangnano20k")
PINS: dict[str, Any] = {
    "clock": "clk_27mhz", "rxd": "uart_rxd", "txd": "uart_txd", "button": "button",
    "leds": "led_n", "lit": 0, "error": 4, "reset": 5, "high": [], "per_clock": 1,
}  # fmt: skip
PRESSED = {"tangnano9k": 0, "tangnano20k": 1}  # the top works with either


@pytest.mark.parametrize("sim", SIMULATORS)
def test_lint(sim: str) -> None:
    lint(sim, "top", [*build.sources(BOARDS["tangnano9k"]), *MODELS], {})


@pytest.mark.parametrize(("cell", "model"), [("mul8", "MULT9X9"), ("mul18", "MULT18X18")])
def test_multiplier_cells(cell: str, model: str) -> None:
    sources = [GOWIN / f"{cell}.v", ROOT / "sim" / "models" / f"{model}.v"]
    run_bench("verilator", cell, "sim.bench_mul", sources, {}, f"gowin_{cell}")


@pytest.mark.parametrize("name", NAMES)
def test_digits_through_the_pins(name: str) -> None:
    board = BOARDS[name]
    exported = export.export(str(DIGITS), board=name)
    assert (exported.config.array, exported.config.lanes) == (board.preset.array, board.preset.lanes)
    pins = PINS | {"pressed": PRESSED[name]}
    sources = [*build.sources(board), *MODELS]
    digits_through_the_pins(exported, FRAMES, sources, f"board_{name}", pins=pins, timer=16)
