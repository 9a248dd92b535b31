"""`make weights`: contents of block RAMs replaced in a finished build, and what is refused.

Through the real tools: make test-gate. Minutes, so the other tests leave that out.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from constraints import build, ecp5_contents, ice40_contents, weights
from constraints.boards import find_board
from constraints.contents import BLOCKS, cells_of, note_blocks, refill, replaced
from constraints.ecp5_contents import held, sections
from constraints.ecp5_flow import Ecp5
from constraints.flow import RESULT, ROOT, Stages, relative
from constraints.ice40_flow import Ice40
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from sim.runner import BUILD
from tests.gate import in_gate
from tests.rtl_memory import image

WORDS = 2048  # of a block
XOR, AFFINE = ROOT / "models" / "xor.pt", ROOT / "models" / "affine.pt"


def block(words: list[int]) -> dict[str, Any]:
    """A netlist's block RAM that holds these words of 9 bits."""
    values = {}
    for line in range(64):
        value = 0
        for pair in range(16):
            low, high = words[32 * line + 2 * pair : 32 * line + 2 * pair + 2]
            value |= (low | high << 9) << (20 * pair)
        values[f"INITVAL_{line:02X}"] = f"{value:0320b}"
    return {"type": "DP16KD", "parameters": {"DATA_WIDTH_A": "10010", "DATA_WIDTH_B": "100100", **values}}


def random_words(seed: int) -> list[int]:
    return random.Random(seed).choices(range(512), k=WORDS)


def configuration(contents: dict[str, list[int]]) -> str:
    """A placed configuration as nextpnr writes it, with something before and behind its blocks."""
    text = ".device LFE5U-85F\n\n.tile CIB_R10C4:CIB_EBR\narc: A1 B1\nenum: X 0\n\n"
    for number, words in contents.items():
        rows = [" ".join(f"{word:03x}" for word in words[i : i + 8]) for i in range(0, WORDS, 8)]
        text += f".bram_init {number}\n" + "\n".join(rows) + "\n\n"
    return text + ".tile_group EBR_CMUX_LR\nenum: EBR0.MODE DP16KD\n\n"


def test_a_netlists_block_is_read() -> None:
    words = random_words(1)
    assert list(held(block(words))) == words
    undefined = block(words)
    undefined["parameters"]["INITVAL_3F"] = "x" * 320
    with pytest.raises(IntactError, match="undefined"):
        held(undefined)


def test_a_configurations_blocks_are_read_and_replaced() -> None:
    before = {"3": random_words(1), "17": [0] * WORDS, "4": random_words(2)}
    after = {"3": random_words(3), "17": random_words(4), "4": [0] * WORDS}
    contents = {number: tuple(words) for number, words in after.items()}
    assert sections(configuration(before)) == {number: tuple(words) for number, words in before.items()}
    assert replaced(ecp5_contents, configuration(before), contents) == configuration(after)
    for wrong in ({"3": contents["3"], "17": contents["17"]}, contents | {"5": contents["4"]}, contents | {"4": (0,)}):
        with pytest.raises(IntactError, match="not those of the netlist"):
            replaced(ecp5_contents, configuration(before), wrong)


def test_ice40_blocks() -> None:
    """16 words of 256 bits; what is undefined is zero; a section is named by its tile."""
    words = [random.Random(seed).getrandbits(256) for seed in range(16)]
    parameters = {"READ_MODE": "01", "WRITE_MODE": "10"}
    parameters |= {f"INIT_{number:X}": f"{word:0256b}" for number, word in enumerate(words)}
    cell = {"type": "SB_RAM40_4K", "parameters": parameters}
    assert ice40_contents.held(cell) == tuple(words) and ice40_contents.shape(cell) == [1, 2]
    parameters["INIT_F"] = "x" * 255 + "1"
    assert ice40_contents.held(cell) == (*words[:15], 1)
    text = ".io_tile 1 0\n000\n\n" + ice40_contents.section("6 3", tuple(words)) + "\n.sym 3 clk\n"
    assert ice40_contents.sections(text) == {"6 3": tuple(words)}
    other = tuple(reversed(words))
    changed = replaced(ice40_contents, text, {"6 3": other})
    assert changed.startswith(".io_tile") and changed.endswith("\n\n.sym 3 clk\n")
    assert ice40_contents.sections(changed) == {"6 3": other}


