"""What the Gowin flow checks, counts and chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constraints.boards import find_board
from constraints.flow import Memory
from constraints.gowin_flow import DERATING, DIES, POSTS, Gowin, clock_of, figures, gowin_pll, timing
from constraints.gowin_registers import use_output_registers
from pyexport.choice import lacks
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig, for_array

MEMORY = Memory("weight_memory", 512, 72)  # two blocks
BOARDS = [find_board(name) for name in ("tangnano9k", "tangnano20k")]


def netlist(folder: Path, cells: dict[str, str]) -> Path:
    """A synthesis result with these cells."""
    path = folder / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": {name: {"type": kind} for name, kind in cells.items()}}}}))
    return path


def good() -> dict[str, str]:
    return {
        "core.weight_memory.mem.0.0": "SDPX9B",
        "core.weight_memory.mem.0.1": "DPX9B",
        "core.frames_out.fifo.0.0": "RAM16SDP4",
        "core.product": "MULT9X9",
        "core.wide": "MULT18X18",
        "core.flag": "DFF",
    }


def test_a_good_netlist_passes(tmp_path: Path) -> None:
    Gowin().check_netlist(netlist(tmp_path, good()), [MEMORY], 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core.weight_memory.mem.0.1": "DFF"}, "did not become block RAM"),
        ({"core.other.mem.0.0": "SPX9"}, "3 block RAMs, 2 of them"),
        ({"core.other.mem.0.0": "RAM16SDP1"}, "became LUT RAM"),
        ({"core.product": "ALU"}, "expected 3"),
        ({"core.address": "MULT9X9"}, "expected 3"),
        ({"core.wide": "MULT36X36"}, "expected 3"),
    ],
)
def test_a_bad_netlist_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(IntactError, match=message):
        Gowin().check_netlist(netlist(tmp_path, good() | change), [MEMORY], 3)


@pytest.mark.parametrize(
    ("depth", "width", "blocks"),
    [(512, 36, 1), (512, 37, 2), (1024, 18, 1), (2048, 9, 1), (1024, 512, 29), (2048, 64, 8)],
)
def test_block_rams_take_their_best_shape(depth: int, width: int, blocks: int) -> None:
    assert Gowin().block_rams(Memory("memory", depth, width)) == blocks


def test_what_does_not_fit_is_refused() -> None:
    small, large = BOARDS
    assert not lacks(for_array(8, 4, 1, act_depth=512, wgt_depth=512, prm_depth=512), small.holds)
    assert lacks(for_array(8, 4, 2, act_depth=512), small.holds)[0] == "48 multipliers, the device has 40"
    assert not lacks(for_array(8, 8, 4, act_depth=512, wgt_depth=512, prm_depth=512), large.holds)
    assert "block RAMs, the device has 46" in lacks(for_array(8, 8, 2, act_depth=512, wgt_depth=2048), large.holds)[0]
    assert "multipliers" in lacks(HwConfig(), large.holds)[0]


def test_lanes_are_limited() -> None:
    assert [for_array(8, 12, most).lanes for most in (1, 2, 3, 4, 64)] == [1, 2, 2, 4, 4]
    with pytest.raises(IntactError, match="lanes: at least 1"):
        for_array(8, 8, 0)


@pytest.mark.parametrize("name", DIES)
@pytest.mark.parametrize("wanted", [20, 27, 30, 54, 60, 81, 100])
def test_pll(name: str, wanted: float) -> None:
    low, high = DIES[name].vco
    pll = gowin_pll(27, wanted, (low, high))
    assert pll.clock == pytest.approx(27 * pll.multiply / pll.divide)
    assert 0.95 * wanted <= pll.clock <= wanted
    assert low <= pll.clock * pll.post <= high
    assert pll.post in POSTS and 1 <= pll.divide <= 9 and 1 <= pll.multiply <= 64


def test_a_clock_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(IntactError, match="clock"):
        gowin_pll(27, 1, DIES["GW1NR-LV9"].vco)


def test_the_clock_is_the_netlist_s(tmp_path: Path) -> None:
    cells = {"pll": {"type": "rPLL", "parameters": {"FBDIV_SEL": "00000101", "IDIV_SEL": "00000010"}}}
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    assert clock_of(path, BOARDS[0]) == 54
    with pytest.raises(IntactError, match="rPLL"):
        clock_of(netlist(tmp_path, good()), BOARDS[0])


def test_the_report_is_read() -> None:
    use = {"LUT4": 6, "DFF": 5, "MULT9X9": 3, "MULT18X18": 4, "BSRAM": 7}
    report = {
        "utilization": {kind: {"used": used, "available": 10 * used} for kind, used in use.items()},
        "fmax": {"core": {"achieved": 60.0, "constraint": 54.0}},
        "critical_paths": [],
    }
    assert [(figure.name, figure.used) for figure in figures(report)] == [
        ("LUT4", 6), ("FF", 5), ("9x9 multipliers", 11), ("block RAM", 7)
    ]  # fmt: skip
    clock = timing(report, 27.0)
    assert (clock.fmax, clock.target, clock.usable) == (60.0, 27.0, 60.0 * DERATING)
    assert "multipliers" in clock.note


def memory_module(**changes: Any) -> dict[str, Any]:
    """A block RAM whose first two outputs (nets 10, 11) go through flip-flops to an output port (90, 91).

    changes: the block's pins and parameters; `load`: one more reader of net 10; `kind`, `clock`: of the flip-flops.
    """
    pins = {"CLKB": [2], "CEB": [3], "OCE": [3], "RESETB": [4], "DO": [*range(10, 46)]}
    modes = {"BIT_WIDTH_1": "100100", "READ_MODE": "0"}
    for name, value in changes.items():
        if name in pins or name in modes:
            (pins if name in pins else modes)[name] = value
    directions = {pin: "output" if pin == "DO" else "input" for pin in pins}
    cells: dict[str, Any] = {
        "one": {"type": "VCC", "connections": {"V": [3]}, "port_directions": {"V": "output"}},
        "zero": {"type": "GND", "connections": {"G": [4]}, "port_directions": {"G": "output"}},
        "block": {"type": "SDPX9B", "parameters": modes, "connections": pins, "port_directions": directions},
    }
    for bit in range(2):
        cells[f"ff{bit}"] = {
            "type": changes.get("kind", "DFF"),
            "connections": {"CLK": [changes.get("clock", 2)], "D": [10 + bit], "Q": [90 + bit]},
            "port_directions": {"CLK": "input", "D": "input", "Q": "output"},
        }
    if "load" in changes:
        cells["load"] = {"type": "LUT1", "connections": {"I0": [10]}, "port_directions": {"I0": "input"}}
    return {"cells": cells, "ports": {"q": {"direction": "output", "bits": [90, 91]}}}


def absorbed(folder: Path, module: dict[str, Any]) -> tuple[tuple[int, int], dict[str, Any]]:
    path = folder / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": module}}))
    counts = use_output_registers(path, "top")
    return counts, json.loads(path.read_text())["modules"]["top"]["cells"]


def test_block_ram_takes_the_registers_behind_it(tmp_path: Path) -> None:
    counts, cells = absorbed(tmp_path, memory_module())
    assert counts == (1, 1)
    assert cells["block"]["parameters"]["READ_MODE"] == "1"
    assert cells["block"]["connections"]["DO"][:3] == [90, 91, 12]
    assert set(cells) == {"one", "zero", "block"}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "DFFE"}, {"clock": 5}, {"load": 1}, {"BIT_WIDTH_1": "10010"}, {"READ_MODE": "1"},
        {"CEB": [6]}, {"OCE": [4]}, {"RESETB": [6]}, {"CLKB": [6]}, {"DO": [*range(50, 86)]},
    ],
    ids=str,
)  # fmt: skip
def test_other_registers_stay(tmp_path: Path, changes: dict[str, Any]) -> None:
    module = memory_module(**changes)
    before = json.loads(json.dumps(module["cells"]))
    counts, cells = absorbed(tmp_path, module)
    assert counts == (1, 0) and cells == before
