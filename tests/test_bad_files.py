"""Bad input arrays, and places that cannot be written: one line, status 1, nothing half-written."""

from __future__ import annotations

import errno
import io
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import export
from sim import run as sim_run
from sim import simulate
from sim.runner import simulator_missing
from tests.refusals import Evil, message

ROOT = Path(__file__).resolve().parent.parent
DIGITS, XOR = ROOT / "models" / "digits.pt", ROOT / "models" / "xor.pt"


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def huge_header() -> bytes:
    """An .npy that claims 2^60 values."""
    good = npy(np.zeros((1, 16)))
    return good.replace(b"(1, 16), }" + b" " * 14, b"(1, 1152921504606846976), }"[:24].ljust(24))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (npy(np.array([[1, 256]])), "input codes 1..256 lie outside uint8's 0..255"),
        (npy(np.array([[-1, 0]], np.int8)), "input codes -1..0 lie outside uint8's 0..255"),
        (npy(np.array([[0, 2**64 - 1]], np.uint64)), "lie outside uint8's 0..255"),
        (npy(np.array([[0.5, np.nan]])), "index (0, 1) is not a number"),
        (npy(np.zeros((2, 3))), "inputs have shape (2, 3); the model takes [N, 2]"),
        (npy(np.zeros((1, 1, 2))), "inputs have shape (1, 1, 2); the model takes [N, 2]"),
        (npy(np.zeros((0, 2))), "inputs have shape (0, 2); the model takes [N, 2]"),
        (npy(np.float32(1)), "inputs have shape (); the model takes [N, 2]"),
        (npy(np.zeros((1, 2), bool)), "dtype bool"),
        (npy(np.zeros((1, 2), complex)), "dtype complex128"),
        (npy(np.array([["a", "b"]])), "dtype <U1"),
        (npy(np.zeros((1, 2), "m8[s]")), "dtype timedelta64[s]"),
        (npy(np.zeros((1, 2), [("a", int)])), "dtype [('a', '<i8')]"),
        (npy(np.array([[1, None]], object), allow_pickle=True), "is not a .npy or .npz file of plain numbers"),
        (npy(np.zeros((9, 2)))[:-5], "is not a .npy or .npz file of plain numbers"),
        (npz(x=np.zeros((1, 2)))[:-30], "is not a .npy or .npz file of plain numbers"),
        (huge_header(), "is not a .npy or .npz file of plain numbers"),
        (npz(x=np.zeros((1, 2)), y=np.zeros((1, 2))), "holds arrays x, y; name the one with the inputs 'inputs'"),
        (npz(), "holds arrays"),
        (b"", "is not a .npy or .npz file of plain numbers"),
        (b"1,2\n", "is not a .npy or .npz file of plain numbers"),
        (XOR.read_bytes(), "is not a .npy or .npz file of plain numbers"),
    ],
)
def test_inputs(content: bytes, part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, out = tmp_path / "given.npy", tmp_path / "out"
    path.write_bytes(content)
    for command, options in ((export.main, ["-o", "--inputs"]), (sim_run.main, ["--out", "--input"])):
        said = message(capsys, command, [str(XOR), options[0], str(out), options[1], str(path)])
        assert said.startswith(f"error: {path}: ") and part in said, said
        assert not out.exists()


def test_inputs_that_run_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "given.npy"
    for content in (pickle.dumps(Evil(marker)), npy(np.array([Evil(marker)], object), allow_pickle=True)):
        path.write_bytes(content)
        for command, option in ((export.main, "--inputs"), (sim_run.main, "--input")):
            assert "plain numbers" in message(capsys, command, [str(XOR), option, str(path)])
    assert not marker.exists()


def test_no_place_to_write(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    for command, option in ((export.main, "-o"), (sim_run.main, "--out")):
        for out in (file, file / "below"):
            assert f"{out}: cannot be written" in message(capsys, command, [str(XOR), option, str(out)])
        said = message(capsys, command, [str(XOR), option, "/proc/nowhere/out"])
        assert "/proc/nowhere/out: cannot be written" in said
    assert file.read_text() == "kept"


@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk(older: bool, tmp_path: Path) -> None:
    """No file may grow beyond 20,000 bytes: an older export stays whole, and a new folder disappears again."""
    out = tmp_path / "deep" / "out"
    if older:
        assert export.main([str(XOR), "-o", str(out)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, str(ROOT / "pyexport" / "export.py"), str(DIGITS), "-o", str(out)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr == f"error: {out}: cannot be written: File too large\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert out.exists() == older and (tmp_path / "deep").exists() == older


def test_a_disk_that_fills_up_later(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the simulation writes its frames: one line, and no report."""

    def full(path: Path, *_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(simulate, "build", lambda *_: tmp_path)
    monkeypatch.setattr(simulate, "_write_frames", full)
    said = message(capsys, sim_run.main, [str(XOR), "--sim", "icarus", "--out", str(tmp_path / "out")])
    assert said.endswith("frames.hex: No space left on device\n")
    assert not (tmp_path / "out" / "report.json").exists()


def test_simulators(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [str(XOR), "--out", str(tmp_path / "out")]
    assert "invalid choice: 'modelsim'" in message(capsys, sim_run.main, [*arguments, "--sim", "modelsim"])
    assert "No closing quotation" in message(capsys, sim_run.main, [*arguments, "--export-args", "--match 'x"])
    assert "--match" in message(capsys, sim_run.main, [*arguments, "--export-args", "--match x"])
    monkeypatch.setattr(simulate, "simulator_missing", lambda _: "it is not installed")
    said = message(capsys, sim_run.main, [*arguments, "--sim", "icarus"])
    assert said == "error: SIM=icarus: it is not installed; run `make setup`\n"


@pytest.mark.skipif(simulator_missing("icarus") is not None, reason="iverilog is not on PATH")
def test_a_program_that_the_core_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The magic number spoilt between export and simulation: the core's own error reaches the user."""

    def spoiling(source: Path, target: Path) -> None:
        text = source.read_text()
        target.write_text(text.replace("494e5441", "494e5442", 1))

    monkeypatch.setattr(shutil, "copyfile", spoiling)
    said = message(capsys, sim_run.main, [str(XOR), "--sim", "icarus", "--out", str(tmp_path / "out")])
    assert "the icarus simulation failed" in said and "the core stopped" in said and "sim.log" in said
    assert not (tmp_path / "out" / "report.json").exists()
