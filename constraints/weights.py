"""`make weights`: another network in a finished bitstream, without placing and routing again.

    .venv/bin/python constraints/weights.py [BOARD] [MODEL] [--reuse FOLDER] [--match RUNTIME]
        [--export-args ARGS] [--out DIR]

Exports the model for the hardware of a finished build, lays its memory images out in the block RAMs of that build's
placed configuration, packs: the same bits as a whole build of that hardware with that placement's seed. Everything
stays in build/bitstream/<board>-<model>/, or in DIR; exit status 0 only when all held.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich"))

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from constraints.boards import BOARDS, Board, find_board
from constraints.build import FLOWS, digest, exporter_options, images_of, say_empty, sources
from constraints.contents import refill
from constraints.flow import BUILDS, RESULT, ROOT, Stages, build_folder, noted, relative
from pyexport import report
from pyexport.errors import IntactError
from pyexport.export import REFUSALS, Parser, refused, write_files
from pyexport.hwconfig import HwConfig

HARDWARE = "hardware.json"
NEEDED = {"board": str, "hardware": dict, "settings": dict, "sources": str, "met": bool}


def result_of(folder: Path) -> dict[str, Any]:
    """What a finished build in `folder` says of itself. Raises IntactError where there is none."""
    result = noted(folder / RESULT)
    if any(not isinstance(result.get(name), kind) for name, kind in NEEDED.items()):
        raise IntactError(f"{folder}: holds no finished build; make bitstream makes one")
    return result


def newest(board: Board) -> Path:
    """The folder of the board's newest finished build that met its clock. Raises IntactError where there is none."""
    found = []
    for path in BUILDS.glob(f"*/{RESULT}"):
        try:
            result = result_of(path.parent)
            if result["board"] == board.name and result["met"]:
                found.append((path.stat().st_mtime, path.parent))
        except IntactError:  # of an older checkout
            continue
    if not found:
        raise IntactError(
            f"no finished build for {board.name} that met its clock: make bitstream BOARD={board.name} makes one"
        )
    return max(found)[1]


def export(
    stages: Stages, board: Board, model: Path, options: argparse.Namespace, hardware: HwConfig, folder: Path
) -> None:
    """Memory images of `model` for exactly `hardware`, into `folder`. Raises IntactError where it does not fit."""
    config = stages.folder / HARDWARE
    values = {name.lower(): value for name, value in hardware.verilog_parameters().items()}
    write_files({HARDWARE: json.dumps(values).encode()}, stages.folder)
    more = exporter_options([], options)[0]
    command = [sys.executable, "pyexport/export.py", str(model), "-o", str(folder), "--config", str(config)]
    command += ["--board", board.name, *more]
    stages.run("export", "export.log", command)
    exported = json.loads((folder / "manifest.json").read_text())["hardware"]
    if exported != hardware.verilog_parameters():  # --export-args may say another --config
        raise IntactError(f"the finished build is for {hardware}; the export is for other hardware: {exported}")


def weights(console: Console, options: argparse.Namespace) -> Path:
    """All stages; returns the bitstream. Raises IntactError at the first that fails; then --out is as it was, but for
    `weights/` in it, where the logs are.
    """
    board, model = find_board(options.board), Path(options.model)
    flow = FLOWS[board.family]
    if flow.refill is None:
        raise IntactError(f"weights: not for {board.name}: make bitstream builds it with other weights")
    finished = Path(options.reuse).resolve() if options.reuse else newest(board)
    before = result_of(finished)
    if before["board"] != board.name:
        raise IntactError(f"{relative(finished)} is a build for {before['board']}, not {board.name}")
    if before["sources"] != digest(board):
        raise IntactError(f"{relative(finished)} was built from other Verilog or pins: make bitstream builds it again")
    console.print(f"finished build     {relative(finished)}", highlight=False)
    if not before["met"]:
        console.print("warning: it missed its clock, and so does what comes of it", style="yellow", highlight=False)
    folder = (Path(options.out) if options.out else build_folder(board, model)).resolve()
    relative(folder)
    hardware = HwConfig(**{name.lower(): value for name, value in before["hardware"].items()})

    work = folder / "weights"  # whole or not at all: what is in `folder`, maybe the finished build, stays until the end
    shutil.rmtree(work, ignore_errors=True)
    write_files({}, work)
    stages = Stages(console, work)
    images = work / "export"
    export(stages, board, model.resolve(), options, hardware, images)
    parameters = before["settings"] | hardware.verilog_parameters() | images_of(hardware, images)
    placed = refill(flow.refill, stages, sources(board), parameters, finished)
    bitstream = flow.pack(stages, board, placed)
    say_empty(console, hardware, flow)
    result = before | {"model": str(options.model), "placed_in": before.get("placed_in", relative(finished))}
    (work / RESULT).write_text(json.dumps(result, indent=2))
    shutil.rmtree(folder / "export", ignore_errors=True)
    for path in [*work.iterdir()]:
        path.replace(folder / path.name)
    work.rmdir()
    return folder / bitstream.name


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="weights.py", description="Puts another quantised model into a finished bitstream.")
    parser.add_argument(
        "board", nargs="?", default="ulx3s", help=f"one of: {', '.join(sorted(BOARDS))} (default: ulx3s)"
    )
    parser.add_argument(
        "model", nargs="?", default=str(ROOT / "models" / "digits.pt"), help="default: models/digits.pt"
    )
    parser.add_argument("--reuse", metavar="FOLDER", help="of the finished build (default: the board's newest)")
    parser.add_argument("--match", metavar="RUNTIME", help="the runtime whose bits to give (default: the model's)")
    parser.add_argument(
        "--export-args", default="", metavar="ARGS", help="more options of export.py, as one string; files by full path"
    )
    parser.add_argument("--out", help="folder inside the checkout (default: build/bitstream/<board>-<model>)")
    options = parser.parse_args(arguments)
    console = report.console()
    try:
        bitstream = weights(console, options)
    except REFUSALS as error:
        return refused(error)
    console.print(f"bitstream          {bitstream.relative_to(ROOT)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
