"""The two pictures of the report page, as SVG: the network as a graph, and activation memory over the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyexport.memory import Placement
from sim.markup import Markup, tag

# the graph, in pixels
BOX, HEIGHT, ACROSS, DOWN, LANE, MARGIN = 380, 50, 36, 30, 12, 8
# the memory picture
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 1120, 420, 134, 12, 30, 44
LETTER = 6.4  # about as wide as a letter of the pictures' text
CONVOLUTIONS = ("conv2d", "conv_transpose2d")
HUES = 6  # colours of tensors, by turns


@dataclass(frozen=True)
class Node:
    """A box: two lines of text, left and right; the tensors that it reads and writes; its share of the cycles."""

    title: str
    kind: str
    detail: str
    tip: str
    reads: tuple[str, ...]
    writes: str
    share: float


def shortened(text: str, letters: int) -> str:
    """At most so many letters, the middle left out."""
    if len(text) <= letters:
        return text
    keep = max(letters - 1, 2)
    return f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"


def operation(layer: Mapping[str, Any]) -> str:
    """`conv2d 3×3 /2`: op, kernel, stride, groups."""
    parts = [layer["op"]]
    if layer["kernel"] != [1, 1] or layer["op"] in CONVOLUTIONS:
        parts.append("×".join(map(str, layer["kernel"])))
    if layer["stride"] != [1, 1]:
        parts.append("/" + "×".join(map(str, sorted(set(layer["stride"])))))
    if layer["groups"] > 1 and layer["op"] in CONVOLUTIONS:
        parts.append(f"groups {layer['groups']}")
    return " ".join(parts)


def shape(tensor: Mapping[str, Any]) -> str:
    """`32×32×16`"""
    return "×".join(map(str, tensor["shape_hwc"]))


def _quant(tensor: Mapping[str, Any]) -> str:
    return f"{shape(tensor)} {tensor['dtype']}, scale {tensor['scale']:.4g}, zero point {tensor['zero_point']}"


def nodes(manifest: Mapping[str, Any], cycles: list[int]) -> list[Node]:
    """The network's boxes in execution order: input, layers, output."""
    source, sink = manifest["input"], manifest["output"]
    most = max(cycles)
    found = [Node("input", "", _quant(source), source["tensor"], (), source["tensor"], 0)]
    for number, (layer, taken) in enumerate(zip(manifest["layers"], cycles, strict=True), 1):
        reads = tuple(layer[key]["tensor"] for key in ("input", "second_input") if key in layer)
        tip = f"{number} {layer['name']}: {taken:,} cycles, {layer['macs']:,} MACs; reads {', '.join(reads)}"
        found.append(
            Node(
                f"{number}  {layer['name']}",
                operation(layer),
                _quant(layer["output"]),
                tip,
                reads,
                layer["output"]["tensor"],
                taken / most,
            )
        )
    return [*found, Node("output", "", _quant(sink), sink["tensor"], (sink["tensor"],), "", 0)]


def _edges(boxes: list[Node]) -> list[tuple[int, int]]:
    writer: dict[str, int] = {}
    edges = []
    for i, box in enumerate(boxes):
        edges += [(writer[name], i) for name in dict.fromkeys(box.reads) if name in writer]
        if box.writes:
            writer[box.writes] = i
    return edges


