"""python pyexport/export.py MODEL: a quantised model -> program, memory init files, manifest.json, and a table.

The only place that joins the parts: reader -> graph -> quantised layers -> program and images.
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
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyexport import arch as architecture
from pyexport import (
    calibrate,
    choice,
    devices,
    explain,
    golden,
    hwconfig,
    images,
    inputs,
    isa,
    lower,
    overflow,
    quantise,
    readers,
    report,
    verify,
)
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from pyexport.ir import Graph
from pyexport.manifest import manifest
from pyexport.qlayers import Network
from pyexport.runtimes import LAYERS

MANIFEST = "manifest.json"
VERIFIED_INPUTS = 100  # random ones, where --verify is given none


@dataclass(frozen=True)
class Exported:
    """Everything that an export works out. cycles: predicted, per layer."""

    graph: Graph
    network: Network
    lowered: lower.Lowered
    config: HwConfig
    cycles: list[int]
    manifest: dict[str, Any]


def export(
    model: str,
    array: str | None = None,
    match: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    config: HwConfig | None = None,
    output_range: tuple[float, float] | None = None,
    shape_hint: tuple[int, ...] | None = None,
    overlap: bool = False,
    relu: tuple[str, ...] | None = None,
    arch: str | None = None,
    quantizers: str | None = None,
    allow_overflow: bool = False,
    most_lanes: int | None = None,
    packed: bool = False,
    serial: bool = False,
    block: int = 0,
    board: str | None = None,
) -> Exported:
    """Works out the integers of `model` (a path); writes nothing.

    config: hardware with fixed memories, instead of the smallest that fit `array`. block: depths of these are
    multiples of so many words, with 0 powers of two. output_range: lowest and highest
    real output, where the file leaves the output unquantised. shape_hint: an input shape to try where the file does not
    say its own. overlap: the next input frame may come in during a run. relu, arch: of a state_dict, the layers that a
    ReLU follows, or the user's class as FILE.py:Class. quantizers: a JSON file with the widths that a tfmot model's
    file does not hold (readers.Options). allow_overflow: sums that can leave int32 wrap modulo 2^32 instead of being
    refused. most_lanes: requantise lanes at most. packed: two products a multiplier block. serial:
    requantise parameters are read in parts. board: what must hold the
    hardware; array `auto` is then the fastest that fits, and a board has an array, lanes and block of its own where
    none are given. Raises IntactError.
    """
    device = devices.find_device(board) if board else None
    preset = device.boards.get(board or "", devices.Preset()) if device else devices.Preset()
    array = preset.array if array is None else array
    most_lanes = preset.lanes if most_lanes is None else most_lanes
    block = block or (devices.FAMILIES[device.family].block if device else 0)
    automatic = config is None and array == choice.AUTO
    if automatic and device is None:
        raise IntactError(f"--array {choice.AUTO} chooses for a device: say which with --board")
    hardware = config
    if config is None and not automatic:
        hardware = hwconfig.for_array(*hwconfig.parse_array(array), most_lanes, packed, serial)
    said: dict[str, Any] = {"relu": relu, "arch": architecture.trace(arch) if arch else None}
    said["quantizers"] = load_quantizers(quantizers) if quantizers else None
    try:
        graph = readers.read(model, input_shape, output_range, **said)
    except IntactError:
        if input_shape or not shape_hint:
            raise
        graph = readers.read(model, shape_hint, output_range, **said)
    try:
        network = quantise.quantise(graph, match, allow_overflow)
        chosen = None
        if device is not None:
            wanted = choice.Wanted(hardware, most_lanes, packed, serial)
            chosen = choice.choose(device, wanted, lambda each: measured(network, each, device, overlap, config, block))
            hardware = config = chosen.chosen.hardware
        assert hardware is not None
        lowered = lower.lower(network, hardware, overlap)
        lowered = lower.with_depths(lowered, config, block)
    except IntactError as error:
        raise IntactError(f"{model}: {error}") from error
    cycles = golden.network_cycles(network, lowered.config)
    digest = digest_of(Path(model))
    described = manifest(graph, network, lowered, cycles, model, digest)
    if chosen is not None:
        described["fit"] = choice.described(chosen)
    return Exported(graph, network, lowered, lowered.config, cycles, described)


def measured(
    network: Network,
    array: HwConfig,
    device: devices.Device,
    overlap: bool,
    fixed: HwConfig | None = None,
    block: int = 0,
) -> tuple[HwConfig, HwConfig, int]:
    """`array` with memories that hold the network (`fixed`: those it has), it with the words used, predicted cycles.

    Raises IntactError where there is none, or the network has a job that the device's Verilog refuses.
    """
    if fixed and fixed.prm_serial != array.prm_serial:
        raise IntactError("the configuration says how parameters are read")
    lowered = lower.lower(network, array, overlap)
    sized = lower.with_depths(lowered, fixed, block)
    family = devices.FAMILIES[device.family]
    for job in lowered.jobs:
        too_much = isa.beyond(job.fields, family.count, family.coordinate)
        if too_much:
            layer = network.layers[job.layer].name
            raise IntactError(
                f"layer {layer!r} takes a descriptor that the Verilog for {device.name} refuses: {too_much}"
            )
    used = {
        "act_depth": lowered.header["act_words"],
        "wgt_depth": lowered.header["wgt_words"],
        "prm_depth": lowered.header["prm_words"],
        "prg_depth": len(lowered.program),
    }
    exact = sized.config if fixed else replace(sized.config, **{name: max(2, words) for name, words in used.items()})
    return sized.config, exact, sum(golden.network_cycles(network, sized.config))


def digest_of(model: Path) -> str:
    """SHA-256 of a model's file; of a folder, of all its files in order of their names."""
    files = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def write(exported: Exported, folder: Path, more: Mapping[str, bytes] | None = None) -> None:
    """Writes the memory images, the manifest and `more` into `folder`: all of them, or on an error none."""
    texts = images.memory_images(exported.lowered)
    texts[MANIFEST] = json.dumps(exported.manifest, indent=1) + "\n"
    write_files({name: text.encode() for name, text in texts.items()} | dict(more or {}), folder)
    if images.TABLES not in texts:  # of an older export
        (folder / images.TABLES).unlink(missing_ok=True)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Writes files by name into `folder`, which is made if need be: all of them, or on an error none."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    staging = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        for name, content in files.items():
            (staging / name).write_bytes(content)
        for name in files:
            os.replace(staging / name, folder / name)
    except OSError as error:
        if made:
            shutil.rmtree(made[-1], ignore_errors=True)
        reason = "is no folder" if isinstance(error, FileExistsError) else error.strerror or error
        raise IntactError(f"{folder}: cannot be written: {reason}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def default_folder(model: str) -> Path:
    """build/<model's file name>"""
    return Path("build") / Path(model).name


def load_config(path: str) -> HwConfig:
    """Hardware parameters from a JSON file with the fields of `HwConfig`, e.g. a board's."""
    known = {field.name for field in fields(HwConfig)}
    try:
        values = json.loads(Path(path).read_text())
    except OSError as error:
        raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise IntactError(f"{path}: is not JSON ({error})") from error
    if not isinstance(values, dict) or set(values) - known or not all(type(v) is int for v in values.values()):
        raise IntactError(f"{path}: must be an object of integers with names among {', '.join(sorted(known))}")
    try:
        return HwConfig(**values)
    except IntactError as error:
        raise IntactError(f"{path}: {error}") from error


def load_quantizers(path: str) -> dict[str, Any]:
    """{class of a QuantizeConfig: {"weights" or "activations": {"num_bits": 4, "narrow_range": false}}} from JSON."""
    form = 'must be {"MyConfig": {"weights": {"num_bits": 4, "narrow_range": false}, "activations": {...}}}'
    try:
        values = json.loads(Path(path).read_text())
    except OSError as error:
        raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise IntactError(f"{path}: is not JSON ({error}); it {form}") from error
    if not isinstance(values, dict) or not all(
        isinstance(roles, dict) and all(isinstance(one, dict) for one in roles.values()) for roles in values.values()
    ):
        raise IntactError(f"{path}: {form}")
    return values


def parse_shape(text: str) -> tuple[int, ...]:
    """`1,8,8` -> (1, 8, 8)."""
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write sizes separated by commas, for example 1,8,8") from None


def parse_range(text: str) -> tuple[float, float]:
    """`-2.5,3` -> (-2.5, 3.0)."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write the lowest and highest value, as in --output-range=-2.5,3"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise argparse.ArgumentTypeError(f"{text!r}: the lowest value must be below the highest, both finite")
    return low, high


def parse_names(text: str) -> tuple[str, ...]:
    """`fc1,fc2` -> ("fc1", "fc2"); `none` -> ()."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: write names separated by commas, for example fc1,fc2, or none")
    return () if names == ("none",) else names


