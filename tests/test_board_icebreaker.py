"""The iCEBreaker's top, simulated through its serial pins, compared with the golden model; the iCE40's own Verilog."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constraints import build
from constraints.boards import BOARDS
from constraints.flow import Memory
from constraints.ice40_flow import FAMILY, Ice40, ice40_pll, of_both_clocks
from pyexport import export, readers
from pyexport.arith import check, requantise
from pyexport.choice import lacks
from pyexport.devices import FAMILIES, is_large, left_empty
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from sim.runner import ROOT, RTL, SIMULATORS, lint, run_bench
from tests import tflite_reference as reference
from tests.board_pins import DIGITS, digits_through_the_pins, through_the_pins
from tests.gate import in_gate
from tests.requant_stimulus import arbitrary, fitted
from tests.requant_vectors import run as requantise_rtl
from tests.test_tflite import network

BOARD = BOARDS["icebreaker"]
ICE40 = ROOT / "constraints" / "ice40"
MODELS = [ROOT / "sim" / "models" / f"{name}.v" for name in ("SB_MAC16", "SB_SPRAM256KA", "SB_PLL40_2F_PAD")]
SOURCES = [*build.sources(BOARD), *MODELS]
PINS: dict[str, Any] = {
    "clock": "CLK", "rxd": "RX", "txd": "TX", "button": "BTN_N", "pressed": 0,
    "leds": "LEDR_N", "lit": 0, "error": 0, "reset": 0, "high": [], "per_clock": 2,
}  # fmt: skip


def family(name: str, *parts: str) -> list[Path]:
    """Verilog of the iCE40: its own files where it has them, and the models of its cells."""
    files = [ICE40 / f"{part}.v" if (ICE40 / f"{part}.v").is_file() else RTL / f"{part}.v" for part in (name, *parts)]
    return [*files, *MODELS]


ICE40_MEMORIES = [
    Memory("activations", 1024, 32, 8),
    Memory("weight_memory", 4096, 64, 32),
    Memory("program_memory", 512, 64, 32),
]


def netlist(folder: Path, change: dict[str, str | None]) -> Path:
    """A synthesis result with the cells that ICE40_MEMORIES and five products take; `change` by name."""
    cells: dict[str, str | None] = {f"core.weight_memory.block{i}": "SB_SPRAM256KA" for i in range(2)}
    cells |= {f"core.program_memory.mem.{i}": "SB_RAM40_4K" for i in range(8)}
    cells |= {f"core.activations.block{i}": "SB_SPRAM256KA" for i in range(2)}
    cells |= {"core.addresses.act_steps.0.0": "SB_RAM40_4K"}
    cells |= {f"core.product{i}": "SB_MAC16" for i in range(5)} | change
    path = folder / "netlist.json"
    named = {name: {"type": kind} for name, kind in cells.items() if kind}
    path.write_text(json.dumps({"modules": {"top": {"cells": named}}}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"core.weight_memory.block1": None}, "weight_memory.* needs at least 2 SB_SPRAM256KA and has 1"),
        ({"core.activations.block0": "SB_RAM40_4K"}, "activations.* needs at least 2 SB_SPRAM256KA and has 1"),
        ({"core.other.block": "SB_SPRAM256KA"}, "5 SB_SPRAM256KA, 4 of them"),
        ({"core.other.mem.0": "SB_RAM40_4K"}, "10 SB_RAM40_4K, 9 of them"),
        ({"core.product4": None}, "4 SB_MAC16, expected 5"),
    ],
)
def test_netlists(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    with pytest.raises(IntactError, match=message) if message else contextlib.nullcontext():
        Ice40().check_netlist(netlist(tmp_path, change), ICE40_MEMORIES, 5)


def test_memories_that_became_logic(tmp_path: Path) -> None:
    change: dict[str, str | None] = {f"core.program_memory.mem.{i}": None for i in range(1, 8)}
    with pytest.raises(IntactError, match=r"program_memory.* did not become one"):
        Ice40().check_netlist(netlist(tmp_path, change), ICE40_MEMORIES, 5)


@pytest.mark.parametrize(
    ("memory", "blocks"),
    [
        (Memory("activations", 512, 32), 4),
        (Memory("activations", 768, 32), 0),
        (Memory("activations", 32768, 32), 256),
        (Memory("parameter_memory", 256, 160), 10),
        (Memory("weight_memory", 1024, 32), 8),
        (Memory("weight_memory", 4096, 32), 0),
        (Memory("weight_memory", 16384, 32), 128),
        (Memory("parameter_parts", 3840, 32), 0),
        (Memory("payload", 512, 8), 1),
    ],
)
def test_block_rams(memory: Memory, blocks: int) -> None:
    assert Ice40().block_rams(memory) == blocks


def test_memories_are_whole_blocks() -> None:
    exported = export.export(str(ROOT / "models" / "digits.pt"), board=BOARD.name)
    words, config = exported.manifest["memory"], exported.config
    depths = {
        "activation_words": config.act_depth, "weight_words": config.wgt_depth, "parameter_words": config.prm_depth,
        "program_words": config.prg_depth,
    }  # fmt: skip
    for name, depth in depths.items():
        assert depth % 256 == 0 and words[name] <= depth < words[name] + 256, name
    assert not lacks(config, BOARD.holds)


@pytest.mark.parametrize(
    ("depths", "empty"),
    [
        ({"wgt_depth": 512}, []),
        ({"wgt_depth": 4096}, ["weights"]),
        ({"wgt_depth": 4096, "prm_depth": 1024, "prm_serial": 1}, ["weights", "params"]),
    ],
)
def test_what_a_bitstream_cannot_fill(depths: dict[str, int], empty: list[str]) -> None:
    hardware = HwConfig(rows=4, cols=1, lanes=1, **depths)
    assert left_empty(hardware, FAMILY) == empty
    assert left_empty(hardware, FAMILIES["ecp5"]) == []


def test_pll() -> None:
    assert Ice40().pll(BOARD, 12) == (12, {"PLL_DIVF": 63, "PLL_DIVQ": 5})
    for wanted in (16.5, 18, 20, 24, 48):
        clock, multiply, power = ice40_pll(12, wanted)
        assert clock == pytest.approx(12 * multiply / 2**power) and 0.9 * wanted <= clock <= wanted
        assert 533 <= 12 * multiply <= 1066
    with pytest.raises(IntactError, match="cannot be made"):
        ice40_pll(12, 10)


@pytest.mark.parametrize(
    ("across", "fmax", "path"),
    [
        ({}, 24.0, "in clk.Q -> in clk.D"),
        ({("clk", "clk_2x"): 20.0}, 24.0, "in clk.Q -> in clk.D"),
        ({("clk", "clk_2x"): 20.0, ("clk_2x", "clk"): 45.0}, 500 / 45, "clk_2x to clk.Q -> clk_2x to clk.D"),
    ],
)
def test_paths_between_the_clocks_have_half_a_cycle(
    across: dict[tuple[str, str], float], fmax: float, path: str
) -> None:
    def slowest(begin: str, end: str, cell: str, delay: float) -> dict[str, Any]:
        step = {"type": "logic", "delay": delay, "from": {"cell": cell, "port": "Q"}, "to": {"cell": cell, "port": "D"}}
        return {"from": f"posedge {begin}", "to": f"posedge {end}", "path": [step]}

    paths = [slowest("clk", "clk", "in clk", 41.7), slowest("clk_2x", "clk_2x", "in clk_2x", 17.0)]
    paths += [slowest(begin, end, f"{begin} to {end}", delay) for (begin, end), delay in across.items()]
    clocks = {"clk": {"achieved": 24.0, "constraint": 12.0}, "clk_2x": {"achieved": 58.0, "constraint": 24.0}}
    found = of_both_clocks({"fmax": clocks, "critical_paths": paths})
    assert found.fmax == pytest.approx(fmax) and found.target == 12.0 and found.path.startswith(path)


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(
    "memories",
    [
        {},
        {"ACT_DEPTH": 4096, "WGT_DEPTH": 8192, "PRM_DEPTH": 1024, "PRM_SERIAL": 1},
        {"ACT_DEPTH": 512, "WGT_DEPTH": 512},
    ],
)
def test_lint(sim: str, memories: dict[str, int]) -> None:
    lint(sim, "top", SOURCES, memories)


@pytest.mark.parametrize(
    ("width", "lane", "depth", "exclusive", "latency"),
    [(32, 32, 8192, 1, 3), (64, 32, 1024, 1, 2), (32, 8, 4096, 0, 2), (64, 32, 16384, 0, 3)],
)
def test_spram(width: int, lane: int, depth: int, exclusive: int, latency: int) -> None:
    """rtl/ram.v's reads and writes from memories with one port, which take turns at twice the clock."""
    parameters: dict[str, int | str] = {
        "WIDTH": width, "SLICE": lane, "DEPTH": depth, "ADDR": (depth - 1).bit_length(),
        "EXCLUSIVE": exclusive, "LATENCY": latency, "LARGE": 1,
    }  # fmt: skip
    run_bench("verilator", "ram", "sim.bench_ram", family("ram"), parameters, f"ice40_ram_{width}_{lane}_{exclusive}")


