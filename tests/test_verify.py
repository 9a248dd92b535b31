"""--verify: the golden model beside the source's own runtime, what is printed, and when it fails."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import export, quantise, readers, report, verify
from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run, saturation
from tests.refusals import message
from tests.tflite_nets import CASES, softmax
from tests.tflite_writer import Model

MODELS = Path(__file__).resolve().parent.parent / "models"
LITERT = importlib.util.find_spec("ai_edge_litert") is not None
TORCH = importlib.util.find_spec("torch") is not None
needs_litert = pytest.mark.skipif(not LITERT, reason="ai-edge-litert is not installed: pip install ai-edge-litert")
needs_torch = pytest.mark.skipif(not TORCH, reason="torch runs the models")
RUNTIMES = ["tflite-ref", "tflite-xnnpack", "tflite-ruy"]


def written(net: Model, folder: Path) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(net.data)
    return path


# --- the runtimes ----------------------------------------------------------------------------------------------------


@needs_litert
@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith("int8") or "," in name or name == "sequence"]
)
def test_every_layer_of_tflite(name: str, tmp_path: Path) -> None:
    """Every kind of layer, and with the reference kernels every tensor between layers."""
    path = written(CASES[name](3), tmp_path)
    for match in ("tflite-ref", "tflite-xnnpack"):
        network = quantise.quantise(readers.read(path), match)
        checked = verify.verify(path, "tflite", network, verify.driving_codes(network, 12))
        assert checked.equal, [one for one in checked.tensors if one.differing]
        assert checked.output.compared and checked.inputs == 12 and match in checked.runtime
        if match == "tflite-ref" and len(network.layers) > 1:
            assert len(checked.tensors) > 1


@needs_litert
@pytest.mark.parametrize("match", ["tflite-ref", "tflite-xnnpack"])
def test_softmax_on_the_host(match: str, tmp_path: Path) -> None:
    """The output compared is the model's own: the softmax, and before it the last layer's codes where shown."""
    path = written(softmax(5, "int8", 9), tmp_path)
    network = quantise.quantise(readers.read(path), match)
    checked = verify.verify(path, "tflite", network, verify.driving_codes(network, 30))
    assert network.tail is not None and checked.output.tensor == network.tail.name
    assert checked.equal and checked.output.compared == 30 * 9
    assert (network.output.tensor in [one.tensor for one in checked.tensors]) == (match == "tflite-ref")


@needs_litert
def test_other_kernels_are_told_apart(tmp_path: Path) -> None:
    """The golden model of one match against another match's kernels differs, at ties: the comparison sees it."""
    path = written(CASES["int8 average pool"](0), tmp_path)
    network = quantise.quantise(readers.read(path), "exact")
    checked = verify.verify(path, "tflite", network, verify.driving_codes(network, 60))
    assert checked.output.differing and checked.output.largest == 1 and not checked.equal
    assert checked.output.codes is not None and abs(checked.output.codes[0] - checked.output.codes[1]) == 1


