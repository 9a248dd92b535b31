"""What hardware takes of a device: block RAMs as yosys maps them, the choice of an array, the counts of `make area`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from constraints import area, build
from constraints.boards import BOARDS, Board
from constraints.cells import CELLS, GLUE, Cost, module_name, parts_of
from constraints.flow import ROOT, Figure, Timing, tool
from pyexport import choice, devices, export, ir, isa, quantise
from pyexport.devices import DEVICES, FAMILIES, Device, Memory, find_device
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig, for_array, parse_array
from sim.runner import BUILD
from tests.fixed_networks import Chain

ECP5 = FAMILIES["ecp5"]
DOCUMENT = ROOT / "docs" / "area.md"
DIGITS = ROOT / "models" / "digits.pt"
# rtl/ram.v synthesised alone by yosys 0.70, synth_ecp5: words, bits, bits of a slice -> DP16KD
MAPPED = {
    (256, 64, 16): 2,
    (300, 512, 32): 16,
    (375, 1280, 32): 40,
    (512, 9, 9): 1,
    (512, 64, 8): 2,
    (512, 1280, 32): 40,
    (512, 2048, 32): 64,
    (600, 1280, 32): 80,
    (768, 8, 8): 1,
    (1024, 32, 16): 2,
    (1024, 2048, 32): 128,
    (1536, 512, 32): 48,
    (1700, 64, 64): 8,
    (2048, 64, 64): 8,
    (2048, 128, 32): 16,
    (2560, 8, 8): 2,
    (2892, 64, 64): 12,
    (3413, 512, 32): 112,
    (4096, 512, 32): 128,
    (4128, 512, 32): 144,
    (4608, 512, 32): 144,
    (7680, 512, 32): 240,
    (3584, 512, 32): 112,
    (3072, 64, 64): 12,
    (15872, 64, 64): 62,
    (8192, 64, 64): 32,
    (16384, 32, 32): 32,
    (20000, 32, 32): 40,
}


@pytest.mark.parametrize("shape", MAPPED, ids=str)
def test_block_rams_are_what_yosys_takes(shape: tuple[int, int, int]) -> None:
    assert devices.block_rams(Memory("memory", *shape), ECP5) == MAPPED[shape]


@pytest.mark.parametrize(("rows", "cols", "depth", "blocks"), [(1, 2, 2048, 2), (3, 3, 1024, 5)])
def test_bits_that_fill_up_a_word_take_nothing(rows: int, cols: int, depth: int, blocks: int) -> None:
    """A word of weights is whole slices of 32 bits; what no multiplier reads is not synthesised."""
    (weights,) = (
        each for each in devices.memories(for_array(rows, cols, wgt_depth=depth)) if each.instance == "weight_memory"
    )
    assert weights.bits == 8 * rows * cols * depth and devices.block_rams(weights, ECP5) == blocks


@pytest.mark.parametrize(
    ("array", "depths", "blocks"),
    [
        ((4, 4, 2), (1024, 1024, 512), [2, 8, 10, 2, 1, 1]),
        ((8, 4, 1), (512, 512, 512), [2, 8, 5, 2, 1, 1]),
        ((8, 8, 2), (512, 512, 512), [2, 16, 10, 2, 1, 1]),
    ],
    ids=str,
)
def test_block_rams_of_gowin(array: tuple[int, int, int], depths: tuple[int, ...], blocks: list[int]) -> None:
    """SDPX9B, DPX9B and SPX9 of three digits networks, yosys 0.70, synth_gowin."""
    act, wgt, prm = depths
    hardware = HwConfig(*array, act_depth=act, wgt_depth=wgt, prm_depth=prm, prg_depth=512, layers=512)
    found = [devices.block_rams(memory, FAMILIES["gowin"]) for memory in devices.memories(hardware)]
    assert found == blocks


def documented() -> Iterator[tuple[HwConfig, int, int]]:
    """Array, LUTs synthesised and LUTs by the formula, of the table in docs/area.md."""
    rows = re.findall(
        r"^\| (\d+)x(\d+)(, packed)? \| (\d+) \| ([\d,]+) \| ([\d,]+) \|", DOCUMENT.read_text(), re.MULTILINE
    )
    for rows_, cols, packed, lanes, measured, formula in rows:
        hardware = HwConfig(int(rows_), int(cols), int(lanes), packed=int(bool(packed)))
        yield hardware, int(measured.replace(",", "")), int(formula.replace(",", ""))


def test_the_formula_gives_what_was_synthesised() -> None:
    assert ECP5.luts is not None
    found = list(documented())
    assert "8x8" in {hardware.array for hardware, _, _ in found}
    for hardware, measured, formula in found:
        assert devices.logic(hardware, ECP5.luts) == formula == pytest.approx(measured, rel=0.03), hardware


def test_the_documents_formula_is_the_codes() -> None:
    assert ECP5.luts is not None
    text = DOCUMENT.read_text()
    block = text[text.index("LUTs = ") : text.index("```", text.index("LUTs = "))]
    numbers = [
        float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?= \* \(| [+*]|$)", block, re.MULTILINE)
    ]
    model = asdict(ECP5.luts)
    assert sorted(numbers) == sorted(model.values())


def test_parts_have_the_budgets_that_the_document_says() -> None:
    most = r"(?:[\d,]+|\d+ \* ROWS|[\d,]+ \+ \d+ \* ROWS)"
    rows = dict(re.findall(rf"^\| ([\w -]+?) \| ({most} \| {most}) \|$", DOCUMENT.read_text(), re.MULTILINE))

    def said(fixed: int, row: int) -> str:
        terms = [f"{fixed:,}"] if fixed or not row else []
        return " + ".join([*terms, *([f"{row} * ROWS"] if row else [])])

    for budget in area.BUDGETS["ecp5"]:
        part = {area.PRODUCTS: ("multiplier", "pair")[budget.packed or 0], GLUE: "what joins them"}.get(budget.part)
        limits = f"{said(budget.luts, budget.luts_row)} | {said(budget.ffs, budget.ffs_row)}"
        assert rows[part or budget.part] == limits, budget.part


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_boards_device_and_flow_agree(board: Any) -> None:
    device = find_device(board.name)
    assert device.family == board.family and board.holds is device
    rows, cols = parse_array(board.preset.array)
    assert (
        not choice.lacks(replace(for_array(rows, cols, board.preset.lanes), **area.DEPTHS), device)
        or board.family == "ice40"
    )
    flow, family = build.FLOWS[board.family], FAMILIES[board.family]
    for hardware in (for_array(4, 4), for_array(8, 8, tables=2), HwConfig(16, 8, 4)):
        assert flow.multipliers(hardware) == devices.multipliers(hardware, family)
        for memory in devices.memories(hardware):
            assert flow.block_rams(memory) <= devices.block_rams(memory, family)


def test_find_device() -> None:
    assert find_device("ulx3s") is find_device("lfe5u-85f") is DEVICES["LFE5U-85F"]
    with pytest.raises(IntactError, match=r"board 'nosuch' is unknown; there are: .*ulx3s.*LFE5U-25F"):
        find_device("nosuch")


def network(act: int, wgt: int, prm: int) -> choice.Measure:
    """A network that uses these words on 8x8, as many bytes on other arrays, and 1,000,000 cycles / multipliers."""

    def measure(array: HwConfig) -> tuple[HwConfig, HwConfig, int]:
        words = {
            "act_depth": max(2, act * 8 // array.rows),
            "wgt_depth": max(2, wgt * 64 // array.multipliers),
            "prm_depth": max(2, prm * 8 // array.lanes),
        }
        used = replace(array, **words)
        depths = {name: 1 << max(9, (depth - 1).bit_length()) for name, depth in words.items()}
        return replace(array, **depths), used, 1_000_000 // array.multipliers

    return measure


def test_the_fastest_that_fits_is_chosen() -> None:
    device = find_device("ulx3s")
    chosen = choice.choose(device, choice.Wanted(), network(1024, 256, 64))
    # 156 multipliers: 128 for the products, two a block, and 4 for each requantise lane
    array = chosen.chosen.hardware
    assert (array.array, array.lanes, array.packed) == ("16x16", 4, 1) and chosen.chosen.name.endswith(", packed")
    assert chosen.chosen is chosen.trials[0] and not chosen.chosen.why_not
    assert {(one.hardware.rows, one.hardware.cols) for one in chosen.trials} == set(choice.sizes(chosen.device))
    for one in chosen.trials:
        needed = choice.need(one.hardware, device)
        assert bool(one.why_not) == (
            needed.multipliers > 156
            or (one.cycles is not None and needed.block_rams > 208)
            or (needed.luts is not None and needed.luts > 0.9 * 83_640)
        )
    fitting = [one.cycles for one in chosen.trials if not one.why_not and one.cycles is not None]
    assert chosen.chosen.cycles == min(fitting) == 1_000_000 // 256


def test_what_is_asked_for_is_kept() -> None:
    device = find_device("ulx3s")
    few = choice.choose(device, choice.Wanted(most_lanes=2), network(1024, 256, 64))
    assert {one.hardware.lanes for one in few.trials} <= {1, 2}
    packed = choice.choose(device, choice.Wanted(packed=True), network(1024, 256, 64))
    assert all(one.hardware.packed for one in packed.trials)


def test_of_equally_fast_arrays_the_smallest() -> None:
    def measure(array: HwConfig) -> tuple[HwConfig, HwConfig, int]:
        return (*network(512, 64, 64)(array)[:2], 1000)

    chosen = choice.choose(find_device("ulx3s"), choice.Wanted(), measure).chosen
    assert chosen.name == "4x4"


def test_more_luts_than_nine_tenths_are_refused() -> None:
    found = choice.Need((), 1, 901)
    device = Device("small", "ecp5", luts=1000, multipliers=1, block_rams=1)
    assert choice.problems(found, device) == ("about 901 LUTs, 90% of the device's are 900",)
    assert choice.problems(choice.Need((), 1, 900), device) == ()


def test_depths_are_cut_only_where_they_must_be() -> None:
    device = find_device("ulx3s")
    small = choice.choose(device, choice.Wanted(for_array(8, 8)), network(1000, 300, 80)).chosen.hardware
    assert (small.act_depth, small.wgt_depth, small.prm_depth) == (1024, 512, 512)
    # 258 KB of weights: 8192 words would take 256 blocks
    cut = choice.choose(device, choice.Wanted(for_array(8, 8)), network(96, 4128, 209)).chosen
    assert (cut.hardware.act_depth, cut.hardware.wgt_depth, cut.hardware.prm_depth) == (512, 4608, 512)
    assert {memory.instance: blocks for memory, blocks in cut.need.memories}["weight_memory"] == 144
    assert cut.need.block_rams <= 208


@pytest.mark.parametrize(
    ("array", "words", "message"),
    [
        ((16, 16), (512, 64, 64), r"array 16x16 does not fit LFE5U-85F: it takes 320 multipliers, the device has 156"),
        ((8, 8), (512, 8192, 64), "array 8x8 does not fit LFE5U-85F: it takes 310 block RAMs, the device has 208"),
        (None, (512, 8192, 64), "no array fits LFE5U-85F; the nearest, .* block RAMs, the device has 208"),
    ],
)
def test_what_does_not_fit_is_refused(array: tuple[int, int] | None, words: tuple[int, ...], message: str) -> None:
    hardware = for_array(*array) if array else None
    with pytest.raises(IntactError, match=message):
        choice.choose(find_device("ulx3s"), choice.Wanted(hardware), network(*words))


def test_an_array_that_cannot_run_the_network_is_passed_over() -> None:
    def measure(array: HwConfig) -> tuple[HwConfig, HwConfig, int]:
        if array.rows != 4:
            raise IntactError("only four rows")
        return network(512, 64, 64)(array)

    chosen = choice.choose(find_device("ulx3s"), choice.Wanted(), measure)
    assert chosen.chosen.hardware.rows == 4
    assert ("only four rows",) in [one.why_not for one in chosen.trials]


def test_the_exporter_chooses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(DIGITS), "-o", str(tmp_path), "--array", "auto", "--board", "ulx3s"]) == 0
    shown = capsys.readouterr().out
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    trials = manifest["fit"]["trials"]
    chosen = next(one for one in trials if one["chosen"])
    assert chosen["cycles"] == manifest["predicted_cycles"] == min(t["cycles"] for t in trials if not t["why_not"])
    assert chosen["array"].split(",")[0] == manifest["array"]
    assert f"{chosen['cycles']:,} predicted" in shown and "multipliers, the device has 156" in shown
    total = sum(one["block_rams"] for one in manifest["fit"]["memories"])
    assert total == chosen["block_rams"] and f"{total} of 208" in shown
    # as --array says it, the same
    again = tmp_path / "again"
    if "," not in chosen["array"]:
        assert export.main([str(DIGITS), "-o", str(again), "--array", chosen["array"]]) == 0
        assert (again / "program.mem").read_bytes() == (tmp_path / "program.mem").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--array", "auto"], "--board"),
        (["--array", "auto", "--board", "nosuch"], "'nosuch' is unknown"),
        (["--array", "32x32", "--board", "ulx3s"], "does not fit LFE5U-85F"),
        (["--array", "8x8", "--board", "LFE5U-25F"], "96 multipliers, the device has 28"),
    ],
)
def test_refused_by_the_exporter(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(DIGITS), "-o", str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_fixed_memories_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "hardware.json"
    config.write_text('{"wgt_depth": 8192}')
    given = [str(DIGITS), "-o", str(tmp_path / "out"), "--config", str(config), "--board", "ulx3s"]
    assert export.main(given) == 1
    assert "does not fit LFE5U-85F: it takes 3" in capsys.readouterr().err
    config.write_text('{"wgt_depth": 2048}')
    assert export.main(given) == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["hardware"]["WGT_DEPTH"] == 2048


def test_an_error_that_is_not_the_devices_is_told_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "hardware.json"
    config.write_text('{"wgt_depth": 2}')
    given = [str(DIGITS), "-o", str(tmp_path / "out"), "--config", str(config), "--board", "ulx3s"]
    assert export.main(given) == 1
    error = capsys.readouterr().err
    assert "wgt_depth" in error and "does not fit" not in error and "--array" not in error


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_has_an_array_of_its_own(board: Board) -> None:
    exported = export.export(str(DIGITS), board=board.name)
    config, preset = exported.config, board.preset
    assert (config.array, config.lanes) == (preset.array, min(preset.lanes, for_array(config.rows, config.cols).lanes))
    assert export.export(str(DIGITS), "4x1", board=board.name).config.array == "4x1"
    auto = export.export(str(DIGITS), "auto", board=board.name).config
    assert auto.lanes <= preset.lanes
    for depth in (config.act_depth, config.wgt_depth, config.prm_depth, config.prg_depth):
        assert depth % 256 == 0 and (board.family == "ice40" or depth & (depth - 1) == 0)


def test_descriptors_that_a_device_does_not_take() -> None:
    """The iCE40's address generator has shorter counts and coordinates; the exporter knows how short."""
    verilog = (ROOT / "constraints" / "ice40" / "address_gen.v").read_text()
    ice40 = FAMILIES["ice40"]
    found = [int(number) for number in re.findall(r"localparam (?:COUNT|SPAN) = (\d+);", verilog)]
    assert found == [ice40.count, ice40.coordinate] == [10, 11]
    for name in ("word_count", "oy_count", "gap", "map_h", "map_w"):
        assert isa.beyond({name: 1023, "layer": 5000}, 10, 11) is None
        assert str(isa.beyond({name: 1024}, 10, 11)).startswith(f"{name} = 1,024 (")
    for name in ("x0", "y0", "kx_x", "back_x", "ox_x", "ky_y", "back_y", "oy_y"):
        assert isa.beyond({name: 1023}, 10, 11) is isa.beyond({name: -1024}, 10, 11) is None
        assert isa.beyond({name: 1024}, 10, 11) and isa.beyond({name: -1025}, 10, 11)
    assert isa.beyond({"word_count": 65535, "x0": -32768}, ECP5.count, ECP5.coordinate) is None


