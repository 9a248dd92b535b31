"""Small networks by hand that together use every feature of a job, the same ones each time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport import ir

f32 = np.float32


class Chain:
    """Appends layers with random weights to a chain of tensors."""

    def __init__(self, shape: tuple[int, int, int], quant: ir.Quant, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = {"t0": ir.Tensor("t0", shape, quant)}
        self.nodes: list[ir.AnyNode] = []

    def _place(self) -> tuple[str, tuple[str], str]:
        index = len(self.nodes)
        return f"layer{index}", (f"t{index}",), f"t{index + 1}"

    def _source(self) -> ir.Tensor:
        return self.tensors[f"t{len(self.nodes)}"]

    def _add(self, node: ir.AnyNode, shape: tuple[int, int, int], quant: ir.Quant) -> Chain:
        self.tensors[node.output] = ir.Tensor(node.output, shape, quant)
        self.nodes.append(node)
        return self

    def _weights(self, shape: tuple[int, int, int, int], zero: int) -> ir.Weights:
        codes: npt.NDArray[np.int16] = self.rng.integers(-128, 128, shape).astype(np.int16)
        scale = (self.rng.uniform(0.5, 2, shape[0]) * 0.01).astype(f32)
        bias = self.rng.normal(size=shape[0]).astype(f32).astype(np.float64)
        return ir.Weights(codes, scale, np.full(shape[0], zero, np.int32), bias)

    def _quant(self, weights: ir.Weights, zero: int, dtype: ir.Dtype) -> ir.Quant:
        centred = weights.codes - weights.zero_point.reshape(-1, 1, 1, 1)
        sigma = 70 * float(np.sqrt((centred.astype(float) ** 2).sum((1, 2, 3)).mean()))
        return ir.Quant(f32(float(self._source().quant.scale) * 0.0125 * sigma / 40), zero, dtype)

    def conv(
        self,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        weight_zero: int = 0,
        output: tuple[int, ir.Dtype] = (0, "int8"),
    ) -> Chain:
        source = self._source()
        weights = self._weights((channels, *kernel, source.shape[2] // groups), weight_zero)
        quant = self._quant(weights, *output)
        clamp = ir.CODE_RANGE[quant.dtype]
        node = ir.Conv2d(*self._place(), weights, stride, padding, (1, 1), groups, clamp)
        return self._add(node, (*ir.window_shape(source.shape, kernel, stride, padding), channels), quant)

    def linear(self, features: int, output: tuple[int, ir.Dtype] = (0, "int8")) -> Chain:
        weights = self._weights((features, *self._source().shape), 0)
        quant = self._quant(weights, *output)
        zero = quant.zero_point
        return self._add(ir.Linear(*self._place(), weights, (zero, zero + 90)), (1, 1, features), quant)

    def pool(self, kind: type[ir.MaxPool2d] | type[ir.AvgPool2d], padding: tuple[int, int, int, int]) -> Chain:
        source, kernel = self._source(), (2, 3)
        clamp = ir.CODE_RANGE[source.quant.dtype]
        node = kind(*self._place(), kernel, (2, 1), padding, clamp=clamp)
        return self._add(node, (*ir.window_shape(source.shape, kernel, (2, 1), padding), source.shape[2]), source.quant)

    def graph(self) -> ir.Graph:
        last = f"t{len(self.nodes)}"
        ports = [ir.Port(name, self.tensors[name].shape, (0, 1, 2)) for name in ("t0", last)]
        nodes = tuple(self.nodes)
        return ir.check(ir.Graph("fixed", "test", "fbgemm", self.tensors, nodes, ports[0], ports[1]), "fixed network")


def first() -> ir.Graph:
    """Wide weights, padding on three sides, groups that split into several jobs, both pools, a clamped linear layer."""
    chain = Chain((5, 4, 3), ir.Quant(f32(0.02), 131, "uint8"), 1)
    chain.conv(14, (3, 2), (2, 1), (1, 0, 2, 1), weight_zero=60, output=(-20, "int8"))
    chain.pool(ir.MaxPool2d, (1, 0, 0, 2))
    chain.conv(21, (1, 1), groups=7, output=(100, "uint8"))
    chain.pool(ir.AvgPool2d, (0, 1, 1, 1))
    return chain.conv(9, (1, 1)).linear(10, (-77, "int8")).graph()


def second() -> ir.Graph:
    """Another input and output shape, another number of layers."""
    return Chain((3, 6, 7), ir.Quant(f32(0.02), -5, "int8"), 2).conv(6, (2, 2), output=(7, "int8")).linear(3).graph()


def tiny() -> ir.Graph:
    """Two jobs of one word each."""
    return Chain((1, 1, 2), ir.Quant(f32(0.02), 1, "int8"), 3).linear(2).linear(1).graph()


def adding() -> ir.Graph:
    """Two residual adds: one whose factors have three digits, one of two, a difference."""
    scales = {"x": (0.5, 3), "y": (0.25, -7), "sum": (1.5, 11), "out": (0.9, -30)}
    quants = {name: ir.Quant(f32(scale), zero, "int8") for name, (scale, zero) in scales.items()}
    tensors = {name: ir.Tensor(name, (3, 2, 6), quant) for name, quant in quants.items()}
    codes = np.random.default_rng(4).integers(-127, 128, (6, 1, 1, 6)).astype(np.int16)
    weights = ir.Weights(codes, np.full(6, 0.004, f32), np.zeros(6, np.int32), None)
    nodes = (
        ir.Conv2d("conv", ("x",), "y", weights, clamp=(-128, 127)),
        ir.Add("three", ("x", "y"), "sum", 1, (-128, 127)),
        ir.Add("two", ("sum", "x"), "out", -1, (-100, 127)),
    )
    ports = [ir.Port(name, (3, 2, 6), (0, 1, 2)) for name in ("x", "out")]
    return ir.check(ir.Graph("adding", "test", "tflite-xnnpack", tensors, nodes, ports[0], ports[1]), "adding network")


def windows() -> ir.Graph:
    """Window jobs on 8x8: depthwise at stride 1 and 2, padding on all sides, two tiles, and an add of two digits."""
    shapes = {**dict.fromkeys(("x", "y", "z", "sum"), (5, 6, 16)), "out": (3, 3, 16)}
    scales = {"x": (0.1, 20), "y": (1.5, 11), "z": (0.5, 3), "sum": (0.9, -30), "out": (0.7, 5)}
    tensors = {name: ir.Tensor(name, shapes[name], ir.Quant(f32(s), z, "int8")) for name, (s, z) in scales.items()}
    rng = np.random.default_rng(6)

    def weights(scale: float) -> ir.Weights:
        codes = rng.integers(-127, 128, (16, 3, 3, 1)).astype(np.int16)
        return ir.Weights(codes, np.full(16, scale, f32), np.zeros(16, np.int32), None)

    same, even = (1, 1, 1, 1), (1, 1, 0, 1)
    nodes = (
        ir.Conv2d("first", ("x",), "y", weights(0.03), (1, 1), same, (1, 1), 16, (-128, 127)),
        ir.Conv2d("second", ("x",), "z", weights(0.01), (1, 1), same, (1, 1), 16, (-128, 127)),
        ir.Add("add", ("y", "z"), "sum", 1, (-128, 127)),
        ir.Conv2d("third", ("sum",), "out", weights(0.003), (2, 2), even, (1, 1), 16, (-128, 127)),
    )
    ports = [ir.Port(name, shapes[name], (0, 1, 2)) for name in ("x", "out")]
    return ir.check(ir.Graph("windows", "test", "tflite-xnnpack", tensors, nodes, ports[0], ports[1]), "windows")


def both_kinds() -> ir.Graph:
    """Dense jobs and, on 8x8, window jobs in turn; dense ones first and last."""
    chain = Chain((4, 5, 6), ir.Quant(f32(0.02), 9, "int8"), 7).conv(8, (1, 1))
    chain.conv(8, (3, 3), padding=(1, 1, 1, 1), groups=8).conv(11, (1, 1)).conv(8, (2, 2))
    return chain.conv(8, (3, 3), padding=(1, 1, 1, 1), groups=8).linear(5).graph()


def tables() -> ir.Graph:
    """Jobs with one of three tables and without; one table stands behind its layer; a concatenation of them all."""
    quants = {name: ir.Quant(f32(scale), zero, "int8") for name, scale, zero in (
        ("x", 0.02, 3), ("y", 0.1, -20), ("swish", 0.05, -90), ("leaky", 0.05, -90), ("pooled", 0.05, -90),
        ("joined", 0.05, -90), ("out", 0.05, -90),
    )}  # fmt: skip
    shapes = dict.fromkeys(quants, (3, 2, 5)) | {"joined": (3, 2, 15), "out": (3, 2, 15)}
    tensors = {name: ir.Tensor(name, shapes[name], quant) for name, quant in quants.items()}
    codes = np.random.default_rng(5).integers(-127, 128, (5, 1, 1, 5)).astype(np.int16)
    weights = ir.Weights(codes, np.full(5, 0.02, f32), np.zeros(5, np.int32), None)
    whole = (-128, 127)
    nodes = (
        ir.Conv2d("conv", ("x",), "y", weights, clamp=whole),
        ir.Lookup("hard_swish", ("y",), "swish", "hard_swish", whole),
        ir.Lookup("leaky_relu", ("x",), "leaky", "leaky_relu", whole, -0.5),
        ir.MaxPool2d("pool", ("leaky",), "pooled", (2, 1), (1, 1), (1, 0, 0, 0), clamp=whole),
        ir.Concat("concat", ("swish", "pooled", "leaky"), "joined", 2, whole),
        ir.Lookup("again", ("joined",), "out", "leaky_relu", (-100, 127), -0.5),
    )
    ports = [ir.Port(name, shapes[name], (0, 1, 2)) for name in ("x", "out")]
    return ir.check(ir.Graph("tables", "test", "tflite-ref", tensors, nodes, ports[0], ports[1]), "network of tables")
