"""The Arty A7's top, simulated through its serial pins with the digits network, compared with the golden model."""

from __future__ import annotations

from typing import Any

from constraints import build
from constraints.boards import BOARDS
from pyexport import export
from sim.runner import ROOT
from tests.board_pins import DIGITS, digits_through_the_pins

FRAMES = 2
SOURCES = [
    *build.sources(BOARDS["arty_a7_35t"]),
    *(ROOT / "sim" / "models" / f"{name}.v" for name in ("PLLE2_BASE", "BUFG")),
]
PINS: dict[str, Any] = {
    "clock": "clk_100mhz", "rxd": "uart_txd_in", "txd": "uart_rxd_out", "button": "btn0", "pressed": 1,
    "leds": "led", "lit": 1, "error": 2, "reset": 3, "high": [], "per_clock": 1,
}  # fmt: skip


def test_digits_through_the_pins() -> None:
    exported = export.export(str(DIGITS), "4x4")
    digits_through_the_pins(exported, FRAMES, SOURCES, "board_arty", pins=PINS)
