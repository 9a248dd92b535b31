"""Running the tools of a bitstream: one stage at a time, its output in a log, a progress line on the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from constraints.boards import Board
from pyexport import devices
from pyexport.devices import Memory as Memory  # what a family's flow counts block RAMs of
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig

if TYPE_CHECKING:
    from constraints.contents import Refill

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ROOT / "build" / "bitstream"
RESULT = "result.json"  # what a finished build says of itself
BITSTREAMS = ("intact.bit", "intact.bin", "intact.fs")  # of ECP5 and Xilinx, iCE40, Gowin
FIFO = "fifo"  # of rtl/stream_out.v, eight words: the only memory that belongs into LUTs
# nextpnr's errors that say neither why nor what to do
ADVICE = {"Routing design failed.": "Another placement may be routed: SEED=2."}
ODD = r"[^\w./,+=@-]"  # in a path that yosys' scripts name


@dataclass(frozen=True)
class Figure:
    """One line of the table: how much of a resource is used, of how much."""

    name: str
    used: int
    available: int


@dataclass(frozen=True)
class Timing:
    """What place and route says of the core's clock, MHz, and where the slowest path runs.

    derating: the share of fmax that is trusted, below 1 where the tool does not know all timing; note says why.
    """

    fmax: float
    target: float
    path: str
    derating: float = 1.0
    note: str = ""

    @property
    def usable(self) -> float:
        """MHz that the clock may have."""
        return self.fmax * self.derating


def tool(name: str) -> str:
    """The command of an open FPGA tool: the PyPI build beside this Python, else what is on PATH.

    Raises IntactError where there is neither.
    """
    beside = Path(sys.prefix) / "bin"
    for candidate in (beside / f"yowasp-{name}", f"yowasp-{name}", beside / name, name):
        if found := shutil.which(str(candidate)):
            return found
    raise IntactError(
        f"{name} is not installed; `make bitstream` installs it, or: pip install -r requirements/board.txt"
    )


def relative(path: Path) -> str:
    """`path` as the tools want it: relative to the checkout. The PyPI builds do not see every absolute path.

    Raises IntactError where it lies outside, or where yosys' scripts would not take it as one word.
    """
    try:
        inside = str(path.resolve().relative_to(ROOT))
    except ValueError:
        raise IntactError(f"{path}: the tools only reach files inside {ROOT}; choose a folder there") from None
    if inside == ".":
        raise IntactError(f"{path}: is the checkout itself; choose a folder in it, build/ for instance")
    if re.search(ODD, inside):
        raise IntactError(f"{path}: the tools take letters, digits and any of _.,+=@- in a path; choose another folder")
    return inside


def build_folder(board: Board, model: Path) -> Path:
    """Where the bitstream of a model for a board lies unless told otherwise."""
    return BUILDS / f"{board.name}-{re.sub(ODD, '_', model.stem)}"


def noted(path: Path) -> dict[str, Any]:
    """The object in a JSON file that a build left; empty where there is none, or something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def positive(text: str) -> float:
    """An option's number, of MHz or baud: above 0, and of a size that means something."""
    value = float(text)
    if not 1e-3 <= value <= 1e9:
        raise ValueError
    return value


@dataclass(frozen=True)
class Pll:
    """A PLL's setting: multiplier, input divider, output divider, and the MHz that it makes."""

    multiply: int
    divide: int
    post: int
    clock: float

    def parameters(self) -> dict[str, int | str]:
        """The board top's."""
        return {"PLL_MULTIPLY": self.multiply, "PLL_DIVIDE": self.divide, "PLL_POST": self.post}