@pytest.mark.parametrize("width", [1023, 1024])
def test_a_network_that_a_device_does_not_take(width: int) -> None:
    quant = ir.Quant(np.float32(0.02), 0, "int8")
    chain = Chain((1, width, 4), quant, 1).conv(4, (1, 3), padding=(0, 0, 1, 1))
    network = quantise.quantise(chain.graph())
    device = find_device("icebreaker")

    def measure(array: HwConfig) -> tuple[HwConfig, HwConfig, int]:
        return export.measured(network, array, device, False, block=256)

    if width == 1023:
        assert not choice.choose(device, choice.Wanted(HwConfig(4, 1, 1)), measure).chosen.why_not
    else:
        with pytest.raises(IntactError, match=r"^layer 'layer0' takes .* iCE40UP5K refuses: map_w = 1,024 \(columns"):
            choice.choose(device, choice.Wanted(HwConfig(4, 1, 1)), measure)


def statistics() -> dict[str, Any]:
    """As yosys writes them: two MAC lanes of three multipliers, a memory alone and one in the UART's host."""
    lane, memory = r"$paramod\mac_lane\ROWS=s32'0011", r"$paramod$0123abcd\ram"
    modules: dict[str, dict[str, int]] = {
        r"\uart_system": {r"$paramod$89ef\intact_core": 1, r"\uart_host": 1},
        r"$paramod$89ef\intact_core": {"LUT4": 5, r"$paramod\mac_array": 1, memory: 1},
        r"$paramod\mac_array": {lane: 2},
        lane: {"LUT4": 10, "CCU2C": 3, "PFUMX": 4, "TRELLIS_FF": 7, r"\mul8": 3},
        r"\mul8": {"TRELLIS_FF": 16, "ecp5_mult": 1},
        r"\ecp5_mult": {"MULT18X18D": 1},
        memory: {"DP16KD": 4, "TRELLIS_FF": 32},
        r"\uart_host": {"LUT4": 100, memory: 1},
    }
    return {"modules": {name: {"num_cells_by_type": cells} for name, cells in modules.items()}}


