"""Starting the commands with a Python that lacks the packages: re-run in .venv, or one line with the command to run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("pyexport/export.py", "sim/run.py")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the commands, in a folder whose name has a space."""
    copy = tmp_path / "a checkout"
    for name in ("pyexport", "sim"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(python: Path, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(python), str(script), *arguments]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("script", COMMANDS)
def test_without_packages_one_command_is_named(script: str, bare: Path, checkout: Path) -> None:
    done = run(bare, checkout / script, "model.pt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: the package numpy is missing; run `make setup` in {checkout}\n"


@pytest.mark.parametrize("script", COMMANDS)
def test_without_packages_it_runs_again_in_venv(script: str, bare: Path, checkout: Path) -> None:
    """With the same arguments, from whatever folder."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    report = "import json, os, sys; print(json.dumps(sys.argv[1:] + [os.getcwd()]))"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{report}' \"$@\"\n")
    python.chmod(0o755)
    done = run(bare, checkout / script, "my model.pt", "-o", "*")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(checkout / script), "my model.pt", "-o", "*", os.getcwd()]


def test_a_venv_that_lacks_a_package_does_not_run_itself_again(bare: Path, checkout: Path) -> None:
    venv.create(checkout / ".venv", with_pip=False, symlinks=True)
    for python in (bare, checkout / ".venv" / "bin" / "python"):
        done = run(python, checkout / "pyexport" / "export.py", "model.pt")
        assert done.returncode == 1 and done.stderr.startswith("error: the package numpy is missing; run `make setup`")


def test_an_old_python_gets_one_line(bare: Path, checkout: Path) -> None:
    """The version is read before anything that an old Python could not parse."""
    text = "import sys; sys.version_info = (3, 9, 2); sys.path.insert(0, sys.argv[1]); "
    text += "from pyexport import bootstrap; bootstrap.ready(())"
    done = subprocess.run([str(bare), "-c", text, str(checkout)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: Python 3.11 or later is needed, this is 3.9; run `make setup PYTHON=python3.11`\n"


@pytest.mark.parametrize("script", ["pyexport/bootstrap.py", "pyexport/__init__.py", "sim/__init__.py", *COMMANDS])
def test_old_pythons_can_read_what_runs_first(script: str) -> None:
    """What stands before bootstrap.ready must compile with the grammar of 3.7; so must the rest of that file."""
    import ast

    ast.parse((ROOT / script).read_text(), feature_version=(3, 7))
