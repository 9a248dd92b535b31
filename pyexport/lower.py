"""Quantised layers -> program, weight words and parameter words (docs/architecture.md, docs/formats.md).

What one layer becomes is in lower_layer.py (accumulate jobs), lower_window.py (window jobs) and lower_concat.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig, bits_for
from pyexport.lower_concat import Emitted, concat_jobs
from pyexport.lower_layer import LayerLowering
from pyexport.lower_window import WindowLowering
from pyexport.memory import MemoryPlan, plan
from pyexport.phases import Pixels, phases
from pyexport.qlayers import Network, QLayer
from pyexport.windows import windowed


@dataclass(frozen=True)
class Job:
    """One descriptor: the layer's index and the values of its fields by name."""

    layer: int
    fields: dict[str, int]


@dataclass(frozen=True)
class Lowered:
    """program: 64-bit words.  weights: int8 (words, cols, rows).  params: (channels, fields) as packed Python integers.

    tables: int8 (256,) each, no two equal.
    layer_ranges: per layer the weight words and parameter words as half-open ranges.
    """

    config: HwConfig
    plan: MemoryPlan
    header: dict[str, int]
    jobs: tuple[Job, ...]
    weights: npt.NDArray[np.int8]
    params: tuple[int, ...]
    layer_ranges: tuple[dict[str, tuple[int, int]], ...]
    tables: tuple[npt.NDArray[np.int8], ...] = ()

    @property
    def program(self) -> list[int]:
        """Program memory: header, then the descriptors."""
        words = isa.encode(isa.HEADER, self.header)
        for job in self.jobs:
            words += isa.encode(isa.LAYOUTS[job.fields["opcode"]], job.fields)
        return words


def lower(network: Network, config: HwConfig, overlap: bool = False) -> Lowered:
    """The program and images of `network` for the array of `config`; its depths are not looked at (`with_depths`).

    overlap: the next input frame may come in while the network runs, at the cost of activation memory.
    """
    memory = plan(network, config, overlap)
    jobs: list[Job] = []
    weights: list[npt.NDArray[np.int8]] = []
    params: list[int] = []
    ranges = []
    tables: dict[bytes, int] = {}  # contents and number, from 1
    used = (0, 0)  # weight words, parameter words
    for index, layer in enumerate(network.layers):
        start = used
        table = 0 if layer.table is None else tables.setdefault(layer.table.tobytes(), len(tables) + 1)
        for fields, words, packed in _emit(layer, network, config, memory):
            fields |= {"layer": index, "table": table, "wgt_base": used[0], "prm_base": used[1]}
            jobs.append(Job(index, fields))
            weights.append(words)
            params += packed
            used = used[0] + len(words), len(params) // config.lanes
        jobs[-1].fields["layer_end"] = 1
        ranges.append({"weights": (start[0], used[0]), "parameters": (start[1], used[1])})
    jobs[-1].fields["program_end"] = 1
    source, target = memory.placements[network.input.tensor], memory.placements[network.output.tensor]
    readers = [i for i, job in enumerate(jobs) if network.input.tensor in network.layers[job.layer].inputs]
    header = {
        "magic": isa.MAGIC,
        "version": isa.FORMAT_VERSION,
        "rows": config.rows,
        "cols": config.cols,
        "lanes": config.lanes,
        "in_base": source.base,
        "in_words": source.words,
        "jobs": len(jobs),
        "out_base": target.base,
        "out_words": target.words,
        "layers": len(network.layers),
        "act_words": memory.words,
        "prm_words": used[1],
        "wgt_words": used[0],
        "tables": len(tables),
        "packed": config.packed,
        "prm_serial": config.prm_serial,
        "free_job": 1 + readers[-1] if overlap else 0,
    }
    codes = tuple(np.frombuffer(contents, np.int8) for contents in tables)
    return Lowered(config, memory, header, tuple(jobs), np.concatenate(weights), tuple(params), tuple(ranges), codes)


def _emit(layer: QLayer, network: Network, config: HwConfig, memory: MemoryPlan) -> Iterator[Emitted]:
    """A layer's jobs in order, but for its index and their table and bases in weight and parameter memory."""
    if layer.operands:
        yield from concat_jobs(layer, network, config, memory)
    elif layer.areas:
        for area in layer.areas:
            top, left = layer.padding[0] - area.y * layer.stride[0], layer.padding[2] - area.x * layer.stride[1]
            part = replace(layer, requant=area.requant, padding=(top, 0, left, 0))
            pixels = Pixels(area.y, area.x, area.height, area.width)
            yield from LayerLowering(part, network, config, memory, pixels).emit()
    elif layer.transposed:
        for part, pixels in phases(layer, network.tensors[layer.output].shape):
            yield from LayerLowering(part, network, config, memory, pixels).emit()
    else:
        kind = WindowLowering if windowed(layer, network, config) else LayerLowering
        yield from kind(layer, network, config, memory).emit()


def with_depths(lowered: Lowered, fixed: HwConfig | None = None, block: int = 0) -> Lowered:
    """The same with the smallest power-of-two depths (at least 512 words) that hold it, and as many tables as it has.

    block: with a number, depths are multiples of that many words instead.
    fixed: a configuration whose depths are kept; raises IntactError naming the memory that is too small.
    """
    need = {
        "act_depth": lowered.header["act_words"],
        "wgt_depth": lowered.header["wgt_words"],
        "prm_depth": lowered.header["prm_words"],
        "prg_depth": len(lowered.program),
        "layers": lowered.header["layers"],
        "tables": lowered.header["tables"],
    }
    if fixed is not None:
        for name, words in need.items():
            if words > getattr(fixed, name):
                raise IntactError(
                    f"the model needs {name} = {words}, the hardware {fixed.array} has {getattr(fixed, name)}: "
                    "use larger memories or a smaller model"
                )
        return lowered
    tables = need.pop("tables")
    if block:
        depths = {name: -(-words // block) * block for name, words in need.items()}
    else:
        depths = {name: 1 << bits_for(max(words, 16 if name == "layers" else 512)) for name, words in need.items()}
    depths["tables"] = tables
    return replace(lowered, config=replace(lowered.config, **depths))
