"""make sim: export a model, run it on the Verilog, compare every code and every cycle count, write report.json.

    .venv/bin/python sim/run.py [MODEL] [--sim verilator|icarus] [--input FILE] [--array RxC] [--match RUNTIME] ...

Exit status 0 only when nothing differs.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich", "cocotb"))

import argparse
import io
import json
import shlex
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import export, golden, inputs, quantise, report, runtimes
from pyexport.qlayers import Network
from sim import page
from sim.compare import LayerComparison, compare_layers, compare_outputs, from_words, to_words
from sim.runner import ROOT
from sim.simulate import SimResult, simulate

DEMO = ROOT / "models" / "digits.pt"
DEMO_INPUTS = ROOT / "models" / "digits_test.npz"
RANDOM_INPUTS = 2  # besides all-lowest and all-highest codes, where no inputs are given
RESULTS = ("inputs.npy", "outputs.npy", "report.json")
PAGE = "report.html"
ICARUS_INPUTS = 4  # at most, where no inputs are given: Icarus runs about a thousand cycles a second
SMALL_MACS = 1_000_000  # networks below this are compared layer by layer unless told otherwise

Codes = npt.NDArray[np.int64]


def model_inputs(network: Network, values: inputs.Array | None, path: str) -> Codes:
    """Source codes (N, *shape) from the inputs of file `path`, or extreme and random ones."""
    tensor = network.tensors[network.input.tensor]
    if values is not None:
        values = inputs.with_batch(values, network.input.shape, path)
        return quantise.input_codes(tensor, values, network.float_input, path)
    low, high = -128 - tensor.shift, 127 - tensor.shift
    rng = np.random.default_rng(0)
    codes = rng.integers(low, high + 1, (2 + RANDOM_INPUTS, *network.input.shape))
    codes[0], codes[1] = low, high
    return codes


def source_codes(network: Network, tensor: str, on_chip: npt.NDArray[np.int8]) -> npt.NDArray[np.generic]:
    """On-chip codes (N, H, W, C) of the input or output tensor -> the model's own layout, int8 or uint8."""
    port = network.input if tensor == network.input.tensor else network.output
    quant = network.tensors[tensor]
    return port.from_hwc((on_chip.astype(np.int16) - quant.shift).astype(quant.quant.dtype))


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """The contents of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def host_tail(network: Network, codes: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """What the host computes from the RTL's output codes (a softmax, where the model ends in one)."""
    tail = network.tail
    if tail is None:
        return codes
    found = runtimes.softmax_codes(codes, tail.source, tail.target, tail.beta, network.match)
    return found.astype(tail.target.dtype)


def make_report(
    model: str,
    sim: str,
    exported: export.Exported,
    result: SimResult,
    output: LayerComparison,
    layers: list[LayerComparison] | None,
    wrong: list[str],
) -> dict[str, Any]:
    """report.json's data (docs/formats.md). wrong: everything that is not as it should be, in words."""
    config, network = exported.config, exported.network
    measured = np.diff([0, *result.layer_ends]).tolist()
    rows = []
    for i, layer in enumerate(network.layers):
        compared = layers[i] if layers else output if i == len(network.layers) - 1 else None
        rows.append(
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs,
                "cycles": measured[i],
                "predicted_cycles": exported.cycles[i],
                "utilization": layer.macs / (config.multipliers * measured[i]),
                "outputs_compared": compared.compared if compared else 0,
                "mismatches": compared.different + compared.stray if compared else 0,
            }
        )
    cycles = result.cycles[0]
    return {
        "model": model,
        "simulator": sim,
        "array": config.array,
        "match": network.match,
        "inferences": len(result.cycles),
        "macs": network.macs,
        "cycles": cycles,
        "predicted_cycles": sum(exported.cycles),
        "utilization": network.macs / (config.multipliers * cycles),
        "check": "layers" if layers else "output",
        "outputs_compared": output.compared,
        "mismatches": output.different,
        "differences": wrong,
        "layers": rows,
    }


def differences(exported: export.Exported, result: SimResult, found: list[LayerComparison]) -> list[str]:
    """Everything that is not as it should be, a line each, the first few of each layer."""
    lines: list[str] = []
    for comparison in found:
        lines += comparison.first
        if comparison.stray:
            lines.append(f"{comparison.stray} writes outside a layer's own output tensor")
    names = [layer.name for layer in exported.network.layers]
    measured = np.diff([0, *result.layer_ends]).tolist()
    for name, got, expected in zip(names, measured, exported.cycles, strict=True):
        if got != expected:
            lines.append(f"layer {name!r}: {got} cycles measured, {expected} predicted")
    if set(result.cycles) != {sum(exported.cycles)}:
        lines.append(f"runs took {sorted(set(result.cycles))} cycles, {sum(exported.cycles)} predicted")
    return lines


def accuracy_lines(arrays: dict[str, inputs.Array], codes: npt.NDArray[np.generic]) -> list[str]:
    """What labels and accuracies beside the inputs allow to say."""
    lines = []
    labels = arrays.get("labels")
    if labels is not None and labels.shape == (len(codes),):
        right = codes.reshape(len(codes), -1).argmax(axis=1) == labels
        parts = [f"RTL {right.mean():.2%}"]
        for key, name in (("int8_accuracy", "framework int8"), ("float_accuracy", "framework float")):
            if key in arrays and arrays[key].size == 1 and arrays[key].dtype.kind == "f":
                parts.append(f"{name} {float(arrays[key]):.2%}")
        lines.append(f"accuracy on {len(right)} inputs: {', '.join(parts)}")
    return lines


