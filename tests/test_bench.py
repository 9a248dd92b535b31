"""make bench: the topologies against the published files, and one small measurement."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pyexport import golden, hwconfig, ir, isa, lower, quantise, readers
from pyexport.errors import IntactError
from sim import bench
from sim.runner import ROOT, simulator_missing
from sim.simulate import LayerParts
from sim.topologies import PUBLISHED, TOPOLOGIES
from tests.test_tflite import network

MACS = {
    "conv3x3-32": 2_359_296,
    "ResNet-8": 12_501_632,
    "DS-CNN": 2_656_768,
    "MobileNetV1": 7_489_664,
    "autoencoder": 264_192,
}


def shapes(graph: ir.Graph) -> list[tuple[object, ...]]:
    """Per layer: operation, shapes in and out, window and weights' shape. Tensors by their order, not by name."""
    order = {name: i for i, name in enumerate([graph.input.tensor, *(node.output for node in graph.nodes)])}
    found: list[tuple[object, ...]] = [(graph.tensors[graph.input.tensor].shape, graph.tail is not None)]
    for node in graph.nodes:
        window = [getattr(node, name, None) for name in ("kernel", "stride", "padding", "dilation", "groups", "sign")]
        weights = node.weights.codes.shape if isinstance(node, (ir.Conv2d, ir.Linear)) else None
        inputs = [order[name] for name in node.inputs]
        found.append((type(node).__name__, inputs, graph.tensors[node.output].shape, *window, weights))
    return found


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topology(name: str) -> None:
    """Legal, of the published size, and every layer's codes spread over their range."""
    graph = ir.check(TOPOLOGIES[name](), name)
    network = quantise.quantise(graph)
    assert network.macs == MACS[name]
    x = np.random.default_rng(0).integers(-128, 128, (4, *graph.tensors["input"].shape)).astype(np.int8)
    codes = golden.run(network, x)
    for layer in network.layers:
        out = codes[layer.output]
        assert out.std() > 20 or out[0].size < 8, f"{layer.name}: codes hardly differ"
        assert max((out == end).mean() for end in (-128, 127)) < 0.7, f"{layer.name}: most codes at an end"
        assert not any(map(len, layer.differing))


@pytest.mark.parametrize("file", PUBLISHED)
def test_topology_is_the_published_one(file: str) -> None:
    published, built = readers.read(network(f"{file}.tflite")), TOPOLOGIES[PUBLISHED[file]]()
    for theirs, ours in zip(shapes(published), shapes(built), strict=True):
        assert ours == theirs
    networks = [quantise.quantise(graph) for graph in (published, built)]
    assert [layer.macs for layer in networks[0].layers] == [layer.macs for layer in networks[1].layers]
    for array in ("4x4", "8x8", "16x4", "16x16", "5x3"):
        config = hwconfig.for_array(*hwconfig.parse_array(array))
        assert golden.network_cycles(networks[1], config) == golden.network_cycles(networks[0], config)


def test_layer_parts() -> None:
    layer, pool = quantise.quantise(readers.read(ROOT / "models" / "digits.pt")).layers[1:3]
    parts = bench.layer_parts(layer, layer.macs // 64 + 37, LayerParts(layer.macs // 64 + 7, 5, 20, 4), 64)
    assert parts == dict(zip(bench.PARTS, (layer.macs // 64, 7, 0, 5, 20, 4, 1), strict=True))
    assert bench.layer_parts(pool, 50, LayerParts(30, 0, 20, 0), 64)["other_op"] == 30
    with pytest.raises(IntactError, match="do not divide"):
        bench.layer_parts(layer, layer.macs // 64, LayerParts(layer.macs // 64, 0, 20, 0), 64)


def test_published_files_take_their_topologies_places(tmp_path: Path) -> None:
    for file in PUBLISHED:
        (tmp_path / f"{file}.tflite").symlink_to(network(f"{file}.tflite").resolve())
    (tmp_path / "another.tflite").symlink_to(network("ad01_int8.tflite").resolve())
    sources = {name: candidate.source for name, candidate in bench.networks(str(tmp_path)).items()}
    given = {topology: f"{file}.tflite" for file, topology in PUBLISHED.items()}
    assert (
        sources
        == {**dict.fromkeys(TOPOLOGIES, bench.RANDOM), "digits": "digits.pt", "another": "another.tflite"} | given
    )


def test_large_networks_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = network("ad01_int8.tflite")
    (tmp_path / "large.tflite").symlink_to(path.resolve())
    monkeypatch.setattr(bench, "MOST_MACS", MACS["autoencoder"] - 1)
    assert set(bench.networks(str(tmp_path))) == {*TOPOLOGIES, "digits"}


@pytest.mark.parametrize(
    "arguments",
    [["--models", "no such folder"], ["--arrays", "8"], ["--arrays", "4x4", "--networks", "no such network"]],
)
def test_refusals(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([*arguments, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert arguments[-1] in shown.out + shown.err
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.skipif(simulator_missing("verilator") is not None, reason="no Verilator")
def test_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On an array whose drain takes four beats, so that a layer of few inputs waits for it."""
    arguments = ["--arrays", "4x16", "--layers", "4x16", "--networks", "autoencoder", "--clock", "50"]
    assert bench.main([*arguments, "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert (row["network"], row["array"], row["multipliers"], row["macs"]) == ("autoencoder", "4x16", 64, 264_192)
    assert row["cycles"] == row["predicted_cycles"] == sum(layer["cycles"] for layer in row["layers"])
    assert row["utilization"] == pytest.approx(264_192 / 64 / row["cycles"])
    assert row["input_cycles"] == 640 // 4 and row["output_cycles"] >= 640 // 4
    assert row["latency_cycles"] >= row["input_cycles"] + row["cycles"] + row["output_cycles"]
    assert len(row["period_cycles"]) == 2 and min(row["period_cycles"]) > row["cycles"]
    assert max(row["period_cycles"]) < row["cycles"] + row["output_cycles"] + 40, "the input was not overlapped"
    shown = capsys.readouterr().out
    assert f"{50e6 / max(row['period_cycles']):,.1f}" in shown and "requantise-bound" in shown

    network = quantise.quantise(TOPOLOGIES["autoencoder"]())
    jobs = lower.lower(network, hwconfig.for_array(4, 16)).jobs
    for index, layer in enumerate(row["layers"]):
        assert sum(layer[part] for part in bench.PARTS) == layer["cycles"] and not layer["idle"] | layer["load"]
        words = gaps = 0
        for job in (job.fields for job in jobs if job.layer == index):
            counts = {loop: job[f"{loop}_count"] + 1 for loop in isa.LEVELS}
            words += math.prod(counts.values())
            gaps += (math.prod(counts[loop] for loop in ("tile", "ox", "oy")) - 1) * job["gap"]
        assert layer["mac"] + layer["array_part_idle"] + layer["other_op"] == words
        assert layer["requantise_bound"] == gaps
    assert row["layers"][5]["requantise_bound"] > 0