def test_every_cell_belongs_to_one_part() -> None:
    parts = parts_of(statistics(), "uart_system", CELLS["ecp5"])
    assert parts == {
        "UART host": (1, Cost(100, 32, 0, 4)),
        "MAC lane": (2, Cost(2 * 16, 2 * 7)),
        "multipliers": (6, Cost(0, 6 * 16, 6, 0)),
        "joins": (1, Cost(5, 0, 0, 0)),
        "other memories": (1, Cost(0, 32, 0, 4)),
    }
    assert list(parts) == ["UART host", "MAC lane", "joins", "multipliers", "other memories"]


@pytest.mark.parametrize(
    ("family", "cells", "cost"),
    [
        ("gowin", ("LUT4", "ALU", "RAM16SDP4", "DFFRE", "MULT9X9", "MULT18X18", "SDPX9B"), Cost(6, 1, 3, 1)),
        ("ice40", ("SB_LUT4", "SB_CARRY", "SB_DFFESR", "SB_MAC16", "SB_RAM40_4K", "SB_SPRAM256KA"), Cost(1, 1, 1, 1)),
        ("xilinx", ("LUT2", "LUT6", "SRL16E", "CARRY4", "MUXF8", "INV", "RAM32M", "FDRE", "DSP48E1"), Cost(7, 1, 1, 0)),
        ("xilinx", ("FDSE", "RAMB18E1", "RAMB36E1"), Cost(0, 1, 0, 3)),
    ],
)
def test_cells_of_other_families(family: str, cells: tuple[str, ...], cost: Cost) -> None:
    assert sum(map(CELLS[family].cost, cells), Cost()) == cost


