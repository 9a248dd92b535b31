"""make bench: cycles and utilisation of a few networks on a few arrays, measured in the RTL's own counters.

    .venv/bin/python sim/bench.py [--arrays 8x8,16x4,...] [--models FOLDER] [--out DIR]

Prints a table and writes DIR/bench.json. Every code and every cycle count is compared on the way.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "rich", "cocotb"))

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pyexport import export, golden, hwconfig, images, lower, quantise, readers, report
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network
from sim.compare import compare_outputs, to_words
from sim.runner import ROOT
from sim.simulate import simulate
from sim.topologies import TOPOLOGIES

ARRAYS = "4x4,8x8,16x4,16x16"
MOST_MACS = 20_000_000  # larger networks need larger memories, in every network's simulation


def networks(models: str | None) -> dict[str, Network]:
    """The demo network and the topologies; and what lies in the folder `models`, up to MOST_MACS each."""
    graphs = {"digits": readers.read(ROOT / "models" / "digits.pt")}
    graphs |= {name: build() for name, build in TOPOLOGIES.items()}
    found = {name: quantise.quantise(graph) for name, graph in graphs.items()}
    for path in sorted(Path(models).glob("*.tflite")) if models else []:
        network = quantise.quantise(readers.read(path))
        if network.macs <= MOST_MACS:
            found[path.stem] = network
    return found


def common(configs: list[HwConfig]) -> HwConfig:
    """One configuration with the largest of all depths, so that every network runs on one build."""
    names = ("act_depth", "wgt_depth", "prm_depth", "prg_depth", "layers")
    first = configs[0]
    depths = {name: max(getattr(config, name) for config in configs) for name in names}
    return HwConfig(first.rows, first.cols, first.lanes, **depths)


def measure(name: str, network: Network, lowered: lower.Lowered, folder: Path) -> dict[str, Any]:
    """One inference of random codes; raises IntactError where a code or the cycle count is not as predicted."""
    config = lowered.config
    predicted = sum(golden.network_cycles(network, config))
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in images.memory_images(lowered).items():
        (folder / file).write_text(text)
    source, target = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    x = np.random.default_rng(0).integers(-128, 128, (1, *source.shape)).astype(np.int8)
    frames = to_words(x, lowered.plan.placements[source.name], config.rows)
    words = lowered.plan.placements[target.name].words
    result = simulate("verilator", config, folder, frames, words, len(network.layers), predicted, False, False)
    compared = compare_outputs(network, lowered, golden.run(network, x, keep=False)[target.name], result)
    if compared.different or result.cycles != [predicted]:
        raise IntactError(f"{name} on {config.array}: {compared.first}, {result.cycles} cycles, {predicted} predicted")
    cycles = result.cycles[0]
    return {
        "network": name,
        "array": config.array,
        "multipliers": config.multipliers,
        "macs": network.macs,
        "cycles": cycles,
        "predicted_cycles": predicted,
        "utilization": network.macs / (config.multipliers * cycles),
    }


def main(argv: list[str] | None = None) -> int:
    """The command behind `make bench`."""
    parser = export.Parser(prog="bench.py", description="Measure cycles and utilisation on the Verilog.")
    parser.add_argument("--arrays", default=ARRAYS, help=f"comma-separated (default {ARRAYS})")
    parser.add_argument("--models", metavar="FOLDER", help=".tflite files to measure too")
    parser.add_argument("--out", default="build/bench", metavar="DIR")
    args = parser.parse_args(argv)
    out, folder = report.console(), Path(args.out)
    table = Table("network", "array", "multipliers", "MACs", "cycles", "predicted", "utilisation", box=None)
    rows = []
    try:
        export.write_files({}, folder)  # says at once where a folder cannot be written
        for array in args.arrays.split(","):
            config = hwconfig.for_array(*hwconfig.parse_array(array))
            found = networks(args.models)
            lowered = {name: lower.with_depths(lower.lower(network, config)) for name, network in found.items()}
            shared = common([each.config for each in lowered.values()])
            for name, network in found.items():
                with out.status(f"{name} on {array}"):
                    ready = lower.with_depths(lower.lower(network, shared), shared)
                    row = measure(name, network, ready, folder / f"{name}_{array}")
                rows.append(row)
                table.add_row(
                    name, array, str(row["multipliers"]), f"{row['macs']:,}", f"{row['cycles']:,}",
                    f"{row['predicted_cycles']:,}", f"{row['utilization']:.3f}",
                )  # fmt: skip
        (folder / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    except (IntactError, OSError) as error:  # OSError: the simulation's own files, a full disk above all
        return export.refused(error)
    out.print(table)
    out.print(f"written to {folder / 'bench.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
