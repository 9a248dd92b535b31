"""Activation memory plan: where each tensor lies, space reused once its last reader is done."""

from __future__ import annotations

from dataclasses import dataclass

from pyexport.qlayers import Network


@dataclass(frozen=True)
class Placement:
    """A tensor in activation memory: words base .. base + words - 1, `pixel_words` per pixel.

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


def plan(network: Network, rows: int) -> MemoryPlan:
    """Places the largest tensors first, each at the lowest address free over its whole life."""
    lives = _lives(network)
    sizes = {}
    for name in lives:
        height, width, channels = network.tensors[name].shape
        sizes[name] = (height * width * -(-channels // rows), -(-channels // rows))
    placements: dict[str, Placement] = {}
    for name in sorted(lives, key=lambda n: (-sizes[n][0], lives[n])):
        first, last = lives[name]
        words, pixel_words = sizes[name]
        taken = sorted((p.base, p.base + p.words) for p in placements.values() if p.first <= last and first <= p.last)
        base = 0
        for start, end in taken:
            if base + words <= start:
                break
            base = max(base, end)
        placements[name] = Placement(base, words, pixel_words, first, last)
    alive = [
        sum(p.words for p in placements.values() if p.first <= i <= p.last) for i in range(-1, len(network.layers) + 1)
    ]
    return MemoryPlan(placements, max(p.base + p.words for p in placements.values()), max(alive))


def _lives(network: Network) -> dict[str, tuple[int, int]]:
    lives = {network.input.tensor: (-1, -1)}
    for i, layer in enumerate(network.layers):
        for name in layer.inputs:
            lives[name] = (lives[name][0], i)
        lives[layer.output] = (i, i)
    lives[network.output.tensor] = (lives[network.output.tensor][0], len(network.layers))
    return lives