@needs_torch
@pytest.mark.parametrize("match", [None, "qnnpack"])
def test_torchscript(match: str | None) -> None:
    path = MODELS / "digits.pt"
    network = quantise.quantise(readers.read(path), match)
    codes = verify.driving_codes(network, 20) // 2  # 7-bit codes: exact with and without VNNI
    checked = verify.verify(path, "torchscript", network, codes)
    assert checked.equal and checked.output.compared == 200 and (match or "fbgemm") in checked.runtime


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["torchscript", "tflite"])
def test_a_package_that_is_not_there(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {"torchscript": "torch", "tflite": "ai_edge_litert"}[source]
    for name in [name for name in sys.modules if name.split(".")[0] == package or name == f"pyexport.verify.{source}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(verify, source, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    network = quantise.quantise(readers.read(MODELS / "xor.pt"))
    with pytest.raises(IntactError, match=rf"--verify needs the package {package}.*docs/quantizers\.md"):
        verify.verify(MODELS / "xor.pt", source, network, verify.driving_codes(network, 1))


def test_a_source_without_a_runtime() -> None:
    network = quantise.quantise(readers.read(MODELS / "xor.pt"))
    with pytest.raises(IntactError, match="no runtime to compare other models with"):
        verify.verify(MODELS / "xor.pt", "other", network, verify.driving_codes(network, 1))


@needs_litert
def test_a_model_that_the_runtime_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Logistic with an output scale that TFLite does not take, but whose file is whole."""
    net = CASES["int8 logistic"](1)
    output = net.tensors[net.outputs[0]]
    net.tensors[net.outputs[0]] = {**output, 4: {**output[4], 2: np.array([0.5], np.float32)}}
    path = written(net, tmp_path)
    out = tmp_path / "out"
    said = message(capsys, export.main, [str(path), "-o", str(out), "--verify"])
    assert f"{path}: " in said and not out.exists()


@needs_torch
def test_a_file_that_torch_refuses(tmp_path: Path) -> None:
    network = quantise.quantise(readers.read(MODELS / "xor.pt"))
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04 no model")
    with pytest.raises(IntactError, match=r"net\.pt: torch cannot run it"):
        verify.verify(tmp_path / "net.pt", "torchscript", network, verify.driving_codes(network, 1))


@needs_litert
def test_wrong_inputs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, inputs = written(CASES["int8 linear"](1), tmp_path), tmp_path / "x.npy"
    for array, part in ((np.zeros((2, 61)), "the model takes"), (np.full((2, 60), 200), "lie outside int8's")):
        np.save(inputs, array)
        assert part in message(capsys, export.main, [str(path), "--verify", "--inputs", str(inputs)])


def test_a_result_of_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    network = quantise.quantise(readers.read(MODELS / "xor.pt"))
    monkeypatch.setitem(verify.RUNTIMES, "made", lambda: made(network, grow=1))
    with pytest.raises(IntactError, match="the runtime's result has shape"):
        verify.verify(MODELS / "xor.pt", "made", network, verify.driving_codes(network, 4))


# --- what is said, and the exit status -------------------------------------------------------------------------------


def made(network: Network, off: int = 0, promised: bool = True, grow: int = 0) -> verify.Runtime:
    """A runtime that gives the golden model's own codes, the last one changed by `off`."""

    def run(model: Path, network: Network, codes: Any, real: Any) -> Run:
        tensors = {name: values.copy() for name, values in verify.golden_tensors(network, codes).items()}
        last = tensors[network.output.tensor]
        last[-1, 0, 0, -1] += off
        if grow:
            tensors[network.output.tensor] = np.concatenate([last] * 2, axis=3)
        return Run("made 1.0", tensors, ("always said",), ("said of differences",), promised)

    return run


@pytest.mark.parametrize(
    ("off", "promised", "status"), [(0, True, 0), (0, False, 0), (1, True, 1), (-3, True, 1), (1, False, 0)]
)
def test_the_command(
    off: int, promised: bool, status: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    path = MODELS / "xor.pt"
    network = quantise.quantise(readers.read(path))
    monkeypatch.setitem(verify.RUNTIMES, "torchscript", lambda: made(network, off, promised))
    out = tmp_path / "out"
    assert export.main([str(path), "-o", str(out), "--verify"]) == status
    said = capsys.readouterr().out
    assert (out / "manifest.json").exists() and "golden model against made 1.0, 100 inputs" in said
    assert ("compared with made 1.0: equal" in said) == (off == 0) and "always said" in said
    assert ("said of differences" in said) == (off != 0) == ("1 differ" in said)
    layers = len(network.layers) - 1
    assert f"codes of {layers} layers" in said


def test_differences_that_the_export_lists(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    """They are announced, not a fault: exit status 0."""
    network = quantise.quantise(readers.read(MODELS / "xor.pt"))
    monkeypatch.setitem(verify.RUNTIMES, "torchscript", lambda: made(network, 1))
    real = quantise.quantise

    def listed(*args: Any) -> Network:
        found = real(*args)
        last = found.layers[-1]
        values = (np.array([5]), *last.differing[1:])
        return replace(found, layers=(*found.layers[:-1], replace(last, differing=values)))

    monkeypatch.setattr(quantise, "quantise", listed)
    assert export.main([str(MODELS / "xor.pt"), "-o", str(tmp_path / "out"), "--verify"]) == 0
    assert "lists accumulators of some channels as not exact" in capsys.readouterr().out


def test_the_table() -> None:
    one = verify.Compared("conv1", "conv1", 1234, 2, 3, (0, 1, 2, 3), (5, 8))
    console = report.console()
    with console.capture() as shown:
        console.print(report.verification_table(verify.Verification("made", 7, (one,), ())))
    expected = """golden model against made, 7 inputs
        layer compared differ most first golden runtime
        conv1 1,234 2 3 (0, 1, 2, 3) 5 8"""
    assert " ".join(shown.get().split()) == " ".join(expected.split())


@pytest.mark.parametrize(
    ("text", "doubt"),
    [("flags\t\t: fpu avx2 avx512f\n", True), ("flags : fpu avx512_vnni avx2\n", False), ("flags : avx_vnni\n", False),
     ("Features : neon\n", False), (None, False)],
)  # fmt: skip
def test_saturation(text: str | None, doubt: bool, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert bool(saturation("torch", path)) == doubt


def test_driving_codes() -> None:
    network = quantise.quantise(readers.read(MODELS / "digits.pt"))
    codes, quant = verify.driving_codes(network, 9), network.tensors["input"].quant
    assert codes.shape == (9, 1, 8, 8) and set(np.unique(codes[0])) == {0} and set(np.unique(codes[1])) == {255}
    assert set(np.unique(codes[2])) == {quant.zero_point} and len(np.unique(codes[3:])) > 100
