"""Two products a multiplier block: every operand of each family's cell, and networks on packed arrays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pyexport import choice, golden, isa, lower, quantise, readers
from pyexport.devices import find_device
from pyexport.errors import IntactError
from pyexport.export import load_config, main
from pyexport.hwconfig import HwConfig, for_array
from sim.bench import networks
from sim.gates.run import library_folder
from sim.runner import BUILD, ROOT, RTL, SIMULATORS, lint, rtl_sources, run_bench, simulator_missing
from tests import fixed_networks
from tests.rtl_network import assert_equal, prepare, simulated

CELLS = ROOT / "constraints"
MODELS = ROOT / "sim" / "models"
ARRAY_SOURCES = [RTL / f"{name}.v" for name in ("mac_array", "mac_lane", "accumulator", "mul8", "mul8_pair")]


def need(sim: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)


def yosys_model(cell: str, library: str) -> list[Path]:
    """yosys' own model of a vendor's cell, alone in a file, and a waiver: it is not written for -Wall."""
    try:
        text = (library_folder() / library / "cells_sim.v").read_text()
    except IntactError as error:
        pytest.skip(str(error))
    found = re.search(rf"^module {cell} .*?^endmodule$", text, re.DOTALL | re.MULTILINE)
    assert found, f"no {cell} in {library}/cells_sim.v"
    folder = BUILD / "models"
    folder.mkdir(parents=True, exist_ok=True)
    model, waiver = folder / f"{cell}.v", folder / f"{cell}.vlt"
    model.write_text(found[0] + "\n")
    waiver.write_text(
        f"""`verilator_config
lint_off -file "*/{cell}.v"
lint_off -rule COMBDLY -file "*/{cell}.v"
lint_off -rule UNOPTFLAT -file "*/{cell}.v"
lint_off -rule PINCONNECTEMPTY -file "*/mul8_pair.v"
"""
    )
    return [waiver, model]


def every_operand(name: str, sources: list[Path]) -> None:
    need("verilator")
    check = ROOT / "sim" / "mul8_pair_check.v"
    run_bench("verilator", "mul8_pair_check", "sim.bench_mul8_pair", [check, *sources], {}, f"mul8_pair_{name}")


def test_cell() -> None:
    every_operand("rtl", [RTL / "mul8_pair.v"])


def test_ecp5_cell() -> None:
    ecp5 = CELLS / "ecp5"
    every_operand("ecp5", [ecp5 / "mul8_pair.v", ecp5 / "ecp5_mult.v", MODELS / "MULT18X18D.v"])


def test_ice40_cell() -> None:
    every_operand("ice40", [*yosys_model("SB_MAC16", "ice40"), CELLS / "ice40" / "mul8_pair.v"])


def test_xilinx_cell() -> None:
    every_operand("xilinx", [*yosys_model("DSP48E1", "xilinx"), CELLS / "xilinx" / "mul8_pair.v"])


def test_a_wrong_cell_is_seen(tmp_path: Path) -> None:
    """ECP5 with its last correction left out for a quarter of the negative b0."""
    ecp5 = CELLS / "ecp5"
    text = (ecp5 / "mul8_pair.v").read_text()
    wrong = text.replace("b0_negative <= b0[7];", "b0_negative <= b0[7] & (b0[6] | b1[7]);")
    assert wrong != text
    (tmp_path / "mul8_pair.v").write_text(wrong)
    with pytest.raises(AssertionError, match="products differ"):
        every_operand("wrong", [tmp_path / "mul8_pair.v", ecp5 / "ecp5_mult.v", MODELS / "MULT18X18D.v"])


@pytest.mark.parametrize(
    ("sim", "rows", "cols"),
    [("icarus", 1, 4), ("icarus", 5, 3), ("icarus", 8, 8), ("verilator", 8, 8), ("verilator", 3, 5)],
)
def test_array(sim: str, rows: int, cols: int) -> None:
    need(sim)
    parameters: dict[str, int | str] = {"ROWS": rows, "COLS": cols, "PACKED": 1}
    run_bench(sim, "mac_array", "sim.bench_mac_array", ARRAY_SOURCES, parameters, f"mac_packed_{rows}x{cols}")


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize(("rows", "cols", "lanes"), [(16, 16, 4), (8, 8, 8), (5, 3, 1), (2, 1, 1)])
def test_lint(sim: str, rows: int, cols: int, lanes: int) -> None:
    need(sim)
    lint(sim, "intact_core", rtl_sources(), {"ROWS": rows, "COLS": cols, "LANES": lanes, "PACKED": 1})


@pytest.mark.parametrize(
    ("sim", "config"),
    [
        ("icarus", HwConfig(4, 6, 2, packed=1)),
        ("icarus", HwConfig(6, 3, 3, packed=1)),
        ("verilator", HwConfig(8, 8, 8, packed=1)),
        ("verilator", HwConfig(16, 16, 4, packed=1)),
    ],
    ids=lambda value: f"{value.array}_{value.lanes}" if isinstance(value, HwConfig) else value,
)
def test_networks(sim: str, config: HwConfig) -> None:
    """Every layer's codes and cycles, the layers that a window would take among them."""
    need(sim)
    for name in ("first", "windows"):
        prepared = prepare(getattr(fixed_networks, name)(), config, 2)
        assert all(job.fields["opcode"] != isa.OPCODE_WINDOW for job in prepared.lowered.jobs)
        assert_equal(prepared, simulated(sim, prepared, f"packed_{name}_{config.array}"))


def test_digits_take_the_same_program() -> None:
    """Where no layer takes the window, packing changes nothing but the number of blocks, which the header tells."""
    network = quantise.quantise(readers.read(ROOT / "models" / "digits.pt"))
    plain, packed = (lower.lower(network, for_array(16, 16, packed=packed)) for packed in (False, True))
    assert plain.header | {"packed": 1} == packed.header and plain.header["packed"] == 0
    assert plain.jobs == packed.jobs and np.array_equal(plain.weights, packed.weights)
    cycles = [golden.network_cycles(network, lowered.config) for lowered in (plain, packed)]
    assert cycles[0] == cycles[1]


def test_documented_cycles() -> None:
    """docs/architecture.md's table is what the cycle model says."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    plain, packed = for_array(8, 8), for_array(16, 16, 4, packed=True)
    for name, candidate in networks(None).items():
        one, other = (sum(golden.network_cycles(candidate.network, config)) for config in (plain, packed))
        assert f"| {name} | {one:,} | {other:,} | {one / other:.2f} |" in text, (name, one, other)


def test_blocks() -> None:
    assert for_array(16, 16).multiplier_blocks == 256
    packed = for_array(16, 16, 4, packed=True)
    assert (packed.multiplier_blocks, packed.multipliers, packed.lanes) == (128, 256, 4)
    assert for_array(5, 3, packed=True).multiplier_blocks == 10
    assert for_array(8, 8).window and not for_array(8, 8, packed=True).window
    assert HwConfig(packed=1).verilog_parameters()["PACKED"] == 1
    with pytest.raises(IntactError, match="packed=2"):
        HwConfig(packed=2)


def test_what_the_board_holds() -> None:
    device = find_device("ulx3s")
    assert not choice.lacks(for_array(16, 16, 4, packed=True), device)
    for config, blocks in ((for_array(16, 16, 4), 272), (for_array(16, 16, packed=True), 192)):
        assert f"{blocks} multipliers, the device has 156" in choice.lacks(config, device)


def test_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(ROOT / "models" / "xor.pt")
    assert main([model, "--array", "8x8", "--packed", "--lanes", "4", "-o", str(tmp_path / "out")]) == 0
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert '"PACKED": 1' in manifest and '"LANES": 4' in manifest
    config = tmp_path / "hardware.json"
    config.write_text('{"rows": 4, "cols": 4, "lanes": 4, "packed": 1}')
    assert load_config(str(config)).packed == 1
    capsys.readouterr()
    assert main([model, "--config", str(config), "--packed"]) == 1
    assert capsys.readouterr().err == "error: --config says whether products are packed: leave out --packed\n"
