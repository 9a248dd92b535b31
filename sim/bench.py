"""make bench: cycles and utilisation of a few networks on a few arrays, measured in the RTL's own counters.

    .venv/bin/python sim/bench.py [--arrays 8x8,16x4,...] [--layers 8x8,...] [--models FOLDER] [--clock MHZ] [--out DIR]

Prints tables and writes DIR/bench.json (docs/benchmarks.md). Output codes and cycle counts are compared on the way.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich", "cocotb"))

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.status import Status
from rich.table import Table

from pyexport import export, golden, hwconfig, images, ir, lower, quantise, readers, report
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network, QLayer
from sim.compare import compare_outputs, to_words
from sim.runner import ROOT
from sim.simulate import LayerParts, SimResult, build, build_seconds, simulate
from sim.topologies import PUBLISHED, TOPOLOGIES

ARRAYS = "4x4,8x8,16x4,16x16"
LAYERS = "8x8"
CLOCK = 100.0
MOST_MACS = 20_000_000  # larger networks need larger memories, in every network's simulation
FRAMES = 3  # back to back: the time from one run's end to the next one's is measured twice
RANDOM = "random weights"
# where a layer's cycles go, and the headings of the table
PARTS = {
    "mac": "MAC",
    "array_part_idle": "array part idle",
    "other_op": "other op",
    "requantise_bound": "requantise-bound",
    "drain": "drain",
    "load": "load",
    "idle": "idle",
}


@dataclass(frozen=True)
class Candidate:
    """A network to measure. source: the file that it came from, or RANDOM."""

    network: Network
    source: str


def networks(models: str | None) -> dict[str, Candidate]:
    """The demo network and the topologies, by name; from the folder `models` what is published of them, and more."""
    demo = ROOT / "models" / "digits.pt"
    sources = {"digits": (readers.read(demo), demo.name)}
    sources |= {name: (topology(), RANDOM) for name, topology in TOPOLOGIES.items()}
    if models and not Path(models).is_dir():
        raise IntactError(f"{models}: no such folder; give one that holds .tflite files")
    for path in sorted(Path(models).glob("*.tflite")) if models else []:
        graph = readers.read(path)
        if macs(graph) <= MOST_MACS:
            sources[PUBLISHED.get(path.stem, path.stem)] = graph, path.name
    return {name: Candidate(quantise.quantise(graph), source) for name, (graph, source) in sources.items()}


def macs(graph: ir.Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(
        node.weights.codes.size * graph.tensors[node.output].shape[0] * graph.tensors[node.output].shape[1]
        for node in graph.nodes
        if isinstance(node, (ir.Conv2d, ir.Linear))
    )


def common(configs: list[HwConfig]) -> HwConfig:
    """One configuration with the largest of all depths, so that every network runs on one build."""
    names = ("act_depth", "wgt_depth", "prm_depth", "prg_depth", "layers")
    first = configs[0]
    depths = {name: max(getattr(config, name) for config in configs) for name in names}
    return HwConfig(first.rows, first.cols, first.lanes, packed=first.packed, **depths)


def layer_parts(layer: QLayer, cycles: int, spent: LayerParts, multipliers: int) -> dict[str, int]:
    """Every cycle of a layer in exactly one class of PARTS.

    cycles: from the layer counters.  spent: what the array was seen to do. `idle` is what neither explains.
    """
    mac = -(-layer.macs // multipliers)
    parts = {
        "mac": mac,
        "array_part_idle": spent.words - mac if layer.macs else 0,
        "other_op": 0 if layer.macs else spent.words,
        "requantise_bound": spent.gaps,
        "drain": spent.drain,
        "load": spent.waits,
    }
    parts["idle"] = cycles - sum(parts.values())
    if min(parts.values()) < 0:
        raise IntactError(f"layer {layer.name!r}: {cycles} cycles do not divide into {parts}")
    return parts


def measure(name: str, candidate: Candidate, lowered: lower.Lowered, folder: Path) -> tuple[dict[str, Any], SimResult]:
    """Frames of random codes back to back; raises IntactError where a code or a cycle count is not as predicted."""
    config, network = lowered.config, candidate.network
    predicted = golden.network_cycles(network, config)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in images.memory_images(lowered).items():
        (folder / file).write_text(text)
    source, target = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    x = np.random.default_rng(0).integers(-128, 128, (FRAMES, *source.shape)).astype(np.int8)
    frames = to_words(x, lowered.plan.placements[source.name], config.rows)
    words = lowered.plan.placements[target.name].words
    layers = len(network.layers)
    result = simulate(
        "verilator", config, folder, frames, words, layers, sum(predicted), False, False, back_to_back=True
    )
    compared = compare_outputs(network, lowered, golden.run(network, x, keep=False)[target.name], result)
    measured = np.diff([0, *result.layer_ends]).tolist()
    runs = [run.done - run.start for run in result.times]
    if compared.different or measured != predicted or result.cycles + runs != [sum(predicted)] * (1 + FRAMES):
        raise IntactError(f"{name} on {config.array}: {compared.first}, layers {measured}, predicted {predicted}")
    first, last = result.times[0], result.times[-1]  # the first frame waits for no run
    spent = zip(network.layers, measured, predicted, last.layers, strict=True)
    row = {
        "network": name,
        "array": config.array,
        "multipliers": config.multipliers,
        "macs": network.macs,
        "cycles": result.cycles[0],
        "predicted_cycles": sum(predicted),
        "utilization": network.macs / (config.multipliers * result.cycles[0]),
        "source": candidate.source,
        "input_cycles": first.last_in - first.first_in + 1,
        "output_cycles": first.last_out - first.done,
        "latency_cycles": first.last_out - first.first_in + 1,
        "period_cycles": [after.done - before.done for before, after in pairwise(result.times)],
        "layers": [
            {"name": layer.name, "op": layer.op, "macs": layer.macs, "cycles": cycles, "predicted_cycles": expected}
            | layer_parts(layer, cycles, seen, config.multipliers)
            for layer, cycles, expected, seen in spent
        ],
    }
    return row, result


def measure_array(
    config: HwConfig, candidates: dict[str, Candidate], folder: Path, status: Status
) -> tuple[list[dict[str, Any]], str]:
    """All networks on one array, on one build; and a line on the simulation's speed."""
    needed = [lower.with_depths(lower.lower(each.network, config, overlap=True)).config for each in candidates.values()]
    shared = common(needed)
    status.update(f"building the simulator of {config.array}")
    built = build("verilator", shared, False)
    rows, cycles, seconds = [], 0, 0.0
    for name, candidate in candidates.items():
        status.update(f"{name} on {config.array}")
        ready = lower.with_depths(lower.lower(candidate.network, shared, overlap=True), shared)
        row, result = measure(name, candidate, ready, folder / f"{name}_{config.array}")
        rows.append(row)
        cycles += result.times[-1].last_out
        seconds += result.seconds
    speed = f"{cycles:,} cycles at {cycles / seconds:,.0f} a second, simulator built in {build_seconds(built):.1f} s"
    return rows, f"{config.array}: {speed}"


