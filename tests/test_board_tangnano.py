"""The Tang Nano tops, simulated through their serial pins with the digits network, compared with the golden model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from constraints import build
from constraints.boards import BOARDS
from pyexport import export, golden
from pyexport.quantise import input_codes
from sim.compare import to_words
from sim.runner import BUILD, ROOT, SIMULATORS, lint, run_bench

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
    board, folder = BOARDS[name], BUILD / f"board_{name}"
    assert board.lanes is not None
    exported = export.export(str(ROOT / "models" / "digits.pt"), board.array, most_lanes=board.lanes)
    export.write(exported, folder)
    network, hardware = exported.network, exported.config
    assert hardware.lanes == board.lanes
    source, target = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    test_set = np.load(ROOT / "models" / "digits_test.npz")
    codes = input_codes(source, test_set["inputs"][:FRAMES], network.float_input)
    chip = (codes.transpose(0, 2, 3, 1) + source.shift).astype(np.int8)
    expected = golden.run(network, chip)[target.name]
    # the codes that the source framework gave
    assert np.array_equal(expected.reshape(FRAMES, -1) - target.shift, test_set["codes"][:FRAMES])
    placements, rows = exported.lowered.plan.placements, hardware.rows
    job = {
        "frames": [words.tobytes().hex() for words in to_words(chip, placements[source.name], rows)],
        "expected": [words.tobytes().hex() for words in to_words(expected, placements[target.name], rows)],
        "valid": to_words(np.full_like(expected[:1], -1), placements[target.name], rows).tobytes().hex(),
        "folder": str(folder),
        "program_words": len(exported.lowered.program),
        "wgt_bits": hardware.wgt_bits,
        "prm_bits": hardware.prm_bits,
        "cycles": sum(exported.cycles),
        "pins": PINS | {"pressed": PRESSED[name]},
    }
    (folder / "job.json").write_text(json.dumps(job))
    parameters: dict[str, int | str] = {"CLOCKS_PER_BIT": 4, "TIMER": 16, **hardware.verilog_parameters()}
    for parameter, file in (("PRG_FILE", "program.mem"), ("WGT_FILE", "weights.mem"), ("PRM_FILE", "params.mem")):
        parameters[parameter] = f'"{folder / file}"'  # quoted: a Verilog string
    environment = {"BOARD_JOB": str(folder / "job.json")}
    sources = [*build.sources(board), *MODELS]
    run_bench("verilator", "top", "sim.bench_board_ulx3s", sources, parameters, f"board_{name}", environment)
