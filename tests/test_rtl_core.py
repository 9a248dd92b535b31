"""Launches the benches of the whole core as its host sees it, on networks loaded at run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pyexport import images, ir
from pyexport.hwconfig import HwConfig
from sim.compare import to_words
from sim.runner import BUILD, rtl_sources, run_bench, simulator_missing
from tests import fixed_networks
from tests.rtl_network import Prepared, prepare

CONFIGS = {
    # rows, cols, lanes: three drain beats, two groups to a word; weight words that fill no whole slice
    "icarus": HwConfig(4, 6, 2, act_depth=300, wgt_depth=256, prm_depth=64, prg_depth=200, layers=7, tables=3),
    "verilator": HwConfig(3, 9, 3, act_depth=300, wgt_depth=512, prm_depth=64, prg_depth=512, layers=7, tables=4),
}
SERIAL = HwConfig(3, 3, 3, act_depth=300, wgt_depth=512, prm_depth=64, prg_depth=512, layers=7, tables=4, prm_serial=1)


def slices(text: str) -> npt.NDArray[np.uint32]:
    """The 32-bit slices of a memory image, lowest first, as the host writes them."""
    parts = []
    for line in text.split():
        parts += [line[max(0, end - 8) : end] for end in range(len(line), 0, -8)]
    return np.array([int(part, 16) for part in parts], np.uint32)


def out_words(prepared: Prepared) -> npt.NDArray[np.int8]:
    """The output frames word for word; lanes that no channel fills hold what a channel without parameters gives."""
    name = prepared.network.output.tensor
    layer = prepared.network.layers[-1].requant
    words = to_words(prepared.codes[name], prepared.lowered.plan.placements[name], prepared.config.rows)
    channels = prepared.network.tensors[name].shape[2]
    pixels = words.reshape(len(words), -1, prepared.lowered.plan.placements[name].pixel_words * prepared.config.rows)
    filler = min(max(layer.z, layer.lo), layer.hi)
    table = prepared.network.layers[-1].table
    pixels[..., channels:] = filler if table is None else table[filler + 128]
    return words


def save(graph: ir.Graph, config: HwConfig, path: Path, frames: int, overlap: bool = False) -> None:
    prepared = prepare(graph, config, frames, fixed_depths=True, overlap=overlap)
    texts = images.memory_images(prepared.lowered)
    header = prepared.lowered.header
    used = {
        images.PROGRAM: 2 * len(prepared.lowered.program),
        images.WEIGHTS: header["wgt_words"] * config.wgt_bits // 32,
        images.PARAMS: header["prm_words"] * config.prm_bits // 32,
        images.TABLES: 256 * header["tables"],
    }
    program, weights, params, tables = (slices(texts.get(file, ""))[:count] for file, count in used.items())
    np.savez(
        path,
        program=program,
        weights=weights,
        params=params,
        tables=tables,
        frames=prepared.frames(),
        outputs=out_words(prepared),
        layer_ends=np.cumsum(prepared.cycles),
    )


@pytest.mark.parametrize(
    ("sim", "config"), [*CONFIGS.items(), ("verilator", SERIAL)], ids=[*CONFIGS, "verilator-serial"]
)
def test_core(sim: str, config: HwConfig) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    name = "core_serial" if config.prm_serial else "core"
    folder = BUILD / f"{name}_networks_{sim}"
    folder.mkdir(parents=True, exist_ok=True)
    save(fixed_networks.first(), config, folder / "first.npz", 3)
    save(fixed_networks.first(), config, folder / "overlapped.npz", 3, overlap=True)
    save(fixed_networks.second(), config, folder / "second.npz", 1)
    save(fixed_networks.tiny(), config, folder / "tiny.npz", 1)
    save(fixed_networks.tables(), config, folder / "tables.npz", 1)
    parameters: dict[str, int | str] = dict(config.verilog_parameters())
    environment = {"CORE_NETWORKS": str(folder)}
    run_bench(sim, "intact_core", "sim.bench_core", rtl_sources(), parameters, name, environment)


def test_kinds_of_jobs() -> None:
    """The array is square, for window jobs."""
    if reason := simulator_missing("verilator"):
        pytest.skip(reason)
    config = HwConfig(8, 8, 8, act_depth=256, wgt_depth=128, prm_depth=32, prg_depth=256, layers=8)
    folder = BUILD / "core_networks_kinds"
    folder.mkdir(parents=True, exist_ok=True)
    save(fixed_networks.both_kinds(), config, folder / "dense.npz", 2)
    save(fixed_networks.windows(), config, folder / "window.npz", 2)
    parameters: dict[str, int | str] = dict(config.verilog_parameters())
    environment = {"CORE_NETWORKS": str(folder)}
    run_bench("verilator", "intact_core", "sim.bench_kinds", rtl_sources(), parameters, "core_kinds", environment)
