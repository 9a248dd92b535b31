"""python -m models.quantizers [NAME ...]: models made by each tool, exported, and compared with that tool's runtime.

For every file of the named scripts of this folder (default: all whose tools are installed): the golden model against
the source's own runtime (`--verify`), on as many inputs as --outputs takes; with --rtl also the Verilog against the
golden model in Verilator, every layer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from models.quantizers.common import Built
from pyexport import export, hwconfig, report, verify
from pyexport.errors import IntactError
from sim import run as sim_run

FOLDER = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "__main__", "common"))
COLUMNS = ("row", "tool", "runtime", "compared", "differ", "not proved", "RTL compared", "RTL differ", "accuracy")
FRAMES = 4  # inferences in Verilator
# One configuration that holds them all, so that the simulator is built once.
HARDWARE = replace(
    hwconfig.for_array(8, 8), act_depth=4096, wgt_depth=8192, prm_depth=2048, prg_depth=1024, layers=64, tables=16
)


def measured(built: Built, outputs: int, rtl: bool, scratch: Path) -> dict[str, Any]:
    """One row of the table."""
    exported = export.export(str(built.path), **built.options)
    network = exported.network
    row: dict[str, Any] = {"row": built.row, "tool": built.tool, "accuracy": built.accuracy}
    row["not proved"] = sum(1 for layer in network.layers for values in layer.differing if len(values))
    each = int(np.prod(network.output.shape))
    codes = verify.driving_codes(network, max(3, -(-outputs // each)))
    file, source = (built.twin, "torchscript") if built.twin else (built.path, exported.graph.source)
    checked = verify.verify(file, source, network, codes, built.options)
    row["runtime"] = checked.runtime
    row["compared"] = sum(one.compared for one in checked.tensors)
    row["differ"] = sum(one.differing for one in checked.tensors)
    if rtl:
        row |= simulated(built, verify.driving_codes(network, FRAMES), scratch)
    return row


def simulated(built: Built, codes: Any, scratch: Path) -> dict[str, Any]:
    """Codes compared and differing in Verilator."""
    np.save(scratch / "inputs.npy", codes)
    (scratch / "hardware.json").write_text(json.dumps(asdict(HARDWARE)))
    arguments = [str(built.path), "--config", str(scratch / "hardware.json"), "--check", "layers"]
    arguments += ["--input", str(scratch / "inputs.npy"), "--out", str(scratch / "out")]
    for name, value in built.options.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        arguments.append(f"--{name.replace('_', '-')}={text}")
    with (scratch / "log").open("w") as log, redirect_stdout(log):
        status = sim_run.main(arguments)
    report_file = scratch / "out" / "report.json"
    found = json.loads(report_file.read_text()) if report_file.is_file() else {"differences": []}
    if status and not found["differences"]:
        last = (scratch / "log").read_text().strip().splitlines()[-1:]
        raise IntactError(f"{built.path}: the simulation failed: {''.join(last)}")
    return {
        "RTL compared": sum(layer["outputs_compared"] for layer in found["layers"]),
        "RTL differ": sum(layer["mismatches"] for layer in found["layers"]),
    }


def rows(names: list[str], outputs: int, rtl: bool, folder: Path) -> Iterator[dict[str, Any]]:
    for name in names:
        try:
            script = importlib.import_module(f"models.quantizers.{name}")
        except ModuleNotFoundError as error:
            yield {"tool": f"{name}: not run, {error.name} is not installed"}
            continue
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for built in script.build(place):
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    yield measured(built, outputs, rtl, Path(scratch))
                except IntactError as error:
                    yield {"row": built.row, "tool": f"{built.tool}: {error}"}


def text_of(value: Any) -> str:
    if isinstance(value, tuple):
        return " → ".join(f"{part:.2%}" for part in value)
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.quantizers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *SCRIPTS], help=", ".join(SCRIPTS))
    parser.add_argument("--outputs", type=int, default=20_000, help="output codes of each file to compare, at least")
    parser.add_argument("--rtl", action="store_true", help="simulate each file on the Verilog too")
    parser.add_argument("--out", type=Path, default=Path("build/quantizers"), help="where the models go")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # the simulator's, once a tool has set up logging
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("tool", "runtime") else "right")
    found = []
    out = report.console()
    for row in rows(args.names or SCRIPTS, args.outputs, args.rtl, args.out):
        found.append(row)
        table.add_row(*(text_of(row.get(column)) for column in COLUMNS))
        out.print(f"{row['tool']}: {text_of(row.get('compared'))} compared, {text_of(row.get('differ'))} differ")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(found, indent=1))
    out.print(table)


if __name__ == "__main__":
    main()