def framework_differences(arrays: dict[str, inputs.Array], codes: npt.NDArray[np.generic]) -> int | None:
    """How many codes differ from the framework's own, where the file of inputs holds them (an array `codes`)."""
    reference = arrays.get("codes")
    if reference is None or reference.shape != codes.shape:
        return None
    return int((reference != codes).sum())


def run(args: argparse.Namespace) -> int:
    """The command behind `make sim`; returns the exit status. Raises IntactError."""
    out = report.console()
    model = args.model or os.path.relpath(DEMO)
    input_path = args.input or (str(DEMO_INPUTS) if args.model is None else "")
    arrays = inputs.load_arrays(input_path) if input_path else {}
    given = inputs.pick(arrays, input_path) if input_path else None
    shape = given.shape[1:] if given is not None and given.ndim > 1 else None
    exported = export.from_arguments(args, model, shape)
    network, config = exported.network, exported.config
    codes = model_inputs(network, given, input_path)
    if args.sim == "icarus" and args.input is None:
        codes, arrays = (
            codes[:ICARUS_INPUTS],
            {name: array[:ICARUS_INPUTS] for name, array in arrays.items() if array.shape[:1] == codes.shape[:1]},
        )
    folder = Path(args.out) if args.out else export.default_folder(model)
    export.write(exported, folder)
    out.print(report.layer_table(exported.manifest))
    shown = exported.manifest
    for line in (report.proof_line(shown), report.overflow_line(shown), *report.memory_lines(shown)):
        out.print(line, soft_wrap=True)

    first, last = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    on_chip = (network.input.to_hwc(codes) + first.shift).astype(np.int8)
    check = args.check or ("layers" if network.macs < SMALL_MACS else "output")
    with out.status("computing what to expect (the golden model)"):
        expected = golden.run(network, on_chip, keep=check == "layers")
    places = exported.lowered.plan.placements
    total = len(codes) * sum(exported.cycles)
    out.print(f"simulating {len(codes)} inferences of {sum(exported.cycles):,} cycles in {args.sim}", soft_wrap=True)
    began = time.monotonic()

    def building() -> AbstractContextManager[object]:
        return out.status("building the simulator (once per configuration)")

    for name in (*RESULTS, PAGE):  # an earlier run's must not stay beside this one's images
        (folder / name).unlink(missing_ok=True)
    with report.simulation_progress(out, len(codes), sum(exported.cycles)) as progress:
        result = simulate(
            args.sim,
            config,
            folder,
            to_words(on_chip, places[first.name], config.rows),
            places[last.name].words,
            len(network.layers),
            sum(exported.cycles),
            trace=check == "layers",
            waves=args.waves,
            building=building,
            progress=progress,
        )
    seconds = result.seconds
    out.print(
        f"{total / seconds:,.0f} cycles a second ({time.monotonic() - began:.1f} s with the build)", soft_wrap=True
    )
    output = compare_outputs(network, exported.lowered, expected[last.name], result)
    layers = compare_layers(network, exported.lowered, expected, result) if check == "layers" else None
    out_codes = host_tail(
        network, source_codes(network, last.name, from_words(result.outputs, places[last.name], last.shape))
    )
    notes = accuracy_lines(arrays, out_codes)
    wrong = differences(exported, result, [*(layers or []), output])
    others = framework_differences(arrays, out_codes)
    if others is not None:
        notes.append(f"codes that differ from the framework's own: {others} of {out_codes.size:,}")
        wrong += notes[-1:] * (others > 0)
    written = make_report(model, args.sim, exported, result, output, layers, wrong)
    contents = npy(source_codes(network, first.name, on_chip)), npy(out_codes), json.dumps(written, indent=1).encode()
    files = dict(zip(RESULTS, contents, strict=True))
    if args.page:
        files[PAGE] = page.page(exported.manifest, written, places, notes).encode(errors="replace")
    export.write_files(files, folder)
    out.print(report.result_table(written))
    for line in notes:
        out.print(line, soft_wrap=True)
    for line in wrong:
        out.print(line, soft_wrap=True, style="red", markup=False)
    if result.waveform:
        out.print(f"waveform: {result.waveform} (gtkwave or surfer open it)", soft_wrap=True)
    elif wrong:
        out.print("look at the waveform: the same command with WAVES=1", soft_wrap=True)
    out.print(
        f"{'FAILED' if wrong else 'nothing differs'}; report in {folder / (PAGE if args.page else 'report.json')}",
        soft_wrap=True,
    )
    return 1 if wrong else 0


def main(argv: list[str] | None = None) -> int:
    """Parses the command line. Exit status 0 when nothing differs, 1 when something does or an error was shown."""
    parser = export.Parser(prog="run.py", description="Run a quantised model on the Verilog and compare.")
    parser.add_argument("model", nargs="?", help="model file (default: the demo, handwritten digits)")
    parser.add_argument("--sim", choices=("verilator", "icarus"), default="verilator")
    parser.add_argument("--input", metavar="FILE", help=".npy or .npz [N, ...]: integers are codes, floats real values")
    parser.add_argument("--check", choices=("layers", "output"), help="compare all layers (default below 1 M MACs)")
    parser.add_argument("--waves", action="store_true", help="write a waveform")
    parser.add_argument("--page", action="store_true", help="write the report as an HTML page too")
    parser.add_argument("--out", metavar="DIR", help="where to write (default build/<model's file name>)")
    parser.add_argument("--export-args", default="", metavar="ARGS", help="more options of export.py, as one string")
    export.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        more = shlex.split(args.export_args)
    except ValueError as error:
        parser.error(f"--export-args {args.export_args!r}: {error}")
    if more:
        args = parser.parse_args([*(sys.argv[1:] if argv is None else argv), *more])
    try:
        return run(args)
    except export.REFUSALS as error:
        return export.refused(error)


if __name__ == "__main__":
    sys.exit(main())
