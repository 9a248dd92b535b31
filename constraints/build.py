"""`make bitstream`: a model and a board in, a bitstream out, with open tools only.

    .venv/bin/python constraints/build.py [BOARD] [MODEL] [--array 8x8] [--match RUNTIME]
        [--export-args ARGS] [--clock MHZ] [--baud N] [--seed N] [--pnr-args ARGS] [--out DIR]

Exports the model for the board's array, synthesises, checks that every memory and product landed in a block, places and
routes, checks the clock, packs. Everything stays in build/bitstream/<board>-<model>/, or in DIR; exit status 0 only
when all held.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich"))

import argparse
import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from constraints.boards import BOARDS, Board, check_line, clocks_per_bit, find_board
from constraints.ecp5_flow import Ecp5
from constraints.flow import BITSTREAMS, RESULT, ROOT, Figure, Flow, Stages, Timing, build_folder, positive, relative
from constraints.gowin_flow import Gowin
from constraints.ice40_flow import Ice40
from constraints.xilinx_flow import Xilinx
from pyexport import choice, report
from pyexport.devices import FAMILIES, left_empty
from pyexport.devices import memories as memories
from pyexport.errors import IntactError
from pyexport.export import REFUSALS, Parser, add_arguments, refused, write_files
from pyexport.hwconfig import HwConfig, parse_array

FLOWS: dict[str, Flow] = {"ecp5": Ecp5(), "gowin": Gowin(), "ice40": Ice40(), "xilinx": Xilinx()}
IMAGES = {"PRG_FILE": "program.mem", "WGT_FILE": "weights.mem", "PRM_FILE": "params.mem", "TAB_FILE": "tables.mem"}
PLACED = ("intact.config", "intact.asc")  # of ECP5, iCE40
BLOCK_WORDS = 512  # words of 32 bits in one block RAM
PAYLOAD = "payload"  # the serial link's memory


def export_options(options: argparse.Namespace, board: Board) -> list[str]:
    """The exporter's options from --array, --match, --export-args, and the board, whose own it takes where these say
    nothing: it refuses what does not fit, or finds what does.
    """
    given, found = exporter_options(["--array", options.array] if options.array else [], options)
    if found.board not in (None, board.name):
        raise IntactError(f"--export-args: --board {found.board}, but the bitstream is for {board.name}")
    if found.array and found.array != choice.AUTO:
        parse_array(found.array)
    return given if found.board else [*given, "--board", board.name]


def exporter_options(given: list[str], options: argparse.Namespace) -> tuple[list[str], argparse.Namespace]:
    """The exporter's options `given`, --match and --export-args, and what they mean. None say where it writes."""
    given = [*given, *(["--match", options.match] if options.match else [])]
    given += split("--export-args", options.export_args)
    parser = Parser(prog="export.py", usage="")
    add_arguments(parser)
    return given, parser.parse_args(given)


def split(option: str, text: str) -> list[str]:
    """The options in the value of `option`. Raises IntactError where a quote stays open."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise IntactError(f"{option} {text!r}: {error}") from error


def export(stages: Stages, board: Board, model: Path, more: list[str], folder: Path) -> HwConfig:
    """Runs the exporter with the options `more`: memory images into `folder`. Shows what of the device they take and
    returns the hardware to build.

    Layer counters fill a block RAM: fewer would save nothing.
    """
    command = [sys.executable, "pyexport/export.py", str(model), "-o", str(folder), *more]
    stages.run("export", "export.log", command)
    manifest = json.loads((folder / "manifest.json").read_text())
    hardware = manifest["hardware"]
    if "fit" in manifest:
        stages.console.print(report.fit_table(manifest["fit"]))
        for line in report.fit_lines(manifest["fit"]):
            stages.console.print(line, highlight=False, soft_wrap=True)
    config = HwConfig(**{name.lower(): value for name, value in hardware.items()})
    return replace(config, layers=max(config.layers, FAMILIES[board.family].block or BLOCK_WORDS))


def sources(board: Board) -> list[Path]:
    """Every Verilog file of the design. A file in constraints/<family>/ takes the place of its namesake in rtl/."""
    cells = [ROOT / "rtl", ROOT / "constraints" / board.family]
    files = {path.name: path for folder in cells for path in sorted(folder.glob("*.v"))}
    return [*files.values(), ROOT / board.top]


def digest(board: Board) -> str:
    """SHA-256 of all Verilog of the design and its pins: a finished build is of these sources, or of others."""
    files = [*sources(board), *sorted((ROOT / "rtl").glob("*.vh")), ROOT / board.pins]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def images_of(hardware: HwConfig, folder: Path) -> dict[str, int | str]:
    """The design's parameters that name the memory images in `folder`."""
    return {name: relative(folder / file) for name, file in IMAGES.items() if hardware.tables or name != "TAB_FILE"}


def show(console: Console, board: Board, hardware: HwConfig, used: list[Figure], clock: Timing) -> None:
    """The table."""
    table = Table(title=f"{board.name}, array {hardware.array}", title_justify="left")
    for column in ("", "used", "of", ""):
        table.add_column(column, justify="left" if not column else "right")
    for figure in used:
        share = f"{100 * figure.used / figure.available:.0f} %"
        table.add_row(figure.name, str(figure.used), str(figure.available), share)
    if clock.derating < 1:
        table.add_row("fmax, MHz", f"{clock.fmax:.1f}", "", "")
    name = f"{100 * clock.derating:.0f} % of it" if clock.derating < 1 else "fmax, MHz"
    met = "met" if clock.usable >= clock.target else "MISSED"
    table.add_row(name, f"{clock.usable:.1f}", f"{clock.target:.1f}", met)
    console.print(table)
    if clock.note:
        console.print(f"warning: {clock.note}", style="yellow", highlight=False, soft_wrap=True)
    console.print(f"slowest path: {clock.path}", highlight=False, soft_wrap=True)