class Parser(argparse.ArgumentParser):
    """Says what is wrong with an option as every other error is said: one line, exit status 1."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"error: {message}\n")


# what ends a command with one line; OSError: its own files, a full disk above all
REFUSALS = (IntactError, OSError, KeyboardInterrupt)


def refused(error: IntactError | OSError | KeyboardInterrupt) -> int:
    """Says an error as every command does, in one line on stderr; returns the exit status, 130 on Ctrl-C."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if isinstance(error, OSError):
        print(f"error: {error.filename or 'the results'}: {error.strerror or error}", file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
    return 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that decide what is exported; the simulation's command takes them too."""
    parser.add_argument(
        "--array",
        metavar="RxC",
        help="input lanes x output lanes (default: the board's, 8x8 without), or auto: the fastest that --board holds",
    )
    parser.add_argument("--board", metavar="NAME", help="board or device: show what fits, refuse what does not")
    parser.add_argument(
        "--lanes",
        type=int,
        metavar="N",
        help="requantise lanes at most (default: the board's, or all that divide rows and columns)",
    )
    parser.add_argument(
        "--packed", action="store_true", help="two products a multiplier block: half the array's blocks, no 3x3 window"
    )
    parser.add_argument(
        "--serial-params",
        action="store_true",
        help="requantise parameters in a narrow, deep memory, read in parts; --board does so by itself where it must",
    )
    parser.add_argument("--match", choices=sorted(LAYERS), help="the runtime whose bits to give (default: the model's)")
    parser.add_argument(
        "--input-shape", type=parse_shape, metavar="N,N", help="input without batch, if the file has none"
    )
    parser.add_argument(
        "--output-range",
        type=parse_range,
        metavar="LOW,HIGH",
        help="real outputs' range, where the file leaves them real: --output-range=-2.5,3",
    )
    parser.add_argument(
        "--relu", type=parse_names, metavar="NAME,NAME", help="a state_dict's layers that a ReLU follows, or none"
    )
    parser.add_argument("--arch", metavar="FILE.py:Class", help="a state_dict's model: runs FILE.py, builds Class()")
    parser.add_argument("--config", metavar="FILE.json", help="hardware with fixed memories, e.g. a board's")
    parser.add_argument(
        "--block",
        type=int,
        choices=[256, 512, 1024],
        default=0,
        metavar="WORDS",
        help="memories of whole blocks of 256, 512 or 1024 words (default: the board's, or powers of two from 512 on)",
    )
    parser.add_argument(
        "--quantizers", metavar="FILE.json", help="widths that a tfmot model's own QuantizeConfig keeps to itself"
    )
    parser.add_argument(
        "--overlap", action="store_true", help="let the next input frame in during a run: more frames/s, more memory"
    )
    parser.add_argument(
        overflow.FLAG,
        action="store_true",
        help="export although sums can leave int32: they wrap modulo 2^32, in hardware as in the model's runtime",
    )


def from_arguments(args: argparse.Namespace, model: str, shape: tuple[int, ...] | None) -> Exported:
    """`export` with the options of `add_arguments`. shape: the input's, where a file of inputs tells it."""
    if args.config and args.array:
        raise IntactError("--config says the array: leave out --array")
    if args.config and args.lanes is not None:
        raise IntactError("--config says the lanes: leave out --lanes")
    if args.config and args.packed:
        raise IntactError("--config says whether products are packed: leave out --packed")
    if args.config and args.serial_params:
        raise IntactError("--config says how parameters are read: leave out --serial-params")
    config = load_config(args.config) if args.config else None
    return export(
        model,
        args.array,
        args.match,
        args.input_shape,
        config,
        args.output_range,
        shape,
        args.overlap,
        args.relu,
        args.arch,
        args.quantizers,
        args.allow_overflow,
        args.lanes,
        args.packed,
        args.serial_params,
        args.block,
        args.board,
    )


def quantised(args: argparse.Namespace, given: npt.NDArray[np.generic] | None, folder: Path) -> calibrate.Calibrated:
    """The float model of the command line, quantised with its calibration inputs. Raises IntactError."""
    if given is None:
        raise IntactError("--quantize calibrates with real inputs: give --inputs data.npz (arrays inputs, labels)")
    if given.dtype.kind != "f" or not np.isfinite(given).all():
        raise IntactError(f"{args.inputs}: --quantize needs real, finite inputs, not {given.dtype}")
    return calibrate.calibrate(Path(args.model), given.astype(np.float32), folder)


def calibration_lines(
    calibrated: calibrate.Calibrated,
    network: Network,
    codes: npt.NDArray[np.int64],
    labels: npt.NDArray[np.generic] | None,
) -> list[str]:
    """What quantising cost: accuracies where the calibration data has labels, else how often the top class is the same.

    codes: the calibration inputs, as the network takes them.
    """
    output = network.output.tensor
    ours = verify.golden_tensors(network, codes)[output].reshape(len(codes), -1).argmax(1)
    before, after = (part.reshape(len(codes), -1).argmax(1) for part in (calibrated.before, calibrated.after))
    line = f"quantised by {calibrated.tool}, calibrated on {len(codes)} inputs"
    if labels is not None and labels.shape == before.shape:
        scores = [f"{np.mean(found == labels):.2%}" for found in (before, after, ours)]
        return [
            f"{line}: accuracy on them {scores[0]} {calibrated.was}, {scores[1]} quantised, {scores[2]} in hardware"
        ]
    return [
        f"{line}: top class equal to that {calibrated.was} on {np.sum(after == before):,} quantised, "
        f"{np.sum(ours == before):,} in hardware"
    ]


def verified(
    exported: Exported, model: str, codes: npt.NDArray[np.int64] | None, said: Mapping[str, Any] | None = None
) -> verify.Verification:
    """The golden model against the source's own runtime. codes: the inputs; None: random ones.

    said: what the command line says of the file: relu, arch, input_shape.
    """
    network = exported.network
    if codes is None:
        codes = verify.driving_codes(network, VERIFIED_INPUTS)
    return verify.verify(Path(model), exported.graph.source, network, codes, said)


def main(argv: list[str] | None = None) -> int:
    """The command. Exit status 0, or 1 after one line on stderr."""
    parser = Parser(prog="export.py", description="Export a quantised model to INTACT's memory images.")
    parser.add_argument("model", metavar="MODEL", help="a quantised model: docs/quantizers.md has every kind of file")
    parser.add_argument("-o", "--out", metavar="DIR", help="where to write (default build/<model's file name>)")
    parser.add_argument("--inputs", metavar="FILE", help=".npy or .npz inputs [N, ...]: the input's shape, an example")
    parser.add_argument(
        "--verify", action="store_true", help="run the model's own runtime too, on --inputs or random codes"
    )
    parser.add_argument(
        "--quantize", action="store_true", help="MODEL is a float .onnx or .pt2: quantise it with --inputs first"
    )
    parser.add_argument("--explain", metavar="LAYER", help="show one layer from float to integers, and stop")
    add_arguments(parser)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="intact-") as scratch:
        try:
            return _main(args, Path(scratch))
        except (KeyboardInterrupt, OSError) as error:
            return refused(error)
        except IntactError as error:
            # a model that was quantised here is known by the name of its source
            return refused(IntactError(str(error).replace(f"{scratch}{os.sep}", f"{args.model}: ")))


