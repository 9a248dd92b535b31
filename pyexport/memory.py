"""Activation memory plan: how each tensor lies and where, space reused once its last reader is done."""

from __future__ import annotations

from dataclasses import dataclass

from pyexport.hwconfig import HwConfig
from pyexport.patches import Patches, input_patches
from pyexport.qlayers import Network
from pyexport.windows import BANKS, odd_rows, partners


@dataclass(frozen=True)
class Placement:
    """A tensor in activation memory: words base .. base + words - 1, `pixel_words` per pixel, `row_words` per row.

    The last words of a pixel and of a row may be unused.

    patches: how the host lays out the input frame, if not pixel by pixel.
    first, last: indices of the layers that write it (-1: the host) and that read it last (one past the end: the host).
    """

    base: int
    words: int
    pixel_words: int
    row_words: int
    patches: Patches | None
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """placements: by tensor name.  words: memory in use.  lower_bound: largest sum of tensors alive at once."""

    placements: dict[str, Placement]
    words: int
    lower_bound: int


@dataclass(frozen=True)
class _Shape:
    """What a tensor takes, wherever it lies."""

    words: int
    pixel_words: int
    row_words: int
    patches: Patches | None


def plan(network: Network, config: HwConfig, overlap: bool = False) -> MemoryPlan:
    """Places tensor after tensor, each at the lowest address free over its whole life; the best of several orders.

    overlap: the input's words are its own to the end, so that the next frame may come in during a run.

    Rows that a window reads at once, and operands that an add reads at once, lie in different banks: such tensors have
    an odd number of words per row, such operands bases that differ modulo BANKS.
    """
    lives = _lives(network, overlap)
    pixel_words = _pixel_words(network, config)
    shapes = {name: _shape(network, name, pixel_words[name], config) for name in lives}

    def words(name: str) -> int:
        return shapes[name].words

    def length(name: str) -> int:
        return lives[name][1] - lives[name][0]

    orders = [
        sorted(lives, key=lambda n: (-words(n), lives[n])),
        sorted(lives, key=lambda n: (-words(n), -length(n), lives[n])),
        sorted(lives, key=lambda n: (-length(n) * words(n), lives[n])),
        sorted(lives, key=lambda n: (-length(n), -words(n), lives[n])),
        sorted(lives, key=lambda n: lives[n]),
        sorted(lives, key=lambda n: lives[n], reverse=True),
    ]
    found = [_place(network, order, lives, shapes) for order in orders]
    placements = min(found, key=_end)
    alive = [
        sum(p.words for p in placements.values() if p.first <= i <= p.last) for i in range(-1, len(network.layers) + 1)
    ]
    return MemoryPlan(placements, _end(placements), max(alive))


def _end(placements: dict[str, Placement]) -> int:
    return max(p.base + p.words for p in placements.values())


def _shape(network: Network, name: str, pixel_words: int, config: HwConfig) -> _Shape:
    height, width, _ = network.tensors[name].shape
    patches = input_patches(network, config) if name == network.input.tensor else None
    if patches:
        height, width, channels = patches.shape
        pixel_words = -(-channels // config.rows)
    row_words = width * pixel_words
    row_words += int(row_words % 2 == 0 and odd_rows(network, name, config))
    return _Shape(height * row_words, pixel_words, row_words, patches)


def _place(
    network: Network, order: list[str], lives: dict[str, tuple[int, int]], shapes: dict[str, _Shape]
) -> dict[str, Placement]:
    placements: dict[str, Placement] = {}
    for name in order:
        (first, last), shape = lives[name], shapes[name]
        taken = sorted((p.base, p.base + p.words) for p in placements.values() if p.first <= last and first <= p.last)
        apart = {placements[other].base % BANKS for other in partners(network, name) if other in placements}
        base = _next_bank(0, apart)
        for start, end in taken:
            if base + shape.words <= start:
                break
            base = max(base, _next_bank(end, apart))
        placements[name] = Placement(base, shape.words, shape.pixel_words, shape.row_words, shape.patches, first, last)
    return placements


def _next_bank(base: int, apart: set[int]) -> int:
    """The first word from `base` on whose bank is none of `apart`, or `base` where there is none."""
    return next((word for word in range(base, base + BANKS) if word % BANKS not in apart), base)


def _pixel_words(network: Network, config: HwConfig) -> dict[str, int]:
    """Words of a pixel: as many as the channels need.

    Tensors that a job reads side by side take as many as the widest of them: an add's operands, and a concatenation's
    output with an operand whose first channel falls inside a group of lanes.
    """
    alike = {name: {name} for name in network.tensors}
    for layer in network.layers:
        if layer.second is not None:
            both = alike[layer.input] | alike[layer.second]
            alike |= dict.fromkeys(both, both)
        start = 0
        for name in layer.operands:
            height, width, channels = network.tensors[name].shape
            if layer.axis == 2 and start % config.lanes and height * width > 1:
                joined = alike[name] | alike[layer.output]
                alike |= dict.fromkeys(joined, joined)
            start += channels
    return {name: max(-(-network.tensors[n].shape[2] // config.rows) for n in same) for name, same in alike.items()}


def _lives(network: Network, overlap: bool) -> dict[str, tuple[int, int]]:
    lives = {network.input.tensor: (-1, -1)}
    for i, layer in enumerate(network.layers):
        for name in layer.inputs:
            lives[name] = (lives[name][0], i)
        lives[layer.output] = (i, i)
    for name in [network.output.tensor, *([network.input.tensor] if overlap else [])]:
        lives[name] = (lives[name][0], len(network.layers))
    return lives
