"""Networks for `make bench`: published topologies with random int8 weights, as graphs. Only shapes decide cycles.

Weights, scales and biases are drawn so that the codes of every layer spread over their range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.ir import Add, AnyNode, AvgPool2d, Conv2d, Graph, Linear, Port, Quant, Softmax, Tensor, Weights
from pyexport.ir import window_shape as window

RELU_STEPS = 100  # codes in a standard deviation, after a ReLU (zero point -128) ...
LINEAR_STEPS = 40  # ... and without one
WEIGHT_POWER = 127 * 128 / 3  # mean square of a random weight code
RANGE = (-128, 127)


class _Builder:
    """Appends layers to the last one, or to the tensor `source`; `last` is the tensor written last.

    power: mean square of each tensor's real values, roughly.
    """

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.rng = np.random.default_rng(0)
        self.tensors = {"input": Tensor("input", shape, Quant(np.float32(1 / 64), 0, "int8"))}
        self.power = {"input": 4 / 3}
        self.nodes: list[AnyNode] = []
        self.last = "input"

    def _output(self, op: str, shape: tuple[int, int, int], quant: Quant, power: float) -> tuple[str, str]:
        """Names of the next layer and its output, which becomes the last tensor."""
        number = 1 + sum(node.name.rstrip("0123456789") == op for node in self.nodes)
        name = f"{op}{number}"
        self.last = f"{name}.out"
        self.tensors[self.last] = Tensor(self.last, shape, quant)
        self.power[self.last] = power
        return name, self.last

    def _quant(self, power: float, relu: bool) -> Quant:
        steps = (RELU_STEPS if relu else LINEAR_STEPS) * self.rng.uniform(0.8, 1.25)
        return Quant(np.float32(np.sqrt(power) / steps), -128 if relu else 4, "int8")

    def _weights(self, shape: tuple[int, int, int, int], source: str) -> Weights:
        """Such that the sums of a layer have a mean square of 1."""
        channels = shape[0]
        codes = self.rng.integers(-127, 128, shape).astype(np.int16)
        scale = 1 / np.sqrt(np.prod(shape[1:]) * WEIGHT_POWER * self.power[source])
        scales = (scale * self.rng.uniform(0.7, 1.3, channels)).astype(np.float32)
        bias = np.rint(self.rng.normal(size=channels) / 4 / (scales * self.tensors[source].quant.scale))
        return Weights(codes, scales, np.zeros(channels, np.int32), bias, bias_is_integer=True)

    def conv(
        self,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: int = 1,
        relu: bool = True,
        depthwise: bool = False,
        source: str = "",
    ) -> str:
        """A convolution padded as TFLite's SAME does: what is odd at the bottom and on the right."""
        source = source or self.last
        height, width, depth = self.tensors[source].shape
        pads = (*_same(height, kernel[0], stride), *_same(width, kernel[1], stride))
        size = window((height, width, depth), kernel, (stride, stride), pads)
        weights = self._weights((channels, *kernel, 1 if depthwise else depth), source)
        op = "depthwise" if depthwise else "pointwise" if kernel == (1, 1) else "conv"
        name, output = self._output(op, (*size, channels), self._quant(1, relu), 0.5 if relu else 1)
        groups = depth if depthwise else 1
        self.nodes.append(
            Conv2d(name, (source,), output, weights, (stride, stride), pads, groups=groups, clamp=RANGE),
        )
        return output

    def linear(self, features: int, relu: bool = True) -> str:
        """A fully connected layer."""
        source = self.last
        weights = self._weights((features, *self.tensors[source].shape), source)
        name, output = self._output("fc", (1, 1, features), self._quant(1, relu), 0.5 if relu else 1)
        self.nodes.append(Linear(name, (source,), output, weights, clamp=RANGE))
        return output

    def add(self, first: str, second: str) -> str:
        """A residual add with a ReLU."""
        power = self.power[first] + self.power[second]
        shape = self.tensors[first].shape
        name, output = self._output("add", shape, self._quant(power, True), power / 2)
        self.nodes.append(Add(name, (first, second), output, clamp=RANGE))
        return output

    def average_pool(self) -> str:
        """The mean of the whole map."""
        source = self.last
        height, width, channels = self.tensors[source].shape
        name, output = self._output("pool", (1, 1, channels), self.tensors[source].quant, self.power[source] / 2)
        size = (height, width)
        self.nodes.append(
            AvgPool2d(name, (source,), output, size, size, count_include_pad=False, clamp=RANGE, arithmetic="tflite")
        )
        return output

    def graph(self, softmax: bool = False) -> Graph:
        """The network so far."""
        source, target = (Port(name, self.tensors[name].shape, (0, 1, 2)) for name in ("input", self.last))
        tail = Softmax("softmax", self.tensors[self.last].quant, Quant(np.float32(1 / 256), -128, "int8"))
        return Graph(
            self.name, "topology", "tflite-ref", self.tensors, tuple(self.nodes), source, target,
            float_input="tflite-ref", tail=tail if softmax else None,
        )  # fmt: skip


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pads before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv3x3() -> Graph:
    """One 3×3 convolution, 32 channels in and out, on a 16×16 map."""
    builder = _Builder("conv3x3-32", (16, 16, 32))
    builder.conv(32)
    return builder.graph()


