"""Collects a Keras model's layers into an ir.Graph.

A fake-quantised model computes on real numbers, and some of them are codes times a scale. A layer's result is real
until a quantiser gives it codes: `Pending` is such a layer, written into the graph once its output's scale is known;
batch normalisation is folded into its weights and ReLU into its clamp meanwhile. `Value` is what flows between layers.
Keras's layout is the IR's: H, W, C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.options import Options

Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)
REMEDY = (
    "quantise it: quantize_annotate_layer(layer, quantize_config) with a quantizer for its activation or its output"
)


@dataclass(frozen=True)
class Pending:
    """A layer whose output is still real.

    layer: its name. emit: the node of this name, with these weights (None where it has none), output quantisation and
    clamp. low, high: real limits of a ReLU behind it. source: for a function of a quantised tensor only, the codes that
    it reads. monotone: a function, "" for others, that may be left out at the end of a model, where only the order of
    the outputs counts.
    """

    layer: str
    emit: Callable[[str, ir.Weights | None, ir.Quant, Pair], ir.AnyNode]
    shape: tuple[int, int, int]
    weights: ir.Weights | None = None
    low: float | None = None
    high: float | None = None
    source: Value | None = None
    monotone: str = ""


@dataclass(frozen=True)
class Value:
    """tensor: the IR tensor's name; "" for the model's input that no layer has read yet, and while pending.

    shape: as Keras sees it, no batch. axes: while it is the model's input, the axis of the model's own input behind
    each of `shape`'s, None for an added one. pad: zeros around it that its next window takes in; pad_layer: whose.
    """

    shape: Shape
    tensor: str = ""
    axes: tuple[int | None, ...] = ()
    pending: Pending | None = None
    pad: Padding = NO_PADDING
    pad_layer: str = ""


class Context:
    """One graph in the making. layer: the layer being read."""

    def __init__(self, file: str, shape: Shape, options: Options) -> None:
        if not 1 <= len(shape) <= 3:
            raise IntactError(
                f"{file}: the input has the shape {shape}; one to three axes besides the batch are accepted"
            )
        self.file, self.options = file, options
        self.tensors: dict[str, ir.Tensor] = {}
        self.nodes: list[ir.AnyNode] = []
        self.notes: list[str] = []
        self.layer = "input"
        self.input_shape = shape
        self.input_axes: tuple[int | None, ...] = ()
        self.input_quant: ir.Quant | None = None
        self.input = Value(shape, axes=tuple(range(len(shape))))

    def fail(self, text: str) -> NoReturn:
        raise IntactError(f"{self.file}: layer {self.layer!r}: {text}")

    def unique(self, name: str) -> str:
        """`name`, or `name_2`, `name_3`, ... if a layer or tensor has it already."""
        taken = {"input", *self.tensors, *(node.name for node in self.nodes)}
        candidates = [name] + [f"{name}_{i}" for i in range(2, len(taken) + 3)]
        return next(c for c in candidates if c not in taken)

    # --- codes -----------------------------------------------------------------------------------------------------

    def quantise(self, value: Value, quant: ir.Quant) -> Value:
        """The value's codes; a pending layer is written now."""
        pending = value.pending
        if pending is not None:
            return replace(value, tensor=self._emit(pending, quant), pending=None)
        if not value.tensor and (self.input_quant is None or self.input_quant == quant):
            self.input_quant = quant
            return value
        source = self.tensor(replace(value, pad=NO_PADDING))
        if source.quant == quant:
            return value
        return replace(value, tensor=self._emit(self.function("requantise", value), quant))

    def function(self, name: str, value: Value, alpha: float = 0.0, monotone: str = "") -> Pending:
        """A function of each code by itself, as a table."""
        source = self.tensor(replace(value, pad=NO_PADDING))

        def emit(layer: str, weights: ir.Weights | None, quant: ir.Quant, clamp: Pair) -> ir.AnyNode:
            return ir.Lookup(layer, (source.name,), self.layer, name, clamp, alpha)

        return Pending(self.layer, emit, source.shape, source=value, monotone=monotone)

    def _emit(self, pending: Pending, quant: ir.Quant) -> str:
        clamp = self.clamp(quant, pending.low, pending.high)
        node = pending.emit(self.unique(pending.layer), pending.weights, quant, clamp)
        return self.add(node, pending.shape, quant)

    def add(self, node: ir.AnyNode, shape: tuple[int, int, int], quant: ir.Quant) -> str:
        """Adds a node; its output is named after the layer being read, whose result it is."""
        output = self.unique(self.layer)
        self.nodes.append(replace(node, output=output))
        self.tensors[output] = ir.Tensor(output, shape, quant)
        return output

    def clamp(self, quant: ir.Quant, low: float | None, high: float | None) -> Pair:
        """Codes of real limits, rounded as the quantiser rounds: floor(x / s + 1/2) + z."""
        bottom, top = quant.range
        codes = [
            edge
            if real is None
            else min(max(math.floor(real / float(quant.scale) + 0.5) + quant.zero_point, bottom), top)
            for real, edge in ((low, bottom), (high, top))
        ]
        return codes[0], max(codes)

    def tensor(self, value: Value) -> ir.Tensor:
        """The IR tensor behind a value that a layer reads."""
        if value.pad != NO_PADDING:
            raise IntactError(
                f"{self.file}: layer {value.pad_layer!r}: ZeroPadding2D is accepted before a convolution or a pooling "
                f"only, not before {self.layer!r}"
            )
        if value.pending is not None:
            value = self._settled(value, value.pending)
        if value.tensor:
            return self.tensors[value.tensor]
        if self.input_quant is None:
            self.fail(
                "reads the model's input, which no quantizer stands behind; quantise it: quantize_apply adds that"
            )
        real = [(n, axis) for n, axis in zip(value.shape, value.axes, strict=True) if n > 1 or len(value.shape) <= 3]
        dims, axes = [n for n, _ in real], tuple([None] * (3 - len(real)) + [axis for _, axis in real])
        hwc = (1, 1, 1, *dims)[-3:]
        known = self.tensors.setdefault("input", ir.Tensor("input", (hwc[0], hwc[1], hwc[2]), self.input_quant))
        if known.shape != hwc or (self.input_axes and self.input_axes != axes):
            self.fail("reads the model's input in another layout than a layer before it; one layout is accepted")
        self.input_axes = axes
        return known

    def _settled(self, value: Value, pending: Pending) -> Value:
        """A real value that a layer reads: accepted where its codes are those of the tensor before it."""
        if pending.source is not None and pending.low is not None:
            quant = self.tensor(pending.source).quant
            top = (quant.range[1] - quant.zero_point) * float(quant.scale)
            if pending.low == 0.0 and (pending.high is None or pending.high >= top):
                return self.quantise(value, quant)
        raise IntactError(
            f"{self.file}: layer {pending.layer!r}: its output is not quantised, but layer {self.layer!r} reads it; "
            f"{REMEDY}"
        )

    def map(self, value: Value) -> tuple[ir.Tensor, Padding]:
        """The IR tensor of a value whose axes are H, W, C, and the zeros around it."""
        tensor = self.tensor(replace(value, pad=NO_PADDING))
        if (1, 1, 1, *value.shape)[-3:] != self._padded(tensor.shape, value.pad) or len(value.shape) != 3:
            self.fail(
                f"takes a tensor of shape {tensor.shape} as {value.shape}; (height, width, channels) as the layer "
                "before wrote it is accepted"
            )
        return tensor, value.pad

    @staticmethod
    def _padded(shape: tuple[int, int, int], pad: Padding) -> tuple[int, int, int]:
        return shape[0] + pad[0] + pad[1], shape[1] + pad[2] + pad[3], shape[2]

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """The same values in another shape."""
        if math.prod(value.shape) != math.prod(shape):
            self.fail(f"reshapes {value.shape} to {shape}, which has another number of values")
        if value.pad != NO_PADDING:
            self.tensor(value)
        if value.tensor or value.pending is not None:
            return replace(value, shape=shape)
        if [n for n in value.shape if n > 1] == [n for n in shape if n > 1]:
            kept = [axis for n, axis in zip(value.shape, value.axes, strict=True) if n > 1]
            return replace(value, shape=shape, axes=tuple(kept.pop(0) if n > 1 else None for n in shape))
        if "input" in self.tensors:
            return replace(value, tensor="input", shape=shape, axes=())
        # no layer has seen the input yet: it may as well come in the new shape
        self.notes.append(f"the input, {self.input_shape} in the source, is taken as {shape}")
        self.input_shape = shape
        return replace(value, shape=shape, axes=tuple(range(len(shape))))

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self, value: Value, name: str, source: str, match: str) -> ir.Graph:
        """The graph that ends in `value`."""
        self.layer = "output"
        pending = value.pending
        if pending is not None and pending.monotone:
            self.notes.append(
                f"layer {pending.layer!r}: the {pending.monotone} at the end is left out: the output is what it reads, "
                "and the largest stays it"
            )
        if pending is not None and pending.monotone and pending.source is not None:
            value = pending.source
        elif pending is not None and pending.source is not None and pending.low is not None:
            value = replace(value, tensor=self.tensor(value).name, pending=None)
        elif pending is not None:
            value = self._given_range(value, pending)
        last = self.tensor(value)
        if not self.nodes:
            raise IntactError(f"{self.file}: the model has no layers that compute; INTACT needs at least one")
        height, width, channels = last.shape
        if value.shape == (channels,) and (height, width) == (1, 1):
            output = ir.Port(last.name, value.shape, (None, None, 0))
        else:
            output = ir.Port(last.name, last.shape, (0, 1, 2))
            if value.shape != output.shape:
                self.notes.append(f"the output, {value.shape} in the source, is given as {output.shape}")
        a, b, c = self.input_axes
        entry = ir.Port("input", self.input_shape, (a, b, c))
        return ir.Graph(
            name, source, match, self.tensors, tuple(self.nodes), entry, output, "tfmot", tuple(self.notes)
        )  # fmt: skip

    def _given_range(self, value: Value, pending: Pending) -> Value:
        """The last layer's output, which the model leaves real, in uint8 over the range that the user gives."""
        if self.options.output_range is None:
            raise IntactError(
                f"{self.file}: layer {pending.layer!r}: the model's output is not quantised; give its range with "
                f"--output-range=LOW,HIGH, or {REMEDY}"
            )
        low, high = min(0.0, self.options.output_range[0]), max(0.0, self.options.output_range[1])
        scale = np.float32((high - low) / 255)
        if not 1e-37 < scale < 1e30:
            raise IntactError(f"{self.file}: an output range of {low}..{high} is no range")
        self.layer = pending.layer
        self.notes.append(f"the output is quantised to uint8 over {low}..{high}; in the source it is real")
        return self.quantise(value, ir.Quant(scale, math.floor(-low / float(scale) + 0.5), "uint8"))