def say_empty(console: Console, hardware: HwConfig, flow: Flow) -> None:
    """What the bitstream does not hold."""
    if empty := left_empty(hardware, flow.family):
        remark = "lie in memories that a bitstream cannot fill: host/intact_host.py loads them before it runs inputs"
        console.print(f"{' and '.join(empty)} {remark}", highlight=False, soft_wrap=True)


def build(console: Console, options: argparse.Namespace) -> Path:
    """All stages; returns the bitstream. Raises IntactError at the first that fails."""
    board = find_board(options.board)
    model = Path(options.model)
    folder = Path(options.out) if options.out else build_folder(board, model)
    relative(folder)
    folder = folder.resolve()
    more = export_options(options, board)
    pnr_options = split("--pnr-args", options.pnr_args)
    flow = FLOWS[board.family]
    clock_mhz, pll = flow.pll(board, options.clock or board.clock)
    baud = round(options.baud or board.baud)
    line = {}
    if board.serial:
        line["CLOCKS_PER_BIT"] = clocks_per_bit(clock_mhz, baud)
        check_line(board, clock_mhz, baud)
    ignored = {"--seed": options.seed != 1, "--pnr-args": bool(options.pnr_args)} if not flow.routes else {}
    ignored |= {} if board.serial else {"--clock": bool(options.clock), "--baud": bool(options.baud)}
    if given := [name for name, said in ignored.items() if said]:
        raise IntactError(f"{board.name}: nothing here takes {', '.join(given)}: leave it out")
    write_files({}, folder)  # says at once where a folder cannot be written
    stages = Stages(console, folder)
    images = folder / "export"
    hardware = export(stages, board, model.resolve(), more, images)
    for left in (*PLACED, *BITSTREAMS, RESULT):  # of a build before: nothing may look like this one's
        (folder / left).unlink(missing_ok=True)

    settings: dict[str, int | str] = {**line, **pll}
    parameters = settings | hardware.verilog_parameters() | images_of(hardware, images)
    built_from = digest(board)
    netlist = flow.synthesise(stages, board, sources(board), parameters)
    blocks = [memory for memory in memories(hardware) if board.serial or memory.instance != PAYLOAD]
    flow.check_netlist(netlist, blocks, flow.multipliers(hardware))
    used, clock, placed = flow.place_and_route(stages, board, netlist, options.seed, pnr_options)
    show(console, board, hardware, used, clock)
    if clock.usable < clock.target and not options.allow_timing_fail:
        raise IntactError(
            f"timing: {clock.usable:.1f} MHz where {clock.target:.1f} are wanted; take another placement (SEED, "
            "--seed), a lower clock (CLOCK, --clock), or --allow-timing-fail of constraints/build.py"
        )
    bitstream = flow.pack(stages, board, placed)
    say_empty(console, hardware, flow)
    (folder / RESULT).write_text(
        json.dumps(
            {
                "board": board.name, "model": str(options.model), "array": hardware.array,
                "baud": baud,
                "clock_mhz": clock_mhz, "fmax_mhz": clock.fmax, "derating": clock.derating,
                "met": clock.usable >= clock.target, "path": clock.path, "seed": options.seed,
                "hardware": hardware.verilog_parameters(), "settings": settings, "sources": built_from,
                "used": {figure.name: figure.used for figure in used},
            },
            indent=2,
        )
    )  # fmt: skip
    return bitstream


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="build.py", description="Builds a bitstream that holds a quantised model.")
    parser.add_argument(
        "board", nargs="?", default="ulx3s", help=f"one of: {', '.join(sorted(BOARDS))} (default: ulx3s)"
    )
    parser.add_argument(
        "model", nargs="?", default=str(ROOT / "models" / "digits.pt"), help="default: models/digits.pt"
    )
    parser.add_argument("--array", help="rows x columns, input lanes x output lanes (default: the board's)")
    parser.add_argument("--match", metavar="RUNTIME", help="the runtime whose bits to give (default: the model's)")
    parser.add_argument(
        "--export-args", default="", metavar="ARGS", help="more options of export.py, as one string; files by full path"
    )
    parser.add_argument("--clock", type=positive, help="MHz wanted; the nearest below that the PLL makes is taken")
    parser.add_argument("--baud", type=positive, help="speed of the serial port (default: the board's)")
    parser.add_argument("--seed", type=int, default=1, help="of the placement (default: 1)")
    parser.add_argument("--pnr-args", default="", metavar="ARGS", help="more options of nextpnr, as one string")
    parser.add_argument("--allow-timing-fail", action="store_true", help="pack even if the clock is missed")
    parser.add_argument("--out", help="folder inside the checkout (default: build/bitstream/<board>-<model>)")
    options = parser.parse_args(arguments)
    console = report.console()
    try:
        bitstream = build(console, options)
    except REFUSALS as error:
        return refused(error)
    console.print(f"bitstream          {bitstream.relative_to(ROOT)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
