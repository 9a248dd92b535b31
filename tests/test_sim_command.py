"""The simulation's command in Icarus: its report, its arrays, its exit status, and what it says of differences."""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pyexport import export, golden, ir, readers
from pyexport.report import console, simulation_progress
from sim import run as command
from sim import simulate
from sim.runner import RTL, simulator_missing

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
pytestmark = pytest.mark.skipif(simulator_missing("icarus") is not None, reason="iverilog is not on PATH")
FIELDS = {"model", "simulator", "array", "macs", "cycles", "utilization", "outputs_compared", "mismatches", "layers"}
ROW = {"name", "op", "macs", "cycles", "predicted_cycles", "utilization", "outputs_compared", "mismatches"}
Run = Callable[..., tuple[int, dict[str, Any], Any, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(name, values=None, *options): exit status, report.json, inputs.npy, outputs.npy."""

    def execute(name: str, values: Any = None, *options: str) -> tuple[int, dict[str, Any], Any, Any]:
        out = tmp_path / "the output"
        arguments = [str(MODELS / f"{name}.pt"), "--sim", "icarus", "--out", str(out), *options]
        if isinstance(values, dict):
            np.savez(tmp_path / "given.npz", **values)
            arguments += ["--input", str(tmp_path / "given.npz")]
        elif values is not None:
            np.save(tmp_path / "given.npy", values)
            arguments += ["--input", str(tmp_path / "given.npy")]
        status = command.main(arguments)
        report = json.loads((out / "report.json").read_text())
        return status, report, np.load(out / "inputs.npy"), np.load(out / "outputs.npy")

    return execute


def check_report(report: dict[str, Any], rows: int, cols: int) -> None:
    """What holds for every report of a run that found nothing."""
    assert set(report) >= FIELDS and all(set(layer) == ROW for layer in report["layers"])
    assert report["array"] == f"{rows}x{cols}" and report["mismatches"] == 0
    layers = report["layers"]
    for key in ("macs", "cycles", "predicted_cycles"):
        assert sum(layer[key] for layer in layers) == report[key]
    for entry in (*layers, report):
        assert entry["cycles"] == entry["predicted_cycles"] > 0
        assert entry["utilization"] == pytest.approx(entry["macs"] / (rows * cols * entry["cycles"]))
        assert 0 <= entry["utilization"] <= 1


@pytest.mark.parametrize(("array", "rows", "cols"), [("8x8", 8, 8), ("2x6", 2, 6), ("16x4", 16, 4)])
def test_report(run: Run, array: str, rows: int, cols: int) -> None:
    data = np.load(MODELS / "digits_test.npz")["inputs"][:2]
    status, report, given, codes = run("qconvbnrelu", data, "--array", array)
    assert status == 0 and report["simulator"] == "icarus" and report["inferences"] == 2
    assert report["model"] == str(MODELS / "qconvbnrelu.pt") and report["check"] == "layers"
    check_report(report, rows, cols)
    shapes = [8 * 8 * 8, 4 * 4 * 8, 4 * 4 * 16, 2 * 2 * 16, 10]
    assert [layer["op"] for layer in report["layers"]] == ["conv2d", "max_pool2d", "conv2d", "max_pool2d", "linear"]
    assert [layer["outputs_compared"] for layer in report["layers"]] == [2 * size for size in shapes]
    assert [layer["macs"] for layer in report["layers"]] == [64 * 8 * 9, 0, 16 * 16 * 72, 0, 640]
    assert report["outputs_compared"] == 20
    assert given.shape == (2, 1, 8, 8) and given.dtype == np.uint8
    assert codes.shape == (2, 10) and codes.dtype == np.uint8


def test_only_the_output_is_compared(run: Run) -> None:
    status, report, _, _ = run("xor", np.zeros((3, 2), np.uint8), "--check", "output")
    assert status == 0 and report["check"] == "output"
    assert [layer["outputs_compared"] for layer in report["layers"]] == [0, 21]
    assert all(layer["mismatches"] == 0 for layer in report["layers"])
    check_report(report, 8, 8)


def test_inputs_of_its_own(run: Run) -> None:
    """Without INPUT: all lowest, all highest and random codes."""
    status, report, given, codes = run("constant_100")
    assert status == 0 and report["inferences"] == len(given) == len(codes) >= 3
    assert (given[0] == 0).all() and (given[1] == 255).all() and len(np.unique(given[2:])) > 100
    assert codes.shape[1:] == (2, 6, 6) and (codes == 255).all()


def test_integers_are_codes_of_any_width(run: Run) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (4, 2))
    answers = []
    for dtype in (np.uint8, np.int16, np.int64, np.uint64, ">i4"):
        status, _, given, answer = run("xor", codes.astype(dtype))
        assert status == 0 and given.dtype == np.uint8 and np.array_equal(given, codes)
        answers.append(answer)
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_floats_are_real_values(run: Run) -> None:
    """Taken as float32: a float64 just above a tie falls on it, and a tie goes to the even code."""
    quant = export.export(str(MODELS / "affine.pt")).graph.tensors["input"].quant
    assert (float(quant.scale), quant.zero_point) == (2**-6, 128)
    values = np.zeros((1, 3, 8, 8))
    values[0, 0, 0] = [0.5 / 64, 0.5 / 64 + 1e-12, 1.5 / 64, 1.0, -100, 1e300, -np.inf, np.inf]
    for dtype in (np.float64, np.float32, np.float16):
        with np.errstate(over="ignore"):
            status, _, given, _ = run("affine", values.astype(dtype))
        assert status == 0 and given[0, 0, 0].tolist() == [128, 128, 130, 192, 0, 255, 0, 255]
        assert given.dtype == np.uint8 and (given[0, 1:] == 128).all()


def test_layouts_of_the_input_file(run: Run) -> None:
    """A single input without the batch axis, Fortran order, and an .npz with other arrays beside the inputs."""
    codes = np.random.default_rng(1).integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    status, report, given, expected = run("qconvbnrelu", codes)
    assert status == 0 and np.array_equal(given, codes)
    for values in (np.asfortranarray(codes), {"labels": np.arange(2), "inputs": codes}, {"x": codes}):
        status, report, given, answer = run("qconvbnrelu", values)
        assert status == 0 and np.array_equal(given, codes) and np.array_equal(answer, expected)
    status, report, given, answer = run("qconvbnrelu", codes[1])
    assert status == 0 and report["inferences"] == 1
    assert given.shape == (1, 1, 8, 8) and np.array_equal(answer, expected[1:])


def test_arrays_beside_the_inputs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels and the framework's own codes are compared too; arrays of other shapes only happen to be there."""
    data = {name: values[:3] if values.ndim else values for name, values in np.load(MODELS / "digits_test.npz").items()}
    data |= {"inputs": np.zeros((3, 2), np.uint8), "int8_accuracy": np.float64(0.5)}
    assert run("xor", data)[0] == 0  # codes of ten classes, not of seven
    text = capsys.readouterr().out
    assert "accuracy on 3 inputs: RTL " in text and "framework int8 50.00%" in text and "framework's own" not in text
    _, _, _, codes = run("xor", data["inputs"])
    codes[1, 2] ^= 1
    odd = {"labels": np.zeros((3, 2)), "codes": codes, "float_accuracy": np.zeros(3)}
    capsys.readouterr()
    assert run("xor", odd | {"inputs": data["inputs"]})[0] == 1
    text = capsys.readouterr().out
    assert "framework's own: 1 of 21" in text and "accuracy" not in text


def test_signed_codes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with int8 tensors gives and takes int8, H, W, C order here."""
    quant, double = (ir.Quant(np.float32(scale), 0, "int8") for scale in (0.5, 1.0))
    ones = np.ones((2, 1, 1, 2), np.int16) * np.array([1, 2], np.int16).reshape(2, 1, 1, 1)
    weights = ir.Weights(ones, np.ones(2, np.float32), np.zeros(2, np.int32), None)
    node = ir.Conv2d("sum", ("x",), "y", weights, clamp=(-128, 127))
    tensors = {"x": ir.Tensor("x", (1, 3, 2), quant), "y": ir.Tensor("y", (1, 3, 2), double)}
    first, last = (ir.Port(name, (2, 3), (None, 1, 0)) for name in ("x", "y"))
    graph = ir.check(ir.Graph("made", "test", "exact", tensors, (node,), first, last), "made")
    monkeypatch.setattr(readers, "read", lambda *_, **__: graph)
    codes = np.array([[[1, 2, -128], [5, -2, -128]], [[127, 3, 0], [127, 4, 1]]], np.int8)
    status, _, given, answer = run("xor", codes)
    assert status == 0 and given.dtype == answer.dtype == np.int8 and np.array_equal(given, codes)
    # (a + b) / 2 and a + b, ties to even, saturated
    assert answer.tolist() == [[[3, 0, -128], [6, 0, -128]], [[127, 4, 0], [127, 7, 1]]]


def differences_in(text: str) -> list[tuple[str, int, int]]:
    """What the command printed: (where, expected, got)."""
    found = re.findall(r"^(layer .*|output .*): expected (-?\d+), got (-?\d+)", text, re.MULTILINE)
    return [(where, int(expected), int(got)) for where, expected, got in found]


def test_one_wrong_code_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One expected code changed: that one is reported, in the layer that wrote it, and nothing else."""
    honest = golden.run

    def changed(*args: Any, **options: Any) -> Any:
        tensors = honest(*args, **options)
        hidden = [name for name in tensors if tensors[name].shape[1:] == (1, 1, 3)]
        tensors[hidden[0]][1, 0, 0, 2] ^= 4
        return tensors

    monkeypatch.setattr(golden, "run", changed)
    status, report, _, _ = run("xor", np.array([[1, 2], [3, 4]], np.uint8))
    text = capsys.readouterr().out
    assert status == 1 and [layer["mismatches"] for layer in report["layers"]] == [1, 0] and report["mismatches"] == 0
    ((where, expected, got),) = differences_in(text)
    assert where == "layer '0' inference 1 (h, w, c)=(0, 0, 2)" and expected ^ got == 4
    assert "WAVES=1" in text and "FAILED" in text


def test_a_wrong_cycle_count_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = golden.network_cycles

    def one_more(*arguments: Any) -> list[int]:
        first, last = predict(*arguments)
        return [first, last + 1]

    monkeypatch.setattr(golden, "network_cycles", one_more)
    status, report, _, _ = run("xor", np.zeros((1, 2), np.uint8))
    text, total = capsys.readouterr().out, report["cycles"]
    named = re.search(r"layer '2': (\d+) cycles measured, (\d+) predicted", text)
    assert status == 1 and named is not None and int(named[2]) == int(named[1]) + 1
    assert f"{total + 1} predicted" in text
    assert report["predicted_cycles"] == total + 1 and report["mismatches"] == 0


def test_a_broken_weight_memory(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first weight that the simulator loads is another one than was exported."""

    def corrupting(source: Path, target: Path) -> None:
        text = source.read_text()
        if source.name == "weights.mem":
            end = text.index("\n")
            text = f"{int(text[:end], 16) ^ 0x40:0{end}x}" + text[end:]
        target.write_text(text)

    monkeypatch.setattr(shutil, "copyfile", corrupting)
    status, report, _, answer = run("xor", np.full((1, 2), 255, np.uint8))
    text = capsys.readouterr().out
    found = differences_in(text)
    assert status == 1 and report["layers"][0]["mismatches"] == 1 and report["mismatches"] > 0
    assert found[0][0] == "layer '0' inference 0 (h, w, c)=(0, 0, 0)"
    last = [(where, got) for where, _, got in found if where.startswith("output of inference 0")]
    assert last and all(answer[0, int(where[-2])] == got for where, got in last)  # outputs.npy is the RTL's


def test_broken_verilog(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A multiplier that is wrong for even weights."""
    copy = tmp_path / "rtl"
    shutil.copytree(RTL, copy)
    good = (copy / "mul8.v").read_text()
    assert "a_in * b_in" in good
    (copy / "mul8.v").write_text(good.replace("a_in * b_in", "a_in * (b_in | 8'sd1)"))
    monkeypatch.setattr(simulate, "rtl_sources", lambda: sorted(copy.glob("*.v")))
    monkeypatch.setattr(simulate, "BUILDS", tmp_path / "builds")
    status, report, _, _ = run("qconvbnrelu", np.full((1, 1, 8, 8), 200, np.uint8))
    assert status == 1 and report["layers"][0]["mismatches"] > 0
    assert len(differences_in(capsys.readouterr().out)) >= 5
    (copy / "mul8.v").write_text(good.replace("endmodule", "endmodul"))
    old = tmp_path / "the output" / "report.json"
    arguments = [str(MODELS / "xor.pt"), "--sim", "icarus", "--out", str(old.parent)]
    assert old.exists() and command.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: building the icarus simulation failed") and error.count("\n") == 1
    assert not old.exists()  # the last network's results do not stay beside this one's images


def test_waveform(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, _, _ = run("xor", np.zeros((1, 2), np.uint8), "--waves")
    found = re.search(r"^waveform: (.*) \(", capsys.readouterr().out, re.MULTILINE)
    assert status == 0 and found and Path(found[1]).stat().st_size > 1000


def test_make_sim(tmp_path: Path) -> None:
    """The whole way through make, with paths that need quoting."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("make has not set up .venv")
    model = tmp_path / "a 'model'.pt"
    shutil.copy(MODELS / "xor.pt", model)
    np.save(tmp_path / "points.npy", np.array([[1, 1], [0, 0.25]], np.float32))
    variables = {"MODEL": model, "OUT": tmp_path / "o u t", "INPUT": tmp_path / "points.npy", "SIM": "icarus"}
    settings = [f"{name}={value}" for name, value in variables.items()]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "sim", *settings, "ARRAY=4x4", "EXPORT_ARGS=--match exact"],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "o u t" / "report.json").read_text())
    assert (report["array"], report["match"], report["model"]) == ("4x4", "exact", str(model))
    assert np.load(tmp_path / "o u t" / "outputs.npy").argmax(1).tolist() == [0, 6]


def test_page(run: Run, tmp_path: Path) -> None:
    """Written on request, with the differences; one of an earlier run doesn't stay."""
    page = tmp_path / "the output" / "report.html"
    status, report, _, _ = run(
        "xor", {"inputs": np.zeros((1, 2), np.uint8), "codes": np.ones((1, 7), np.uint8)}, "--page"
    )
    (line,) = report["differences"]
    assert status == 1 and line.startswith("codes that differ from the framework's own: ")
    assert line in html.unescape(page.read_text(encoding="utf-8"))
    status, report, _, _ = run("xor", np.zeros((1, 2), np.uint8))
    assert status == 0 and report["differences"] == [] and not page.exists()


def test_progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inference and its cycles, from the core's own counter; and no bar where the output is no terminal."""
    seen: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def record(out: Console, inferences: int, cycles: int) -> Iterator[Callable[[int, int], None]]:
        assert (inferences, cycles) == (2, 7670)
        yield lambda inference, done: seen.append((inference, done))

    np.save(tmp_path / "given.npy", np.load(MODELS / "digits_test.npz")["inputs"][:2])
    arguments = [str(MODELS / "digits.pt"), "--sim", "icarus", "--out", str(tmp_path / "out")]
    arguments += ["--input", str(tmp_path / "given.npy")]
    with monkeypatch.context() as patch:
        patch.setattr("pyexport.report.simulation_progress", record)
        assert command.main(arguments) == 0
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert all(0 <= inference < 2 and 0 <= done <= 7670 for inference, done in seen)
    with simulation_progress(console(), 4, 7670) as progress:
        assert progress is None


def test_progress_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    out = Console(file=stream, width=120, force_terminal=True)
    with simulation_progress(out, 3, 1000) as progress:
        assert progress is not None and not stream.getvalue()
        progress(1, 500)
    assert "inference 2 of 3" in stream.getvalue() and "1,500 of 3,000 cycles" in stream.getvalue()
