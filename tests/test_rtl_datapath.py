"""Launches the benches of the datapath: MAC array, address generator, program fetch, drain."""

from __future__ import annotations

import json
import subprocess

import pytest

from constraints.flow import tool
from pyexport.errors import IntactError
from sim.runner import BUILD, ROOT, RTL, SIMULATORS, lint, rtl_sources, run_bench, simulator_missing
from tests.rtl_memory import image

ARRAY_SOURCES = [RTL / f"{name}.v" for name in ("mac_array", "mac_lane", "accumulator", "mul8", "mul8_pair")]
DRAIN_SOURCES = [RTL / f"{name}.v" for name in ("drain", "delay", "requantise", "requant_lane", "wide_mul", "mul18")]
DRAIN_SOURCES += [RTL / "code_table.v", RTL / "ram_part.v", RTL / "ram.v"]


def _need(sim: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("sim", "rows", "cols"),
    [("icarus", 1, 4), ("icarus", 5, 3), ("icarus", 8, 8), ("icarus", 16, 2), ("verilator", 8, 8)],
)
def test_mac_array(sim: str, rows: int, cols: int) -> None:
    _need(sim)
    run_bench(
        sim, "mac_array", "sim.bench_mac_array", ARRAY_SOURCES, {"ROWS": rows, "COLS": cols}, f"mac_{rows}x{cols}"
    )


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 2), (2, 1), (5, 3), (32, 32), (64, 64)])
def test_mac_array_lint(sim: str, rows: int, cols: int) -> None:
    _need(sim)
    lint(sim, "mac_array", ARRAY_SOURCES, {"ROWS": rows, "COLS": cols})


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "cols", "lanes"), [(32, 32, 32), (1, 2, 1), (2, 1, 1), (9, 6, 3), (64, 16, 8)])
def test_core_lint(sim: str, rows: int, cols: int, lanes: int) -> None:
    _need(sim)
    lint(sim, "intact_core", rtl_sources(), {"ROWS": rows, "COLS": cols, "LANES": lanes})


@pytest.mark.parametrize(("sim", "act", "wgt"), [("icarus", 12, 10), ("icarus", 1, 24), ("verilator", 9, 8)])
def test_address_gen(sim: str, act: int, wgt: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ACT_ADDR": act, "WGT_ADDR": wgt}
    run_bench(sim, "address_gen", "sim.bench_address_gen", [RTL / "address_gen.v"], parameters, f"address_{act}_{wgt}")


@pytest.mark.parametrize(("sim", "act", "wgt"), [("icarus", 12, 10), ("icarus", 3, 24), ("verilator", 9, 8)])
def test_window_gen(sim: str, act: int, wgt: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ACT_ADDR": act, "WGT_ADDR": wgt}
    run_bench(sim, "window_gen", "sim.bench_window_gen", [RTL / "window_gen.v"], parameters, f"window_{act}_{wgt}")


def test_program_fetch() -> None:
    _need("icarus")
    run_bench("icarus", "program_fetch", "sim.bench_program_fetch", [RTL / "program_fetch.v"], {"PRG_ADDR": 7}, "fetch")


@pytest.mark.parametrize(
    ("sim", "width", "lane", "depth", "latency"),
    [
        ("icarus", 32, 8, 100, 2),
        ("verilator", 64, 32, 512, 3),
        ("icarus", 64, 32, 3500, 3),
        ("verilator", 64, 64, 4128, 2),
    ],
)
def test_ram(sim: str, width: int, lane: int, depth: int, latency: int) -> None:
    """3,500 words lie in parts of 2,048, 1,024 and 428, 4,128 in 4,096 and 32."""
    _need(sim)
    addr = (depth - 1).bit_length()
    parameters: dict[str, int | str] = {"WIDTH": width, "SLICE": lane, "DEPTH": depth, "ADDR": addr, "LATENCY": latency}
    parameters["INIT_FILE"] = f'"{image(BUILD / "ram_images", width, depth)[0]}"'
    sources = [RTL / "delay.v", RTL / "ram_part.v", RTL / "ram.v"]
    run_bench(sim, "ram", "sim.bench_ram", sources, parameters, f"ram_{width}_{lane}_{depth}")


@pytest.mark.parametrize(("width", "depth", "parts"), [(512, 4608, 2), (64, 3500, 3), (8, 2560, 1), (32, 300, 1)])
def test_a_synthesised_memory_holds_its_image(width: int, depth: int, parts: int) -> None:
    """The parts as yosys understands them, before they become block RAM: their words in turn are the image's."""
    try:
        command = [tool("yosys"), "-q", "-p"]
    except IntactError as missing:
        pytest.skip(str(missing))
    path, words = image(BUILD / "ram_synthesised", width, depth)
    netlist = path.with_suffix(".json")
    values = {"WIDTH": width, "SLICE": 8, "DEPTH": depth, "ADDR": (depth - 1).bit_length()}
    given = " ".join(f"-set {name} {value}" for name, value in values.items())
    script = (
        "read_verilog rtl/ram.v rtl/ram_part.v rtl/delay.v; "
        f'chparam {given} -set INIT_FILE "{path.relative_to(ROOT)}" ram; '
        f"hierarchy -top ram; proc; flatten; memory_dff; memory_collect; write_json {netlist.relative_to(ROOT)}"
    )
    subprocess.run([*command, script], cwd=ROOT, check=True)
    cells = json.loads(netlist.read_text())["modules"]["ram"]["cells"].values()
    held: dict[int, list[int]] = {}
    for memory in (cell["parameters"] for cell in cells if cell["type"] == "$mem_v2"):
        bits, first = memory["INIT"], int(memory["OFFSET"], 2)
        held[first] = [int(bits[end - width : end], 2) for end in range(len(bits), 0, -width)]
    assert len(held) == parts
    assert [word for first in sorted(held) for word in held[first]] == words
    assert all(first == sum(len(held[before]) for before in held if before < first) for first in held)


@pytest.mark.parametrize(
    ("sim", "rows", "cols", "lanes", "tables"),
    [
        ("icarus", 4, 6, 2, 0),
        ("icarus", 1, 3, 1, 3),
        ("icarus", 8, 4, 4, 1),
        ("icarus", 9, 3, 3, 2),
        ("verilator", 4, 8, 2, 5),
    ],
)
def test_drain(sim: str, rows: int, cols: int, lanes: int, tables: int) -> None:
    _need(sim)
    parameters: dict[str, int | str] = {"ROWS": rows, "COLS": cols, "LANES": lanes, "ACT_ADDR": 9, "PRM_ADDR": 6}
    parameters |= {"TABLES": tables, "TAB_ADDR": 8 + (max(tables, 1) - 1).bit_length()}
    run_bench(sim, "drain", "sim.bench_drain", DRAIN_SOURCES, parameters, f"drain_{rows}x{cols}_{lanes}")
