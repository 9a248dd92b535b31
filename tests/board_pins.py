"""A board's top through its serial pins: what the tests of all boards share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from constraints.build import images_of
from pyexport import export, golden
from pyexport.qlayers import Network
from pyexport.quantise import input_codes
from sim.compare import to_words
from sim.runner import BUILD, ROOT, run_bench

DIGITS = ROOT / "models" / "digits.pt"
DIGITS_TEST = ROOT / "models" / "digits_test.npz"


def codes_of(network: Network, inputs: np.ndarray) -> np.ndarray:
    """Inputs on chip, (N, H, W, C)."""
    source = network.tensors[network.input.tensor]
    codes = input_codes(source, inputs, network.float_input)
    return (network.input.to_hwc(codes) + source.shift).astype(np.int8)


def through_the_pins(
    exported: export.Exported,
    inputs: np.ndarray,
    sources: list[Path],
    name: str,
    pins: Mapping[str, Any] | None = None,
    loads: Mapping[str, tuple[str, int]] | None = None,
    timer: int = 14,
) -> np.ndarray:
    """Runs sim/bench_board.py on a top in build/<name>; the golden model's output codes on chip, which it compared.

    pins, loads: as that bench takes them.  timer: bits of the serial link's patience.
    """
    folder = BUILD / name
    export.write(exported, folder)
    network, hardware = exported.network, exported.config
    chip = codes_of(network, inputs)
    expected = golden.run(network, chip)[network.output.tensor]
    placements, rows = exported.lowered.plan.placements, hardware.rows
    entered, left = placements[network.input.tensor], placements[network.output.tensor]
    job = {
        "frames": [words.tobytes().hex() for words in to_words(chip, entered, rows)],
        "expected": [words.tobytes().hex() for words in to_words(expected, left, rows)],
        "valid": to_words(np.full_like(expected[:1], -1), left, rows).tobytes().hex(),
        "folder": str(folder),
        "program_words": len(exported.lowered.program),
        "wgt_bits": hardware.wgt_bits,
        "prm_bits": hardware.prm_bits,
        "cycles": sum(exported.cycles),
        "pins": pins,
        "loads": loads or {},
    }
    (folder / "job.json").write_text(json.dumps(job))
    parameters: dict[str, int | str] = {"CLOCKS_PER_BIT": 4, "TIMER": timer, **hardware.verilog_parameters()}
    images = images_of(hardware, folder).items()
    parameters |= {key: f'"{ROOT}/{path}"' for key, path in images}  # quoted: Verilog strings
    environment = {"BOARD_JOB": str(folder / "job.json")}
    run_bench("verilator", "top", "sim.bench_board", sources, parameters, name, environment)
    return expected


def digits_through_the_pins(
    exported: export.Exported, frames: int, sources: list[Path], name: str, **more: Any
) -> None:
    """The first test images; what comes out are the codes that the source framework gave, too."""
    test_set = np.load(DIGITS_TEST)
    expected = through_the_pins(exported, test_set["inputs"][:frames], sources, name, **more)
    shift = exported.network.tensors[exported.network.output.tensor].shift
    assert np.array_equal(expected.reshape(frames, -1) - shift, test_set["codes"][:frames])
