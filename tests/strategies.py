"""hypothesis strategies: small random quantised graphs, and the arrays to run them on.

Shapes and attributes are drawn one by one; weights and scales come from one drawn seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from pyexport import ir
from pyexport.hwconfig import HwConfig

f32 = np.float32
POOLS = ("torch-channels-last", "torch-contiguous", "torch-adaptive-contiguous", "torch-mean", "exact")
RUNTIMES = ("fbgemm", "fbgemm", "ort", "tflite-ref", "exact")


@st.composite
def configs(draw: st.DrawFn) -> HwConfig:
    """1x2 to 9x9, and larger ones; any legal number of requantise lanes, often those of a window; a quarter packed.

    A third of those that can have them have serial parameters.
    """
    if draw(st.integers(0, 2)) == 0:
        side = draw(st.sampled_from([8, 8, 9, 16]))
        return HwConfig(side, side, side, packed=draw(st.sampled_from([0, 0, 0, 1])))
    rows, cols = draw(
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda pair: pair != (1, 1)),
            st.sampled_from([(16, 4), (4, 16), (8, 8), (8, 4)]),
        )
    )
    lanes = draw(st.sampled_from([n for n in range(1, min(rows, cols) + 1) if rows % n == 0 and cols % n == 0]))
    serial = draw(st.sampled_from([0, 0, 1])) if lanes == cols else 0
    return HwConfig(rows, cols, lanes, packed=draw(st.sampled_from([0, 0, 0, 1])), prm_serial=serial)


def _quant(draw: st.DrawFn, scale: float, only: ir.Dtype | None = None) -> ir.Quant:
    types: tuple[ir.Dtype, ...] = (only,) if only else ("int8", "uint8")
    dtype = draw(st.sampled_from(types))
    low, high = ir.CODE_RANGE[dtype]
    zero = draw(st.one_of(st.sampled_from([low, high, (low + high + 1) // 2]), st.integers(low, high)))
    return ir.Quant(f32(scale), zero, dtype)


def _clamp(draw: st.DrawFn, quant: ir.Quant) -> tuple[int, int]:
    """The whole range, a ReLU, a ReLU6, anything."""
    low, high = ir.CODE_RANGE[quant.dtype]
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return low, high
    if choice == 1:
        return quant.zero_point, high
    if choice == 2:
        return quant.zero_point, min(high, quant.zero_point + draw(st.integers(0, 100)))
    ends = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    return ends[0], ends[1]


def _weights(draw: st.DrawFn, shape: tuple[int, int, int, int], match: str) -> ir.Weights:
    """Symmetric int8; int8 and uint8 with zero points, so that many w - zw are no int8; sparse; constant."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    out = shape[0]
    kind = draw(st.sampled_from(["symmetric", "int8", "uint8", "sparse", "ends"]))
    low, high = (0, 255) if kind == "uint8" else (-128, 127)
    codes = rng.integers(low, high + 1, shape).astype(np.int16)
    zero = np.zeros(out, np.int32)
    if kind in ("int8", "uint8"):
        zero[:] = rng.integers(low, high + 1, out)
    if kind == "sparse":
        codes[rng.random(shape) < 0.8] = 0
    if kind == "ends":
        codes = rng.choice(np.array([low, high], np.int16), shape)
    scale = (rng.uniform(0.5, 2, out) * 0.01).astype(f32)
    per_channel = draw(st.booleans())
    if not per_channel:
        scale[:], zero[:] = scale[0], zero[0]
    bias: npt.NDArray[np.float64] | None = None
    integer = match in ("ort", "tflite-ref")
    if draw(st.booleans()):
        spread = 200.0 * np.sqrt(np.prod(shape[1:]))
        bias = (
            np.rint(rng.normal(size=out) * spread) if integer else rng.normal(size=out).astype(f32).astype(np.float64)
        )
    return ir.Weights(codes, scale, zero, bias, integer and bias is not None, per_channel)


def _output_scale(source: ir.Quant, weights: ir.Weights) -> float:
    """So that the codes spread over some of the range: a standard deviation of the accumulator is about 40 codes."""
    centred = weights.codes.astype(np.float64) - weights.zero_point.reshape(-1, 1, 1, 1)
    sigma = max(1.0, 70 * float(np.sqrt((centred**2).sum((1, 2, 3)).mean())))
    return float(source.scale) * float(weights.scale.mean()) * sigma / 40