def _places(boxes: list[Node], edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(rank, column) of every box: below all that it reads, in the leftmost of their columns where that is free."""
    places: list[tuple[int, int]] = []
    for i in range(len(boxes)):
        before = [places[a] for a, b in edges if b == i]
        rank = max((r for r, _ in before), default=-1) + 1
        column = min((c for _, c in before), default=0)
        while (rank, column) in places:
            column += 1
        places.append((rank, column))
    return places


def network(boxes: list[Node]) -> Markup:
    """The graph, top to bottom; an edge that passes other boxes runs in a lane beside them."""
    edges = _edges(boxes)
    places = _places(boxes, edges)
    columns = max(c for _, c in places) + 1
    lanes: list[tuple[float, int, int]] = []  # x, first and last rank
    drawn = []
    right = float(MARGIN + columns * (BOX + ACROSS) - ACROSS)

    def x(column: int) -> float:
        return MARGIN + column * (BOX + ACROSS)

    def y(rank: int) -> float:
        return MARGIN + rank * (HEIGHT + DOWN)

    def last(rank: int) -> int:
        return max(c for r, c in places if r == rank)

    for a, b in edges:
        (ra, ca), (rb, cb) = places[a], places[b]
        free = not any((r, ca) in places for r in range(ra + 1, rb))
        top, middle = y(rb) - 5, x(ca) + BOX / 2
        if free and ca == cb:
            path = f"M{middle},{y(ra) + HEIGHT}V{top}"
        elif free:
            path = f"M{middle},{y(ra) + HEIGHT}V{y(rb) - DOWN / 2}H{x(cb) + BOX * 0.6}V{top}"
        else:
            at = x(max(map(last, range(ra, rb + 1)))) + BOX + 18
            while any(at == lane and ra <= end and begin <= rb for lane, begin, end in lanes):
                at += LANE
            lanes.append((at, ra, rb))
            right = max(right, at)
            if ca == last(ra):  # out of the box's side, or below it where another box is in the way
                path = f"M{x(ca) + BOX},{y(ra) + HEIGHT * 0.7}H{at}"
            else:
                path = f"M{x(ca) + BOX * 0.8},{y(ra) + HEIGHT}v{DOWN * 0.3}H{at}"
            if cb == last(rb):
                path += f"V{y(rb) + HEIGHT * 0.3}H{x(cb) + BOX + 5}"
            else:
                path += f"V{y(rb) - DOWN * 0.6}H{x(cb) + BOX * 0.8}V{top}"
        kind = "edge" if free else "edge skip"
        drawn.append(tag("path", tag("title", boxes[a].writes), d=path, class_=kind, marker_end="url(#arrow)"))
    drawn += [_box(box, x(c), y(r)) for box, (r, c) in zip(boxes, places, strict=True)]
    head = tag("path", d="M0,0L6,3L0,6z", class_="arrow")
    arrow = tag("marker", head, id="arrow", markerWidth=6, markerHeight=6, refX=1, refY=3, orient="auto")
    wide, high = right + MARGIN, y(max(r for r, _ in places)) + HEIGHT + MARGIN
    return tag("svg", tag("defs", arrow), *drawn, viewBox=f"0 0 {wide:g} {high:g}", width=wide, height=high, role="img")


def _box(box: Node, x: float, y: float) -> Markup:
    letters = int((BOX - 26) / 8) - len(box.kind)  # in bold
    frame = tag("rect", x=0.5, y=0.5, width=BOX - 1, height=HEIGHT - 1, rx=5, class_="box" if box.kind else "box end")
    return tag(
        "svg",
        tag("title", box.tip),
        frame,
        tag("rect", x=1, y=HEIGHT - 4, width=(BOX - 2) * box.share, height=3, class_="ideal") if box.share else "",
        tag("text", shortened(box.title, letters), x=9, y=19, class_="name"),
        tag("text", box.kind, x=BOX - 9, y=19, text_anchor="end"),
        tag("text", shortened(box.detail, int((BOX - 18) / LETTER)), x=9, y=37, class_="small"),
        x=x, y=y, width=BOX, height=HEIGHT,
    )  # fmt: skip


def _step(most: int, parts: int) -> int:
    """A round step that divides 0..most into at most so many parts."""
    step = 1
    while most > parts * step:
        step *= 2
    return step


def memory(placements: Mapping[str, Placement], layers: list[str], words: int, bound: int, rows: int) -> Markup:
    """Activation memory: across, the layers between the host's input and output; upwards, words."""
    width, high = (WIDE - LEFT - RIGHT) / (len(layers) + 2), HIGH - TOP - BOTTOM

    def x(index: int) -> float:
        return LEFT + (index + 1) * width

    def y(word: float) -> float:
        return TOP + high * (1 - word / words)

    drawn: list[str] = []
    for word in range(0, words + 1, step := _step(words, 6)):
        label = f"{word:,} ({word * rows / 1024:,.4g} KiB)" if words - word > step / 3 or word == words else ""
        drawn.append(tag("path", d=f"M{LEFT},{y(word):.6g}H{WIDE - RIGHT}", class_="grid"))
        drawn.append(tag("text", label, x=LEFT - 6, y=y(word) + 4, text_anchor="end", class_="small"))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 1000) if n * width >= 22)
    names = ["in", *map(str, range(1, len(layers) + 1)), "out"]
    for i, name in enumerate(names):
        if name in ("in", "out") or (i % every == 0 and (len(names) - 1 - i) * width > 22 and i * width > 22):
            tip = tag("title", layers[i - 1]) if 0 < i <= len(layers) else ""
            drawn.append(
                tag(
                    "text",
                    tip,
                    name,
                    x=x(i - 1) + width / 2,
                    y=HIGH - BOTTOM + 16,
                    text_anchor="middle",
                    class_="small",
                )
            )
    drawn.append(
        tag("text", "layer that runs", x=(LEFT + WIDE - RIGHT) / 2, y=HIGH - 8, text_anchor="middle", class_="small")
    )
    ordered = sorted(placements.items(), key=lambda item: (item[1].first, item[1].base))
    for turn, (name, place) in enumerate(ordered):
        across, up = (place.last - place.first + 1) * width, high * place.words / words
        size = f"{place.words:,} words ({place.words * rows / 1024:,.4g} KiB)"
        tip = (
            f"{name}: {size} from word {place.base:,}, {_moment(place.first, layers)} to {_moment(place.last, layers)}"
        )
        fits = across > 4 * LETTER + 8 and up > 13
        label = tag("text", shortened(name, int((across - 8) / LETTER)), x=4, y=12, class_="small") if fits else ""
        rect = tag(
            "rect", x=0.5, y=0.5, width=max(across - 1, 1), height=max(up - 1, 1), class_=f"hue hue{turn % HUES}"
        )
        at = {"x": x(place.first), "y": y(place.base + place.words), "width": across, "height": max(up, 1)}
        drawn.append(tag("svg", tag("title", tip), rect, label, **at))
    peak = f"peak {words:,} words" + (", the lower bound" if bound == words else "")
    drawn += [
        tag("path", d=f"M{LEFT},{TOP}H{WIDE - RIGHT}", class_="peak"),
        tag("text", peak, x=WIDE - RIGHT, y=TOP - 7, text_anchor="end", class_="small"),
    ]
    if bound != words:
        drawn += [
            tag("path", d=f"M{LEFT},{y(bound):.6g}H{WIDE - RIGHT}", class_="bound"),
            tag("text", f"lower bound {bound:,} words (dashed)", x=LEFT, y=TOP - 7, class_="small"),
        ]
    return tag("svg", *drawn, viewBox=f"0 0 {WIDE} {HIGH}", class_="wide", role="img")


def _moment(index: int, layers: list[str]) -> str:
    if index < 0:
        return "input"
    return f"layer {index + 1} {layers[index]}" if index < len(layers) else "output"


def bar(parts: list[tuple[float, str]], width: int, height: int = 12) -> Markup:
    """Rectangles on top of each other, each (share of the width, class)."""
    drawn = [
        tag("rect", width=max(share * width, 0.5), height=height, class_=kind) for share, kind in parts if share > 0
    ]
    return tag("svg", *drawn, width=width, height=height, class_="bar", aria_hidden="true")
