"""The Makefile, scripts/setup.sh and the pins, as far as they can be tested without installing anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What scripts/setup.sh uses before it has found a Python.
TOOLS = ("sh", "cat", "cksum", "dirname", "pwd", "mkdir")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the set-up consists of, in a folder whose name has a space."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    shutil.copy(ROOT / "Makefile", copy)
    for folder in ("scripts", "requirements"):
        shutil.copytree(ROOT / folder, copy / folder)
    return copy


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=inherited | environment, text=True, capture_output=True, check=False, timeout=60
    )


def test_help_lists_every_target_and_variable() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    variables = re.search(r"^VARIABLES := (.*)$", makefile, re.MULTILINE)
    assert phony is not None and variables is not None
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert targets == set(phony[1].split())

    shown = run(["make"], ROOT)
    assert shown.returncode == 0
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown.stdout, re.MULTILINE)) == targets
    assert set(re.findall(r"^  ([A-Z_]+)=\S+ +\S", shown.stdout, re.MULTILINE)) == set(variables[1].split())


@pytest.mark.parametrize(
    "model", ["plain.pt", "with space.pt", "a'b\"c.pt", "$HOME.pt", "$(shell touch bad)", "`touch bad`;"]
)
def test_values_reach_the_script_as_they_are(checkout: Path, model: str) -> None:
    executable(checkout / "scripts" / "setup.sh", '#!/bin/sh\necho "set-up $*"\n')
    executable(checkout / ".venv" / "bin" / "python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    done = run(["make", "sim", f"MODEL={model}", "SIM=icarus", "EXPORT_ARGS=--explain 'conv 1'", "WAVES=1"], checkout)
    expected = [
        "set-up sim icarus",
        "sim/run.py",
        model,
        "--sim",
        "icarus",
        "--export-args=--explain 'conv 1'",
        "--waves",
    ]
    assert done.stdout.splitlines() == expected, done.stderr
    assert not (checkout / "bad").exists()


def test_bitstream_takes_the_exporters_variables(checkout: Path) -> None:
    executable(checkout / "scripts" / "setup.sh", "#!/bin/sh\n")
    executable(checkout / ".venv" / "bin" / "python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    values = ["MODEL=a b.pt", "ARRAY=4x4", "MATCH=qnnpack", "EXPORT_ARGS=--input-shape '1,8,8'", "OUT=build/$x"]
    done = run(["make", "bitstream", *values], checkout)
    expected = ["constraints/build.py", "ulx3s", "a b.pt", "--array", "4x4", "--match", "qnnpack"]
    expected += ["--export-args=--input-shape '1,8,8'", "--out", "build/$x"]
    assert done.stdout.splitlines() == expected, done.stderr
    done = run(["make", "bitstream", "BOARD=icebreaker", "CLOCK=20", "BAUD=9600", "SEED=3", "PNR_ARGS=-a b"], checkout)
    expected = [
        "constraints/build.py",
        "icebreaker",
        "--clock",
        "20",
        "--baud",
        "9600",
        "--seed",
        "3",
        "--pnr-args=-a b",
    ]
    assert done.stdout.splitlines() == expected, done.stderr
    assert run(["make", "bitstream"], checkout).stdout.split() == ["constraints/build.py", "ulx3s"]


def test_area_and_latency_take_their_variables(checkout: Path) -> None:
    executable(checkout / "scripts" / "setup.sh", "#!/bin/sh\n")
    executable(checkout / ".venv" / "bin" / "python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    done = run(
        ["make", "area", "BOARDS=ulx3s", "ARRAYS=8x8,4x4", "FMAX=1", "CLOCK=125", "SEEDS=2", "OUT=build/$x"], checkout
    )
    expected = [
        "constraints/area.py",
        "--boards",
        "ulx3s",
        "--arrays",
        "8x8,4x4",
        "--fmax",
        "--clock",
        "125",
        "--seeds",
        "2",
    ]
    assert done.stdout.splitlines() == [*expected, "--out", "build/$x"], done.stderr
    assert run(["make", "area", "FMAX=0"], checkout).stdout.split() == ["constraints/area.py"]
    done = run(["make", "latency", "ARRAY=16x16", "CLOCK=80"], checkout)
    assert done.stdout.split() == ["scripts/latency.py", "--array", "16x16", "--clock", "80"], done.stderr


def test_report_is_sim_with_a_page(checkout: Path) -> None:
    executable(checkout / "scripts" / "setup.sh", '#!/bin/sh\necho "set-up $*"\n')
    executable(checkout / ".venv" / "bin" / "python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    values = ["MODEL=a b.pt", "ARRAY=4x4", "SIM=icarus", "INPUT=$x.npy", "OUT=`here`"]
    plain, page = (run(["make", target, *values], checkout).stdout.splitlines() for target in ("sim", "report"))
    assert page == [*plain, "--page"] and "$x.npy" in page and "`here`" in page


def test_unset_variables_pass_nothing(checkout: Path) -> None:
    executable(checkout / "scripts" / "setup.sh", "#!/bin/sh\n")
    executable(checkout / ".venv" / "bin" / "python", '#!/bin/sh\necho "$# $*"\n')
    assert run(["make", "sim", "WAVES=0"], checkout).stdout == "1 sim/run.py\n"


def test_an_old_python_gets_one_line(checkout: Path) -> None:
    tools = checkout / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None:
            (tools / name).symlink_to(found)
    # Only what the script asks of it: its version, and whether that is enough.
    executable(tools / "python3", "#!/bin/sh\ncase $2 in *print*) echo 3.9.2 ;; *) exit 1 ;; esac\n")
    done = run(["scripts/setup.sh", "sim"], checkout, PATH=str(tools))
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"error: Python 3\.11 or later is needed \(python3 is 3\.9\.2\).*\n", done.stderr), done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("group", ["sim", "icarus"])
def test_only_who_needs_icarus_stops_without_it(checkout: Path, group: str) -> None:
    tools = checkout / "bin"
    for name in (*TOOLS, "sed", "rm", "sort", "env", "grep", "awk"):
        if (found := shutil.which(name)) is not None:
            tools.mkdir(exist_ok=True)
            (tools / name).symlink_to(found)
    for name in ("g++", "make", "perl"):
        executable(tools / name, "#!/bin/sh\n")
    executable(tools / "id", "#!/bin/sh\necho 0\n")
    executable(tools / "apt-get", "#!/bin/sh\nexit 100\n")
    # New enough, with all that is asked for, but it makes no virtual environment: there the set-up ends.
    executable(tools / "python3", '#!/bin/sh\n[ "$1 $2" != "-m venv" ] || exit 1\n')
    done = run(["scripts/setup.sh", group], checkout, PATH=str(tools))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert ("Icarus Verilog is not installed" in done.stdout) == (group == "sim"), done.stdout
    assert ("could not create .venv" if group == "sim" else "apt-get could not install iverilog") in done.stderr


def test_an_unknown_group_gets_one_line(checkout: Path) -> None:
    done = run(["scripts/setup.sh", "simm"], checkout)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "'simm'" in done.stderr


def test_pins_are_exact_and_agree() -> None:
    pinned: dict[str, str] = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for line in path.read_text().splitlines():
            requirement = line.split("#")[0].strip()
            if not requirement:
                continue
            name, separator, version = requirement.partition("==")
            assert separator and re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{path.name}: {requirement}"
            assert pinned.setdefault(name, version) == version, f"{path.name}: {requirement}, elsewhere {pinned[name]}"
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    direct = {requirement for group in groups.values() for requirement in group}
    assert direct <= {f"{name}=={version}" for name, version in pinned.items()}
