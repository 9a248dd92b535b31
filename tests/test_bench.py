"""make bench: the topologies against the published files, and one small measurement."""

from __future__ import annotations

import numpy as np
import pytest

from pyexport import golden, hwconfig, ir, quantise, readers
from sim.topologies import PUBLISHED, TOPOLOGIES
from tests import tflite_reference as reference

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
    path = reference.models_folder() / f"{file}.tflite"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}: set INTACT_MODELS to the folder that has it")
    published, built = readers.read(path), TOPOLOGIES[PUBLISHED[file]]()
    for theirs, ours in zip(shapes(published), shapes(built), strict=True):
        assert ours == theirs
    networks = [quantise.quantise(graph) for graph in (published, built)]
    assert [layer.macs for layer in networks[0].layers] == [layer.macs for layer in networks[1].layers]
    for array in ("4x4", "8x8", "16x4", "16x16", "5x3"):
        config = hwconfig.for_array(*hwconfig.parse_array(array))
        assert golden.network_cycles(networks[1], config) == golden.network_cycles(networks[0], config)
