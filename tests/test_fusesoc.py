"""intact.core, the FuseSoC description: every Verilog file of rtl/ is in it, and its parameters are the core's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from sim.runner import BUILD, ROOT

CORE = ROOT / "intact.core"


@pytest.fixture(scope="module")
def core() -> dict[str, Any]:
    text = CORE.read_text()
    assert text.startswith("CAPI=2:\n")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def files(core: dict[str, Any], *filesets: str) -> list[str]:
    entries = [entry for name in filesets for entry in core["filesets"][name]["files"]]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_every_file_is_listed_once(core: dict[str, Any]) -> None:
    listed = files(core, "rtl", "uart")
    assert len(listed) == len(set(listed))
    assert set(listed) == {str(path.relative_to(ROOT)) for path in (ROOT / "rtl").iterdir()}
    assert all((ROOT / name).is_file() for name in files(core, *core["filesets"]))
    include = core["filesets"]["rtl"]["files"][0]
    assert include == {"rtl/intact_defs.vh": {"is_include_file": True}}


def defaults(module: str) -> dict[str, int | str]:
    """Parameters of a module of rtl/ and their defaults."""
    head = (ROOT / "rtl" / f"{module}.v").read_text().split(") (")[0]
    found = re.findall(r'^ +parameter (\w+) = (?:(\d+)|"(.*)"),?$', head, re.MULTILINE)
    return {name: int(number) if number else text for name, number, text in found}


def test_parameters_are_the_cores(core: dict[str, Any]) -> None:
    parameters = core["parameters"]
    expected = defaults("intact_core")
    assert {name: entry["default"] for name, entry in parameters.items()} == expected
    kinds = {int: "int", str: "str"}
    assert all(entry["datatype"] == kinds[type(expected[name])] for name, entry in parameters.items())
    assert {entry["paramtype"] for entry in parameters.values()} == {"vlogparam"}
    uart = defaults("uart_system")
    assert {name: uart[name] for name in expected} == expected


def test_targets(core: dict[str, Any]) -> None:
    targets = core["targets"]
    assert set(targets) == {"default", "lint", "lint_uart", "sim"}
    assert "parameters" not in targets["default"]  # they would go to the top of the design that depends on this one
    assert targets["lint"]["parameters"] == targets["lint_uart"]["parameters"] == list(core["parameters"])
    for target in targets.values():
        if top := target.get("toplevel"):
            assert any(Path(name).stem == top for name in files(core, *target["filesets"]))


@pytest.mark.skipif(not shutil.which("iverilog"), reason="iverilog is not on PATH")
def test_bench(core: dict[str, Any]) -> None:
    """What `fusesoc run --target=sim` does: the bench passes, and says so; and it fails where it should."""
    folder = BUILD / "fusesoc"
    folder.mkdir(parents=True, exist_ok=True)
    target = core["targets"]["sim"]
    sources = [name for name in files(core, *target["filesets"]) if name.endswith(".v")]
    command = ["iverilog", "-g2005", "-I", "rtl", "-s", target["toplevel"], "-o", str(folder / "bench")]
    settings = [f"-P{target['toplevel']}.{setting}" for setting in target["parameters"]]
    for change, expected in (([], "PASS: 4x4, 4 lanes"), ([f"-P{target['toplevel']}.COLS=8"], "PASS: 4x8, 4 lanes")):
        subprocess.run([*command, *settings, *change, *sources], cwd=ROOT, check=True)
        shown = subprocess.run(["vvp", "-n", folder / "bench"], capture_output=True, text=True, check=True).stdout
        assert shown.splitlines() == [expected]
    broken = folder / "axil_regs.v"
    text = (ROOT / "rtl" / "axil_regs.v").read_text()
    broken.write_text(text.replace("value = `INTACT_MAGIC;", "value = 32'd1;"))
    assert broken.read_text() != text
    sources = [str(broken) if name == "rtl/axil_regs.v" else name for name in sources]
    subprocess.run([*command, *sources], cwd=ROOT, check=True)
    done = subprocess.run(["vvp", "-n", folder / "bench"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "FAIL: wrong name" in done.stdout
