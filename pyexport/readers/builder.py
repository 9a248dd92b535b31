"""Collects layers into an ir.Graph. Shared by the readers; knows the IR and PyTorch's shapes, but no file format.

A `Value` is what flows between a source model's operations: an IR tensor as the source sees it (shape without batch,
memory format, quantised or real). Flattening changes the source's shape only, never the IR tensor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.codes import limit_of

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Value:
    """tensor: the IR tensor's name, "" for the model's input before it is quantised. shape: the source's, no batch.

    channels_last: torch's memory format, which picks its kernels. hwc: the source sees H, W, C or a flattening of it.
    """

    tensor: str
    shape: tuple[int, ...]
    channels_last: bool = False
    quantised: bool = False
    hwc: bool = False


def four(padding: Pair | Pads) -> Pads:
    """(height, width) or all four -> (top, bottom, left, right)."""
    return padding if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])


class NeedsInput(Exception):
    """Control flow, caught by the readers: the first weighted layer, met by a probe, takes this many features."""

    def __init__(self, channels: int, spatial: bool) -> None:
        super().__init__()
        self.channels, self.spatial = channels, spatial


class Builder:
    """Builds one graph.

    float_input: the rule by which the source quantises. probe: the input's shape is not known; the first weighted layer
    tells (NeedsInput). input_hwc: an input of three axes is H, W, C.
    """

    def __init__(
        self,
        file: str,
        input_shape: tuple[int, ...],
        float_input: str = "torch",
        probe: bool = False,
        input_hwc: bool = False,
    ) -> None:
        self.file, self.input_shape, self.float_input, self.probe = file, input_shape, float_input, probe
        self.tensors: dict[str, ir.Tensor] = {}
        self.nodes: list[ir.AnyNode] = []
        self.notes: list[str] = []
        if len(input_shape) not in (1, 3):
            raise IntactError(
                f"{file}: input shape {input_shape} is not supported; use (features,) or (channels, height, width), "
                "without the batch"
            )
        self.input = Value("", input_shape, hwc=input_hwc and len(input_shape) == 3)

    def fail(self, layer: str, text: str) -> NoReturn:
        raise IntactError(f"{self.file}: layer {layer!r}: {text}")

    def unique(self, name: str) -> str:
        """`name`, or `name_2`, `name_3`, ... if a layer or tensor has it already."""
        name = re.sub(r"[^A-Za-z0-9_.]", "_", name) or "layer"
        taken = {"input", *(node.name for node in self.nodes)}
        candidates = [name] + [f"{name}_{i}" for i in range(2, len(taken) + 3)]
        return next(c for c in candidates if c not in taken)

    def quant(self, layer: str, scale: float, zero_point: int, dtype: ir.Dtype) -> ir.Quant:
        low, high = ir.CODE_RANGE[dtype]
        if not (1e-37 < scale < 1e30 and low <= zero_point <= high):
            self.fail(layer, f"scale {scale} and zero point {zero_point} are no {dtype} quantisation; re-calibrate")
        return ir.Quant(np.float32(scale), int(zero_point), dtype)

    # --- boundaries between real numbers and codes ---------------------------------------------------------------

    def quantize(self, layer: str, value: Value, quant: ir.Quant) -> Value:
        """The model's input becomes codes; elsewhere only a step back into the codes just left is accepted."""
        if value.quantised:
            self.fail(layer, "quantises a tensor that is quantised already")
        if not value.tensor:
            known = self.tensors.setdefault("input", ir.Tensor("input", self.input_map(), quant))
            value = replace(value, tensor="input")
            if known.quant != quant:
                self.fail(layer, "the input is quantised twice, with different scales; use one scale")
        elif self.tensors[value.tensor].quant != quant:
            value = self.requantise(layer, value, quant)
        return replace(value, quantised=True)

    def input_map(self) -> tuple[int, int, int]:
        """(H, W, C) of the input."""
        shape = self.input_shape
        if len(shape) == 1:
            return 1, 1, shape[0]
        return (shape[0], shape[1], shape[2]) if self.input.hwc else (shape[1], shape[2], shape[0])

    def requantise(self, layer: str, value: Value, quant: ir.Quant) -> Value:
        """Codes of one scale to codes of another, by the source's own quantiser."""
        arithmetic = "" if self.float_input == "torch" else self.float_input
        return self.lookup(layer, value, "requantise", quant, arithmetic)

    def dequantize(self, layer: str, value: Value) -> Value:
        self.codes(layer, value)
        return replace(value, quantised=False)

    def codes(self, layer: str, value: Value) -> ir.Tensor:
        """The IR tensor of a value that must be quantised."""
        if not value.quantised:
            self.fail(layer, "runs on real numbers; it must stand between quantise and dequantise (qconfig)")
        return self.tensors[value.tensor]

    # --- layers ------------------------------------------------------------------------------------------------

    def add(self, node: ir.AnyNode, shape: tuple[int, int, int], quant: ir.Quant) -> str:
        self.tensors[node.output] = ir.Tensor(node.output, shape, quant)
        self.nodes.append(node)
        return node.output

    def conv(
        self, layer: str, value: Value, weights: ir.Weights, stride: Pair, padding: Pair | Pads, dilation: Pair,
        groups: int, quant: ir.Quant, relu: bool,
    ) -> Value:  # fmt: skip
        out, _, _, per_group = weights.codes.shape
        if self.probe:
            raise NeedsInput(per_group * groups, True)
        self.codes(layer, value)
        if min(*stride, *dilation, groups) < 1 or min(padding) < 0:
            self.fail(layer, f"stride {stride}, padding {padding}, dilation {dilation}, groups {groups} are impossible")
        source = self.map_of(layer, value)
        if source[2] != per_group * groups:
            self.fail(layer, f"takes {per_group * groups} channels but gets shape {value.shape}; check the input shape")
        name = self.unique(layer)
        pads = four(padding)
        node = ir.Conv2d(
            name, (value.tensor,), name, weights, stride, pads, dilation, groups, self.clamp_of(quant, relu)
        )
        kernel = (weights.codes.shape[1], weights.codes.shape[2])
        height, width = self.windows(layer, source, kernel, stride, pads, dilation)
        self.add(node, (height, width, out), quant)
        # torch's quantised convolutions answer in channels-last memory, whatever they are given.
        return Value(name, (out, height, width), True, True)

    def conv_transpose(
        self, layer: str, value: Value, weights: ir.Weights, stride: Pair, padding: Pair, output_padding: Pair,
        dilation: Pair, groups: int, quant: ir.Quant, relu: bool,
    ) -> Value:  # fmt: skip
        """weights: (out, kh, kw, in / groups), as ir.ConvTranspose2d has them."""
        out, kh, kw, per_group = weights.codes.shape
        if self.probe:
            raise NeedsInput(per_group * groups, True)
        self.codes(layer, value)
        if min(*stride, *dilation, groups) < 1 or min(*padding, *output_padding) < 0:
            self.fail(layer, f"stride {stride}, padding {padding}, dilation {dilation}, groups {groups} are impossible")
        source = self.map_of(layer, value)
        if source[2] != per_group * groups:
            self.fail(layer, f"takes {per_group * groups} channels but gets shape {value.shape}; check the input shape")
        pads = (padding[0], padding[0] - output_padding[0], padding[1], padding[1] - output_padding[1])
        height, width = ir.transposed_shape(source, (kh, kw), stride, pads, dilation)
        if min(height, width) < 1:
            self.fail(layer, f"padding {padding} cuts everything off; check the input shape")
        name = self.unique(layer)
        node = ir.ConvTranspose2d(
            name, (value.tensor,), name, weights, stride, pads, dilation, groups, self.clamp_of(quant, relu)
        )
        self.add(node, (height, width, out), quant)
        return Value(name, (out, height, width), True, True)

    def linear(self, layer: str, value: Value, weights: ir.Weights, quant: ir.Quant, relu: bool) -> Value:
        out, features = weights.codes.shape[0], weights.codes.size // weights.codes.shape[0]
        if self.probe:
            raise NeedsInput(features, False)
        source = self.codes(layer, value)
        if value.shape != (features,):
            self.fail(layer, f"takes {features} features but gets shape {value.shape}; check input shape and flatten")
        height, width, channels = source.shape
        # The source flattens C, H, W; the IR reads H, W, C.
        codes = weights.codes.reshape(out, channels, height, width).transpose(0, 2, 3, 1)
        if value.hwc:
            codes = weights.codes.reshape(out, height, width, channels)
        name = self.unique(layer)
        weights = replace(weights, codes=np.ascontiguousarray(codes))
        node = ir.Linear(name, (value.tensor,), name, weights, self.clamp_of(quant, relu))
        self.add(node, (1, 1, out), quant)
        return Value(name, (out,), False, True)

    def joined(self, layer: str, value: Value, other: Value) -> Value:
        """The weighted layer just written, whose result is `value`, with `other` added to it before it is rounded."""
        node = self.nodes[-1]
        assert isinstance(node, (ir.Conv2d, ir.Linear)) and node.output == value.tensor
        shape = self.codes(layer, other).shape
        if value.shape != other.shape or value.hwc != other.hwc or shape != self.tensors[node.output].shape:
            self.fail(layer, f"adds shapes {value.shape} and {other.shape}; INTACT adds tensors of one shape")
        self.nodes[-1] = replace(node, inputs=(*node.inputs, other.tensor), in_float=True)
        self.notes.append(f"layer {node.name!r} adds {other.tensor!r} before it rounds, in passes of its own")
        return value

    def max_pool(
        self, layer: str, value: Value, kernel: Pair, stride: Pair, padding: Pair | Pads, dilation: Pair, ceil: bool
    ) -> Value:
        source, quant = self.map_of(layer, value), self.codes(layer, value).quant
        if len(padding) == 2 and max(2 * padding[0] - kernel[0], 2 * padding[1] - kernel[1]) > 0:
            self.fail(layer, f"padding {padding} is more than half the kernel {kernel}")
        pads = four(padding)
        if ceil:
            pads = self.ceil_pads(source, kernel, stride, (padding[0], padding[1]), dilation)
        height, width = self.windows(layer, source, kernel, stride, pads, dilation)
        name = self.unique(layer)
        clamp = quant.range
        node = ir.MaxPool2d(name, (value.tensor,), name, kernel, stride, pads, dilation, clamp)
        self.add(node, (height, width, source[2]), quant)
        return replace(value, tensor=name, shape=(source[2], height, width))

    def ceil_pads(
        self, source: tuple[int, int, int], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> tuple[int, int, int, int]:
        """Padding with which floor mode gives torch's ceil-mode size (its last window starts before the far pad)."""
        pads = []
        for size, k, s, p, d in zip(source[:2], kernel, stride, padding, dilation, strict=True):
            count = -(-(size + 2 * p - d * (k - 1) - 1) // max(s, 1)) + 1
            count -= (count - 1) * s >= size + p
            pads += [p, max(p, (count - 1) * s + d * (k - 1) + 1 - size - p)]
        return pads[0], pads[1], pads[2], pads[3]

    def avg_pool(
        self, layer: str, value: Value, kernel: Pair, stride: Pair, padding: Pair | Pads, include_pad: bool,
        divisor: int | None, arithmetic: str, quant: ir.Quant | None = None,
    ) -> Value:  # fmt: skip
        source = self.map_of(layer, value)
        if len(padding) == 2 and max(2 * padding[0] - kernel[0], 2 * padding[1] - kernel[1]) > 0:
            self.fail(layer, f"padding {padding} is more than half the kernel {kernel}")
        if divisor is not None and divisor < 1:
            self.fail(layer, f"divisor_override {divisor} must be at least 1")
        quant = quant or self.codes(layer, value).quant
        pads = four(padding)
        height, width = self.windows(layer, source, kernel, stride, pads, (1, 1))
        name = self.unique(layer)
        clamp = quant.range
        node = ir.AvgPool2d(name, (value.tensor,), name, kernel, stride, pads, include_pad, divisor, clamp, arithmetic)
        self.add(node, (height, width, source[2]), quant)
        return replace(value, tensor=name, shape=(source[2], height, width))

    def adaptive_pool(
        self, layer: str, value: Value, size: Pair, arithmetic: str, quant: ir.Quant | None = None
    ) -> Value:
        """Adaptive average pooling whose windows are all alike and do not overlap."""
        height, width, _ = self.map_of(layer, value)
        if min(size) < 1 or height % size[0] or width % size[1]:
            self.fail(layer, f"adaptive pooling of {(height, width)} to {size} has unequal windows; use a divisor")
        kernel = (height // size[0], width // size[1])
        return self.avg_pool(layer, value, kernel, kernel, (0, 0), True, None, arithmetic, quant)

    def clamp(self, layer: str, value: Value, low: float | None, high: float | None) -> Value:
        """A stand-alone ReLU, ReLU6 or clip to the real range low..high.

        On real numbers just dequantised it is accepted where its limits are codes themselves, such as ReLU's zero.
        """
        exact = value.tensor and (low, high) == (0.0, None)
        quant = self.codes(layer, replace(value, quantised=True) if exact else value).quant
        codes = tuple(
            limit if real is None else limit_of(quant, real, self.float_input)
            for real, limit in zip((low, high), quant.range, strict=True)
        )
        if codes[0] > codes[1]:
            self.fail(layer, f"clips to {low}..{high}, which is empty")
        name = self.unique(layer)
        shape = self.tensors[value.tensor].shape
        self.add(ir.Clamp(name, (value.tensor,), name, (codes[0], codes[1])), shape, quant)
        return replace(value, tensor=name)

    def lookup(
        self, layer: str, value: Value, function: str, quant: ir.Quant, arithmetic: str = "", alpha: float = 0.0,
        relu: bool = False,
    ) -> Value:  # fmt: skip
        """A function of each code by itself; arithmetic: as ir.Lookup has it."""
        source = self.codes(layer, replace(value, quantised=bool(value.tensor)))
        name, clamp = self.unique(layer), self.clamp_of(quant, relu)
        node = ir.Lookup(name, (value.tensor,), name, function, clamp, float(np.float32(alpha)), arithmetic=arithmetic)
        self.add(node, source.shape, quant)
        return replace(value, tensor=name, quantised=True)

    def sum(
        self, layer: str, a: Value, b: Value, quant: ir.Quant, relu: bool, arithmetic: str = "", sign: int = 1
    ) -> Value:
        """a + sign * b, element by element; the result has a's memory order."""
        shapes = self.codes(layer, a).shape, self.codes(layer, b).shape
        if a.shape != b.shape or shapes[0] != shapes[1]:
            self.fail(layer, f"adds shapes {a.shape} and {b.shape}; INTACT adds tensors of one shape")
        name = self.unique(layer)
        node = ir.Add(name, (a.tensor, b.tensor), name, sign, self.clamp_of(quant, relu), arithmetic)
        self.add(node, shapes[0], quant)
        return replace(a, tensor=name)

    def concat(
        self, layer: str, values: Sequence[Value], axis: int, quant: ir.Quant, relu: bool = False, arithmetic: str = "",
        channels_last: bool = False,
    ) -> Value:  # fmt: skip
        """Values side by side along the source's `axis` (0: the first after the batch), each requantised to `quant`.

        arithmetic: as ir.Concat has it.  channels_last: the result's memory order.
        """
        tensors, first = [self.codes(layer, value) for value in values], values[0]
        shapes = [value.shape for value in values]
        others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if (
            not 0 <= axis < len(first.shape)
            or {len(shape) for shape in shapes} != {len(first.shape)}
            or len(others) != 1
        ):
            self.fail(
                layer, f"concatenates shapes {', '.join(map(str, shapes))} along axis {axis + 1}; check the model"
            )
        for tensor, shape in zip(tensors, shapes, strict=True):
            height, width, channels = tensor.shape
            if shape != ((channels, height, width) if len(shape) == 3 else (channels,)):
                self.fail(layer, "concatenates flattened maps; concatenate first, then flatten")
        shape = (*first.shape[:axis], sum(shape[axis] for shape in shapes), *first.shape[axis + 1 :])
        height, width, channels = (shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, 1, shape[0])
        name, where = self.unique(layer), (axis - 1) % 3 if len(shape) == 3 else 2
        node = ir.Concat(
            name, tuple(value.tensor for value in values), name, where, self.clamp_of(quant, relu),
            arithmetic=arithmetic,
        )  # fmt: skip
        self.add(node, (height, width, channels), quant)
        return Value(name, shape, channels_last, True)

    def reshape(self, layer: str, value: Value, shape: tuple[int, ...]) -> Value:
        """The same values under another shape (without batch); memory becomes contiguous."""
        if math.prod(shape) != math.prod(value.shape):
            self.fail(layer, f"reshapes {value.shape} to {shape}; check the input shape")
        return replace(value, shape=shape, channels_last=False)

    # --- helpers -----------------------------------------------------------------------------------------------

    def map_of(self, layer: str, value: Value) -> tuple[int, int, int]:
        """(H, W, C) of a value that must be a feature map as its layer wrote it."""
        tensor = self.codes(layer, value)
        height, width, channels = tensor.shape
        if value.hwc or value.shape != (channels, height, width):
            self.fail(
                layer, f"needs a (channels, height, width) map but gets shape {value.shape}; check the input shape"
            )
        return tensor.shape

    def windows(
        self, layer: str, source: tuple[int, int, int], kernel: Pair, stride: Pair,
        pads: tuple[int, int, int, int], dilation: Pair,
    ) -> Pair:  # fmt: skip
        if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0:
            self.fail(layer, f"kernel {kernel}, stride {stride}, padding {pads}, dilation {dilation} are impossible")
        height, width = ir.window_shape(source, kernel, stride, pads, dilation)
        if min(height, width) < 1:
            self.fail(layer, f"kernel {kernel} does not fit a map of {source[:2]}; check the input shape")
        return height, width

    @staticmethod
    def clamp_of(quant: ir.Quant, relu: bool) -> Pair:
        low, high = quant.range
        return (quant.zero_point if relu else low, high)

    def finish(self, value: Value, name: str, source: str, match: str) -> ir.Graph:
        """The graph that ends in `value`."""
        if not value.tensor or not self.nodes:
            raise IntactError(f"{self.file}: the model has no quantised layers; quantise it before saving")
        input_axes = (None, None, 0) if len(self.input_shape) == 1 else (0, 1, 2) if self.input.hwc else (1, 2, 0)
        height, width, channels = self.tensors[value.tensor].shape
        if value.shape == (channels,):
            output = ir.Port(value.tensor, value.shape, (None, None, 0))
        elif value.hwc and value.shape == (height, width, channels):
            output = ir.Port(value.tensor, value.shape, (0, 1, 2))
        else:
            output = ir.Port(value.tensor, (channels, height, width), (1, 2, 0))
            if value.shape != output.shape:
                self.notes.append(f"the output, {value.shape} in the source, is given as {output.shape}")
        return ir.Graph(
            name, source, match, self.tensors, tuple(self.nodes), ir.Port("input", self.input_shape, input_axes),
            output, self.float_input, tuple(self.notes),
        )  # fmt: skip
