"""Networks for `make bench`: published topologies with random int8 weights, as graphs. Only shapes decide cycles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.ir import AnyNode, Conv2d, Graph, Linear, Port, Quant, Tensor, Weights, window_shape

SCALE = np.float32(0.05)


class _Builder:
    """Appends layers to a chain."""

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.rng = np.random.default_rng(0)
        self.tensors = {"input": Tensor("input", shape, Quant(SCALE, 0, "int8"))}
        self.nodes: list[AnyNode] = []
        self.last = "input"

    def _weights(self, shape: tuple[int, int, int, int]) -> Weights:
        codes = self.rng.integers(-127, 128, shape).astype(np.int16)
        scale = np.full(shape[0], 0.5 / np.sqrt(np.prod(shape[1:])) / 64, np.float32)
        return Weights(codes, scale, np.zeros(shape[0], np.int32), self.rng.normal(size=shape[0]) / 8)

    def _output(self, shape: tuple[int, int, int]) -> tuple[str, str]:
        name = f"layer{len(self.nodes)}"
        self.tensors[name + ".out"] = Tensor(name + ".out", shape, Quant(SCALE, -10, "int8"))
        before, self.last = self.last, name + ".out"
        return name, before

    def conv(self, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> _Builder:
        height, width, depth = self.tensors[self.last].shape
        pads = (padding,) * 4
        size = window_shape((height, width, depth), (kernel, kernel), (stride, stride), pads)
        weights = self._weights((channels, kernel, kernel, depth))
        name, before = self._output((*size, channels))
        self.nodes.append(Conv2d(name, (before,), self.last, weights, (stride, stride), pads, clamp=(-10, 127)))
        return self

    def linear(self, features: int) -> _Builder:
        weights = self._weights((features, *self.tensors[self.last].shape))
        name, before = self._output((1, 1, features))
        self.nodes.append(Linear(name, (before,), self.last, weights, clamp=(-10, 127)))
        return self

    def graph(self) -> Graph:
        def port(name: str) -> Port:
            return Port(name, self.tensors[name].shape, (0, 1, 2))

        return Graph(self.name, "topology", "fbgemm", self.tensors, tuple(self.nodes), port("input"), port(self.last))


def conv3x3() -> Graph:
    """One 3×3 convolution, 32 channels in and out, on a 16×16 map."""
    return _Builder("conv3x3-32", (16, 16, 32)).conv(32, 3, padding=1).graph()


def autoencoder() -> Graph:
    """MLPerf Tiny's anomaly detection: ten fully connected layers."""
    builder = _Builder("autoencoder", (1, 1, 640))
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        builder.linear(features)
    return builder.graph()


TOPOLOGIES: dict[str, Callable[[], Graph]] = {"conv3x3-32": conv3x3, "autoencoder": autoencoder}
