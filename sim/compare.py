"""Compares what the RTL gave with the golden model: outputs, every word of activation memory, every cycle count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pyexport.lower import Lowered
from pyexport.memory import Placement
from pyexport.qlayers import Network
from sim.simulate import SimResult, Trace

Codes = npt.NDArray[np.int8]
Item = TypeVar("Item", bound=np.generic)
SHOWN = 5  # first differences that a report lists


@dataclass(frozen=True)
class LayerComparison:
    """compared, different: codes of the layer's output.  stray: writes outside its tensor.  first: in words."""

    compared: int
    different: int
    stray: int
    first: tuple[str, ...]


def to_words(codes: Codes, placement: Placement, rows: int) -> Codes:
    """(N, H, W, C) -> memory words (N, words, rows); what fills up a pixel's last word and a row is zero."""
    if placement.patches:
        codes = placement.patches.gather(codes)
    count, height, width, channels = codes.shape
    lines = np.zeros((count, height, placement.row_words * rows), np.int8)
    pixels = _pixels(lines, placement, rows, width)
    pixels[..., :channels] = codes
    return lines.reshape(count, placement.words, rows)


def from_words(words: npt.NDArray[Item], placement: Placement, shape: tuple[int, int, int]) -> npt.NDArray[Item]:
    """Memory words (N, words, rows) -> (N, H, W, C)."""
    height, width, channels = shape
    lines = words.reshape(len(words), height, -1)
    return _pixels(lines, placement, words.shape[2], width)[..., :channels]


def _pixels(lines: npt.NDArray[Item], placement: Placement, rows: int, width: int) -> npt.NDArray[Item]:
    """Rows as bytes (N, H, bytes) -> a view of their pixels (N, H, W, bytes)."""
    pixel = placement.pixel_words * rows
    return lines[..., : width * pixel].reshape(*lines.shape[:2], width, pixel)


def compare_layers(
    network: Network, lowered: Lowered, golden: dict[str, Codes], result: SimResult
) -> list[LayerComparison]:
    """Every layer's output in activation memory at the moment the layer ended, over all runs."""
    assert result.trace is not None
    trace = result.trace
    ends = np.asarray(result.layer_ends)
    # a write in cycle c of a run belongs to the first layer that ends after it (cycle counts start at 1)
    layer_of = np.searchsorted(ends, trace.cycle + 1)
    comparisons = []
    for index, layer in enumerate(network.layers):
        placement = lowered.plan.placements[layer.output]
        mine = np.flatnonzero(layer_of == index)
        at = trace.address[mine] - placement.base
        inside = (at >= 0) & (at < placement.words)
        memory, when = _replay(trace, mine[inside], at[inside], len(result.outputs), placement.words)
        tensor = network.tensors[layer.output]
        got, cycle = from_words(memory, placement, tensor.shape), from_words(when, placement, tensor.shape)
        expected = golden[layer.output]
        unequal = (got != expected) | (cycle < 0)
        first = []
        for where in np.argwhere(unequal)[:SHOWN]:
            place = tuple(int(i) for i in where)
            written = f"written in cycle {cycle[place]}" if cycle[place] >= 0 else "never written"
            first.append(
                f"layer {layer.name!r} inference {place[0]} (h, w, c)={place[1:]}: expected "
                f"{int(expected[place]) - tensor.shift}, got {int(got[place]) - tensor.shift} ({written} of the run)"
            )
        comparisons.append(LayerComparison(expected.size, int(unequal.sum()), int((~inside).sum()), tuple(first)))
    return comparisons


def _replay(
    trace: Trace, writes: npt.NDArray[np.intp], at: npt.NDArray[np.int64], runs: int, words: int
) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Applies writes in order: bytes (runs, words, rows) and the cycle of each byte's last write (-1: none)."""
    rows = trace.data.shape[1]
    memory = np.zeros((runs, words, rows), np.int8)
    when = np.full((runs, words, rows), -1, np.int64)
    which, lane = np.nonzero(trace.enabled[writes])
    index = (trace.run[writes][which], at[which], lane)
    memory[index] = trace.data[writes][which, lane]
    when[index] = trace.cycle[writes][which]
    return memory, when


def compare_outputs(network: Network, lowered: Lowered, golden: Codes, result: SimResult) -> LayerComparison:
    """The codes that left the output stream."""
    tensor = network.tensors[network.output.tensor]
    got = from_words(result.outputs, lowered.plan.placements[tensor.name], tensor.shape)
    unequal = got != golden
    first = tuple(
        f"output of inference {w[0]} (h, w, c)={tuple(int(i) for i in w[1:])}: expected "
        f"{int(golden[tuple(w)]) - tensor.shift}, got {int(got[tuple(w)]) - tensor.shift}"
        for w in np.argwhere(unequal)[:SHOWN]
    )
    return LayerComparison(golden.size, int(unequal.sum()), 0, first)