def _window(
    draw: st.DrawFn, shape: tuple[int, int, int], dilated: bool = True, beyond: bool = False, most: int = 4
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """kernel up to `most`, stride, padding, dilation that fit. beyond: some windows may lie wholly in the padding."""
    side = st.integers(1, most)
    kernel = (draw(side), draw(side))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if dilated and draw(st.booleans()) else (1, 1)
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = [0, 0, 0, 0]
    for axis in (0, 1):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        widest = span - 1 + int(beyond)
        padding[2 * axis] = draw(st.integers(0, min(widest, 3)))
        need = max(0, span - shape[axis] - padding[2 * axis])
        padding[2 * axis + 1] = draw(st.integers(need, max(need, min(widest, 3))))
    return kernel, stride, (padding[0], padding[1], padding[2], padding[3]), dilation


class _Builder:
    """A chain of layers, each on the output of the one before."""

    def __init__(self, draw: st.DrawFn, match: str, channels: int, side: int) -> None:
        self.draw, self.match, self.channels = draw, match, channels
        sizes = st.integers(1, side)
        depth = draw(st.one_of(st.integers(1, channels), st.sampled_from([n for n in (1, 8, 16) if n <= channels])))
        shape = (draw(sizes), draw(sizes), depth)
        dtype: ir.Dtype | None = "int8" if match == "tflite-ref" else None
        self.tensors = {"t0": ir.Tensor("t0", shape, _quant(draw, 0.02, dtype))}
        self.nodes: list[ir.AnyNode] = []

    def add(self, op: str) -> None:
        """Appends one layer of kind `op`."""
        index = len(self.nodes)
        source = self.tensors[f"t{index}"]
        common = (f"{op}{index}", (source.name,), f"t{index + 1}")
        node, shape, quant = getattr(self, f"_{op}")(common, source)
        self.tensors[common[2]] = ir.Tensor(common[2], shape, quant)
        self.nodes.append(node)

    def _conv(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        draw, inputs = self.draw, source.shape[2]
        kernel, stride, padding, dilation = _window(draw, source.shape, beyond=True)
        groups = draw(st.sampled_from([n for n in range(1, inputs + 1) if inputs % n == 0] + [1, inputs]))
        out = groups * draw(st.integers(1, max(1, self.channels // groups)))
        weights = _weights(draw, (out, *kernel, inputs // groups), self.match)
        quant = self._target(source.quant, weights)
        node = ir.Conv2d(*common, weights, stride, padding, dilation, groups, _clamp(draw, quant))
        height, width = ir.window_shape(source.shape, kernel, stride, padding, dilation)
        return node, (height, width, out), quant

    def _transposed(
        self, common: tuple[str, tuple[str], str], source: ir.Tensor
    ) -> tuple[ir.AnyNode, object, ir.Quant]:
        """Kernels below and above the stride, dilations that share a factor with it or not, padding beyond the kernel
        and output padding; up to 12 rows and columns of output.
        """
        draw, inputs = self.draw, source.shape[2]
        kernel, stride, dilation, padding = [0, 0], [1, 1], [1, 1], [0, 0, 0, 0]
        for axis in (0, 1):
            stride[axis] = draw(st.integers(1, 4 if source.shape[axis] <= 4 else 2))
            kernel[axis], dilation[axis] = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2, 3]))
            whole = (source.shape[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
            padding[2 * axis] = draw(st.one_of(st.integers(0, min(3, whole - 1)), st.integers(0, whole - 1)))
            least = max(1 - stride[axis], whole - padding[2 * axis] - 12)
            padding[2 * axis + 1] = draw(st.integers(least, max(least, min(3, whole - padding[2 * axis] - 1))))
        groups = draw(st.sampled_from([n for n in range(1, inputs + 1) if inputs % n == 0] + [1, inputs]))
        out = groups * draw(st.integers(1, max(1, self.channels // groups)))
        weights = _weights(draw, (out, kernel[0], kernel[1], inputs // groups), self.match)
        quant = self._target(source.quant, weights)
        window = (stride[0], stride[1]), (padding[0], padding[1], padding[2], padding[3]), (dilation[0], dilation[1])
        node = ir.ConvTranspose2d(*common, weights, *window, groups, _clamp(draw, quant))
        height, width = ir.transposed_shape(source.shape, (kernel[0], kernel[1]), *window)
        return node, (height, width, out), quant

    def _depthwise(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        """What a window can take: kernels up to 3x3, no dilation, int8 weights."""
        draw, channels = self.draw, source.shape[2]
        kernel, stride, padding, _ = _window(draw, source.shape, dilated=False, most=3)
        codes = np.random.default_rng(draw(st.integers(0, 1 << 30))).integers(-128, 128, (channels, *kernel, 1))
        scale, zero = np.full(channels, 0.01, f32), np.zeros(channels, np.int32)
        weights = ir.Weights(codes.astype(np.int16), scale, zero, None, False, False)
        quant = self._target(source.quant, weights)
        node = ir.Conv2d(*common, weights, stride, padding, (1, 1), channels, _clamp(draw, quant))
        return node, (*ir.window_shape(source.shape, kernel, stride, padding), channels), quant

    def _linear(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        out = self.draw(st.integers(1, self.channels))
        weights = _weights(self.draw, (out, *source.shape), self.match)
        quant = self._target(source.quant, weights)
        return ir.Linear(*common, weights, _clamp(self.draw, quant)), (1, 1, out), quant

    def _target(self, source: ir.Quant, weights: ir.Weights) -> ir.Quant:
        dtype: ir.Dtype | None = "int8" if self.match == "tflite-ref" else None
        return _quant(self.draw, _output_scale(source, weights), dtype)

    def _maximum(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        kernel, stride, padding, dilation = _window(self.draw, source.shape)
        node = ir.MaxPool2d(*common, kernel, stride, padding, dilation, _clamp(self.draw, source.quant))
        return node, (*ir.window_shape(source.shape, kernel, stride, padding, dilation), source.shape[2]), source.quant

    def _average(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        kernel, stride, padding, _ = _window(self.draw, source.shape, dilated=False)
        divisor = self.draw(st.sampled_from([None, None, 3, 8]))
        arithmetic = "exact" if self.match == "exact" else self.draw(st.sampled_from(POOLS))
        clamp = _clamp(self.draw, source.quant)
        include = self.draw(st.booleans())
        node = ir.AvgPool2d(*common, kernel, stride, padding, include, divisor, clamp, arithmetic)
        return node, (*ir.window_shape(source.shape, kernel, stride, padding), source.shape[2]), source.quant

    def _clamp(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        return ir.Clamp(*common, _clamp(self.draw, source.quant)), source.shape, source.quant

    def _add(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        """With any tensor of its shape, itself too."""
        others = [name for name, tensor in self.tensors.items() if tensor.shape == source.shape]
        other = self.tensors[self.draw(st.sampled_from(others))]
        larger = float(max(source.quant.scale, other.quant.scale))
        quant = _quant(self.draw, larger * self.draw(st.sampled_from([1, 1.7])), "int8")
        name, _, output = common
        sign = self.draw(st.sampled_from([1, 1, -1]))
        return ir.Add(name, (source.name, other.name), output, sign, _clamp(self.draw, quant)), source.shape, quant

    def _lookup(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        functions = ["hard_swish", "leaky_relu", "requantise", "logistic", "tanh", "multiply"]
        function = self.draw(st.sampled_from(functions))
        fixed = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0)}.get(function)
        quant = _quant(self.draw, float(source.quant.scale) * self.draw(st.sampled_from([0.5, 1, 1.7])), "int8")
        if fixed:
            quant = ir.Quant(f32(fixed[0]), fixed[1], "int8")
        alpha = self.draw(st.sampled_from([-0.5, 0.1, 1.5])) if function == "leaky_relu" else 0.0
        constant = (self.draw(st.integers(-128, 127)), ir.Quant(f32(0.01), 5, "int8"))
        clamp = _clamp(self.draw, quant)
        node = ir.Lookup(*common, function, clamp, alpha, constant if function == "multiply" else None)
        return node, source.shape, quant

    def _concat(self, common: tuple[str, tuple[str], str], source: ir.Tensor) -> tuple[ir.AnyNode, object, ir.Quant]:
        """With any tensors that fit beside it, itself too, in any order."""
        axis, least = self.draw(st.sampled_from([0, 1, 2, 2, 2])), source.shape

        def fits(other: ir.Tensor) -> bool:
            apart = [i for i in range(3) if other.shape[i] != least[i]]
            return other.quant == source.quant and apart in ([], [axis])

        names = [name for name, tensor in self.tensors.items() if fits(tensor)]
        inputs = self.draw(st.lists(st.sampled_from(names), min_size=0, max_size=3))
        inputs.insert(self.draw(st.integers(0, len(inputs))), source.name)
        most = 2 * self.channels if axis == 2 else 12
        while len(inputs) > 1 and sum(self.tensors[name].shape[axis] for name in inputs) > most:
            inputs.pop()
        total = sum(self.tensors[name].shape[axis] for name in inputs)
        shape = tuple(total if i == axis else size for i, size in enumerate(least))
        return (
            ir.Concat(common[0], tuple(inputs), common[2], axis, _clamp(self.draw, source.quant)),
            shape,
            source.quant,
        )

    def graph(self) -> ir.Graph:
        """The checked graph."""
        last = f"t{len(self.nodes)}"
        ports = [ir.Port(name, self.tensors[name].shape, (0, 1, 2)) for name in ("t0", last)]
        return ir.check(
            ir.Graph("random", "test", self.match, self.tensors, tuple(self.nodes), ports[0], ports[1]), "random graph"
        )


@st.composite
def graphs(
    draw: st.DrawFn, layers: int = 3, channels: int = 20, side: int = 9, match: str | None = None, adds: bool = False
) -> ir.Graph:
    """1 to `layers` layers on maps up to side x side with up to `channels` channels. adds: residual adds too."""
    builder = _Builder(draw, match or draw(st.sampled_from(RUNTIMES)), channels, side)
    for _ in range(draw(st.integers(1, layers))):
        ops = [
            "transposed",
            "transposed",
            "conv",
            "conv",
            "depthwise",
            "depthwise",
            "linear",
            "maximum",
            "average",
            "clamp",
            "concat",
            "concat",
        ]
        # only TFLite's runtimes have a formula for these
        ops += ["add"] * 3 * (adds and builder.match == "tflite-ref")
        ops += ["lookup"] * 3 * (builder.match == "tflite-ref")
        builder.add(draw(st.sampled_from(ops)))
    return builder.graph()
