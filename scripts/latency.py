"""`make latency`: inference times of the MLPerf Tiny networks, cycles / clock, beside published ones.

    .venv/bin/python scripts/latency.py [--array 8x8] [--lanes N] [--packed] [--clock MHZ] [--bench FILE]

Cycles are the predicted ones; where `make bench` has not measured the same they are marked. The clock is what place
and route reached in the last `make bitstream`, as far as it is trusted there, or --clock; the array is that bitstream's
unless --array, --lanes or --packed ask for another one.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich"))

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from constraints.flow import BUILDS, RESULT, ROOT, positive
from pyexport import choice, export, golden, hwconfig, quantise, report
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from sim.topologies import TOPOLOGIES

BENCH = ROOT / "build" / "bench" / "bench.json"
ARRAY = ("ROWS", "COLS", "LANES", "PACKED", "PRM_SERIAL")
NETWORKS = ("ResNet-8", "DS-CNN", "MobileNetV1", "autoencoder")


@dataclass(frozen=True)
class Published:
    """A published result. per_second: median inferences a second by network.  source: where the figures stand."""

    system: str
    per_second: dict[str, float]
    source: str


# But for the last the closed division: the reference networks, int8. Folders of github.com/mlcommons, in each
# */performance/results.txt.
PUBLISHED = (
    Published(
        "STM32L4R5, Cortex-M4 120 MHz, TFLite Micro (the reference)",
        {"ResNet-8": 1.420, "DS-CNN": 5.497, "MobileNetV1": 1.665, "autoencoder": 99.487},
        "tiny_results_v0.5/closed/reference/results/Nucleo-L4R5ZI",
    ),
    Published(
        "STM32H7A3, Cortex-M7 280 MHz, X-CUBE-AI 9.0",
        {"ResNet-8": 24.483, "DS-CNN": 88.356, "MobileNetV1": 42.009, "autoencoder": 816.004},
        "tiny_results_v1.2/closed/STMicroelectronics/results/NUCLEO_H7A3ZI_Q",
    ),
    Published(
        "GAP9, 10 RISC-V cores and NE16 accelerator, 370 MHz",
        {"ResNet-8": 1622.799, "DS-CNN": 2103.206, "MobileNetV1": 889.048, "autoencoder": 5691.597},
        "tiny_results_v1.0/closed/greenwaves-technologies/results/gap9_800_370",
    ),
    Published(
        "Arty A7-35T, VexRiscv with CFU Playground, 100 MHz (9.8 M cycles)",
        {"DS-CNN": 100 / 9.8},
        "www.luffca.com/2022/05/cfu-playground-part2",
    ),
)


def cycles(config: HwConfig, bench: Path) -> dict[str, tuple[int, bool]]:
    """Network -> cycles of one inference, and whether `make bench` measured them. Raises IntactError."""
    found = {}
    if bench.is_file():
        try:
            rows = json.loads(bench.read_text())
            # rows do not say how many requantise lanes there were: the prediction, which they all equal, tells
            found = {row["network"]: row["cycles"] for row in rows if row["array"] == config.array}
        except (ValueError, KeyError, TypeError) as error:
            raise IntactError(f"{bench}: is not what `make bench` writes") from error
    result = {}
    for name in NETWORKS:
        predicted = sum(golden.network_cycles(quantise.quantise(TOPOLOGIES[name]()), config))
        result[name] = predicted, found.get(name) == predicted
    return result


def built(wanted: Mapping[str, int], folder: Path) -> tuple[HwConfig, float, str]:
    """Hardware of the newest bitstream, the MHz that it may have, and which bitstream it is. Raises IntactError.

    wanted: Verilog parameters that it must have. Of the fmax that place and route reports only the share that is
    trusted on its device counts.
    """
    results: list[tuple[float, str, float, dict[str, int]]] = []
    for path in folder.glob(f"*/{RESULT}"):
        try:
            result = json.loads(path.read_text())
            found = {name: int(result["hardware"][name]) for name in ARRAY}
            usable, seed = float(result["fmax_mhz"] * result["derating"]), int(result["seed"])
        except (ValueError, KeyError, TypeError):  # of an older checkout
            continue
        if wanted.items() <= found.items():
            results.append((path.stat().st_mtime, f"fmax of {path.parent.name}, seed {seed}", usable, found))
    if not results:
        asked = ", ".join(f"{name.lower()} {value}" for name, value in wanted.items())
        raise IntactError(
            f"no bitstream{f' with {asked}' if asked else ''} in {folder}: say CLOCK=MHZ, or make bitstream first"
        )
    _, said, usable, found = max(results, key=lambda result: result[:3])
    return HwConfig(**{name.lower(): value for name, value in found.items()}), usable, said


def latency_table(array: str, clock: float, said: str, measured: dict[str, tuple[int, bool]]) -> Table:
    """Milliseconds, one row a system."""
    table = Table(title="milliseconds an inference, MLPerf Tiny's networks, int8", box=None)
    table.add_column("system", no_wrap=True)
    for name in NETWORKS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    times = [f"{count / clock / 1e3:,.3f}" + ("" if exact else " *") for count, exact in measured.values()]
    table.add_row(f"INTACT {array} at {clock:g} MHz", *times, said)
    for one in PUBLISHED:
        shown = [f"{1e3 / one.per_second[name]:,.3f}" if name in one.per_second else "" for name in NETWORKS]
        table.add_row(one.system, *shown, one.source)
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command behind `make latency`."""
    parser = export.Parser(prog="latency.py", description="Inference times beside published ones.")
    parser.add_argument("--array", metavar="RxC", help="default: the newest bitstream's; with --clock 8x8")
    parser.add_argument("--lanes", type=int, metavar="N", help="requantise lanes at most")
    parser.add_argument("--packed", action="store_true", help="two products a multiplier block")
    parser.add_argument("--clock", type=positive, metavar="MHZ", help="default: what the newest bitstream reached")
    parser.add_argument("--bench", type=Path, default=BENCH, metavar="FILE", help="of `make bench`: measured cycles")
    options = parser.parse_args(arguments)
    out = report.console()
    try:
        most = 64 if options.lanes is None else options.lanes
        config = hwconfig.for_array(*hwconfig.parse_array(options.array or "8x8"), most, options.packed)
        clock, said = options.clock, "the clock as given"
        if clock is None:
            wanted = {"ROWS": config.rows, "COLS": config.cols} if options.array else {}
            wanted |= {"LANES": options.lanes} if options.lanes is not None else {}
            wanted |= {"PACKED": 1} if options.packed else {}
            config, clock, said = built(wanted, BUILDS)
        measured = cycles(config, options.bench)
    except export.REFUSALS as error:
        return export.refused(error)
    said_array = choice.array_name(config)
    out.print(latency_table(said_array, clock, said, measured))
    if not all(exact for _, exact in measured.values()):
        out.print("* cycles as predicted, not measured here by make bench", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
