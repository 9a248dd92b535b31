"""The exporter's command: what it writes, what it prints, and that it needs neither torch nor the caller's packages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import export, ir, readers, report
from pyexport.arith import FRACTION
from pyexport.runtimes import LAYERS
from tests.tflite_nets import activations

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DIGITS, XOR, AFFINE = (MODELS / f"{name}.pt" for name in ("digits", "xor", "affine"))
FILES = {"program.mem", "weights.mem", "params.mem", "manifest.json"}


def command(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """pyexport/export.py in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "pyexport" / "export.py"), *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The demo's manifest and the folder of its export."""
    folder = tmp_path_factory.mktemp("digits")
    assert export.main([str(DIGITS), "-o", str(folder)]) == 0
    return json.loads((folder / "manifest.json").read_text()), folder


def test_files_and_exit_status(tmp_path: Path) -> None:
    done = command(str(DIGITS), "-o", str(tmp_path / "out"), "--array", "16x4")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["array"] == "16x4"
    assert f"written to {tmp_path / 'out'}" in done.stdout


def test_default_folder(tmp_path: Path) -> None:
    """build/<model's file name>, below the folder that the command was started in."""
    shutil.copy(XOR, tmp_path / "my model.pt")
    assert command("my model.pt", folder=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "build" / "my model.pt").iterdir()} == FILES


