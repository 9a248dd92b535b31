"""Random small networks on the Verilog: every code of every layer, every cycle counter, and the throughput promised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pyexport import ir
from pyexport.hwconfig import HwConfig
from sim import simulate
from sim.runner import simulator_missing
from tests.rtl_network import assert_equal, prepare, simulated
from tests.strategies import configs, graphs

f32 = np.float32
COMMON = settings(
    deadline=None,
    database=None,
    print_blob=True,
    phases=(Phase.generate,),  # shrinking would take a simulation a step
    suppress_health_check=list(HealthCheck),
)
# Depths that hold every random network and the throughput layer, so that a build serves them all.
DEPTHS = {"act_depth": 2048, "wgt_depth": 4096, "prm_depth": 512, "prg_depth": 2048, "layers": 16, "tables": 4}
ARRAYS = {"4x4": HwConfig(4, 4, 2, **DEPTHS), "8x8": HwConfig(8, 8, 8, **DEPTHS), "16x4": HwConfig(16, 4, 4, **DEPTHS)}


@pytest.fixture(autouse=True, scope="module")
def _builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Random configurations would fill the folder of builds that people keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "BUILDS", tmp_path_factory.mktemp("builds"))
        yield


def need(sim: str) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)


def test_any_network_on_any_array() -> None:
    """Icarus builds in half a second, so that every example has an array of its own."""
    need("icarus")
    compared: list[int] = []

    @seed(1)
    @settings(COMMON, max_examples=70)
    @given(graphs(layers=3, channels=20, side=6, adds=True), configs(), st.integers(0, 99))
    def any_network(graph: ir.Graph, config: HwConfig, image: int) -> None:
        prepared = prepare(graph, config, 1, seed=image)
        if sum(prepared.cycles) <= 8000:  # Verilator takes the large ones
            compared.append(assert_equal(prepared, simulated("icarus", prepared, "random_network")))

    any_network()
    print(f"icarus: {len(compared)} networks, {sum(compared)} codes")
    assert len(compared) >= 60


@pytest.mark.parametrize("array", list(ARRAYS))
def test_networks_on_one_array(array: str) -> None:
    """Verilator builds once for an array; larger maps and more frames go through it."""
    need("verilator")
    compared: list[int] = []

    @seed(list(ARRAYS).index(array))
    @settings(COMMON, max_examples=10)
    @given(graphs(layers=4, channels=20, side=9, adds=True), st.integers(0, 99))
    def any_network(graph: ir.Graph, image: int) -> None:
        prepared = prepare(graph, ARRAYS[array], 3, fixed_depths=True, seed=image)
        compared.append(assert_equal(prepared, simulated("verilator", prepared, f"random_network_{array}")))

    any_network()
    print(f"verilator {array}: {len(compared)} networks, {sum(compared)} codes")
    assert len(compared) >= 6


def test_an_input_joined_with_itself() -> None:
    """Its pixels take the output's number of words, also in the frames that come in."""
    need("icarus")
    quant, shape = ir.Quant(f32(0.1), 7, "uint8"), (3, 4, 5)
    tensors = {"x": ir.Tensor("x", shape, quant), "y": ir.Tensor("y", (3, 4, 15), quant)}
    node = ir.Concat("concat", ("x", "x", "x"), "y", 2, (9, 250))
    ports = [ir.Port(name, tensors[name].shape, (0, 1, 2)) for name in ("x", "y")]
    graph = ir.check(ir.Graph("joined", "test", "fbgemm", tensors, (node,), ports[0], ports[1]), "joined")
    for config in (HwConfig(4, 4, 4), HwConfig(8, 2, 2), HwConfig(2, 4, 1)):
        prepared = prepare(graph, config, 2)
        placements = prepared.lowered.plan.placements
        natural = -(-5 // config.rows)
        assert placements["x"].pixel_words == (natural if config.lanes == 1 else placements["y"].pixel_words)
        assert_equal(prepared, simulated("icarus", prepared, "joined"))


@pytest.mark.parametrize("array", list(ARRAYS))
def test_overlapped_input(array: str) -> None:
    """Frames back to back, each coming in while the network runs on the one before, as far as the program allows."""
    need("verilator")
    compared: list[int] = []
    overlapped: list[int] = []

    @seed(100 + list(ARRAYS).index(array))
    @settings(COMMON, max_examples=10)
    @given(graphs(layers=4, channels=20, side=9, adds=True), st.integers(0, 99))
    def any_network(graph: ir.Graph, image: int) -> None:
        prepared = prepare(graph, ARRAYS[array], 4, fixed_depths=True, seed=image, overlap=True)
        result = simulated("verilator", prepared, f"overlapped_{array}", back_to_back=True)
        compared.append(assert_equal(prepared, result))
        header = prepared.lowered.header
        if header["free_job"] < header["jobs"]:
            overlapped.append(sum(after.first_in < run.done for run, after in pairwise(result.times)))

    any_network()
    print(f"verilator {array}: {len(compared)} networks, {sum(compared)} codes, overlapped {overlapped}")
    assert len(compared) >= 6 and len(overlapped) >= 3 and set(overlapped) == {3}


def convolution() -> ir.Graph:
    """3x3, 32 channels in and out, on a 16x16 map."""
    rng = np.random.default_rng(4)
    shape = (16, 16, 32)
    tensors = {
        name: ir.Tensor(name, shape, ir.Quant(f32(0.05), zero, "uint8")) for name, zero in (("x", 3), ("y", 120))
    }
    weights = ir.Weights(
        rng.integers(-128, 128, (32, 3, 3, 32)).astype(np.int16),
        np.full(32, 0.0005, f32),
        np.zeros(32, np.int32),
        rng.normal(size=32),
    )
    node = ir.Conv2d("conv", ("x",), "y", weights, padding=(1, 1, 1, 1))
    ports = [ir.Port(name, shape, (0, 1, 2)) for name in ("x", "y")]
    return ir.check(ir.Graph("throughput", "test", "fbgemm", tensors, (node,), ports[0], ports[1]), "throughput")


@pytest.mark.parametrize("array", ["8x8", "16x4"])
def test_throughput(array: str) -> None:
    """0.90 of a MAC per multiplier and cycle with 64 multipliers, by the hardware's own counter; builds as above."""
    need("verilator")
    prepared = prepare(convolution(), ARRAYS[array], 2, fixed_depths=True)
    result = simulated("verilator", prepared, f"throughput_{array}")
    assert_equal(prepared, result)
    macs = 16 * 16 * 32 * 9 * 32
    assert prepared.network.macs == macs and ARRAYS[array].multipliers == 64
    utilisation = macs / (64 * result.cycles[0])
    print(f"{array}: {macs} MACs in {result.cycles[0]} cycles: {utilisation:.4f} of a MAC per multiplier and cycle")
    assert utilisation >= 0.90


@pytest.mark.parametrize(
    ("channels", "array", "jobs"), [(12, (4, 1), 1), (10, (4, 1), 2), (16, (8, 2), 1), (5, (4, 1), 2)]
)
def test_tiles_that_share_words_are_one_job(channels: int, array: tuple[int, int], jobs: int) -> None:
    """A word holds several tiles' channels: tiles go in runs; a run that is not like the others is a job more."""
    need("icarus")
    quant, rng = ir.Quant(f32(0.1), 7, "uint8"), np.random.default_rng(channels)
    tensors = {
        "x": ir.Tensor("x", (4, 5, channels), quant), "y": ir.Tensor("y", (4, 5, channels), quant),
        "z": ir.Tensor("z", (2, 2, channels), quant),
    }  # fmt: skip
    weights = ir.Weights(
        rng.integers(-127, 128, (channels, 3, 3, 1)).astype(np.int16),
        np.full(channels, 0.002, f32),
        np.zeros(channels, np.int32),
        rng.normal(size=channels),
    )
    depthwise = ir.Conv2d("depthwise", ("x",), "y", weights, padding=(1, 1, 1, 1), groups=channels)
    pool = ir.MaxPool2d("pool", ("y",), "z", (2, 2), (2, 2), (0, 0, 0, 0))
    ports = [ir.Port(name, tensors[name].shape, (0, 1, 2)) for name in ("x", "z")]
    graph = ir.check(ir.Graph("runs", "test", "exact", tensors, (depthwise, pool), ports[0], ports[1]), "runs")
    for serial in (0, 1)[: 1 + (array[1] == 1)]:
        prepared = prepare(graph, HwConfig(*array, 1, prm_serial=serial), 2)
        assert prepared.lowered.header["jobs"] == 2 * jobs
        assert_equal(prepared, simulated("icarus", prepared, "runs"))
