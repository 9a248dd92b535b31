"""What a person sees: the table of layers, one layer explained, and the result of a simulation."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pyexport.verify import Verification

WIDTH = 190  # where the output is no terminal


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for the tables."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # where × and → cannot be shown
    # the stream as it is now: sys.stdout is another for a while. Names from the model and the command line are text,
    # never markup
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=stderr)


@contextmanager
def simulation_progress(out: Console, inferences: int, cycles: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar while a simulation runs: a function of the inference that runs (from 0) and its cycles, of `cycles` each.

    None, and nothing shown, where the output is no terminal.
    """
    if not (out.is_interactive and out.file.isatty()):
        yield None
        return
    total = inferences * cycles
    text = TextColumn("inference {task.fields[inference]} of {task.fields[inferences]}")
    count = TextColumn("{task.completed:,.0f} of {task.total:,.0f} cycles")
    columns = (text, BarColumn(), TaskProgressColumn(), count, TimeRemainingColumn(), TextColumn("left"))
    bar = Progress(*columns, console=out, transient=True)
    task = bar.add_task("", total=total, inference=1, inferences=inferences)

    def show(inference: int, done: int) -> None:
        if not bar.live.is_started:  # the build before it shows something of its own
            bar.start()
        bar.update(task, completed=inference * cycles + min(done, cycles), inference=inference + 1)

    try:
        yield show
    finally:
        bar.stop()


def span(values: list[Any], form: str = "{}") -> str:
    """`a` or `a..b` for the least and largest of values."""
    low, high = min(values), max(values)
    return form.format(low) if low == high else f"{form.format(low)}..{form.format(high)}"


def layer_table(manifest: dict[str, Any]) -> Table:
    """One row a layer, from manifest.json's data."""
    table = Table(title=f"{manifest['source']['file']} on {manifest['array']}, bits of {manifest['match']}", box=None)
    names = ["layer", "op", "output h×w×c", "weights", "bias", "scale in → out", "weight scale", "multiplier", "shift"]
    for name in (*names, "MACs", "cycles", "use", "equal"):
        table.add_column(name, justify="left" if name in ("layer", "op", "equal") else "right", no_wrap=True)
    rows, cols = manifest["hardware"]["ROWS"], manifest["hardware"]["COLS"]
    for layer in manifest["layers"]:
        weights = layer.get("weights")
        scaled = weights or layer["op"] in ("avg_pool2d", "add")
        scales = [layer[key]["scale"] for key in ("input", "second_input") if key in layer]
        use = layer["macs"] / (rows * cols * layer["predicted_cycles"])
        table.add_row(
            layer["name"],
            layer["op"],
            "×".join(map(str, layer["output"]["shape_hwc"])),
            f"{weights['range'][0]}..{weights['range'][1]}" if weights else "",
            span(layer["bias"]) if weights else "",
            f"{', '.join(f'{s:.4g}' for s in scales)} → {layer['output']['scale']:.4g}",
            span(weights["scales"], "{:.3g}") if weights else "",
            span(layer["multiplier"], "{:#x}") if scaled else "",
            span(layer["shift"]) if scaled else "",
            f"{layer['macs']:,}" if layer["macs"] else "",
            f"{layer['predicted_cycles']:,}",
            f"{use:.3f}" if layer["macs"] else "",
            "proved" if layer["proved_equal"] else _differing(layer),
        )
    total = manifest["predicted_cycles"]
    table.add_section()
    table.add_row(
        "total", *[""] * 8, f"{manifest['macs']:,}", f"{total:,}", f"{manifest['macs'] / (rows * cols * total):.3f}",
        "proved" if manifest["proved_equal"] else "see above",
    )  # fmt: skip
    return table


def _differing(layer: dict[str, Any]) -> str:
    if "added_before_rounding" in layer:
        joined = layer["added_before_rounding"]
        return f"{joined['pairs_differing']:,} of {joined['pairs']:.1e} pairs of sum and code differ"
    channels = layer["differing_accumulators"]
    count = sum(entry["count"] for entry in channels.values())
    channel, entry = next(iter(channels.items()))
    return f"{count} accumulators in {len(channels)} channels differ (channel {channel}: {entry['values'][0]} ...)"


def proof_line(manifest: dict[str, Any]) -> str:
    """What was compared with the runtime's formula, and what differs."""
    layers = manifest["layers"]
    adds = sum("second_input" in layer for layer in layers)
    joined = [layer["added_before_rounding"] for layer in layers if "added_before_rounding" in layer]
    plain = [layer for layer in layers if "added_before_rounding" not in layer]
    channels = sum(len(layer["multiplier"]) for layer in plain if "second_input" not in layer)
    differing = sum(len(layer["differing_accumulators"]) for layer in plain)
    line = f"rounding: {channels:,} channels compared with {manifest['match']} on every reachable accumulator"
    line += f", {adds} adds on all 65,536 pairs of codes" if adds else ""
    line = f"{line}: {f'{differing} channels differ' if differing else 'equal'}"
    if not joined:
        return line
    wrong, pairs = (sum(one[key] for one in joined) for key in ("pairs_differing", "pairs"))
    return (
        f"{line}; {len(joined)} sums with a tensor before rounding compared with real numbers on every pair of sum and "
        f"code: {wrong:,} of {pairs:,} differ ({wrong / pairs:.1e})"
    )


def overflow_line(manifest: dict[str, Any]) -> str:
    """Whether a sum can leave int32, and which comes nearest."""
    layers = [layer for layer in manifest["layers"] if "sum_range" in layer]
    wrapping = [layer["name"] for layer in layers if layer["sums_wrap"]]
    if wrapping:
        return f"overflow: sums of {', '.join(wrapping)} can leave int32 and then wrap modulo 2^32, as the runtime's do"
    if not layers:
        return "overflow: nothing is added up"
    widest = max(layers, key=lambda layer: max(layer["sum_range"][1], ~layer["sum_range"][0]))
    low, high = widest["sum_range"]
    bits = max(high, ~low).bit_length() + 1
    return f"overflow: no sum can leave int32; the widest, of {widest['name']}, lies in {low:,}..{high:,}: {bits} bits"