def test_an_export_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    for model in (DIGITS, XOR):
        assert export.main([str(model), "-o", str(tmp_path)]) == 0
    fresh = tmp_path / "fresh"
    assert export.main([str(XOR), "-o", str(fresh)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"notes.txt", "fresh"}
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (fresh / name).read_bytes()


def test_the_same_model_gives_the_same_bytes(digits: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    assert command(str(DIGITS), "-o", str(tmp_path), PYTHONHASHSEED="7").returncode == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (digits[1] / name).read_bytes(), name


def test_memory_images(digits: tuple[dict[str, Any], Path]) -> None:
    """As many words as the memory has, each of its width, and the manifest's own counts of those in use."""
    manifest, folder = digits
    hardware, memory = manifest["hardware"], manifest["memory"]
    assert memory["files"] == {"program": "program.mem", "weights": "weights.mem", "parameters": "params.mem"}
    for file, depth, bits, used in (
        ("program.mem", "PRG_DEPTH", 64, memory["program_words"]),
        ("weights.mem", "WGT_DEPTH", 8 * hardware["ROWS"] * hardware["COLS"], memory["weight_words"]),
        ("params.mem", "PRM_DEPTH", 160 * hardware["LANES"], memory["parameter_words"]),
    ):
        words = (folder / file).read_text().splitlines()
        assert len(words) == hardware[depth]
        assert all(re.fullmatch(rf"[0-9a-f]{{{bits // 4}}}", word) for word in words)
        assert 0 < used <= len(words)
        assert any(int(word, 16) for word in words[:used]) and not any(int(word, 16) for word in words[used:])


def test_tables_have_an_image_of_their_own(tmp_path: Path) -> None:
    """And it goes when the folder gets a network without any."""
    model, folder = tmp_path / "net.tflite", tmp_path / "out"
    model.write_bytes(activations(1, "int8").data)
    assert export.main([str(model), "-o", str(folder), "--array", "4x4"]) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["memory"]["files"]["tables"] == "tables.mem"
    tables = [layer["table"] for layer in manifest["layers"] if "table" in layer]
    codes = [int(line, 16) for line in (folder / "tables.mem").read_text().split()]
    assert manifest["hardware"]["TABLES"] == manifest["memory"]["tables"] == len(tables) == 5
    assert codes == [code & 0xFF for table in tables for code in table]
    (folder / "hardware.json").write_text('{"rows": 4, "cols": 4, "lanes": 4, "tables": 4, "wgt_depth": 4096}')
    assert export.main([str(model), "-o", str(folder), "--config", str(folder / "hardware.json")]) == 1
    assert export.main([str(XOR), "-o", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == FILES | {"hardware.json"}


def test_manifest_names_its_source(digits: tuple[dict[str, Any], Path]) -> None:
    manifest = digits[0]
    assert manifest["version"] == manifest["format_version"] == 1
    assert manifest["source"]["file"] == str(DIGITS) and manifest["source"]["kind"] == "torchscript"
    assert manifest["source"]["sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert manifest["array"] == "8x8" and manifest["match"] == "fbgemm" and manifest["proved_equal"] is True


def test_manifest_describes_every_layer(digits: tuple[dict[str, Any], Path]) -> None:
    manifest = digits[0]
    layers = manifest["layers"]
    assert [layer["op"] for layer in layers] == ["conv2d", "conv2d", "max_pool2d", "conv2d", "avg_pool2d", "linear"]
    assert layers[0]["input"]["tensor"] == manifest["input"]["tensor"]
    assert layers[-1]["output"]["tensor"] == manifest["output"]["tensor"]
    assert manifest["input"]["source_shape"] == [1, 8, 8] and manifest["output"]["source_shape"] == [10]
    for layer in layers:
        channels = layer["output"]["shape_hwc"][2]
        for values in (layer["multiplier"], layer["shift"], layer["bias"], *layer["rounding"].values()):
            assert len(values) == channels
        assert len(layer["rounding"]) == 5 and layer["proved_equal"] and not layer["differing_accumulators"]
        for port in (layer["input"], layer["output"]):
            assert port["scale"] > 0 and 0 <= port["zero_point"] <= 255 and port["dtype"] == "uint8"
        for start, end in layer["memory"].values():
            assert 0 <= start <= end
        if "weights" in layer:
            height, width, channels = layer["output"]["shape_hwc"]
            out, kernel_h, kernel_w, inputs = layer["weights"]["shape_out_kh_kw_in"]
            assert layer["macs"] == height * width * out * kernel_h * kernel_w * inputs
            assert len(layer["weights"]["scales"]) == len(layer["weights"]["zero_points"]) == out
    assert manifest["macs"] == sum(layer["macs"] for layer in layers) == 452_864
    assert manifest["predicted_cycles"] == sum(layer["predicted_cycles"] for layer in layers)


def test_manifest_multipliers_are_the_scales(digits: tuple[dict[str, Any], Path]) -> None:
    """m / 2^s is s_in * s_w / s_out to within the few float32 roundings of the runtime."""
    for layer in digits[0]["layers"]:
        for c, scale in enumerate(layer.get("weights", {"scales": []})["scales"]):
            wanted = layer["input"]["scale"] * scale / layer["output"]["scale"]
            assert layer["multiplier"][c] / 2.0 ** layer["shift"][c] == pytest.approx(wanted, rel=1e-5)
            assert 0 < layer["multiplier"][c] < 1 << 31 and layer["shift"][c] >= FRACTION


def test_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert export.main([str(DIGITS), "-o", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for layer in manifest["layers"]:
        line = next(line for line in text.splitlines() if line.split()[:2] == [layer["name"], layer["op"]])
        assert "×".join(map(str, layer["output"]["shape_hwc"])) in line
        assert f"{layer['predicted_cycles']:,}" in line and line.rstrip().endswith("proved")
        assert f"{layer['input']['scale']:.4g} → {layer['output']['scale']:.4g}" in line
        if "weights" in layer:
            low, high = layer["weights"]["range"]
            assert f" {low}..{high} " in line and f" {layer['macs']:,} " in line
            assert f" {min(layer['bias'])}..{max(layer['bias'])} " in line
            assert f"{min(layer['multiplier']):#x}" in line and f"{min(layer['shift'])}..{max(layer['shift'])}" in line
    assert f" {manifest['predicted_cycles']:,} " in text and "memory: weights" in text
    assert "rounding: 154 channels compared with fbgemm on every reachable accumulator: equal" in text


def test_names_are_never_markup(tmp_path: Path) -> None:
    """A path with what looks like the table's own markup, on a terminal that cannot show every character."""
    folder = tmp_path / "["
    folder.mkdir()
    model = folder / "red] [bold]x :smile:.pt"
    shutil.copy(XOR, model)
    done = command(str(model), "-o", str(folder / "out"), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{model} on 8x8" in done.stdout and f"written to {folder / 'out'}" in done.stdout


@pytest.mark.parametrize(("model", "name"), [(DIGITS, "conv1"), (DIGITS, "fc"), (AFFINE, "1+2"), (XOR, "0")])
def test_explain_a_weighted_layer(model: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert export.main([str(model), "--explain", name, "-o", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out").exists()
    text = capsys.readouterr().out
    for part in ("bias / (s_in*s_w) =", "Zero points:", "M = s_in*s_w/s_out", "acc = ", "v = acc + bias", "code "):
        assert part in text, part
    # the sum worked by hand, and the requantise after it, checked with Python's own integers
    products = [int(value) for value in re.findall(r"^  \(-?\d+ - -?\d+\) \* -?\d+ = (-?\d+)$", text, re.MULTILINE)]
    more = re.search(r"more that add up to (-?\d+)", text)
    acc = int(re.findall(r"^  acc = (-?\d+)$", text, re.MULTILINE)[0])
    assert products and sum(products) + (int(more[1]) if more else 0) == acc
    v, m, p = map(int, re.findall(r"p = v \* m = (-?\d+) \* (-?\d+) = (-?\d+)", text)[0])
    assert v * m == p and f"{acc} + " in text


@pytest.mark.parametrize(("name", "part"), [("pool1", "largest code of the window"), ("pool2", "acc = ")])
def test_explain_a_pool(name: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(DIGITS), "--explain", name]) == 0
    assert part in capsys.readouterr().out


def test_explain_tells_similar_names_apart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer 10 is a pool, whatever layer 1 is."""
    quant = ir.Quant(np.float32(1), 0, "int8")
    weights = ir.Weights(np.full((2, 1, 1, 2), 3, np.int16), np.ones(2, np.float32), np.zeros(2, np.int32), None)
    conv = ir.Conv2d("1", ("x",), "y", weights, clamp=(-128, 127))
    pool = ir.MaxPool2d("10", ("y",), "z", (2, 2), (2, 2), clamp=(-128, 127))
    shapes = (("x", (2, 2, 2)), ("y", (2, 2, 2)), ("z", (1, 1, 2)))
    tensors = {name: ir.Tensor(name, shape, quant) for name, shape in shapes}
    first, last = ir.Port("x", (2, 2, 2), (1, 2, 0)), ir.Port("z", (2, 1, 1), (1, 2, 0))
    graph = ir.check(ir.Graph("made", "test", "exact", tensors, (conv, pool), first, last), "made")
    monkeypatch.setattr(readers, "read", lambda *_, **__: graph)
    assert export.main([str(XOR), "--explain", "10"]) == 0
    assert "largest code of the window" in capsys.readouterr().out
    assert export.main([str(XOR), "--explain", "1"]) == 0
    assert "Weights of channel" in capsys.readouterr().out
    assert export.main([str(XOR), "--explain", "2"]) == 1
    assert "layers are 1, 10" in capsys.readouterr().err


def test_explain_an_input_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The worked output is the golden model's on the first of --inputs, which may be codes or real values."""
    texts = []
    data = np.load(MODELS / "digits_test.npz")
    single = tmp_path / "single.npy"
    np.save(single, data["inputs"][0])  # without the batch axis
    for path in (MODELS / "digits_test.npz", single):
        assert export.main([str(DIGITS), "--explain", "fc", "--inputs", str(path)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "the first input of --inputs" in texts[0]
    channel = int(re.findall(r"Output \(h, w, c\) = \(0, 0, (\d+)\)", texts[0])[0])
    assert f"code {data['codes'][0][channel]} in the model" in texts[0]


def test_the_inputs_tell_a_shape_that_the_file_lacks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Images of 8 and 9 pixels would both fit the demo's layers; where the file says its shape, that one counts."""
    model, given = tmp_path / "model.pt", tmp_path / "given.npy"
    with zipfile.ZipFile(DIGITS) as source, zipfile.ZipFile(model, "w") as target:
        for name in source.namelist():
            if not name.endswith(("input_shape", "traced_inputs.pkl")):
                target.writestr(name, source.read(name))
    arguments = ["-o", str(tmp_path / "out")]
    assert export.main([str(model), *arguments]) == 1
    assert "--input-shape" in capsys.readouterr().err
    assert export.main([str(model), *arguments, "--input-shape", "1,9,9"]) == 0
    for size in (8, 9):
        np.save(given, np.zeros((5, 1, size, size), np.uint8))
        assert export.main([str(model), *arguments, "--inputs", str(given)]) == 0
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["input"]["source_shape"] == [1, size, size]
    capsys.readouterr()
    assert export.main([str(DIGITS), *arguments, "--inputs", str(given)]) == 1
    assert "inputs have shape (5, 1, 9, 9); the model takes [N, 1, 8, 8]" in capsys.readouterr().err


def test_overlap(digits: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """Off unless asked for; then the input's words are no other tensor's, and the program says when they are free."""
    assert export.main([str(DIGITS), "-o", str(tmp_path), "--overlap"]) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["overlap"] is True and digits[0]["overlap"] is False
    start, stop = manifest["input"]["base"], manifest["input"]["base"] + manifest["input"]["words"]
    assert all(
        low >= stop or high <= start for low, high in (entry["memory"]["output"] for entry in manifest["layers"])
    )
    headers = [int((folder / "program.mem").read_text().split()[3], 16) >> 48 for folder in (tmp_path, digits[1])]
    assert headers == [1, 0]


def test_every_runtime_can_be_matched(tmp_path: Path) -> None:
    scales = {}
    for runtime in LAYERS:
        manifest = export.export(str(XOR), match=runtime).manifest
        assert manifest["match"] == runtime and manifest["layers"][0]["multiplier"][0] > 0
        scales[runtime] = manifest["layers"]
    assert scales["fbgemm"] != scales["qnnpack"]


def test_torch_is_not_needed(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from pyexport import export; sys.exit(export.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(DIGITS), "-o", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_summary_of_the_proof() -> None:
    """Adds are compared on all pairs; what differs is counted."""
    channels = {"multiplier": [1, 2, 3], "differing_accumulators": {}}
    add = channels | {"second_input": {}}
    shown = {"match": "tflite-ref", "layers": [channels, add]}
    line = report.proof_line(shown)
    assert line.startswith("rounding: 3 channels") and line.endswith("1 adds on all 65,536 pairs of codes: equal")
    shown["layers"] = [channels | {"differing_accumulators": {"2": {"count": 5, "values": []}}}]
    assert report.proof_line(shown).endswith("accumulator: 1 channels differ")