def test_arrays_of_a_board_are_those_that_fit() -> None:
    """Fewer lanes, or pairs of products, where there are too few multipliers; the board's own and the largest."""
    arrays, too_large = area.arrays_of("default,16x8,4x1,largest", BOARDS["ulx3s"])
    assert [(each.array, each.lanes, each.packed) for each in arrays] == [
        ("8x8", 8, 0), ("16x8", 8, 1), ("4x1", 1, 0), ("16x16", 4, 1),
    ]  # fmt: skip
    assert not too_large
    arrays, too_large = area.arrays_of("default,4x4,largest", BOARDS["icebreaker"])
    assert [(each.array, each.packed) for each in arrays] == [("4x1", 0), ("4x2", 1)] and too_large == ["4x4"]


def test_activations_weights_and_serial_parameters_share_four_sprams() -> None:
    device = find_device("icebreaker")
    depths = {"act_depth": 768, "wgt_depth": 2048, "prm_depth": 256, "prg_depth": 512, "layers": 256}
    for hardware, blocks in (
        (HwConfig(4, 1, 1, **depths), 3),
        (HwConfig(4, 1, 1, prm_serial=1, **depths), 4),
        (HwConfig(4, 2, 1, packed=1, **depths), 4),
        (HwConfig(4, 2, 2, packed=1, prm_serial=1, **depths), 6),
    ):
        found = choice.need(hardware, device)
        assert found.large == blocks
        problems = choice.problems(replace(found, multipliers=8), device)
        assert problems == (() if blocks <= 4 else ("6 large memories (SPRAM), the device has 4",))
    small = choice.need(HwConfig(4, 2, 1, packed=1, **depths | {"wgt_depth": 256, "act_depth": 512}), device)
    assert small.large == 0, "what fits block RAM lies there"