def placed(
    folder: Path, contents: dict[str, list[int]], numbers: dict[str, str]
) -> tuple[Path, dict[str, str], Path, Path]:
    """Arguments of `note_blocks` behind the first: what yosys and nextpnr leave of blocks by name, numbered."""
    cells = {name: block(words) for name, words in contents.items()}
    (folder / "netlist.json").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    (folder / "intact.config").write_text(configuration({numbers[name]: words for name, words in contents.items()}))
    (folder / "yosys.log").write_text("$ yosys\n\n Yosys 0.70 (git sha1 28ba3cb92)\n\n")
    return folder / "netlist.json", numbers, folder / "intact.config", folder


def test_a_build_notes_its_blocks(tmp_path: Path) -> None:
    numbers = {"core.weight_memory.mem.0.0": "9", "core.weight_memory.mem.0.1": "3"}
    arguments = placed(tmp_path, {name: random_words(i) for i, name in enumerate(numbers)}, numbers)
    note_blocks(ecp5_contents, *arguments)
    noted = json.loads((tmp_path / BLOCKS).read_text())
    assert noted["synthesised_by"] == "Yosys 0.70 (git sha1 28ba3cb92)"
    assert noted["blocks"] == {name: {"place": number, "shape": [18, 36]} for name, number in numbers.items()}


def test_blocks_that_hold_something_else_are_seen(tmp_path: Path) -> None:
    numbers = {"a": "9", "b": "3"}
    arguments = placed(tmp_path, {"a": random_words(1), "b": random_words(2)}, numbers)
    crossed = {"a": "3", "b": "9"}
    arguments[2].write_text(configuration({crossed["a"]: random_words(1), crossed["b"]: random_words(2)}))
    with pytest.raises(IntactError, match="do not hold what the netlist's do"):
        note_blocks(ecp5_contents, *arguments)


class NoTools(Stages):
    """Stages whose one tool, yosys, leaves a netlist with these blocks and this log."""

    def __init__(self, folder: Path, blocks: dict[str, list[int]], version: str) -> None:
        super().__init__(Console(quiet=True), folder)
        self.blocks, self.version = blocks, version

    def run(self, name: str, log: str, command: Sequence[str]) -> None:
        cells = {name: block(words) for name, words in self.blocks.items()}
        (self.folder / "memories.json").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
        (self.folder / log).write_text(f"$ yosys\n\n {self.version}\n")


def test_contents_go_where_the_build_has_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constraints.contents.tool", lambda name: name)
    old, new = BUILD / "weights_old", BUILD / "weights_new"
    for folder in (old, new):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    numbers = {"a": "9", "b": "3"}
    note_blocks(ecp5_contents, *placed(old, {"a": random_words(1), "b": random_words(2)}, numbers))
    version, how = "Yosys 0.70 (git sha1 28ba3cb92)", Ecp5.refill
    assert how
    other = {"b": random_words(4), "a": random_words(3)}
    config = refill(how, NoTools(new, other, version), [], {}, old)
    assert config.read_text() == configuration({"9": other["a"], "3": other["b"]})
    assert (new / BLOCKS).read_text() == (old / BLOCKS).read_text()  # the result is a finished build itself
    unread = {"unread": random_words(5)}  # which the rest of synthesis left out of the build
    again = refill(how, NoTools(new, other | unread, version), [], {}, old)
    assert again.read_text() == configuration({"9": other["a"], "3": other["b"]})
    config.unlink()
    wrong = [(other, "Yosys 0.71", "built by another yosys"), ({"a": other["a"]}, version, "has other memories")]
    for blocks, found, message in wrong:
        with pytest.raises(IntactError, match=message):
            refill(how, NoTools(new, blocks, found), [], {}, old)
        assert not config.exists()


def test_a_family_that_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights.main(["arty_a7_35t", str(XOR)]) == 1
    assert capsys.readouterr().err.startswith("error: weights: not for arty_a7_35t: make bitstream")