def test_multiplier_cell() -> None:
    run_bench("verilator", "mul8", "sim.bench_mul", family("mul8", "mul8_pair"), {}, "ice40_mul8")


def test_stream_out() -> None:
    """Frames, stalls and flushes; not the rate of rtl/stream_out.v, a beat a cycle, which this one does not have."""
    environment = {"STREAM_OUT_SLOW": "1"}
    parameters: dict[str, int | str] = {"ROWS": 4, "ADDR": 6}
    run_bench(
        "verilator", "stream_out", "sim.bench_stream_out", family("stream_out"), parameters, "ice40_out", environment
    )


def test_address_gen() -> None:
    """rtl/address_gen.v's bench hands the descriptor over word by word too."""
    parameters: dict[str, int | str] = {"ACT_ADDR": 12, "WGT_ADDR": 10}
    environment = {"SHORT_LOOPS": "10 11"}
    sources = family("address_gen")
    run_bench("verilator", "address_gen", "sim.bench_address_gen", sources, parameters, "ice40_addresses", environment)


def test_requantise(tmp_path: Path) -> None:
    """Every threshold and edge of fitted channels, and arbitrary constants; as tests/test_rtl_requantise.py."""
    for path in [*RTL.glob("*.v"), *RTL.glob("*.vh"), *ICE40.glob("*.v"), *MODELS]:
        shutil.copy(path, tmp_path)
    fits = [fitted(name, 64, 0, ties, 100) for name in ("fbgemm", "ort", "tflite-ref") for ties in (False, True)]
    batches = [fit.batch for fit in fits] + [batch for seed in range(22) for batch in arbitrary(seed, 128, 200)]
    more = ("ice40_mult", "SB_MAC16")
    results = requantise_rtl("verilator", batches, "requantise_ice40", tmp_path, more)
    values = sum(batch.acc.size for batch in batches)
    print(f"{values} values")
    assert values > 400_000
    for batch, got in zip(batches, results, strict=True):
        assert (got == requantise(batch.acc, check(batch.rq))).all()