def test_serial_parameters_are_taken_where_nothing_else_fits() -> None:
    """As keyword spotting on an iCE40 UP5K: 650 channels' parameters."""

    def measure(array: HwConfig) -> tuple[HwConfig, HwConfig, int]:
        sized = replace(array, act_depth=4096, wgt_depth=7424, prm_depth=768, prg_depth=256, layers=256)
        return sized, sized, 1000 + array.prm_serial

    device, wanted = find_device("icebreaker"), choice.Wanted(HwConfig(4, 1, 1))
    chosen = choice.choose(device, wanted, measure).chosen
    assert chosen.hardware.prm_serial == 1 and chosen.need.large == 4 and chosen.name == "4x1, serial parameters"
    auto = choice.choose(device, choice.Wanted(), measure).chosen
    assert auto.hardware.prm_serial == 1
    with pytest.raises(IntactError, match="array 4x1 does not fit GW1NR-LV9"):
        choice.choose(find_device("tangnano9k"), choice.Wanted(HwConfig(4, 1, 1)), lambda array: measure(array))
    forced = choice.Wanted(HwConfig(4, 1, 1, prm_serial=1))
    assert choice.choose(find_device("ulx3s"), forced, measure).chosen.hardware.prm_serial == 1


def test_an_unknown_cell_or_top_is_refused() -> None:
    strange = statistics()
    strange["modules"][r"\mul8"]["num_cells_by_type"]["NEWCELL"] = 1
    with pytest.raises(IntactError, match="NEWCELL"):
        parts_of(strange, "uart_system", CELLS["ecp5"])
    with pytest.raises(IntactError, match="0 modules are called top"):
        parts_of(statistics(), "top", CELLS["ecp5"])