def _main(args: argparse.Namespace, scratch: Path) -> int:
    arrays = inputs.load_arrays(args.inputs) if args.inputs else {}
    given = inputs.pick(arrays, args.inputs) if args.inputs else None
    model, calibrated = args.model, None
    if args.quantize:
        calibrated = quantised(args, given, scratch)
        model, args.output_range = str(calibrated.file), args.output_range or calibrated.output_range
    exported = from_arguments(args, model, given.shape[1:] if given is not None and given.ndim > 1 else None)
    network = exported.network
    if given is not None:
        given = inputs.with_batch(given, network.input.shape, args.inputs)
        given = quantise.input_codes(network.tensors[network.input.tensor], given, network.float_input, args.inputs)
    if args.explain:
        report.console().print(explain.explain(network, args.explain, given), soft_wrap=True)
        return 0
    said = {"relu": args.relu, "arch": args.arch, "input_shape": args.input_shape}
    checked = verified(exported, model, given, said) if args.verify else None
    folder = Path(args.out) if args.out else default_folder(args.model)
    more = {}
    if calibrated is not None:
        more = {calibrated.file.name: calibrated.file.read_bytes()}
        exported.manifest["source"]["file"] = str(folder / calibrated.file.name)
    write(exported, folder, more)
    out = report.console()
    shown = exported.manifest
    out.print(report.layer_table(shown))
    lines = (
        []
        if calibrated is None or given is None
        else calibration_lines(calibrated, network, given, arrays.get("labels"))
    )
    for line in (
        *lines,
        report.proof_line(shown),
        report.overflow_line(shown),
        *report.memory_lines(shown),
        *exported.graph.notes,
    ):
        out.print(line, soft_wrap=True)
    if "fit" in shown:
        out.print(report.fit_table(shown["fit"]))
        for line in report.fit_lines(shown["fit"]):
            out.print(line, soft_wrap=True)
    if checked is not None:
        out.print(report.verification_table(checked))
        for line in report.verification_lines(checked, shown["proved_equal"]):
            out.print(line, soft_wrap=True)
    out.print(f"written to {folder}", soft_wrap=True)
    # a difference that neither the runtime nor the export announced: the promise is broken
    return int(checked is not None and not checked.equal and checked.promised and shown["proved_equal"])


if __name__ == "__main__":
    sys.exit(main())