def memory_lines(manifest: dict[str, Any]) -> list[str]:
    """How much memory the network takes."""
    memory, hardware = manifest["memory"], manifest["hardware"]
    used = memory["bytes"]
    return [
        f"memory: weights {used['weights']:,} B, parameters {used['parameters']:,} B, program {used['program']:,} B, "
        f"activations {used['activations']:,} B "
        f"(lower bound {memory['activation_lower_bound'] * hardware['ROWS']:,} B)",
        f"hardware: {manifest['array']}{' packed' if hardware['PACKED'] else ''} with {hardware['LANES']} requantise "
        f"lanes{', serial parameters' if hardware['PRM_SERIAL'] else ''}; depths in words: activations "
        f"{hardware['ACT_DEPTH']}, weights {hardware['WGT_DEPTH']}, parameters {hardware['PRM_DEPTH']}, program "
        f"{hardware['PRG_DEPTH']}" + (f"; {hardware['TABLES']} tables of codes" if hardware["TABLES"] else ""),
    ]


def fit_table(fit: dict[str, Any]) -> Table:
    """One row for each array tried on a device, from manifest.json's data; the chosen one is marked."""
    table = Table(title=f"arrays on {fit['device']}", box=None)
    for name in ("", "array", "cycles", "multipliers", "block RAMs", "LUTs, estimated", "fits"):
        table.add_column(name, justify="left" if name in ("", "array", "fits") else "right", no_wrap=True)
    for one in fit["trials"]:
        shown = [one[key] for key in ("cycles", "multipliers", "block_rams", "luts")]
        table.add_row(
            "→" if one["chosen"] else "",
            one["array"],
            *("" if number is None else f"{number:,}" for number in shown),
            "no: " + "; ".join(one["why_not"]) if one["why_not"] else "yes",
        )
    table.add_section()
    table.add_row("", fit["device"], "", *(f"{fit[key]:,}" for key in ("multipliers", "block_rams", "luts")), "")
    return table


def fit_lines(fit: dict[str, Any]) -> list[str]:
    """The chosen array's memories, and why it was chosen."""
    merged: dict[tuple[str, int, int, int], int] = {}
    for one in fit["memories"]:
        key = one["name"].split("[")[0].removeprefix("gen_"), one["words"], one["bits"], one["block_rams"]
        merged[key] = merged.get(key, 0) + 1
    parts = [
        f"{name} {f'{count} × ' if count > 1 else ''}{words:,} × {bits} bits: {count * blocks}"
        for (name, words, bits, blocks), count in merged.items()
    ]
    total = sum(one["block_rams"] for one in fit["memories"])
    bits = sum(one["words"] * one["bits"] for one in fit["memories"])
    lines = [f"block RAMs: {', '.join(parts)}; {total} of {fit['block_rams']}, {bits:,} bits"]
    if len(fit["trials"]) > 1:
        chosen = next(one for one in fit["trials"] if one["chosen"])
        lines.append(
            f"array {chosen['array']}: the fewest cycles, {chosen['cycles']:,} predicted, of those that fit "
            f"{fit['device']}"
        )
    return lines


def verification_table(checked: Verification) -> Table:
    """One row for each tensor that the source's runtime showed."""
    table = Table(title=f"golden model against {checked.runtime}, {checked.inputs} inputs", box=None)
    for name in ("layer", "compared", "differ", "most", "first", "golden", "runtime"):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    for one in checked.tensors:
        first = () if one.first is None or one.codes is None else (str(one.first), *map(str, one.codes))
        table.add_row(one.layer, f"{one.compared:,}", f"{one.differing:,}", str(one.largest or ""), *first)
    return table


def verification_lines(checked: Verification, proved: bool) -> list[str]:
    """The result in a line, and what the runtime says of itself. proved: whether the export listed no difference."""
    last, between = checked.output, checked.tensors[:-1]
    result = f"{last.differing:,} differ" if last.differing else "equal"
    inner = sum(one.compared for one in between)
    lines = [
        f"verified: {last.compared:,} outputs"
        + (f" and {inner:,} codes of {len(between)} layers" if between else "")
        + f" compared with {checked.runtime}: {result}",
        *checked.notes,
    ]
    if checked.equal:
        return lines
    if not proved:
        lines.append("the export lists accumulators of some channels as not exact: see the table of layers")
    return [*lines, *checked.doubts]


def result_table(report: dict[str, Any]) -> Table:
    """One row a layer, from report.json's data."""
    title = f"{report['model']} on {report['array']} in {report['simulator']}, {report['inferences']} inferences"
    table = Table(title=title, box=None)
    for name in ("layer", "op", "MACs", "cycles", "predicted", "use", "compared", "mismatches"):
        table.add_column(name, justify="left" if name in ("layer", "op") else "right", no_wrap=True)
    for row in report["layers"]:
        table.add_row(
            row["name"], row["op"], f"{row['macs']:,}", f"{row['cycles']:,}", f"{row['predicted_cycles']:,}",
            f"{row['utilization']:.3f}", f"{row['outputs_compared']:,}", f"{row['mismatches']:,}",
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "network", "", f"{report['macs']:,}", f"{report['cycles']:,}", f"{report['predicted_cycles']:,}",
        f"{report['utilization']:.3f}", f"{report['outputs_compared']:,}", f"{report['mismatches']:,}",
    )  # fmt: skip
    return table