@pytest.mark.parametrize(
    ("key", "name"),
    [(r"\mul8", "mul8"), (r"$paramod$0123\delay", "delay"), (r"$paramod\mac_lane\ROWS=s32'00100", "mac_lane")],
)
def test_module_names(key: str, name: str) -> None:
    assert module_name(key) == name


def test_a_part_over_its_budget_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = HwConfig(3, 2, 1)
    parts = parts_of(statistics(), "uart_system", CELLS["ecp5"])
    monkeypatch.setitem(area.BUDGETS, "ecp5", (area.Budget("MAC lane", 1, 4, 5, 1), area.Budget("no such", 0, 0)))
    assert area.over_budget("ecp5", hardware, parts) == []
    monkeypatch.setitem(area.BUDGETS, "ecp5", (area.Budget("MAC lane", 0, 3, 5, 1),))
    assert area.over_budget("ecp5", hardware, parts) == [
        "ecp5 3x2: MAC lane: 16 LUTs, may be 15",
        "ecp5 3x2: MAC lane: 7 flip-flops, may be 6",
    ]
    packed = tuple(area.Budget("MAC lane", luts, 100, packed=of) for luts, of in ((0, 1), (100, 0)))
    monkeypatch.setitem(area.BUDGETS, "ecp5", packed)
    assert area.over_budget("ecp5", hardware, parts) == []
    assert area.over_budget("ecp5", replace(hardware, packed=1), parts) == ["ecp5 3x2: MAC lane: 16 LUTs, may be 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--boards", "nosuch"], "--boards: nosuch: there are ulx3s"),
        (["--arrays", "8"], "array '8'"),
        (["--seeds", "0"], "not above 0"),
        (["--clock", "0"], "invalid positive value"),
        (["--out", "/"], "inside"),
    ],
)
def test_bad_options_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = area.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1 and message in error, error


