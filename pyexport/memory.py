"""Activation memory plan: where each tensor lies, space reused once its last reader is done."""

from __future__ import annotations

from dataclasses import dataclass

from pyexport.qlayers import Network


@dataclass(frozen=True)
class Placement:
    """A tensor in activation memory: words base .. base + words - 1, `pixel_words` per pixel, the last ones of them
    unused where the channels need fewer.

    first, last: indices of the layers that write it (-1: the host) and that read it last (one past the end: the host).
    """

    base: int
    words: int
    pixel_words: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """placements: by tensor name.  words: memory in use.  lower_bound: largest sum of tensors alive at once."""

    placements: dict[str, Placement]
    words: int
    lower_bound: int


def plan(network: Network, rows: int, lanes: int) -> MemoryPlan:
    """Places the largest tensors first, each at the lowest address free over its whole life."""
    lives = _lives(network)
    pixel_words = _pixel_words(network, rows, lanes)
    sizes = {}
    for name in lives:
        height, width, _ = network.tensors[name].shape
        sizes[name] = (height * width * pixel_words[name], pixel_words[name])
    placements: dict[str, Placement] = {}
    for name in sorted(lives, key=lambda n: (-sizes[n][0], lives[n])):
        first, last = lives[name]
        words, pixel = sizes[name]
        taken = sorted((p.base, p.base + p.words) for p in placements.values() if p.first <= last and first <= p.last)
        base = 0
        for start, end in taken:
            if base + words <= start:
                break
            base = max(base, end)
        placements[name] = Placement(base, words, pixel, first, last)
    alive = [
        sum(p.words for p in placements.values() if p.first <= i <= p.last) for i in range(-1, len(network.layers) + 1)
    ]
    return MemoryPlan(placements, max(p.base + p.words for p in placements.values()), max(alive))


def _pixel_words(network: Network, rows: int, lanes: int) -> dict[str, int]:
    """Words of a pixel: as many as the channels need.

    Tensors that a job reads side by side take as many as the widest of them: a concatenation's output, and an operand
    whose first channel falls inside a group of `lanes` channels.
    """
    alike = {name: {name} for name in network.tensors}
    for layer in network.layers:
        start = 0
        for name in layer.operands:
            height, width, channels = network.tensors[name].shape
            if layer.axis == 2 and start % lanes and height * width > 1:
                joined = alike[name] | alike[layer.output]
                alike |= dict.fromkeys(joined, joined)
            start += channels
    return {name: max(-(-network.tensors[n].shape[2] // rows) for n in same) for name, same in alike.items()}


def _lives(network: Network) -> dict[str, tuple[int, int]]:
    lives = {network.input.tensor: (-1, -1)}
    for i, layer in enumerate(network.layers):
        for name in layer.inputs:
            lives[name] = (lives[name][0], i)
        lives[layer.output] = (i, i)
    lives[network.output.tensor] = (lives[network.output.tensor][0], len(network.layers))
    return lives
