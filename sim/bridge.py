"""A simulated ULX3S behind a TCP socket, for the client of real boards: the same bytes, the same board top.

    .venv/bin/python sim/bridge.py --manifest build/digits.pt/manifest.json
    .venv/bin/python host/intact_host.py --port socket://127.0.0.1:<port> --manifest build/digits.pt/manifest.json ...

Prints the port as an address for pyserial. `--port sim` of host/intact_host.py starts this by itself. The board has the
array and the depths of the manifest's `hardware` and its memory images, or with --blank empty memories.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich", "cocotb"))

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import NoReturn, TextIO

from constraints.boards import BOARDS
from constraints.build import IMAGES
from constraints.build import sources as board_sources
from pyexport.errors import IntactError
from pyexport.export import Parser
from pyexport.hwconfig import HwConfig
from sim.runner import ROOT, get_runner, simulator_missing

BUILDS = ROOT / "build" / "sim"
TOP = "top"
LOOKS = 0.05  # seconds between two looks for the port's number


def hardware(manifest: Path) -> HwConfig:
    """The board's configuration, from a manifest. Raises IntactError where it cannot be read."""
    try:
        values = json.loads(manifest.read_text())["hardware"]
        return HwConfig(**{name.lower(): int(value) for name, value in values.items()})
    except OSError as error:
        raise IntactError(f"{manifest}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntactError(f"{manifest}: is not a manifest of export.py ({error!r})") from error


def build(config: HwConfig) -> tuple[Path, dict[str, int | str]]:
    """Builds the simulated board unless an equal one is there: its folder and parameters. Raises IntactError."""
    if reason := simulator_missing("verilator"):
        raise IntactError(f"the simulated board needs Verilator: {reason}; run `make setup`")
    # the line runs as fast as the receiver can, and pauses expire early: simulated time is dear
    parameters: dict[str, int | str] = {"CLOCKS_PER_BIT": 4, "TIMER": 14, **config.verilog_parameters()}
    # relative to where the simulation runs, so that one build serves every network
    parameters |= {name: f'"{file}"' for name, file in IMAGES.items() if config.tables or name != "TAB_FILE"}
    sources = [*board_sources(BOARDS["ulx3s"]), *sorted((ROOT / "sim" / "models").glob("*.v"))]
    settings = ROOT / "sim" / "board.vlt"
    tools = [importlib.metadata.version("cocotb"), shutil.which("verilator") or "", sys.version]
    name = hashlib.sha256(json.dumps([parameters, tools]).encode()).hexdigest()[:12]
    key = hashlib.sha256(name.encode())
    for path in [*sources, ROOT / "rtl" / "intact_defs.vh", settings, Path(__file__)]:
        key.update(path.read_bytes())
    folder = BUILDS / f"board_{config.array}_{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:  # two may want the same one
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, log = folder / "stamp", folder / "build.log"
        if stamp.is_file() and stamp.read_text() == key.hexdigest():
            return folder, parameters
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with log.open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            try:
                get_runner("verilator", private=True).build(
                    sources=[*sources, settings],
                    includes=[ROOT / "rtl"],
                    hdl_toplevel=TOP,
                    parameters=parameters,
                    build_args=["-Wall", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-CFLAGS", "-O2"],
                    build_dir=folder,
                    timescale=("1ns", "1ps"),
                    always=True,
                    log_file=log,
                )
            except (SystemExit, subprocess.CalledProcessError, RuntimeError) as error:
                raise IntactError(f"building the simulated board failed ({error}); see {log}") from error
        stamp.write_text(key.hexdigest())
    return folder, parameters


def place_images(config: HwConfig, source: Path | None, work: Path) -> None:
    """Puts the memory images of folder `source`, or empty ones, where the simulation looks for them."""
    depths = {
        "program.mem": (config.prg_depth, 64),
        "weights.mem": (config.wgt_depth, config.wgt_bits),
        "params.mem": (config.prm_depth, config.prm_bits),
        "tables.mem": (256 * config.tables, 8),
    }
    for name, (depth, bits) in depths.items():
        if source is None:
            (work / name).write_text(("0" * (bits // 4) + "\n") * depth)
        elif depth:
            try:
                shutil.copyfile(source / name, work / name)
            except OSError as error:
                raise IntactError(f"{source / name}: cannot be read: {error.strerror or error}") from error


def announce(path: Path, ended: threading.Event, out: TextIO) -> None:
    """Prints the address once the simulation has written its port's number."""
    while not ended.wait(LOOKS):
        if path.is_file():
            print(f"socket://127.0.0.1:{path.read_text()}", file=out, flush=True)
            return


def run(manifest: Path, blank: bool, once: bool) -> None:
    """Builds, then serves until the connection, with `once`, or this program ends. Raises IntactError."""
    config = hardware(manifest)
    with tempfile.TemporaryDirectory(prefix="intact-board-") as folder:
        work = Path(folder)
        place_images(config, None if blank else manifest.parent, work)
        built, parameters = build(config)
        ended = threading.Event()
        teller = threading.Thread(target=announce, args=(work / "port", ended, sys.stdout), daemon=True)
        environment = {
            "BENCH_PARAMETERS": json.dumps(parameters),
            "BRIDGE_PORT_FILE": str(work / "port"),
            "BRIDGE_ONCE": str(int(once)),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }
        log = built / "run.log"
        results = work / "results.xml"
        teller.start()
        try:
            # what the runner says itself must not get between the addresses
            with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
                get_runner("verilator", private=True).test(
                    test_module="sim.bench_bridge",
                    hdl_toplevel=TOP,
                    hdl_toplevel_lang="verilog",
                    build_dir=built,
                    test_dir=work,
                    results_xml=str(results),
                    extra_env=environment,
                    timescale=("1ns", "1ps"),
                    log_file=log,
                )
        finally:
            ended.set()
        if not results.is_file() or "<failure" in results.read_text() or "<error" in results.read_text():
            raise IntactError(f"the simulated board stopped; see {log}")


def main(argv: list[str] | None = None) -> int:
    """Parses the command line. Exit status 0, or 1 after one line on stderr."""
    parser = Parser(prog="bridge.py", description="A simulated ULX3S behind a TCP socket.")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="manifest.json of an export")
    parser.add_argument("--blank", action="store_true", help="start with empty memories: the host loads them")
    parser.add_argument("--once", action="store_true", help="end with the first connection")
    args = parser.parse_args(argv)

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt  # takes the simulation with it, which a plain end would leave alone

    signal.signal(signal.SIGTERM, stop)
    try:
        run(args.manifest, args.blank, args.once)
    except (IntactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