def test_a_small_array_synthesised(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipliers and block RAMs are as many as predicted, or the command fails; a second run needs no synthesis."""
    try:
        tool("yosys")
    except IntactError as missing:
        pytest.skip(str(missing))
    folder = BUILD / "area"
    shutil.rmtree(folder, ignore_errors=True)
    monkeypatch.setattr(area, "BUDGETS", {})  # they are those of arrays from 4x4 on
    given = ["--boards", "ulx3s", "--arrays", "2x1", "--out", str(folder)]
    assert area.main(given) == 0, capsys.readouterr().err
    assert "synthesis 2x1" in capsys.readouterr().out
    (row,) = json.loads((folder / "area.json").read_text())
    assert row["multipliers"] == 2 + 4 and row["parts"]["requantise lane"]["multipliers"] == 4
    for resource in ("luts", "ffs", "multipliers", "block_rams"):
        assert row[resource] == sum(part[resource] for part in row["parts"].values()) > 0
    assert area.main(given) == 0
    assert "synthesis 2x1" not in capsys.readouterr().out


def test_placements_are_kept_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed or clock is placed, none twice; the clock asked for is the PLL's nearest.

    What cannot be routed is left out, and an error where nothing remains.
    """
    asked: list[tuple[Any, ...]] = []
    unroutable: set[int] = set()
    ecp5 = build.FLOWS["ecp5"]

    class Placer:
        def pll(self, board: Any, wanted: float) -> tuple[float, dict[str, int | str]]:
            self.wanted = wanted
            return ecp5.pll(board, wanted)

        def synthesise(self, *_: Any) -> Path:
            return tmp_path

        def check_netlist(self, *_: Any) -> None:
            pass

        def multipliers(self, hardware: HwConfig) -> int:
            return 0

        def place_and_route(
            self, stages: Any, board: Any, netlist: Path, seed: int, more: tuple[str, ...]
        ) -> tuple[list[Figure], Timing, Path]:
            asked.append((self.wanted, seed, *more))
            if seed in unroutable:
                raise IntactError("Routing design failed.")
            return (
                [Figure("LUT4", 100 + seed, 1000), Figure("FF", 7, 1000)],
                Timing(self.wanted + seed, 1.0, "", 0.5, "half of it"),
                netlist,
            )

    monkeypatch.setitem(build.FLOWS, "ecp5", Placer())
    ulx3s = BOARDS["ulx3s"]
    hardware = area.fitting(ulx3s, 4, 4)
    assert hardware

    def run(*effort: Any) -> dict[str, Any]:
        return area.place_and_route(Console(), ulx3s, hardware, area.Effort(*effort), tmp_path)

    assert run(1)["fmax_mhz"] == [ulx3s.clock + 1]
    expected = {
        "fmax_mhz": [ulx3s.clock + 1, ulx3s.clock + 2], "derating": 0.5, "note": "half of it",
        "luts": 101, "used": {"LUT4": 101, "FF": 7},
    }  # fmt: skip
    assert run(2) == run(2) == expected
    assert run(1, 125.0)["fmax_mhz"] == run(1, 125.0, ("-q",))["fmax_mhz"] == [126.0]
    assert asked == [(ulx3s.clock, 1), (ulx3s.clock, 2), (125.0, 1), (125.0, 1, "-q")]
    unroutable.add(1)
    assert run(2, 50.0)["fmax_mhz"] == [52.0] and asked[-2:] == [(50.0, 1), (50.0, 2)]
    with pytest.raises(IntactError, match="Routing design failed"):
        run(1, 50.0)


def test_devices_that_no_open_tool_places_have_no_fmax(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*arguments: Any) -> None:
        raise IntactError(f"effort {arguments[3]}")

    monkeypatch.setattr(area, "measure", measure)
    given = ["--arrays", "4x4", "--fmax", "--seeds", "1", "--out", str(BUILD / "area")]
    assert area.main([*given, "--boards", "arty_a7_35t"]) == 1
    said = capsys.readouterr()
    assert "arty_a7_35t: no fmax: no open tool places and routes it" in said.out and said.err == "error: effort None\n"
    assert area.main([*given, "--boards", "ulx3s"]) == 1
    said = capsys.readouterr()
    assert "no fmax" not in said.out and said.err.startswith("error: effort Effort(seeds=1")


def test_fmax_is_derated_and_says_why() -> None:
    half = {"fmax_mhz": [140.6, 90.0], "derating": 0.5, "note": "no timing of block RAM"}
    assert area.reached(half) == "140.6 90.0, 50% trusted"
    assert area.reached({"fmax_mhz": [125.0], "derating": 1.0, "note": ""}) == "125.0"
    assert area.reached({"fmax_mhz": []}) == ""
    rows: list[dict[str, Any]] = [{}, {"place_and_route": half}, {"place_and_route": half}]
    assert area.notes_of(rows) == ["no timing of block RAM"]
    assert area.notes_of([{"place_and_route": {"note": ""}}]) == []