class Stages:
    """Runs commands in the checkout, one log file each in `folder`."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder

    def run(self, name: str, log: str, command: Sequence[str]) -> None:
        """Runs a command, its output in `log` as it comes. Raises IntactError with its first error when it fails."""
        path = self.folder / log
        start = time.monotonic()
        with path.open("w") as stream, self.console.status(f"{name} ... (tail -f {path.relative_to(ROOT)})"):
            stream.write(f"$ {' '.join(command)}\n")
            stream.flush()
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise IntactError(f"{name} failed: {first_error(path)} (all of it: {path.relative_to(ROOT)})")
        seconds = time.monotonic() - start
        self.console.print(f"{name:<18} {seconds:6.1f} s   {path.relative_to(ROOT)}", highlight=False)


class Flow(ABC):
    """From Verilog to a bitstream with the tools of one device family.

    The checks are the point: a memory that became flip-flops or a product that became LUTs still works, only slowly and
    large, so each is an error.

    family: what its blocks are.
    routes: whether place and route is an open tool's, and so this flow's.
    refill: how a finished build takes other memory images, None where it does not.
    """

    family: devices.Family
    routes = True
    refill: Refill | None = None

    @abstractmethod
    def pll(self, board: Board, wanted: float) -> tuple[float, dict[str, int | str]]:
        """The clock in MHz that the board's PLL makes for `wanted`, and the board top's parameters for it."""

    def multipliers(self, hardware: HwConfig) -> int:
        """Multiplier blocks that the hardware takes, exactly."""
        return devices.multipliers(hardware, self.family)

    def block_rams(self, memory: Memory) -> int:
        """Block RAMs that a memory takes at least."""
        return devices.block_rams(memory, self.family)

    @abstractmethod
    def synthesise(
        self, stages: Stages, board: Board, sources: Sequence[Path], parameters: Mapping[str, int | str]
    ) -> Path:
        """Verilog to a netlist, whose path it returns. Strings in `parameters` are files: relative to the checkout."""

    @abstractmethod
    def check_netlist(self, netlist: Path, memories: Sequence[Memory], multipliers: int) -> None:
        """Every memory is block RAM, every product is a multiplier block. Raises IntactError if not."""

    @abstractmethod
    def place_and_route(
        self, stages: Stages, board: Board, netlist: Path, seed: int, more: Sequence[str] = ()
    ) -> tuple[list[Figure], Timing, Path]:
        """Netlist to a configuration: what it uses, its timing, and its path. A missed clock is left to the caller.

        more: options for the tool.
        """

    @abstractmethod
    def pack(self, stages: Stages, board: Board, placed: Path) -> Path:
        """Configuration to a bitstream, whose path it returns."""


def reading(sources: Sequence[Path], parameters: Mapping[str, int | str]) -> str:
    """Yosys' commands that read `sources` with `parameters` of `top`."""
    values = [
        f'-set {name} "{value}"' if isinstance(value, str) else f"-set {name} {value}"
        for name, value in parameters.items()
    ]
    files = " ".join(relative(path) for path in sources)
    return f"read_verilog -defer -Irtl {files}\nchparam {' '.join(values)} top\n"


def synthesis_script(sources: Sequence[Path], parameters: Mapping[str, int | str], command: str) -> str:
    """A yosys script: reads `sources` with `parameters` of `top`, runs the family's `command`, checks the result."""
    return f"{reading(sources, parameters)}{command}\ncheck -assert\n"


def in_reach(clock_in: float, wanted: float, limits: tuple[float, float], best: Pll | None) -> Pll:
    """`best`, the setting found. Raises IntactError where none is near `wanted`, or that is not within `limits`."""
    if best is None or best.clock < wanted / 2 or not limits[0] <= wanted <= limits[1]:
        raise IntactError(
            f"clock: the PLL makes nothing near {wanted:g} MHz from {clock_in:g} MHz; "
            f"ask for {limits[0]:g} to {limits[1]:g} MHz"
        )
    return best


def first_error(log: Path) -> str:
    """The first line of a tool's output that is an error, and ADVICE on it, else its last.

    Signals may be called error, too.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[1:] if line.strip()]
    errors = [line for line in lines if re.match(r"(\S+: )?error: ", line, re.IGNORECASE)]
    line = (errors or lines[-1:] or ["no output"])[0].removeprefix("error: ").removeprefix("ERROR: ")
    return f"{line} {ADVICE[line]}" if line in ADVICE else line