@pytest.fixture
def finished() -> Iterator[Path]:
    """The folder of a finished build as far as it is looked at before the tools run."""
    folder = BUILD / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    board = find_board("ulx3s")
    hardware = HwConfig(rows=4, cols=4, lanes=4, act_depth=512, wgt_depth=512, prm_depth=512, prg_depth=512)
    result = {
        "board": board.name, "model": "old.pt", "hardware": hardware.verilog_parameters(),
        "settings": {"CLOCKS_PER_BIT": 62}, "sources": build.digest(board), "met": True,
    }  # fmt: skip
    (folder / RESULT).write_text(json.dumps(result))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def changed(folder: Path, **fields: object) -> None:
    path = folder / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command prints."""
    assert weights.main(["ulx3s", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_what_is_no_finished_build_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reuse = ("--reuse", str(finished), "--out", str(finished))
    changed(finished, sources="other")
    assert "built from other Verilog or pins" in refusal(capsys, str(XOR), *reuse)
    changed(finished, board="nosuch")
    assert "a build for nosuch, not ulx3s" in refusal(capsys, str(XOR), *reuse)
    (finished / RESULT).write_text('{"board": "ulx3s"}')
    assert "holds no finished build" in refusal(capsys, str(XOR), *reuse)
    (finished / RESULT).unlink()
    assert "holds no finished build" in refusal(capsys, str(XOR), *reuse)


def test_a_model_for_other_hardware_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir()}
    reuse = ("--reuse", str(finished), "--out", str(finished))
    message = refusal(capsys, str(ROOT / "models" / "digits.pt"), *reuse)
    assert "the model needs" in message and "the hardware 4x4 has 512" in message
    assert "--config says the array" in refusal(capsys, str(XOR), *reuse, "--export-args=--array 8x8")
    with pytest.raises(SystemExit):
        weights.main(["ulx3s", str(XOR), *reuse, "--export-args=-o /nowhere"])
    assert "unrecognized arguments: -o /nowhere" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_the_newest_build_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "BUILDS", tmp_path)
    board = find_board("ulx3s")
    with pytest.raises(IntactError, match="no finished build for ulx3s that met its clock: make bitstream BOARD=ulx3s"):
        weights.newest(board)
    for age, name in ((300, "newer"), (400, "older"), (100, "other-board"), (50, "unfinished"), (20, "too-slow")):
        (tmp_path / name).mkdir()
        result = {"board": "ulx3s", "hardware": {}, "settings": {}, "sources": "", "met": name != "too-slow"}
        if name == "other-board":
            result["board"] = "tangnano9k"
        if name == "unfinished":
            del result["hardware"]
        path = tmp_path / name / RESULT
        path.write_text(json.dumps(result))
        os.utime(path, (1e9 - age, 1e9 - age))
    assert weights.newest(board) == tmp_path / "newer"


# Memories of several shapes, whose every bit is written and read; a wide word takes several blocks, a deep one too.
SMALL = """
module top #(parameter WGT_FILE = "", parameter PRM_FILE = "", parameter PRG_FILE = "") (
    input wire clk_25mhz, input wire btn_fire1, output reg [7:0] led
);
    reg [11:0] address;
    wire [127:0] wide;
    wire [63:0] deep;
    wire [7:0] narrow;
    always @(posedge clk_25mhz) begin
        address <= address + 1'b1;
        led <= {^wide[127:96], ^wide[95:64], ^wide[63:32], ^wide[31:0], ^deep[63:32], ^deep[31:0], ^narrow, ^address};
    end
    ram #(.WIDTH(128), .SLICE(32), .DEPTH(512), .ADDR(9), .INIT_FILE(WGT_FILE)) weight_memory (
        .clk(clk_25mhz), .write_enable({4{btn_fire1}}), .write_addr(address[8:0]), .write_data({32{address[3:0]}}),
        .read_addr(address[8:0] ^ 9'd5), .read_data(wide));
    ram #(.WIDTH(64), .SLICE(32), .DEPTH(2048), .ADDR(11), .INIT_FILE(PRM_FILE)) parameter_memory (
        .clk(clk_25mhz), .write_enable({2{btn_fire1}}), .write_addr(address[10:0]), .write_data({16{address[3:0]}}),
        .read_addr(address[10:0] ^ 11'd5), .read_data(deep));
    ram #(.WIDTH(8), .SLICE(8), .DEPTH(512), .ADDR(9), .INIT_FILE(PRG_FILE)) program_memory (
        .clk(clk_25mhz), .write_enable(btn_fire1), .write_addr(address[8:0]), .write_data(address[7:0]),
        .read_addr(address[8:0] ^ 9'd5), .read_data(narrow));
endmodule
"""


def small_images(folder: Path, seed: int) -> dict[str, int | str]:
    """Random contents of the small design's memories, in files; its parameters."""
    shapes = {"WGT_FILE": (128, 512), "PRM_FILE": (64, 2048), "PRG_FILE": (8, 512)}
    return {name: relative(image(folder, *shape, seed)[0]) for name, shape in shapes.items()}


def stages(folder: Path) -> Stages:
    folder.mkdir(parents=True, exist_ok=True)
    return Stages(Console(), folder)


@in_gate("ecp5")
def test_the_same_bits_of_a_small_design() -> None:
    """Memories of several shapes, random contents, other random contents: replaced, and built whole."""
    folder = BUILD / "weights_small"
    shutil.rmtree(folder, ignore_errors=True)
    flow, board = Ecp5(), replace(find_board("ulx3s"), device="25k")
    first, whole, refilled = (stages(folder / name) for name in ("first", "whole", "refilled"))
    top = folder / "top.v"
    top.write_text(SMALL)
    files = [ROOT / "rtl" / name for name in ("delay.v", "ram_part.v", "ram.v")] + [top]
    parameters = {name: small_images(folder / f"images_{name}", seed) for seed, name in enumerate("ab")}
    for stage, name in ((first, "a"), (whole, "b")):
        netlist = flow.synthesise(stage, board, files, parameters[name])
        _, _, config = flow.place_and_route(stage, board, netlist, 1)
        flow.pack(stage, board, config)
    config = refill(flow.refill, refilled, files, parameters["b"], first.folder)
    flow.pack(refilled, board, config)
    assert len(json.loads((first.folder / BLOCKS).read_text())["blocks"]) >= 4 + 8 + 1
    for name in ("intact.config", "intact.bit"):
        same, other = ((stage.folder / name).read_bytes() for stage in (whole, first))
        assert (refilled.folder / name).read_bytes() == same != other, name


@in_gate("ecp5")
def test_the_same_bits_as_a_whole_build() -> None:
    """Another model in a finished build, and the same hardware with that model built whole: equal bitstreams."""
    folder = BUILD / "weights_whole"
    shutil.rmtree(folder, ignore_errors=True)
    first, refilled, whole = (folder / name for name in ("first", "refilled", "whole"))
    assert build.main(["ulx3s", str(AFFINE), "--array", "1x2", "--out", str(first)]) == 0
    assert weights.main(["ulx3s", str(XOR), "--reuse", str(first), "--out", str(refilled)]) == 0
    hardware = json.loads((first / RESULT).read_text())["hardware"]
    (folder / "hardware.json").write_text(json.dumps({name.lower(): value for name, value in hardware.items()}))
    config = f"--export-args=--config '{folder / 'hardware.json'}'"
    assert build.main(["ulx3s", str(XOR), config, "--out", str(whole)]) == 0
    for name in ("intact.config", "intact.bit"):
        assert (refilled / name).read_bytes() == (whole / name).read_bytes(), name
        assert (refilled / name).read_bytes() != (first / name).read_bytes(), name


@in_gate("ice40")
def test_the_same_bits_as_the_same_netlist_placed() -> None:
    """Another model in a finished build, and that build's netlist with the model's images placed: equal bitstreams.

    A whole build will not do: on the iCE40 yosys' netlist depends on the names of the images, too.
    """
    folder = BUILD / "weights_icebreaker"
    shutil.rmtree(folder, ignore_errors=True)
    first, refilled, whole = folder / "first", folder / "refilled", stages(folder / "whole")
    assert build.main(["icebreaker", str(AFFINE), "--out", str(first)]) == 0
    assert weights.main(["icebreaker", str(XOR), "--reuse", str(first), "--out", str(refilled)]) == 0
    netlist = json.loads((first / "netlist.json").read_text())
    images = cells_of(refilled / "memories.json")
    for name, cell in ice40_contents.block_rams(netlist["modules"]["top"]["cells"]).items():
        cell["parameters"] |= images[name]["parameters"]
    (whole.folder / "netlist.json").write_text(json.dumps(netlist))
    shutil.copy(first / "yosys.log", whole.folder)
    flow = Ice40()
    _, _, config = flow.place_and_route(whole, find_board("icebreaker"), whole.folder / "netlist.json", 1)
    flow.pack(whole, find_board("icebreaker"), config)
    for file in ("intact.asc", "intact.bin"):
        assert (refilled / file).read_bytes() == (whole.folder / file).read_bytes(), file
        assert (refilled / file).read_bytes() != (first / file).read_bytes(), file
