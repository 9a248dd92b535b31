"""What `make bitstream` checks: a device that is too small, memories and products in the wrong place, the clock."""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from constraints import build
from constraints.boards import BOARDS, Board, check_line, clocks_per_bit, find_board
from constraints.ecp5_flow import Ecp5, ecp5_pll, placer, timing
from constraints.ecp5_registers import absorb
from constraints.flow import RESULT, ROOT, Memory, Stages, build_folder, relative
from pyexport.choice import lacks
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from sim.runner import BUILD

MEMORY = Memory("weight_memory", 512, 72)  # two blocks


def netlist(folder: Path, **cells: str) -> Path:
    """A synthesis result with these cells, `__` for the dots of their names."""
    path = folder / "netlist.json"
    named = {name.replace("__", "."): {"type": kind} for name, kind in cells.items()}
    path.write_text(json.dumps({"modules": {"top": {"cells": named}}}))
    return path


def good() -> dict[str, str]:
    return {
        "core__weight_memory__mem__0__0": "DP16KD",
        "core__weight_memory__mem__1__0": "DP16KD",
        "core__frames_out__fifo__0__0": "TRELLIS_DPR16X4",
        "core__product": "MULT18X18D",
        "core__flag": "TRELLIS_FF",
    }


def test_a_good_netlist_passes(tmp_path: Path) -> None:
    Ecp5().check_netlist(netlist(tmp_path, **good()), [MEMORY], 1)


@pytest.mark.parametrize(
    ("blocks", "more", "chosen"),
    [
        (187, [], []),
        (188, [], ["--placer", "static"]),
        (188, ["--router", "router2"], ["--placer", "static"]),
        (188, ["--placer", "heap"], []),
        (188, ["--placer=heap"], []),
    ],
)
def test_full_block_rams_take_the_other_placer(tmp_path: Path, blocks: int, more: list[str], chosen: list[str]) -> None:
    cells = {f"core__mem__{i}": "DP16KD" for i in range(blocks)}
    assert placer(netlist(tmp_path, **cells), find_board("ulx3s"), more) == chosen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core__weight_memory__mem__1__0": "TRELLIS_FF"}, "did not become block RAM"),
        ({"core__other__mem__0__0": "DP16KD"}, "3 DP16KD, 2 of them"),
        ({"core__other__mem__0__0": "TRELLIS_DPR16X4"}, "became LUT RAM"),
        ({"core__product": "CCU2C"}, "0 MULT18X18D, expected 1"),
        ({"core__address": "MULT18X18D"}, "2 MULT18X18D, expected 1"),
    ],
)
def test_a_bad_netlist_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(IntactError, match=message):
        Ecp5().check_netlist(netlist(tmp_path, **(good() | change)), [MEMORY], 1)


def test_what_does_not_fit_is_refused() -> None:
    device = find_board("ulx3s").holds
    assert not lacks(HwConfig(), device)
    assert "multipliers" in lacks(HwConfig(rows=16, cols=16), device)[0]
    assert "block RAMs" in lacks(HwConfig(wgt_depth=8192), device)[0]
    with pytest.raises(IntactError, match="ulx3s"):
        find_board("nosuch")


def options(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**({"array": None, "match": None, "export_args": ""} | given))


