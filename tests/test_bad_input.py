"""Bad models, options and inputs through the commands: one line that says what and where, status 1, nothing written."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pyexport import export, ir, readers
from sim import run as sim_run
from tests.refusals import Evil, message

ROOT = Path(__file__).resolve().parent.parent
DIGITS, XOR = ROOT / "models" / "digits.pt", ROOT / "models" / "xor.pt"
POOLS = "code/__torch__/torch/nn/modules/pooling.py"
LINEAR = "code/__torch__/torch/ao/nn/quantized/modules/linear.py"
CONV = "code/__torch__/torch/ao/nn/intrinsic/quantized/modules/conv_relu.py"
Refused = Callable[..., str]


@pytest.fixture(params=["export", "simulate"])
def refused(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Refused]:
    """refused(model, *options): the line that either command gives, which must leave no trace in or beside OUT."""
    out = tmp_path / "deep" / "out"

    def command(model: Path | str, *options: str) -> str:
        if request.param == "export":
            return message(capsys, export.main, [str(model), "-o", str(out), *options])
        return message(capsys, sim_run.main, [str(model), "--sim", "icarus", "--out", str(out), *options])

    yield command
    assert not out.parent.exists()


def rewrite(path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """The demo with one member of the archive changed."""
    with zipfile.ZipFile(DIGITS) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            new = change(data) if name == f"digits/{member}" else data
            assert new != data or name != f"digits/{member}"
            target.writestr(name, new)
    return path


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new)


def test_no_model(refused: Refused, tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.pt'}: cannot be read: No such file" in refused(tmp_path / "none.pt")
    assert f"{tmp_path}: is no SavedModel" in refused(tmp_path)
    assert "unknown format" in refused(Path(__file__)) and "unknown format" in refused("/dev/null")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_model(part: float, refused: Refused, tmp_path: Path) -> None:
    data = DIGITS.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(len(data) * part)])
    assert str(path) in refused(path)


def test_pickles_do_not_run(refused: Refused, tmp_path: Path) -> None:
    """As a bare file, inside a model's archive, and as the inputs."""
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    evil = pickle.dumps(Evil(marker), 2)
    path.write_bytes(evil)
    assert "bare pickle" in refused(path)
    for member in ("data.pkl", "constants.pkl"):
        assert "system" in refused(rewrite(path, member, lambda _: evil))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("member", "change", "parts"),
    [
        (POOLS, swap(b"torch.max_pool2d(", b"torch.frobnicate("), ("layer 'pool1'", "frobnicate", "not supported")),
        (
            POOLS,
            swap(b"[2, 2], [2, 2], [0, 0], [1, 1]", b"[2, 2], [0, 2], [0, 0], [1, 1]"),
            ("layer 'pool1'", "stride"),
        ),
        (
            POOLS,
            swap(b"[2, 2], [2, 2], [0, 0], [1, 1]", b"[9, 9], [2, 2], [0, 0], [1, 1]"),
            ("layer 'pool1'", "kernel"),
        ),
        (LINEAR, swap(b"0.37940716743469238", b"0."), ("layer 'fc'", "scale 0.0", "re-calibrate")),
        (LINEAR, swap(b"0.37940716743469238, 77", b"0.37940716743469238, 777"), ("fc", "zero point 777")),
        (LINEAR, swap(b"0.37940716743469238", b"-1."), ("layer 'fc'", "scale -1.0")),
        ("data/0", lambda _: struct.pack("<f", float("nan")), ("layer 'quantize_per_tensor'", "finite", "scale")),
        ("data/0", lambda _: bytes(4), ("scale 0.0", "re-calibrate")),
        ("data/3", lambda data: struct.pack("<d", float("inf")) + data[8:], ("layer 'conv1'", "scale")),
        ("data/3", lambda data: bytes(8) + data[8:], ("layer 'conv1'", "scale")),
        ("data/3", lambda data: data[:-8], ("layer 'conv1'", "storage of 15 values")),
        ("data/4", lambda data: b"\xff\x7f" + data[2:], ("layer 'conv1'", "zero point")),
        ("extra/input_shape", lambda _: b"[1, 1, 12, 12]", ("layer 'fc'", "128")),
        ("extra/input_shape", lambda _: b"[1, 3, 8, 8]", ("layer 'conv1'", "1 channels", "(3, 8, 8)")),
        ("extra/input_shape", lambda _: b"hello", ("input_shape", "[1, 1, 8, 8]")),
    ],
)
def test_changed_models(
    member: str, change: Callable[[bytes], bytes], parts: tuple[str, ...], refused: Refused, tmp_path: Path
) -> None:
    """Operations, attributes, scales and shapes that cannot be: the line names file, layer and attribute."""
    path = rewrite(tmp_path / "changed.pt", member, change)
    text = refused(path)
    for part in (str(path), *parts):
        assert part in text, text


