"""Runs a lowered network on the Verilog: builds the simulator once per configuration, gives codes and cycles back.

In: a folder with program.mem, weights.mem, params.mem and maybe tables.mem, and input frames. Out: what the RTL gave.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from sim.runner import ROOT, get_runner, rtl_sources, simulator_missing

BUILDS = ROOT / "build" / "sim"
TOP = "intact_sim"
SECONDS = "seconds"  # file of a build: how long it took
MEMORY_FILES = ("program.mem", "weights.mem", "params.mem", "tables.mem")
PROGRESS = "progress"  # the file that the bench keeps its progress in
WATCHED = 0.1  # seconds between two looks at it


@dataclass(frozen=True)
class Trace:
    """Every write to activation memory, in order: run, cycle within it, word address, byte enables, bytes (rows)."""

    run: npt.NDArray[np.int64]
    cycle: npt.NDArray[np.int64]
    address: npt.NDArray[np.int64]
    enabled: npt.NDArray[np.bool_]
    data: npt.NDArray[np.int8]


@dataclass(frozen=True)
class LayerParts:
    """What a layer's cycles were spent on: words that the array took, gaps between words, draining, and waiting."""

    words: int
    gaps: int
    drain: int
    waits: int


@dataclass(frozen=True)
class RunTimes:
    """Clock cycles since reset: first and last input word taken, first issue, done, last output word gone."""

    first_in: int
    last_in: int
    start: int
    done: int
    last_out: int
    layers: tuple[LayerParts, ...]


@dataclass(frozen=True)
class SimResult:
    """outputs: int8 (N, words, rows).  cycles: per run.  layer_ends: first run's cycle at the end of each layer.

    Back to back, cycles and layer_ends hold the last run alone.
    times: of every run.  seconds: wall time of the simulation without its build.
    """

    outputs: npt.NDArray[np.int8]
    cycles: list[int]
    layer_ends: list[int]
    trace: Trace | None
    waveform: Path | None
    seconds: float
    times: tuple[RunTimes, ...] = ()


def build(sim: str, config: HwConfig, waves: bool) -> Path:
    """Builds the simulator for `config` unless an equal one is there; returns its folder. Raises IntactError."""
    if reason := simulator_missing(sim):
        raise IntactError(f"SIM={sim}: {reason}; run `make setup`")
    sources = [*rtl_sources(), ROOT / "sim" / "intact_sim.v"]
    parameters = config.verilog_parameters()
    inputs = [*sources, ROOT / "rtl" / "intact_defs.vh", ROOT / "sim" / "network.vlt", Path(__file__)]
    tools = [importlib.metadata.version("cocotb"), _version(sim), sys.version]
    key = hashlib.sha256(json.dumps([sim, parameters, waves, tools]).encode())
    folder = BUILDS / f"{sim}_{config.array}_{key.hexdigest()[:12]}"
    for path in inputs:
        key.update(path.read_bytes())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:  # two tests, or two commands, may want the same one
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_from(sim, parameters, waves, sources, folder, key.hexdigest())


