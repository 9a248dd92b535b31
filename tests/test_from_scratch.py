"""models/qconvbnrelu.py's own integer forward pass against the golden model under `--match exact`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the from-scratch quantiser is written with torch")

from models import qconvbnrelu  # noqa: E402
from pyexport import golden, ir, quantise, readers  # noqa: E402

MODELS = Path(__file__).resolve().parent.parent / "models"


def layers_in(graph: ir.Graph) -> list[qconvbnrelu.Layer]:
    """The from-scratch layers, rebuilt from the integers that the file holds."""
    layers = []
    for node in graph.nodes:
        if not isinstance(node, (ir.Conv2d, ir.Linear)):
            continue
        source, target = graph.tensors[node.inputs[0]].quant, graph.tensors[node.output].quant
        weights, s_in, s_w = node.weights, float(source.scale), float(node.weights.scale[0])
        channels_first = weights.codes.transpose(0, 3, 1, 2).astype(np.int64)
        assert weights.bias is not None and not weights.zero_point.any()
        integers = channels_first if isinstance(node, ir.Conv2d) else channels_first.reshape(len(channels_first), -1)
        bias = np.rint(weights.bias / (s_w * s_in)).astype(np.int64)
        zeros = source.zero_point, target.zero_point
        layers.append(qconvbnrelu.Layer(integers, bias, s_in, zeros[0], s_w, float(target.scale), zeros[1]))
    return layers


def test_every_code_of_the_whole_network() -> None:
    graph = readers.read(MODELS / "qconvbnrelu.pt")
    network = quantise.quantise(graph, "exact")
    source, target = (network.tensors[port.tensor] for port in (network.input, network.output))
    codes = np.random.default_rng(0).integers(0, 256, (3000, 1, 8, 8))
    codes[:360] = np.rint(np.load(MODELS / "digits_test.npz")["inputs"] * 255)
    real = torch.from_numpy(((codes - source.quant.zero_point) * float(source.quant.scale)).astype(np.float32))
    own = qconvbnrelu.forward(layers_in(graph), real)
    x = (network.input.to_hwc(codes) + source.shift).astype(np.int8)
    ours = golden.run(network, x, keep=False)[target.name].reshape(own.shape).astype(np.int64) - target.shift
    assert own.size == 30_000 and len(np.unique(own)) > 200
    assert (own == ours).all(), f"{int((own != ours).sum())} of {own.size} differ"
