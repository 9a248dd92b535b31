"""The documents and the Verilog header say what the code says, and the worked example of docs/formats.md is true."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pyexport import export, isa
from pyexport.hwconfig import PARAM_BITS
from pyexport.images import PARAMS, PROGRAM, WEIGHTS, memory_images
from scripts import format_tables, tile_timing
from scripts.format_tables import ROOT
from sim.compare import LayerComparison
from sim.run import make_report
from sim.simulate import SimResult


def test_the_verilog_header_is_what_isa_writes() -> None:
    assert (ROOT / "rtl" / "intact_defs.vh").read_text() == isa.verilog_header(), "run python -m pyexport.isa"


@pytest.mark.parametrize("part", format_tables.PARTS)
def test_formats(part: str) -> None:
    text = format_tables.DOCUMENT.read_text(encoding="utf-8")
    written = format_tables.update(text, {part: format_tables.PARTS[part]})
    assert text == written, "run python -m scripts.format_tables"


def test_the_timing_table_is_what_the_simulation_shows() -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    text = tile_timing.DOCUMENT.read_text(encoding="utf-8")
    assert text == format_tables.update(text, {"tile": tile_timing.timing_table}), "run python -m scripts.tile_timing"


def test_a_document_without_the_generated_part_is_an_error() -> None:
    def write() -> str:
        return "new"

    with pytest.raises(ValueError, match="no place"):
        format_tables.update("text", {"part": write})
    marked = "a\n<!-- begin part: x -->\nold\n<!-- end part -->\nb\n"
    assert format_tables.update(marked, {"part": write}) == marked.replace("old", "\nnew\n")


def test_the_example_decodes_to_what_was_encoded() -> None:
    network, lowered = format_tables.example()
    words = [int(line, 16) for line in memory_images(lowered)[PROGRAM].split()]
    assert format_tables.decode(isa.HEADER, words).items() >= lowered.header.items()
    assert format_tables.decode(isa.DESCRIPTOR, words[isa.HEADER_WORDS :]).items() >= lowered.jobs[0].fields.items()
    layer, zero_point = network.layers[0], network.tensors["in"].zero_point
    assert layer.weights is not None
    parameters = int(memory_images(lowered)[PARAMS].split()[0], 16)
    for channel in range(4):
        values = format_tables.decode_parameters(parameters >> 160 * channel & (1 << 160) - 1)
        bias = int(layer.requant.bias[channel]) - zero_point * int(layer.weights[channel].sum())
        assert values["bias"] == bias
        assert values["m"] == layer.requant.m[channel] and values["shift"] == layer.requant.s[channel] - 24
        assert (values["r"], values["even"], values["d"], values["exc_d"]) == (1 << 23, 1, 0, 0)


def test_the_fields_of_the_parameters_are_where_the_rtl_takes_them() -> None:
    lane = (ROOT / "rtl" / "requant_lane.v").read_text()
    place = 0
    for field in isa.PARAMETER:
        assert field.lsb == place
        assert f"params[`PRM_{field.name.upper()}]" in lane
        place += field.bits
    assert place == PARAM_BITS


def test_the_example_walks_over_every_tap() -> None:
    """Against plain loops over pixels, tiles, taps and words; and the weight words met on the way."""
    network, lowered = format_tables.example()
    weights = [int(line, 16) for line in memory_images(lowered)[WEIGHTS].split()]
    layer = network.layers[0]
    assert layer.weights is not None
    expected = [
        (oy + ky - 1, ox + kx - 1, word, tile, ky, kx)
        for oy in range(6)
        for ox in range(6)
        for tile in range(2)
        for ky in range(3)
        for kx in range(3)
        for word in range(2)
    ]
    walked = list(format_tables.walk(lowered.jobs[0].fields))
    assert len(walked) == len(expected)
    for (act, wgt, x, y), (row, column, word, tile, ky, kx) in zip(walked, expected, strict=True):
        assert (x, y) == (column, row)
        assert (act - ((row * 6 + column) * 2 + word)) % (1 << 24) == 0
        for c in range(4):
            for r in range(4):
                channel, lane = tile * 4 + c, word * 4 + r
                real = channel < 6 and lane < 5
                weight = int(layer.weights[channel, ky, kx, lane]) if real else 0
                assert format_tables.take(weights[wgt], 8 * (c * 4 + r), 8, True) == weight


OPEN = {"hardware", "fields", "differing_accumulators"}  # objects whose keys are names from elsewhere


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in OPEN:
                yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _documented(title: str) -> set[str]:
    text = format_tables.DOCUMENT.read_text(encoding="utf-8")
    section = text.split(f"### {title}\n")[1].split("\n### ")[0]
    return set(re.findall(r"`(\w+)`", section))


def test_every_field_of_manifest_and_report_is_documented() -> None:
    exported = export.export(str(ROOT / "models" / "xor.pt"))
    assert set(_keys(exported.manifest)) <= _documented("manifest.json")
    ends = np.cumsum(exported.cycles).tolist()
    result = SimResult(np.zeros((1, 1, 8), np.int8), [ends[-1]], ends, None, None, 1.0)
    report = make_report("xor.pt", "icarus", exported, result, LayerComparison(1, 0, 0, ()), None, [])
    assert set(_keys(report)) <= _documented("report.json")