def exported_for_board(model: Path, serial: bool, in_spram: set[str]) -> export.Exported:
    """in_spram: the memories that must lie there."""
    exported = export.export(str(model), serial=serial, board=BOARD.name)
    memories = build.memories(exported.config)
    assert {memory.instance for memory in memories if is_large(memory, FAMILY)} == in_spram
    return exported


def loads(exported: export.Exported) -> dict[str, tuple[str, int]]:
    """What the manifest says the bitstream cannot fill: images for the link, and bits of their words."""
    bits = {"weights": exported.config.wgt_bits, "params": exported.config.prm_bits}
    return {name.upper(): (f"{name}.mem", bits[name]) for name in exported.manifest["fit"]["load"]}


def test_xor_through_the_pins() -> None:
    inputs = np.array([[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)], np.float32)
    exported = exported_for_board(ROOT / "models" / "xor.pt", False, set())
    through_the_pins(exported, inputs, SOURCES, "board_icebreaker_xor", PINS)


@pytest.mark.parametrize("serial", [False, True])
def test_digits_through_the_pins(serial: bool) -> None:
    in_spram = {"activations", "weight_memory"} | ({"parameter_parts"} if serial else set())
    exported = exported_for_board(DIGITS, serial, in_spram)
    name = f"board_icebreaker_digits{'_serial' if serial else ''}"
    digits_through_the_pins(exported, 2, SOURCES, name, pins=PINS, loads=loads(exported))


@in_gate("ice40")
def test_keyword_spotting_through_the_pins() -> None:
    """DS-CNN as published: three memories in SPRAM, all of it over the serial line."""
    path = network("kws_ref_model.tflite")
    graph = readers.read(path)
    inputs = reference.stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, 2)
    in_spram = {"activations", "weight_memory", "parameter_parts"}
    exported = exported_for_board(path, True, in_spram)
    through_the_pins(exported, inputs, SOURCES, "board_icebreaker_kws", PINS, loads(exported))
