"""The HTML page of a simulation: complete, well formed, self-contained, and safe from the names in a model."""

from __future__ import annotations

import copy
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport import export
from pyexport.memory import Placement
from sim import drawings
from sim.compare import LayerComparison
from sim.drawings import Node
from sim.markup import Markup, tag
from sim.page import page
from sim.run import make_report
from sim.simulate import SimResult

MODELS = Path(__file__).resolve().parent.parent / "models"
VOID = {"meta", "br"}
HOSTILE = '</title></style></svg><script>alert(1)</script><img src=x onerror="a()"> \' " & &amp; \x00 http://x.test/'


class Reader(HTMLParser):
    """Elements, attributes and texts; fails where tags do not balance."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@cache
def exported(name: str) -> export.Exported:
    return export.export(str(MODELS / f"{name}.pt"))


def data(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Placement]]:
    """Manifest, the report of a run that found nothing, memory plan."""
    found = exported(name)
    ends = np.cumsum(found.cycles).tolist()
    result = SimResult(np.zeros((1, 1, 8), np.int8), [ends[-1]], ends, None, None, 1.0)
    output = LayerComparison(1, 0, 0, ())
    report = make_report(f"some where/{name}.pt", "verilator", found, result, output, None, [])
    return copy.deepcopy(found.manifest), report, dict(found.lowered.plan.placements)


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.pt")))
def test_every_layer_everywhere(name: str) -> None:
    manifest, report, placements = data(name)
    text = page(manifest, report, placements, ["a note & more"])
    reader = read(text)
    texts = "\n".join(reader.texts)
    for number, layer in enumerate(manifest["layers"], 1):
        assert reader.texts.count(layer["name"]) >= 2  # table of layers, table of rounding
        assert f"{number}  {layer['name']}" in reader.texts  # its box
        assert f"{layer['predicted_cycles']:,}" in texts
    for tensor, place in placements.items():
        assert f"{tensor}: {place.words:,} words" in texts
    said = [f"{name}.pt on INTACT", manifest["source"]["sha256"], f"{report['macs']:,}", "verilator", "a note & more"]
    for part in (*said, "8 rows × 8 columns, 64 multipliers", f"peak {manifest['memory']['activation_words']:,} words"):
        assert part in texts
    assert "Nothing differs" in texts and "are proved" in texts


def test_nothing_from_elsewhere() -> None:
    text = page(*data("digits"))
    assert not re.search(r"https?:|@import|//[a-z]", text)
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#arrow"}
    reader = read(text)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for name, attributes in reader.elements:
        assert name not in {"script", "link", "img", "iframe", "object", "use", "image"} and "src" not in attributes
        assert (attributes.get("href") or "#layers").removeprefix("#") in ids


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_hostile_names() -> None:
    """Names are text wherever they come: the page keeps its elements and gets no other attributes."""
    manifest, report, placements = data("digits")
    calm = read(page(manifest, report, placements))
    names = {n: n + HOSTILE for n in (*placements, *(layer["name"] for layer in manifest["layers"]))}
    manifest, report = _renamed(manifest, names), _renamed(report, names)
    report["model"] = HOSTILE.replace("/", "")
    manifest["source"]["notes"] = [HOSTILE]
    placements = {names[name]: place for name, place in placements.items()}
    wild = read(page(manifest, report, placements, [HOSTILE]))
    extra = {"p": 1}  # the note under the verdict
    for name in {name for name, _ in (*calm.elements, *wild.elements)}:
        counts = [sum(tag == name for tag, _ in reader.elements) for reader in (calm, wild)]
        assert counts[1] - counts[0] == extra.get(name, 0), name
    assert {a for _, held in wild.elements for a in held} <= {a for _, held in calm.elements for a in held}
    assert any("<script>alert(1)" in text for text in wild.texts)


def test_a_mismatch_is_shown_first_and_in_red() -> None:
    manifest, report, placements = data("digits")
    line = "layer 'conv2' inference 3 (h, w, c)=(1, 2, 3): expected <7>, got -8 (written in cycle 99 of the run)"
    report["differences"] = [line, "layer 'fc': 54 cycles measured, 53 predicted"]
    report["layers"][1]["mismatches"] = report["mismatches"] = 12
    report["layers"][5]["cycles"] = 54
    text = page(manifest, report, placements)
    reader = read(text)
    assert "Nothing differs" not in text and text.index("expected &lt;7&gt;, got -8") < text.index("54 cycles measured")
    assert line in reader.texts
    verdict = text[text.index('<div class="verdict bad">') :]
    assert "expected &lt;7&gt;" in verdict[: verdict.index("</div>")]
    assert '<td class="bad">54</td>' in text and '<b class="bad">12</b>' in text


def test_what_is_not_proved_is_listed() -> None:
    manifest, report, placements = data("digits")
    manifest["proved_equal"] = manifest["layers"][2]["proved_equal"] = False
    values = {"count": 5, "values": [-3, 4, 5, 6, 7]}
    manifest["layers"][2]["differing_accumulators"] = {str(c): values for c in (1, 4, 6, 9)}
    text = page(manifest, report, placements)
    assert "channel 1: 5 accumulators (-3, 4, 5, …)" in text and "1 more channels" in text
    assert "150 of 154 channels are proved" in text


def test_more_memory_than_the_board_has() -> None:
    manifest, report, placements = data("digits")
    manifest["memory"]["bytes"]["weights"] = 1 << 20
    manifest["memory"]["activation_lower_bound"] -= 1  # a line of its own
    assert "lower bound 383 words (dashed)" in page(manifest, report, placements)
    assert "of the 416 KiB" in page(manifest, report, placements)
    assert "too large for it" in page(manifest, report, placements)
    assert "too large for it" not in page(*data("digits"))


def test_markup_escapes_all_but_itself() -> None:
    assert (
        tag("p", "<b>", tag("b", '"'), class_='"<', data_x=None) == '<p class="&quot;&lt;">&lt;b&gt;<b>&quot;</b></p>'
    )
    assert (
        isinstance(tag("br"), Markup) and tag("br") == "<br>" and tag("rect", x=1 / 3) == '<rect x="0.333333"></rect>'
    )


@st.composite
def networks(draw: st.DrawFn) -> list[Node]:
    """Every box reads one or two tensors that are there."""
    boxes = [Node("input", "", "", "", (), "t0", 0)]
    for i in range(1, draw(st.integers(2, 24))):
        reads = draw(st.lists(st.integers(max(0, i - 6), i - 1), min_size=1, max_size=2))
        boxes.append(Node(f"{i}", "add", "", "", tuple(f"t{k}" for k in reads), f"t{i}", 0.5))
    return boxes


@given(networks())
@settings(max_examples=150, deadline=None)
def test_edges_pass_beside_the_boxes(boxes: list[Node]) -> None:
    svg = read(drawings.network(boxes)).elements
    wide, high = map(float, (svg[0][1]["width"] or "", svg[0][1]["height"] or ""))
    frames = [tuple(float(a[k] or 0) for k in ("x", "y", "width", "height")) for n, a in svg[1:] if n == "svg"]
    assert len(set(frames)) == len(boxes)
    paths = [a["d"] or "" for n, a in svg if n == "path" and (a["class"] or "").startswith("edge")]
    assert len(paths) == sum(len(set(box.reads)) for box in boxes)
    for path in paths:
        x, y = map(float, (re.match(r"M([\d.]+),([\d.]+)", path) or [""])[0][1:].split(","))
        for step, number in re.findall(r"([HVv])([\d.]+)", path):
            before = x, y
            x = float(number) if step == "H" else x
            y = {"H": y, "V": float(number), "v": y + float(number)}[step]
            assert 0 <= x <= wide and 0 <= y <= high
            (x0, x1), (y0, y1) = sorted((before[0], x)), sorted((before[1], y))
            for left, top, across, down in frames:
                assert x1 <= left or left + across <= x0 or y1 <= top or top + down <= y0