@pytest.mark.parametrize(
    ("quant", "part"),
    [
        (ir.Quant(np.float32("nan"), 0, "uint8"), "scale nan is not a positive finite number"),
        (ir.Quant(np.float32(0), 0, "uint8"), "scale 0.0 is not a positive finite number"),
        (ir.Quant(np.float32(1), -1, "uint8"), "zero point -1 lies outside uint8's 0..255"),
    ],
)
def test_graphs_that_are_not_legal(
    quant: ir.Quant, part: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a reader may produce is checked once more before anything is worked out."""
    tensors = {"x": ir.Tensor("x", (1, 1, 2), quant)}
    port = ir.Port("x", (2,), (None, None, 0))
    graph = ir.Graph("made", "test", "fbgemm", tensors, (), port, port)
    monkeypatch.setattr(readers, "_read", lambda *_: graph)
    assert f"{XOR}: tensor 'x': {part}" in refused(XOR)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *(
            (text, "write it as rows x columns, for example 8x8")
            for text in ("8", "8x", "x8", "8x8x8", "8.5x2", "", "-1x4")
        ),
        ("0x4", "must be at least 1"),
        ("1x1", "the smallest arrays are 1x2 and 2x1"),
        ("65x8", "lies outside 1..64"),
        ("8x999", "lies outside 1..64"),
    ],
)
def test_arrays(text: str, part: str, refused: Refused) -> None:
    said = refused(XOR, f"--array={text}")
    assert said.startswith("error: array") and part in said


def test_options(refused: Refused, tmp_path: Path) -> None:
    assert "choose from" in refused(XOR, "--match", "nope") and "--match" in refused(XOR, "--match", "nope")
    assert "write sizes separated by commas" in refused(DIGITS, "--input-shape", "a")
    assert "1 channels" in refused(DIGITS, "--input-shape", "2,8,8")
    assert "lowest value must be below" in refused(DIGITS, "--output-range=3,-3")
    assert "lowest and highest" in refused(DIGITS, "--output-range=3")
    assert "unrecognized arguments: --frobnicate" in refused(DIGITS, "--frobnicate")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"act_depth": 16}', "needs act_depth = 384, the hardware 8x8 has 16"),
        ('{"wgt_depth": 64}', "needs wgt_depth = 254, the hardware 8x8 has 64"),
        ('{"prm_depth": 2}', "needs prm_depth = 20, the hardware 8x8 has 2"),
        ('{"prg_depth": 8}', "the hardware 8x8 has 8"),
        ('{"layers": 2}', "needs layers = 6, the hardware 8x8 has 2"),
        ('{"rows": 4, "cols": 4, "lanes": 3}', "lanes=3 must divide"),
        ('{"rows": 0}', "rows=0"),
        ('{"depth": 1}', "names among"),
        ('{"rows": 8.0}', "object of integers"),
        ('{"rows": true}', "object of integers"),
        ("[8]", "object of integers"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\x80", "is not JSON"),
    ],
)
def test_hardware_files(text: str, part: str, refused: Refused, tmp_path: Path) -> None:
    """A model too large for the memories, and files that describe no hardware."""
    path = tmp_path / "board.json"
    path.write_text(text, encoding="latin-1")
    said = refused(DIGITS, "--config", str(path))
    assert part in said and (str(path) in said or f"{DIGITS}: the model needs" in said)
    assert "leave out --array" in refused(DIGITS, "--config", str(path), "--array", "8x8")
