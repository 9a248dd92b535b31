"""A graph through the exporter and onto a simulator, everything compared: what the tests of whole networks share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyexport import golden, images, ir, lower, quantise
from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network
from sim.compare import compare_layers, compare_outputs, to_words
from sim.runner import BUILD
from sim.simulate import SimResult, simulate

Codes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Prepared:
    """A network lowered for an array, with input codes (N, H, W, C) on chip and what must come out."""

    network: Network
    lowered: lower.Lowered
    x: Codes
    codes: dict[str, Codes]
    cycles: list[int]

    @property
    def config(self) -> HwConfig:
        return self.lowered.config

    def frames(self) -> Codes:
        """The input as activation words (N, words, rows)."""
        return to_words(self.x, self.lowered.plan.placements[self.network.input.tensor], self.config.rows)


def prepare(
    graph: ir.Graph, config: HwConfig, frames: int, fixed_depths: bool = False, seed: int = 0, overlap: bool = False
) -> Prepared:
    """fixed_depths: keep the depths of `config`, so that networks share a build; else the smallest that hold it."""
    network = quantise.quantise(graph)
    lowered = lower.with_depths(lower.lower(network, config, overlap), config if fixed_depths else None)
    shape = network.tensors[network.input.tensor].shape
    x = np.random.default_rng(seed).integers(-128, 128, (frames, *shape), dtype=np.int8)
    return Prepared(network, lowered, x, golden.run(network, x), golden.network_cycles(network, config))


def simulated(sim: str, prepared: Prepared, name: str, back_to_back: bool = False) -> SimResult:
    """Runs every frame in build/tests/<name>. back_to_back: as `simulate` has it."""
    folder: Path = BUILD / f"{name}_{sim}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in images.memory_images(prepared.lowered).items():
        (folder / file).write_text(text)
    words = prepared.lowered.header["out_words"]
    layers, cycles = len(prepared.network.layers), sum(prepared.cycles)
    frames, config = prepared.frames(), prepared.config
    return simulate(sim, config, folder, frames, words, layers, cycles, True, False, back_to_back=back_to_back)


def assert_equal(prepared: Prepared, result: SimResult) -> int:
    """Every code of every layer, the output stream, every cycle counter; how many codes were compared."""
    network, lowered = prepared.network, prepared.lowered
    layers = compare_layers(network, lowered, prepared.codes, result)
    output = compare_outputs(network, lowered, prepared.codes[network.output.tensor], result)
    where = f"{prepared.config}: {[(layer.op, layer.kernel, layer.groups) for layer in network.layers]}"
    for part in (*layers, output):
        assert part.compared and not part.different and not part.stray, f"{where}: {part}"
    ends = np.cumsum(prepared.cycles).tolist()
    assert result.layer_ends == ends, f"{where}: layers end at {result.layer_ends}, predicted {ends}"
    took = [*result.cycles, *(run.done - run.start for run in result.times)]
    assert set(took) == {ends[-1]} and len(result.times) == len(prepared.x), f"{where}: {took}, predicted {ends[-1]}"
    return sum(part.compared for part in (*layers, output))
