"""The Arty A7's top, simulated through its serial pins with the digits network, compared with the golden model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from constraints import build
from constraints.boards import BOARDS
from pyexport import export, golden
from pyexport.quantise import input_codes
from sim.compare import to_words
from sim.runner import BUILD, ROOT, run_bench

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
    folder = BUILD / "board_arty"
    exported = export.export(str(ROOT / "models" / "digits.pt"), "4x4")
    export.write(exported, folder)
    network, hardware = exported.network, exported.config
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
        "pins": PINS,
    }
    (folder / "job.json").write_text(json.dumps(job))
    parameters: dict[str, int | str] = {"CLOCKS_PER_BIT": 4, "TIMER": 14, **hardware.verilog_parameters()}
    for name, file in (("PRG_FILE", "program.mem"), ("WGT_FILE", "weights.mem"), ("PRM_FILE", "params.mem")):
        parameters[name] = f'"{folder / file}"'  # quoted: a Verilog string
    environment = {"BOARD_JOB": str(folder / "job.json")}
    run_bench("verilator", "top", "sim.bench_board_ulx3s", SOURCES, parameters, "board_arty", environment)
