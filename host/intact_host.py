"""intact-host: runs an exported network on a board at the other end of a serial line (docs/host.md).

    .venv/bin/python host/intact_host.py --port /dev/ttyUSB0 --manifest build/digits.pt/manifest.json \
        --input models/digits_test.npz --labels

Results go to stdout or --out, everything else to stderr. Exit status 1 after one line that says what is wrong, or where
codes differ from those that the file of inputs holds.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "rich", "serial"))

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path
from typing import NoReturn

import numpy as np
import serial
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from host import deployed as deployment
from host.client import MAX_PAYLOAD, SILENCE
from host.deployed import Deployed
from host.device import Device
from pyexport import inputs
from pyexport.errors import IntactError
from pyexport.isa import LOAD_TARGETS

ROOT = Path(__file__).resolve().parent.parent
BAUD = 1_000_000  # of the ULX3S
SIM = "sim"
SIM_SECONDS = 10.0  # of silence that a simulated board, far slower than a real one, is allowed


class Parser(argparse.ArgumentParser):
    """Says what is wrong with an option as every other error is said: one line, exit status 1."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message}\n")


def targets_of(text: str) -> list[str]:
    """`all`, or names of memories joined by commas -> names in LOAD_TARGETS."""
    names = list(LOAD_TARGETS) if text == "all" else [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name not in LOAD_TARGETS:
            known = ", ".join(target.lower() for target in LOAD_TARGETS)
            raise argparse.ArgumentTypeError(f"{name.lower()!r} is no memory; there are {known}, or all")
    return names


def positive(text: str) -> float:
    """A number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-3 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="intact_host.py", description="Run an exported network on a board over its serial port.")
    parser.add_argument(
        "--port", required=True, help="serial port, an address of pyserial's, or sim: a simulated ULX3S (Verilator)"
    )
    parser.add_argument("--baud", type=positive, default=BAUD, help=f"speed of the line (default {BAUD:,})")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest.json of the export")
    parser.add_argument("--reset", action="store_true", help="reset the accelerator first; memories stay")
    parser.add_argument(
        "--load", nargs="?", const="all", type=targets_of, metavar="WHAT",
        help="write the network to the board first: all, or some of program,weights,params,tables",
    )  # fmt: skip
    parser.add_argument("--input", metavar="FILE", help=".npy or .npz [N, ...]: integers are codes, floats real values")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--labels", action="store_true", help="give class numbers: the highest score's index")
    form.add_argument("--real", action="store_true", help="give real values (default: codes)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write results as .npy instead of printing them")
    parser.add_argument("--counters", action="store_true", help="show the cycle counters of the last run, by layer")
    parser.add_argument(
        "--timeout", type=positive, default=60.0, metavar="SECONDS", help="longest inference (default 60)"
    )
    args = parser.parse_args(argv)
    if args.manifest is None and (args.load or args.input or args.counters or args.port == SIM):
        parser.error("--manifest: the network's manifest.json is needed")
    if args.input is None and (args.labels or args.real or args.out or args.limit is not None):
        parser.error("--labels, --real, --limit and --out need --input")
    if round(args.baud) < 1:
        parser.error(f"--baud {args.baud:g}: at least 1 bit a second is needed")
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit {args.limit}: at least one input is needed")
    return args


@contextmanager
def simulated(manifest: Path, blank: bool, err: Console) -> Iterator[str]:
    """Starts sim/bridge.py and gives its address; it ends when the connection does."""
    command = [sys.executable, str(ROOT / "sim" / "bridge.py"), "--manifest", str(manifest), "--once"]
    process = subprocess.Popen(
        [*command, *(["--blank"] if blank else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        with err.status("starting the simulated board (its first build takes minutes)"):
            address = process.stdout.readline().strip()
        if not address:
            said = process.communicate()[1].strip().splitlines()
            raise IntactError(f"port sim: {said[-1].removeprefix('error: ') if said else 'it did not start'}")
        yield address
    finally:
        try:  # the port is closed by now, which ends it
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.communicate()


@contextmanager
def opened(address: str, baud: int, name: str) -> Iterator[serial.SerialBase]:
    """An open port. Its time-out is twice what the longest exchange takes, and what the other end may wait."""
    slow = "://" in address
    timeout = SIM_SECONDS if slow else SILENCE + 4 * (MAX_PAYLOAD + 16) * 10 / baud
    try:
        port = serial.serial_for_url(address, baudrate=baud, timeout=timeout)
    except (OSError, ValueError, OverflowError) as error:  # SerialException is an OSError
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else str(error).splitlines()[0]
        hint = " (is this user in the group that may use serial ports, often `dialout`?)" if number == EACCES else ""
        raise IntactError(f"port {name}: cannot be opened: {why}{hint}") from error
    with port:
        yield port


@contextmanager
def bar(err: Console, text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal: a function of what is done so far. Elsewhere nothing is shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


def infer(args: argparse.Namespace, device: Device, network: Deployed, err: Console, arrays: dict[str, inputs.Array],
          frames: list[bytes]) -> int:  # fmt: skip
    """Runs every frame, gives the results, and what labels and codes beside the inputs allow to say."""
    began = time.monotonic()
    outputs = []
    with bar(err, "inferences", len(frames)) as show:
        for output, _ in device.run(network, frames):
            outputs.append(output)
            show(len(outputs))
    seconds = time.monotonic() - began
    codes = network.decode(outputs)
    result = network.labels(codes) if args.labels else network.real(codes) if args.real else codes
    if args.out:
        with args.out.open("wb") as stream:  # np.save would add a suffix to another name
            np.save(stream, result)
    else:
        for row in result.reshape(len(result), -1):
            print(*row.tolist())
    err.print(
        f"{len(frames)} inferences of {network.cycles:,} cycles each, as predicted; "
        f"{len(frames) / seconds:.1f} a second with the link"
    )
    if not (network.told or args.load or args.port == SIM):
        err.print(
            "the manifest names no board (--board, make bitstream): what a bitstream cannot fill, as an iCEBreaker's "
            "weights, was not loaded"
        )
    right = arrays.get("labels")
    if right is not None and right.ndim == 1 and len(right) >= len(codes) and np.prod(codes.shape[1:]) > 1:
        share = (codes.reshape(len(codes), -1).argmax(axis=1) == right[: len(codes)]).mean()
        err.print(f"accuracy on {len(codes)} inputs: {share:.2%}")
    known = arrays.get("codes")
    if known is None or known.shape[1:] != codes.shape[1:] or len(known) < len(codes):
        return 0
    wrong = int((known[: len(codes)] != codes).sum())
    err.print(f"codes that differ from the framework's own: {wrong} of {codes.size:,}")
    return int(wrong > 0)


def counters(device: Device, network: Deployed) -> None:
    """Prints the last run's cycles, layer by layer, beside the predicted ones."""
    found = device.counters()
    print(f"runs since reset: {found['RUNS']}")
    measured = device.layer_cycles(network) if found["RUNS"] else [0] * len(network.layers)
    width = max(len(layer.name) for layer in network.layers)
    print(f"{'layer':{width}}  {'cycles':>12}  {'predicted':>12}")
    for layer, cycles in zip(network.layers, measured, strict=True):
        print(f"{layer.name:{width}}  {cycles:>12,}  {layer.cycles:>12,}")
    print(f"{'total':{width}}  {found['CYCLES']:>12,}  {network.cycles:>12,}")


def work(args: argparse.Namespace, port: serial.SerialBase, err: Console, network: Deployed | None,
         arrays: dict[str, inputs.Array], frames: list[bytes]) -> int:  # fmt: skip
    """Everything that the command line asks for, in order: reset, load, run, counters."""
    slow = "://" in str(port.port) or args.port == SIM
    device = Device(port, f"port {args.port}", 2.0 if slow else SILENCE, args.timeout)
    if network is not None:
        device.check(network)
    if not (args.reset or args.load or args.input or args.counters):
        print(", ".join(f"{name} {value}" for name, value in device.identity().items()))
    if args.reset:
        device.reset()
    if args.load and network is not None:
        began = time.monotonic()
        loaded = network.to_load(args.load)
        total = sum(len(words) * width // 8 for words, width in map(network.image, loaded))
        with bar(err, "loading", total) as show:
            device.load(network, args.load, lambda done, _: show(done))
        err.print(f"loaded {', '.join(loaded).lower()} in {time.monotonic() - began:.1f} s")
    status = infer(args, device, network, err, arrays, frames) if network is not None and frames else 0
    if args.counters and network is not None:
        counters(device, network)
    if device.retries:
        err.print(f"the line garbled something: {device.retries} steps repeated")
    return status


def run(args: argparse.Namespace) -> int:
    """The command. Everything that can be wrong without a board is found before the port is opened."""
    err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    network = deployment.load(args.manifest) if args.manifest else None
    arrays: dict[str, inputs.Array] = {}
    frames: list[bytes] = []
    if network is not None and args.input:
        arrays = inputs.load_arrays(args.input)
        given = inputs.pick(arrays, args.input)
        frames = network.encode(given, args.input)[: args.limit]
        if args.labels:
            network.labels(np.zeros((1, *network.target.port.shape), np.int8))
    if network is not None and frames and args.port != SIM:  # the simulated board holds every image from its start
        args.load = [name for name in network.used if name in {*(args.load or ()), *network.empty}]
    if args.out and (args.out.is_dir() or not os.access(args.out if args.out.exists() else args.out.parent, os.W_OK)):
        raise IntactError(f"{args.out}: cannot be written")  # not after the last inference
    if args.load and network is not None:
        for target in network.to_load(args.load):
            network.image(target)
    if args.port != SIM:
        with opened(args.port, round(args.baud), args.port) as port:
            return work(args, port, err, network, arrays, frames)
    with simulated(args.manifest, bool(args.load), err) as address, opened(address, round(args.baud), SIM) as port:
        return work(args, port, err, network, arrays, frames)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 after one line on stderr or where codes differ from known ones."""
    args = parse(argv)
    try:
        status = run(args)
        sys.stdout.flush()
        return status
    except IntactError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # the port, unplugged, or where results go
        where = error.filename or (f"port {args.port}" if isinstance(error, serial.SerialException) else "the results")
        if isinstance(error, BrokenPipeError):  # nobody reads them: nor may Python at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: {where}: {error.strerror or error}".splitlines()[0], file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
