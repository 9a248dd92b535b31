"""intact-host against the simulated board: the same command, the same bytes, the whole board top in Verilator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("serial", reason="pyserial is not installed: requirements/host.txt")

import serial

from pyexport import export, golden
from sim.runner import simulator_missing

ROOT = Path(__file__).resolve().parent.parent
TEST_SET = ROOT / "models" / "digits_test.npz"
COUNT = 3

if why := simulator_missing("verilator"):
    pytest.skip(why, allow_module_level=True)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo's export."""
    folder = tmp_path_factory.mktemp("digits")
    export.write(export.export(str(ROOT / "models" / "digits.pt")), folder)
    return folder


def host(port: str, manifest: Path, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "host/intact_host.py", "--port", port, "--manifest", str(manifest), *map(str, more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


def rows(text: str) -> np.ndarray:
    return np.array([row.split() for row in text.splitlines()], int)


def test_digits(digits: Path) -> None:
    """Memories as the bitstream has them; labels, accuracy, and cycles as predicted."""
    done = host("sim", digits / "manifest.json", "--input", TEST_SET, "--limit", COUNT, "--labels", "--counters")
    assert done.returncode == 0, done.stderr
    with np.load(TEST_SET) as arrays:
        expected = arrays["codes"][:COUNT].argmax(axis=1)
    lines = done.stdout.splitlines()
    assert list(map(int, lines[:COUNT])) == expected.tolist()
    assert f"runs since reset: {COUNT}" in lines and "total 7,670 7,670" in " ".join(done.stdout.split())
    assert f"codes that differ from the framework's own: 0 of {COUNT * 10}" in done.stderr


@pytest.fixture
def board(digits: Path) -> Iterator[str]:
    """A simulated board that stays on, its memories empty; its address."""
    command = [sys.executable, "sim/bridge.py", "--manifest", str(digits / "manifest.json"), "--blank"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def test_networks_change_while_the_board_runs(board: str, digits: Path, tmp_path: Path) -> None:
    """An empty board refuses; then it holds one network, then the other; half a frame and garbage before do no harm."""
    exported = export.export(str(ROOT / "models" / "xor.pt"))
    export.write(exported, tmp_path)
    network = exported.network
    first, last = (network.tensors[port.tensor] for port in (network.input, network.output))
    codes = np.random.default_rng(2).integers(0, 256, (COUNT, *network.input.shape))
    out = golden.run(network, (network.input.to_hwc(codes) + first.shift).astype(np.int8))[last.name]
    expected = network.output.from_hwc(out.astype(np.int64) - last.shift)
    np.save(tmp_path / "xor.npy", codes)
    xor = (tmp_path / "manifest.json", "--input", tmp_path / "xor.npy")
    demo = (digits / "manifest.json", "--input", TEST_SET, "--limit", 1)

    empty = host(board, *xor)
    assert empty.returncode == 1 and "error 1 of the accelerator" in empty.stderr, empty.stderr
    loaded = host(board, *xor, "--load")
    assert loaded.returncode == 0, loaded.stderr
    assert np.array_equal(rows(loaded.stdout), expected)

    other = host(board, *demo)
    assert other.returncode == 1 and other.stdout == "", other.stderr
    assert "another network is in the board's memories" in other.stderr and other.stderr.count("\n") == 1
    with serial.serial_for_url(board) as port:
        port.write(b"\x00\xff garbage \xa5\x01\x20\x00\x18")  # its end is a request that stops half way

    changed = host(board, *demo, "--load")
    assert changed.returncode == 0, changed.stderr
    with np.load(TEST_SET) as arrays:
        assert np.array_equal(rows(changed.stdout), arrays["codes"][:1])