def result_table(rows: list[dict[str, Any]]) -> Table:
    """Cycles of one run."""
    table = Table("network", box=None, title="one run, input loaded")
    for heading in ("array", "multipliers", "MACs", "cycles", "predicted", "utilisation"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["network"], row["array"], str(row["multipliers"]), f"{row['macs']:,}", f"{row['cycles']:,}",
            f"{row['predicted_cycles']:,}", f"{row['utilization']:.3f}",
        )  # fmt: skip
    return table


def frame_table(rows: list[dict[str, Any]], clock: float) -> Table:
    """Latency and sustained rate at `clock` MHz."""
    title = f"{FRAMES} frames back to back, the next one's input overlapped, times at {clock:g} MHz"
    table = Table("network", box=None, title=title)
    for heading in ("array", "input", "run", "output", "latency", "ms", "a frame every", "frames/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        period = max(row["period_cycles"])
        table.add_row(
            row["network"], row["array"], f"{row['input_cycles']:,}", f"{row['cycles']:,}", f"{row['output_cycles']:,}",
            f"{row['latency_cycles']:,}", f"{row['latency_cycles'] / clock / 1e3:.3f}", f"{period:,}",
            f"{clock * 1e6 / period:,.1f}",
        )  # fmt: skip
    return table


def layers_table(row: dict[str, Any]) -> Table:
    """Where the cycles of each layer go."""
    table = Table("layer", "op", box=None, title=f"{row['network']} on {row['array']}: where the cycles go")
    for heading in ("cycles", *PARTS.values()):
        table.add_column(heading, justify="right")
    total = {key: sum(layer[key] for layer in row["layers"]) for key in ("cycles", *PARTS)}
    for layer in row["layers"]:
        table.add_row(layer["name"], layer["op"], *(f"{layer[key]:,}" for key in total))
    table.add_section()
    table.add_row("total", "", *(f"{number:,}" for number in total.values()))
    table.add_row("", "", *(f"{number / total['cycles']:.1%}" for number in total.values()))
    return table


def main(argv: list[str] | None = None) -> int:
    """The command behind `make bench`."""
    parser = export.Parser(prog="bench.py", description="Measure cycles and utilisation on the Verilog.")
    parser.add_argument("--arrays", default=ARRAYS, help=f"comma-separated (default {ARRAYS})")
    parser.add_argument("--lanes", type=int, default=64, metavar="N", help="requantise lanes at most")
    parser.add_argument("--packed", action="store_true", help="arrays with two products a multiplier block")
    parser.add_argument("--layers", default=LAYERS, metavar="ARRAYS", help=f"show their layers (default {LAYERS})")
    parser.add_argument("--models", metavar="FOLDER", help=".tflite files: published ones in place of random weights")
    parser.add_argument("--clock", type=float, default=CLOCK, metavar="MHZ", help=f"for times (default {CLOCK:g})")
    parser.add_argument("--networks", metavar="NAMES", help="comma-separated: these alone")
    parser.add_argument("--out", default="build/bench", metavar="DIR")
    args = parser.parse_args(argv)
    if not args.clock > 0:
        parser.error(f"--clock {args.clock:g} is not above 0")
    out, folder = report.console(), Path(args.out)
    rows: list[dict[str, Any]] = []
    speeds = []
    try:
        export.write_files({}, folder)  # says at once where a folder cannot be written
        arrays = [
            hwconfig.for_array(*hwconfig.parse_array(array), args.lanes, args.packed)
            for array in args.arrays.split(",")
        ]
        candidates = networks(args.models)
        if args.networks:
            unknown = set(args.networks.split(",")) - set(candidates)
            if unknown:
                raise IntactError(f"--networks: {', '.join(sorted(unknown))}: there are {', '.join(candidates)}")
            candidates = {name: candidates[name] for name in args.networks.split(",")}
        for config in arrays:
            with out.status(config.array) as status:
                measured, speed = measure_array(config, candidates, folder, status)
            rows += measured
            speeds.append(speed)
        order = list(candidates)
        rows.sort(key=lambda row: order.index(row["network"]))
        (folder / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    except export.REFUSALS as error:
        return export.refused(error)
    for row in rows:
        if row["array"] in args.layers.split(","):
            out.print(layers_table(row))
            out.print()
    out.print(result_table(rows))
    out.print()
    out.print(frame_table(rows, args.clock))
    out.print()
    for name, candidate in candidates.items():
        out.print(f"{name}: {candidate.source}", soft_wrap=True)
    for speed in speeds:
        out.print(f"simulation of {speed}", soft_wrap=True)
    out.print(f"written to {folder / 'bench.json'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