def resnet8() -> Graph:
    """MLPerf Tiny's image classification: three residual stacks."""
    builder = _Builder("ResNet-8", (32, 32, 3))
    shortcut = builder.conv(16)
    for channels in (16, 32, 64):
        stride = 1 if channels == 16 else 2
        before = shortcut
        builder.conv(channels, stride=stride)
        branch = builder.conv(channels, relu=False)
        if stride == 2:
            shortcut = builder.conv(channels, (1, 1), stride, relu=False, source=before)
        shortcut = builder.add(shortcut, branch)
    builder.average_pool()
    builder.linear(10, relu=False)
    return builder.graph(softmax=True)


def ds_cnn() -> Graph:
    """MLPerf Tiny's keyword spotting: depthwise separable convolutions."""
    builder = _Builder("DS-CNN", (49, 10, 1))
    builder.conv(64, (10, 4), 2)
    for _ in range(4):
        builder.conv(64, depthwise=True)
        builder.conv(64, (1, 1))
    builder.average_pool()
    builder.linear(12, relu=False)
    return builder.graph(softmax=True)


def mobilenet_v1() -> Graph:
    """MLPerf Tiny's visual wake words: MobileNetV1 with a quarter of the channels."""
    builder = _Builder("MobileNetV1", (96, 96, 3))
    builder.conv(8, stride=2)
    strides = {16: (1,), 32: (2, 1), 64: (2, 1), 128: (2, 1, 1, 1, 1, 1), 256: (2, 1)}
    depth = 8
    for channels, blocks in strides.items():
        for stride in blocks:
            builder.conv(depth, stride=stride, depthwise=True)
            builder.conv(channels, (1, 1))
            depth = channels
    builder.average_pool()
    builder.linear(2, relu=False)
    return builder.graph(softmax=True)


def autoencoder() -> Graph:
    """MLPerf Tiny's anomaly detection: ten fully connected layers."""
    builder = _Builder("autoencoder", (1, 1, 640))
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        builder.linear(features)
    builder.linear(640, relu=False)
    return builder.graph()


# by the name of the row
TOPOLOGIES: dict[str, Callable[[], Graph]] = {
    "conv3x3-32": conv3x3,
    "ResNet-8": resnet8,
    "DS-CNN": ds_cnn,
    "MobileNetV1": mobilenet_v1,
    "autoencoder": autoencoder,
}
# file of mlcommons/tiny (benchmark/training/*/trained_models/), without .tflite -> the topology that it is
PUBLISHED = {
    "pretrainedResnet_quant": "ResNet-8",
    "kws_ref_model": "DS-CNN",
    "vww_96_int8": "MobileNetV1",
    "ad01_int8": "autoencoder",
}
