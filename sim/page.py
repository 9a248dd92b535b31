"""The report of a simulation as one HTML page that needs nothing else: no script, no font, no other file.

From the data of manifest.json and report.json and the memory plan; `make report` writes it (sim/run.py --page).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyexport.memory import Placement
from pyexport.report import span
from sim import drawings
from sim.markup import Markup, join, tag

BLOCK_RAM = 208 * 2048  # bytes: the block RAMs of the ULX3S's ECP5-85F
BAR, SMALL_BAR = 130, 40  # pixels
SHOWN = 3  # channels that are listed where the rounding is not proved
STYLE = Path(__file__).with_suffix(".css")


def page(
    manifest: Mapping[str, Any],
    report: Mapping[str, Any],
    placements: Mapping[str, Placement],
    notes: Sequence[str] = (),
) -> str:
    """The whole page. notes: lines to show under the verdict."""
    name = Path(report["model"]).name
    sections = {
        "Layers": _layers(manifest, report),
        "Activation memory": _activations(manifest, placements),
        "Memory": _memory(manifest),
        "Rounding": _rounding(manifest),
        "Network": _network(manifest, report),
    }
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    body = [
        tag("h1", name),
        tag("p", "An int8 network on INTACT, simulated and compared", class_="soft"),
        _verdict(report, notes),
        _tiles(report),
        _facts(manifest, report),
        tag("nav", *(tag("a", title, href=f"#{anchor}") for title, anchor in anchors.items())),
        *(tag("section", tag("h2", title), part, id=anchors[title]) for title, part in sections.items()),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{name} on INTACT"),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", *head), "\n", tag("body", *body), lang="en") + "\n"


def _verdict(report: Mapping[str, Any], notes: Sequence[str]) -> Markup:
    wrong = report["differences"]
    if wrong:
        first = tag(
            "div", "Something differs. The first:", *(tag("p", line) for line in wrong[:1]), class_="verdict bad"
        )
        others = [tag("p", line, class_="bad") for line in wrong[1:]]
        more = tag("details", tag("summary", f"{len(others)} more"), *others, open="") if others else ""
        return join(first, more, *(tag("p", note) for note in notes))
    layers = "every layer's codes" if report["check"] == "layers" else "every output code"
    text = f"Nothing differs: {layers} and every cycle count are what the golden model says."
    return join(tag("div", text, class_="verdict"), *(tag("p", note) for note in notes))


def _tiles(report: Mapping[str, Any]) -> Markup:
    tiles = {
        "cycles an inference": f"{report['cycles']:,}",
        "utilisation": f"{report['utilization']:.1%}",
        "MACs an inference": f"{report['macs']:,}",
        "output codes compared": f"{report['outputs_compared']:,}",
        "output mismatches": f"{report['mismatches']:,}",
    }
    bad = report["mismatches"] > 0
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("b", value, class_="bad" if bad and label == "output mismatches" else None),
                tag("span", label),
            )
            for label, value in tiles.items()
        ),
        class_="tiles",
    )


def _facts(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Markup:
    hardware, source = manifest["hardware"], manifest["source"]
    rows, cols = hardware["ROWS"], hardware["COLS"]
    compared = sum(layer["outputs_compared"] for layer in report["layers"])
    different = sum(layer["mismatches"] for layer in report["layers"])
    facts = {
        "model": report["model"],
        "SHA-256": source["sha256"],
        "kind": source["kind"],
        "arithmetic of": report["match"],
        "array": f"{rows} rows × {cols} columns, {rows * cols} multipliers, {hardware['LANES']} requantise lanes",
        "cycles": f"{report['cycles']:,} measured, {report['predicted_cycles']:,} predicted",
        "simulator": f"{report['simulator']}, {report['inferences']:,} inference{'s' * (report['inferences'] > 1)}",
        "compared": f"{compared:,} codes of {'all layers' if report['check'] == 'layers' else 'the last layer'}, "
        f"{different:,} differ",
    }
    pairs = [join(tag("dt", key), tag("dd", value)) for key, value in facts.items()]
    pairs += [join(tag("dt", "note"), tag("dd", note)) for note in source["notes"]]
    return tag("dl", *pairs)


def _key(*entries: tuple[str, str]) -> Markup:
    """A legend: (colour's name, text)."""
    parts = (tag("span", tag("span", class_="key", style=f"background:var(--{c})"), text) for c, text in entries)
    return tag("p", *parts, class_="soft legend")


def _table(heads: Sequence[str], rows: Sequence[Markup], left: Sequence[str]) -> Markup:
    top = tag("tr", *(tag("th", head, class_="left" if head in left else None) for head in heads))
    return tag("div", tag("table", tag("thead", top), tag("tbody", *rows)), class_="scroll")


def _cell(text: str, kind: str | None = None, title: str | None = None) -> Markup:
    return tag("td", text, class_=kind, title=title)


def _layers(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Markup:
    multipliers = manifest["hardware"]["ROWS"] * manifest["hardware"]["COLS"]
    most = max(row["cycles"] for row in report["layers"])
    rows = []
    for number, (row, layer) in enumerate(zip(report["layers"], manifest["layers"], strict=True), 1):
        ideal = row["macs"] / multipliers
        cells = [_cell(str(number)), _cell(row["name"], "left name", row["name"])]
        cells += [_cell(drawings.operation(layer), "left"), _cell(drawings.shape(layer["output"]))]
        cells += _counts(row, ideal)
        parts = [(row["cycles"] / most, "rest"), (ideal / most, "ideal")]
        cells.insert(8, _cell(drawings.bar(parts, BAR), "left"))
        rows.append(tag("tr", *cells))
    total = [_cell(""), _cell("network", "left"), _cell(""), _cell(""), *_counts(report, report["macs"] / multipliers)]
    total.insert(8, _cell(""))
    heads = ["#", "layer", "operation", "output", "MACs", "ideal", "cycles", "predicted", "cycles against ideal"]
    heads += ["utilisation", "compared", "mismatches"]
    return join(
        _key(("ideal", "ideal: MACs / multipliers"), ("rest", "the other cycles of the layer")),
        _table(heads, [*rows, tag("tr", *total, class_="total")], ("layer", "operation", "cycles against ideal")),
    )


def _counts(row: Mapping[str, Any], ideal: float) -> list[Markup]:
    """MACs, ideal, cycles, predicted, utilisation, compared, mismatches: of a layer or of the network."""
    same = row["cycles"] == row["predicted_cycles"]
    use = join(drawings.bar([(1, "track"), (row["utilization"], "ideal")], SMALL_BAR, 8), f" {row['utilization']:.3f}")
    return [
        _cell(f"{row['macs']:,}" if row["macs"] else ""),
        _cell(f"{ideal:,.0f}" if row["macs"] else ""),
        _cell(f"{row['cycles']:,}", None if same else "bad"),
        _cell(f"{row['predicted_cycles']:,}"),
        _cell(use if row["macs"] else ""),
        _cell(f"{row['outputs_compared']:,}" if row["outputs_compared"] else "–"),
        _cell(f"{row['mismatches']:,}" if row["outputs_compared"] else "–", "bad" if row["mismatches"] else None),
    ]


def _activations(manifest: Mapping[str, Any], placements: Mapping[str, Placement]) -> Markup:
    memory, rows = manifest["memory"], manifest["hardware"]["ROWS"]
    words, bound = memory["activation_words"], memory["activation_lower_bound"]
    names = [layer["name"] for layer in manifest["layers"]]
    text = (
        f"Each rectangle is a tensor: the words that it takes, from its writer to its last reader. "
        f"A word is {rows} codes. Peak {words * rows / 1024:,.1f} KiB; no plan can do with less than "
        f"{bound * rows / 1024:,.1f} KiB."
    )
    picture = drawings.memory(placements, names, words, bound, rows)
    return join(tag("p", text, class_="soft"), tag("div", picture, class_="scroll"))


def _memory(manifest: Mapping[str, Any]) -> Markup:
    used, hardware, memory = manifest["memory"]["bytes"], manifest["hardware"], manifest["memory"]
    kinds = (("weights", "weight", "WGT"), ("parameters", "parameter", "PRM"), ("activations", "activation", "ACT"))
    rows = []
    built_total = 0
    widths = {"weights": hardware["ROWS"] * hardware["COLS"], "activations": hardware["ROWS"], "program": 8}
    widths["parameters"] = used["parameters"] // memory["parameter_words"]
    for name, word, depth in (*kinds, ("program", "program", "PRG")):
        words, deep = memory[f"{word}_words"], hardware[f"{depth}_DEPTH"]
        built = widths[name] * deep
        built_total += built
        cells = (f"{words:,}", f"{used[name] / 1024:,.1f}", f"{deep:,}", f"{built / 1024:,.1f}")
        rows.append(tag("tr", _cell(name, "left"), *map(_cell, cells)))
    total = sum(used.values())
    cells = ("", f"{total / 1024:,.1f}", "", f"{built_total / 1024:,.1f}")
    rows.append(tag("tr", _cell("total", "left"), *map(_cell, cells), class_="total"))
    full = max(total, BLOCK_RAM)
    hues = {"weights": "hue0", "parameters": "hue1", "activations": "hue2", "program": "hue3"}
    ends, at = [], 0
    for name, hue in hues.items():
        at += used[name]
        ends.append((at / full, hue))
    drawn, before = [], 0.0
    for end, hue in ends:
        wide = 1000 * (end - before)
        drawn.append(tag("rect", x=1000 * before, width=max(wide, 1.0), y=1, height=26, class_=f"hue {hue}"))
        before = end
    drawn.append(tag("path", d=f"M{999 * BLOCK_RAM / full:.6g},0V28", class_="peak"))
    share = f"{total / BLOCK_RAM:.0%} of the {BLOCK_RAM // 1024} KiB of block RAM of a ULX3S (ECP5-85F), the red line"
    text = f"The network takes {total / 1024:,.1f} KiB, {share}" + (
        "." if total <= BLOCK_RAM else ": too large for it."
    )
    key = _key(*((hue, name) for name, hue in hues.items()))
    picture = tag("svg", *drawn, viewBox="0 0 1000 28", class_="wide", role="img")
    heads = ("memory", "words used", "KiB used", "depth built", "KiB built")
    return join(
        tag("p", text, class_="bad" if total > BLOCK_RAM else "soft"),
        tag("div", picture, class_="scroll"),
        key,
        _table(heads, rows, ("memory",)),
    )


def _rounding(manifest: Mapping[str, Any]) -> Markup:
    layers = manifest["layers"]
    channels = sum(len(layer["multiplier"]) for layer in layers)
    differing = sum(len(layer["differing_accumulators"]) for layer in layers)
    text = f"Each channel's multiplier and shift are fitted to the arithmetic of {manifest['match']}. "
    proved = "proved to give its codes on every accumulator that can occur"
    text += (
        f"All {channels:,} channels of {len(layers)} layers are {proved}."
        if manifest["proved_equal"]
        else f"{channels - differing:,} of {channels:,} channels are {proved}; the others differ on those listed."
    )
    rows = []
    for number, layer in enumerate(layers, 1):
        weights = layer.get("weights")
        low, high = weights["accumulator_range"] if weights else ((), ())
        verdict = "proved" if layer["proved_equal"] else _differing(layer["differing_accumulators"])
        cells = [_cell(str(number)), _cell(layer["name"], "left name", layer["name"])]
        cells += [_cell(str(len(layer["multiplier"]))), _cell(span(layer["multiplier"], "{:#x}"))]
        cells += [_cell(span(layer["shift"])), _cell(f"{min(low):,} … {max(high):,}" if weights else "")]
        cells += [_cell(f"{layer['clamp'][0]} … {layer['clamp'][1]}")]
        cells += [_cell(verdict, "left good" if layer["proved_equal"] else "left text bad")]
        rows.append(tag("tr", *cells))
    heads = ("#", "layer", "channels", "multiplier", "shift", "accumulators", "clamp", "equal")
    kind = "soft" if manifest["proved_equal"] else "bad"
    return join(tag("p", text, class_=kind), _table(heads, rows, ("layer", "equal")))


def _differing(channels: Mapping[str, Any]) -> str:
    parts = [
        f"channel {channel}: {entry['count']} accumulators ({', '.join(map(str, entry['values'][:SHOWN]))}"
        f"{', …' if entry['count'] > SHOWN else ''})"
        for channel, entry in list(channels.items())[:SHOWN]
    ]
    more = len(channels) - SHOWN
    return "; ".join(parts) + (f"; {more} more channels" if more > 0 else "")


def _network(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Markup:
    boxes = drawings.nodes(manifest, [row["cycles"] for row in report["layers"]])
    text = (
        "Each box: name and operation; output with scale and zero point; a bar, its cycles beside the slowest layer's."
    )
    return join(tag("p", text, class_="soft"), tag("div", drawings.network(boxes), class_="scroll"))