def test_what_the_exporter_is_told() -> None:
    board = find_board("ulx3s")
    ours = ["--board", "ulx3s"]
    assert build.export_options(options(), board) == ours
    given = build.export_options(options(array="4x4", match="qnnpack", export_args="--input-shape '1,8,8'"), board)
    assert given == ["--array", "4x4", "--match", "qnnpack", "--input-shape", "1,8,8", *ours]
    # both say the array themselves
    assert build.export_options(options(export_args="--config 'a b.json'"), board) == ["--config", "a b.json", *ours]
    assert build.export_options(options(export_args="--array=2x2"), board) == ["--array=2x2", *ours]
    assert build.export_options(options(array="auto"), board) == ["--array", "auto", *ours]
    assert build.export_options(options(array="2x2", export_args="--board ulx3s"), board)[2:] == ours
    with pytest.raises(IntactError, match="the bitstream is for ulx3s"):
        build.export_options(options(export_args="--board LFE5U-25F"), board)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "x"], "invalid int"),
        (["--match", "nosuch"], "argument --match"),
        (["--array", "8"], "8"),
        (["--export-args=-o elsewhere"], "unrecognized arguments: -o elsewhere"),
        (["--export-args='"], "--export-args"),
        (["--pnr-args='"], "--pnr-args"),
        (["--out", "Makefile"], "is no folder"),
        (["--out", "/"], "inside"),
        (["--out", "."], "is the checkout itself"),
        (["--out", "build/my net"], "in a path; choose another folder"),
        (["--clock", "0"], "invalid positive value"),
        (["--clock", "nan"], "invalid positive value"),
        (["--baud", "-1"], "invalid positive value"),
        (["--baud", "0.4"], "baud: 0 cannot be made"),
        (["--clock", "1e-310"], "invalid positive value"),
        (["tangnano9k", "--clock", "900"], "ask for 10 to 400 MHz"),
        (["ulx3s", "--clock", "10", "--baud", "115200"], "longer than a host (0.45 s); ask for 9.3 MHz or more"),
        (["--baud", "150"], "outlasts the serial link's timer"),
        (["arty_a7_35t", "--seed", "2"], "arty_a7_35t: nothing here takes --seed"),
        (["pynq_z2", "--clock", "50", "--baud", "9600"], "nothing here takes --clock, --baud"),
        (["icebreaker", "--clock", "5"], "clock: 5 MHz is half of what the PLL cannot make: 10 MHz"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    try:
        status = build.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1 and message in error, error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ulx3s", "nosuch.pt"], "nosuch.pt: cannot be read"),
        (["ulx3s", "--clock", "1"], "the PLL makes nothing near 1 MHz"),
        (["ulx3s", "--baud", "100000000"], "baud: 100000000 cannot be made"),
    ],
)
def test_a_refused_build_leaves_the_one_before(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder = BUILD / "finished"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {folder / name: f"of the build before: {name}" for name in ("intact.bit", RESULT)}
    for path, text in kept.items():
        path.write_text(text)
    assert build.main([*arguments, "--out", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error, error
    assert {path: path.read_text() for path in kept} == kept


def test_a_build_that_is_broken_off_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "build", stop)
    assert build.main([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_models_name_may_hold_anything() -> None:
    folder = build_folder(find_board("ulx3s"), Path("models/my net (2).pt"))
    assert relative(folder) == "build/bitstream/ulx3s-my_net__2_"


def step(kind: str, delay: float, start: str, end: str) -> dict[str, Any]:
    return {"type": kind, "delay": delay, "from": {"cell": start, "port": "Q"}, "to": {"cell": end, "port": "D"}}


def test_timing_takes_the_worst_clock() -> None:
    path = [step("clk-to-q", 0.5, "a", "a"), step("routing", 3.0, "a", "b"), step("setup", 0.5, "b", "b")]
    report = {
        "fmax": {"slow": {"achieved": 60.0, "constraint": 25.0}, "core": {"achieved": 70.0, "constraint": 75.0}},
        "critical_paths": [
            {"from": "posedge slow", "to": "posedge core", "path": []},
            {"from": "posedge core", "to": "posedge core", "path": path},
        ],
    }
    clock = timing(report)
    assert (clock.fmax, clock.target) == (70.0, 75.0)
    assert clock.path == "a.Q -> b.D: 4.0 ns, 3.0 of it wires"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_timer_is_the_tops(board: Board) -> None:
    top = (ROOT / board.top).read_text()
    assert (f"parameter TIMER = {board.timer}," in top) == board.serial
    if board.serial:
        check_line(board, board.clock, board.baud)


def test_a_failed_stage_is_one_error() -> None:
    folder = BUILD / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    stages = Stages(Console(quiet=True), folder)
    stages.run("fine", "fine.log", ["sh", "-c", "echo no errors here"])
    with pytest.raises(IntactError, match=r"synthesis failed: no such net \(all of it: build/tests/stages/bad.log\)"):
        stages.run("synthesis", "bad.log", ["sh", "-c", "echo hello; echo ERROR: no such net; exit 3"])
    signals = r"echo; echo '27/29: \$0\\error_code[7:0]'; echo 'ERROR: Found 3 problems.'; echo; exit 1"
    with pytest.raises(IntactError, match=r"synthesis failed: Found 3 problems\. \("):
        stages.run("synthesis", "bad.log", ["sh", "-c", signals])
    with pytest.raises(IntactError, match=r"failed: rtl/x\.v:7: ERROR: syntax error"):
        stages.run("synthesis", "bad.log", ["sh", "-c", "echo; echo 'rtl/x.v:7: ERROR: syntax error'; exit 1"])
    with pytest.raises(IntactError, match=r"failed: Routing design failed\. Another placement .* SEED=2\. \("):
        stages.run("place and route", "bad.log", ["sh", "-c", "echo; echo 'ERROR: Routing design failed.'; exit 1"])
    with pytest.raises(IntactError, match=r"bad failed: last"):
        stages.run("bad", "bad.log", ["sh", "-c", "echo first; echo last; exit 1"])


def test_paths_stay_inside_the_checkout(tmp_path: Path) -> None:
    assert relative(ROOT / "rtl" / ".." / "rtl") == "rtl"
    with pytest.raises(IntactError, match="inside"):
        relative(tmp_path)


# a line of a pin file: port and pin
LINES = {
    ".cst": r'^IO_LOC "(?P<port>\S+)" (?P<pin>\w+);',
    ".pcf": r"^set_io (?:-\S+ \S+ )?(?P<port>\w+) (?P<pin>\d+)$",
    ".lpf": r'^LOCATE COMP "(?P<port>\S+)" SITE "(?P<pin>\w+)";',
    ".xdc": r"^set_property -dict \{ PACKAGE_PIN (?P<pin>\w+) IOSTANDARD \w+ \} \[get_ports \{ (?P<port>\S+) \}\]$",
}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_port_has_a_pin_and_every_pin_a_port(board: Board) -> None:
    text = (ROOT / board.top).read_text()
    ports = set[str]()
    for width, name in re.findall(r"^\s*(?:input|output)\s+wire\s*(\[\d+:0\])?\s*(\w+)", text, re.MULTILINE):
        ports |= {f"{name}[{bit}]" for bit in range(int(width[1:-3]) + 1)} if width else {name}
    file = ROOT / board.pins
    pins = [(found["port"], found["pin"]) for found in re.finditer(LINES[file.suffix], file.read_text(), re.MULTILINE)]
    if board.serial:
        assert {name for name, _ in pins} == ports
    else:  # a block beside a processor: most of its ports stay inside
        assert {name for name, _ in pins} == {f"status[{bit}]" for bit in range(4)} < ports
    assert len({site for _, site in pins}) == len(pins)


@pytest.mark.parametrize("wanted", [50, 62.5, 70, 75, 80, 100, 125])
def test_pll(wanted: float) -> None:
    pll = ecp5_pll(25, wanted)
    assert pll.clock == pytest.approx(25 * pll.multiply / pll.divide)
    assert 0.9 * wanted <= pll.clock <= wanted
    assert 400 <= pll.clock * pll.post <= 800
    assert pll.divide <= 3


def test_clocks_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(IntactError, match="clock"):
        ecp5_pll(25, 2)
    assert clocks_per_bit(50, 1_000_000) == 50
    with pytest.raises(IntactError, match="baud"):
        clocks_per_bit(50, 3_000_000)


def cell(kind: str, parameters: dict[str, str], **pins: list[int | str]) -> dict[str, Any]:
    directions = {pin: "output" if pin in ("Q", "DOA0", "DOB0", "Z") else "input" for pin in pins}
    return {"type": kind, "parameters": parameters, "connections": pins, "port_directions": directions}


def memory_and_registers() -> dict[str, Any]:
    """A block RAM with a plain flip-flop behind each of two outputs, which feed a LUT."""
    plain = {"CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR"}
    return {
        "ports": {"clk": {"bits": [2]}, "out": {"bits": [7]}},
        "cells": {
            "memory": cell("DP16KD", {"REGMODE_A": "NOREG"}, CLKA=[2], CLKB=[2], DOA0=[3], DOB0=[4], OCEA=["0"]),
            "low": cell("TRELLIS_FF", dict(plain), CLK=[2], DI=[3], LSR=["0"], Q=[5]),
            "high": cell("TRELLIS_FF", dict(plain), CLK=[2], DI=[4], LSR=["0"], Q=[6]),
            "lut": cell("LUT4", {}, A=[5], B=[6], Z=[7]),
        },
    }


def test_block_ram_takes_its_registers() -> None:
    module = memory_and_registers()
    assert absorb(module) == (1, 1)
    assert set(module["cells"]) == {"memory", "lut"}
    memory = module["cells"]["memory"]
    assert [memory["connections"][pin] for pin in ("DOA0", "DOB0", "OCEA", "OCEB")] == [[5], [6], ["1"], ["1"]]
    assert {memory["parameters"][f"REGMODE_{port}"] for port in "AB"} == {"OUTREG"}
    assert absorb(module) == (1, 0)  # only once


def test_block_ram_with_one_clock_takes_its_registers() -> None:
    module = memory_and_registers()
    cells = module["cells"]
    del cells["memory"]["connections"]["DOB0"], cells["high"], cells["lut"]["connections"]["B"]
    cells["memory"]["connections"]["CLKB"] = ["0"]
    assert absorb(module) == (1, 1)
    assert set(cells) == {"memory", "lut"} and cells["memory"]["connections"]["DOA0"] == [5]
    assert cells["memory"]["parameters"] == {"REGMODE_A": "OUTREG"}


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module["cells"]["high"]["connections"].update(CLK=[9]),
        lambda module: module["cells"]["high"]["connections"].update(LSR=[9]),
        lambda module: module["cells"]["high"]["parameters"].update(CEMUX="CE"),
        lambda module: module["cells"]["high"]["parameters"].update(CLKMUX="INV"),
        lambda module: module["cells"]["lut"]["connections"].update(A=[4]),  # one output is read directly too
        lambda module: module["ports"]["out"].update(bits=[3]),
        lambda module: module["cells"].pop("high") and module["cells"]["lut"]["connections"].update(A=[4], B=[5]),
        lambda module: module["cells"]["memory"]["connections"].update(CLKA=[9]),
    ],
)
def test_block_ram_leaves_other_registers(change: Callable[[dict[str, Any]], Any]) -> None:
    module = memory_and_registers()
    change(module)
    before = copy.deepcopy(module)
    assert absorb(module) == (1, 0)
    assert module == before