def build_from(
    sim: str, parameters: Mapping[str, int | str], waves: bool, sources: list[Path], folder: Path, key: str
) -> Path:
    """Builds a module called TOP from `sources` in `folder`, unless one of this key is there. Raises IntactError."""
    stamp = folder / "stamp"
    if stamp.is_file() and stamp.read_text() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "build.log"
    began = time.monotonic()
    runner = get_runner(sim, private=True)
    extra = ["-Wall", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-CFLAGS", "-O2"]
    with log.open("w") as stream, _output_to(stream):
        try:
            runner.build(
                sources=[*sources, *([ROOT / "sim" / "network.vlt"] if sim == "verilator" else [])],
                includes=[ROOT / "rtl"],
                hdl_toplevel=TOP,
                parameters=parameters,
                build_args=extra if sim == "verilator" else [],
                build_dir=folder,
                timescale=("1ns", "1ps"),
                waves=waves,
                always=True,
                log_file=log,
            )
        except (SystemExit, subprocess.CalledProcessError, RuntimeError) as error:
            raise IntactError(f"building the {sim} simulation failed ({error}); see {log}") from error
    (folder / SECONDS).write_text(f"{time.monotonic() - began:.1f}")
    stamp.write_text(key)
    return folder


def build_seconds(folder: Path) -> float:
    """How long the build in `folder` took when it was made."""
    return float((folder / SECONDS).read_text())


def _version(sim: str) -> str:
    """What the simulator says of itself: another one must not run an old build."""
    command = ["verilator", "--version"] if sim == "verilator" else ["iverilog", "-V"]
    path = shutil.which(command[0]) or ""
    return path + subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def _output_to(stream: TextIO) -> Iterator[None]:
    """Sends what the runner prints of its own to the log."""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


@contextlib.contextmanager
def _watched(path: Path, progress: Callable[[int, int], None]) -> Iterator[None]:
    """Meanwhile calls `progress` with the two numbers that the bench keeps in the file."""
    ended = threading.Event()

    def watch() -> None:
        last = False
        while not last:
            last = ended.wait(WATCHED)
            with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
                frame, cycles = path.read_text().split()
                progress(int(frame), int(cycles))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def simulate(
    sim: str,
    config: HwConfig,
    folder: Path,
    frames: npt.NDArray[np.int8],
    out_words: int,
    layers: int,
    expected_cycles: int,
    trace: bool,
    waves: bool,
    building: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    back_to_back: bool = False,
    progress: Callable[[int, int], None] | None = None,
    built: Path | None = None,
    loads: Mapping[int, Sequence[int]] | None = None,
) -> SimResult:
    """Runs every frame (N, words, rows) on the network in `folder`, which also takes the run's files.

    expected_cycles: of one run, for the time-out. back_to_back: the core starts by itself with every frame, and the
    next frame waits at its stream; else the host starts each run and reads its counters. progress: called now and
    then, from another thread, with the number of the inference that runs (from 0) and its cycles so far. built: the
    folder of a simulator to use instead of the core's own. loads: 32-bit slices that the host writes first, in order,
    by load target.
    Raises IntactError where the simulation does not end well.
    """
    with building():
        built = built or build(sim, config, waves)
    folder = folder.resolve()
    work = folder / "sim"
    work.mkdir(exist_ok=True)
    for name in MEMORY_FILES if config.tables else MEMORY_FILES[:-1]:
        shutil.copyfile(folder / name, work / name)
    _write_frames(work / "frames.hex", frames)
    job = {
        "frames": len(frames),
        "layers": layers,
        "expected_cycles": expected_cycles,
        "frame_words": frames.shape[1],
        "back_to_back": back_to_back,
        "results": str(work / "results.json"),
        "progress": str(work / PROGRESS) if progress else None,
        "loads": {target: list(slices) for target, slices in (loads or {}).items()},
    }
    (work / "job.json").write_text(json.dumps(job))
    for name in ("results.json", "results.xml", "outputs.hex", "trace.hex", "timeline.txt", PROGRESS):
        (work / name).unlink(missing_ok=True)
    plusargs = ["+frames=frames.hex", "+outputs=outputs.hex", "+timeline=timeline.txt"]
    plusargs += ["+trace=trace.hex"] if trace else []
    runner = get_runner(sim, private=True)
    log = work / "sim.log"
    began = time.monotonic()
    watching = _watched(work / PROGRESS, progress) if progress else contextlib.nullcontext()
    with log.open("w") as stream, _output_to(stream), watching, contextlib.suppress(SystemExit):
        runner.test(
            test_module="sim.bench_network",
            hdl_toplevel=TOP,
            hdl_toplevel_lang="verilog",
            build_dir=built,
            test_dir=work,
            results_xml=str(work / "results.xml"),
            plusargs=plusargs,
            extra_env={"INTACT_JOB": str(work / "job.json"), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            timescale=("1ns", "1ps"),
            waves=waves,
            log_file=log,
        )
    seconds = time.monotonic() - began
    results = work / "results.json"
    if not results.is_file():
        raise IntactError(f"the {sim} simulation failed: {_reason(log)}; see {log}")
    runs = json.loads(results.read_text())
    return SimResult(
        _read_outputs(work / "outputs.hex", len(frames), out_words, config.rows),
        [run["cycles"] for run in runs],
        runs[0]["layer_ends"],
        _read_trace(work / "trace.hex", config) if trace else None,
        _keep_waveform(built, work) if waves else None,
        seconds,
        _read_timeline(work / "timeline.txt"),
    )


def _keep_waveform(built: Path, work: Path) -> Path | None:
    """Moves the run's waveform, which the simulators leave where they were built or run, into the run's folder."""
    for found in [*work.glob("dump.*"), *built.glob("*.fst"), *built.glob("*.vcd")]:
        return Path(shutil.move(found, work / f"waves{found.suffix}"))
    return None


def _reason(log: Path) -> str:
    lines = [
        line.strip() for line in log.read_text(errors="replace").splitlines() if "Error" in line or "error" in line
    ]
    return lines[-1][-200:] if lines else "no results"


def _write_frames(path: Path, frames: npt.NDArray[np.int8]) -> None:
    """One hex word a line, highest byte (last channel) first."""
    words = frames.reshape(-1, frames.shape[2])[:, ::-1]
    path.write_text("".join(word.tobytes().hex() + "\n" for word in words))


def _hex_columns(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """ASCII hex digits (lines, 2n) -> bytes (lines, n)."""
    value = np.zeros(256, np.uint8)
    value[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
    digits = value[text]
    return np.ascontiguousarray(digits[:, 0::2] << 4 | digits[:, 1::2])


def _lines(path: Path) -> npt.NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if not data.size:
        return np.zeros((0, 1), np.uint8)
    width = int(np.flatnonzero(data == ord("\n"))[0]) + 1
    if data.size % width:
        raise IntactError(f"{path}: the simulation wrote an incomplete file; is the disk full?")
    if (data == ord("x")).any():
        raise IntactError(f"{path}: an undefined value (x) left the design")
    return data.reshape(-1, width)


def _read_outputs(path: Path, frames: int, words: int, rows: int) -> npt.NDArray[np.int8]:
    lines = _lines(path)
    if len(lines) != frames * words:
        raise IntactError(f"the design gave {len(lines)} output words, not {frames} frames of {words}")
    last = lines[:, 0].reshape(frames, words) == ord("1")
    if last[:, :-1].any() or not last[:, -1].all():
        raise IntactError("the design's TLAST is not on the last word of each output frame")
    return _hex_columns(lines[:, 2 : 2 + 2 * rows])[:, ::-1].view(np.int8).reshape(frames, words, rows)


def _read_timeline(path: Path) -> tuple[RunTimes, ...]:
    times: dict[str, list[int]] = {}
    layers: list[list[LayerParts]] = [[]]
    for line in path.read_text().splitlines():
        event, *numbers = line.split()
        if event == "layer":
            layers[-1].append(LayerParts(*map(int, numbers[1:])))
        else:
            times.setdefault(event, []).append(int(numbers[0]))
        if event == "done":
            layers.append([])
    columns = (times.get(event, []) for event in ("first_in", "last_in", "start", "done", "last_out"))
    return tuple(RunTimes(*row) for row in zip(*columns, map(tuple, layers), strict=False))


def _read_trace(path: Path, config: HwConfig) -> Trace:
    lines = _lines(path)
    if not len(lines):
        raise IntactError("the design wrote nothing to activation memory")
    columns = []
    at = 0
    text = bytes(lines[0]).decode()
    for width in map(len, text.split()):
        digits = lines[:, at : at + width]
        if width % 2:
            digits = np.concatenate([np.full((len(lines), 1), ord("0"), np.uint8), digits], axis=1)
        columns.append(_hex_columns(digits))
        at += width + 1
    run, cycle, address, enabled, data = columns
    groups = np.unpackbits(enabled[:, ::-1], axis=1, bitorder="little")[:, : config.groups_per_word].astype(bool)
    return Trace(
        _number(run),
        _number(cycle),
        _number(address),
        np.repeat(groups, config.lanes, axis=1),
        data[:, ::-1].view(np.int8),
    )


def _number(columns: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    value = np.zeros(len(columns), np.int64)
    for column in columns.T:
        value = value << 8 | column
    return value
