"""Collects a `.tflite` model's layers into an ir.Graph; the table of operators that the reader takes.

A `Value` is what flows between operators: an IR tensor as TFLite sees it. Reshapes change the shape that TFLite sees,
never the IR tensor, whose values stay in the same order; a PAD waits on its value for the window that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.tflite_schema import Model, Operator, TensorInfo

Shape = tuple[int, ...]
Padding = tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)
CODE_TYPES: dict[str, ir.Dtype] = {"int8": "int8", "uint8": "uint8"}
MAX_PAD = 1 << 16


@dataclass(frozen=True)
class Value:
    """tensor: the IR tensor's name, "" for the model's input before a layer reads it. shape: TFLite's, no batch.

    axes: while it is the model's input, the axis of the model's own input behind each of `shape`'s, None for an added
    one. pad: (top, bottom, left, right) of a PAD that awaits its window; pad_layer: that PAD's name. real: before the
    model's QUANTIZE or after its DEQUANTIZE. after: the SOFTMAX that ends the model, "" before it.
    numbers: not an activation but these integers, worked out from shapes.
    """

    tensor: str
    shape: Shape
    axes: tuple[int | None, ...] = ()
    pad: Padding = NO_PADDING
    pad_layer: str = ""
    real: bool = False
    after: str = ""
    numbers: tuple[int, ...] | None = None


Handler = Callable[["Context", Operator], Value]
TABLE: dict[str, Handler] = {}


def op(*names: str) -> Callable[[Handler], Handler]:
    """Registers the reader of one or several operators."""

    def register(function: Handler) -> Handler:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


class Context:
    """One graph in the making. layer: the operator being read."""

    def __init__(self, file: str, model: Model, source: TensorInfo) -> None:
        self.file, self.model = file, model
        self.tensors: dict[str, ir.Tensor] = {}
        self.nodes: list[ir.AnyNode] = []
        self.values: dict[int, Value] = {}
        self.notes: list[str] = []
        self.tail: ir.Softmax | None = None
        self.layer = "input"
        self.input_shape = self.shape(source)
        self.input_quant: ir.Quant | None = None if source.dtype == "float32" else self.quant(source)
        self.input_axes: tuple[int | None, ...] = ()
        axes = tuple(range(len(self.input_shape)))
        self.values[source.index] = Value("", self.input_shape, axes, real=self.input_quant is None)

    def fail(self, text: str) -> NoReturn:
        raise IntactError(f"{self.file}: layer {self.layer!r}: {text}")

    # --- tensors --------------------------------------------------------------------------------------------------

    def quant(self, info: TensorInfo) -> ir.Quant:
        """The quantisation of an activation."""
        what = f"tensor {info.name!r}"
        if info.dtype not in CODE_TYPES:
            self.fail(f"{what} is {info.dtype}; int8 or uint8 is accepted: convert with full integer quantisation")
        if info.scales.size != 1 or info.zero_points.size != 1:
            self.fail(f"{what} has {info.scales.size} scales and {info.zero_points.size} zero points; one is accepted")
        scale, zero = float(info.scales[0]), int(info.zero_points[0])
        low, high = ir.CODE_RANGE[CODE_TYPES[info.dtype]]
        if not (1e-37 < scale < 1e30 and low <= zero <= high):
            self.fail(f"{what}: scale {scale} and zero point {zero} are no {info.dtype} quantisation")
        return ir.Quant(np.float32(scale), zero, CODE_TYPES[info.dtype])

    def shape(self, info: TensorInfo) -> Shape:
        """A tensor's shape without the batch, which must be 1."""
        if not info.shape or info.shape[0] != 1 or min(info.shape) < 1:
            self.fail(f"tensor {info.name!r} has the shape {info.shape}; a batch of 1 comes first, sizes are 1 or more")
        return info.shape[1:]

    def info(self, operator: Operator, number: int) -> TensorInfo | None:
        """Input `number` of an operator, None where it is left out."""
        if number >= len(operator.inputs) or operator.inputs[number] < 0:
            return None
        return self.model.tensors[operator.inputs[number]]

    def output(self, operator: Operator) -> TensorInfo:
        if len(operator.outputs) != 1 or operator.outputs[0] < 0:
            self.fail(f"has {len(operator.outputs)} outputs; one is accepted")
        return self.model.tensors[operator.outputs[0]]

    def value(self, operator: Operator, number: int = 0) -> Value:
        """The activation that is input `number`."""
        info = self.info(operator, number)
        if info is None:
            self.fail(f"has no input {number}")
        if info.index not in self.values:
            what = "is a constant" if info.constant else "was not written by a layer before it"
            self.fail(f"input {number}, {info.name!r}, {what}")
        value = self.values[info.index]
        if value.numbers is not None:
            self.fail(f"input {number}, {info.name!r}, is a shape, not an activation")
        return value

    def constant(self, operator: Operator, number: int) -> npt.NDArray[np.generic]:
        """The values of input `number`, which must be a constant."""
        info = self.info(operator, number)
        if info is None or not info.constant:
            self.fail(f"input {number} must be a constant")
        return self.model.constant(info)

    def integers(self, operator: Operator, number: int) -> list[int]:
        """A short constant list of integers, or one worked out from shapes."""
        info = self.info(operator, number)
        known = None if info is None else self.values.get(info.index)
        if known is not None and known.numbers is not None:
            return list(known.numbers)
        values = self.constant(operator, number)
        if values.dtype.kind != "i" or values.size > 64:
            self.fail(f"input {number} must be a short list of integers")
        return [int(v) for v in values.ravel().tolist()]

    # --- values -------------------------------------------------------------------------------------------------------

    def source(self, value: Value) -> ir.Tensor:
        """The IR tensor behind a value without padding; the model's input is laid out when the first layer reads it."""
        if value.pad != NO_PADDING:
            raise IntactError(
                f"{self.file}: layer {value.pad_layer!r}: PAD is accepted before a convolution or pooling only, "
                f"not before {self.layer!r}"
            )
        if value.after:
            self.fail(f"comes after {value.after!r}; SOFTMAX is accepted as the last layer only")
        if value.real:
            self.fail("runs on real numbers; convert with full integer quantisation")
        if value.tensor:
            return self.tensors[value.tensor]
        real = [(n, axis) for n, axis in zip(value.shape, value.axes, strict=True) if n > 1 or len(value.shape) <= 3]
        if len(real) > 3:
            self.fail(f"the input has the shape {value.shape}; at most three axes besides the batch are accepted")
        dims = [n for n, _ in real]
        axes = tuple([None] * (3 - len(real)) + [axis for _, axis in real])
        hwc = (1, 1, 1, *dims)[-3:]
        known = self.tensors.setdefault("input", ir.Tensor("input", (hwc[0], hwc[1], hwc[2]), self.quant_of(value)))
        if known.shape != hwc or (self.input_axes and self.input_axes != axes):
            self.fail("reads the model's input in another layout than a layer before it; one layout is accepted")
        self.input_axes = axes
        return known

    def map(self, value: Value) -> ir.Tensor:
        """The IR tensor of a value whose axes are H, W, C, missing ones first."""
        tensor = self.source(value)
        if len(value.shape) > 3 or (1, 1, 1, *value.shape)[-3:] != tensor.shape:
            self.fail(
                f"takes a tensor of shape {tensor.shape} as {value.shape}: a reshape that moves values between rows, "
                "columns and channels is accepted only before FULLY_CONNECTED"
            )
        return tensor

    def quant_of(self, value: Value) -> ir.Quant:
        """The quantisation of a value."""
        quant = self.tensors[value.tensor].quant if value.tensor else self.input_quant
        if quant is None:
            self.fail("runs on real numbers; convert with full integer quantisation")
        return quant

    def add(self, node: ir.AnyNode, info: TensorInfo, like: ir.Tensor | None = None) -> Value:
        """Adds a layer whose output is TFLite's tensor `info`; like: a tensor whose shape it keeps."""
        shape = self.shape(info)
        hwc = (1, 1, 1, *shape)[-3:] if like is None else like.shape
        if like is not None and math.prod(shape) != math.prod(hwc):
            self.fail(f"writes the shape {shape} from {hwc}; broadcasting is not supported")
        if len(shape) > 3 and like is None:
            self.fail(f"writes the shape {shape}; at most three axes besides the batch are accepted")
        self.tensors[node.output] = ir.Tensor(node.output, (hwc[0], hwc[1], hwc[2]), self.quant(info))
        self.nodes.append(node)
        return Value(node.output, shape)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """The same values in another shape; fixes the input's layout where axes are merged or split."""
        if math.prod(value.shape) != math.prod(shape):
            self.fail(f"reshapes {value.shape} to {shape}, which has another number of values")
        if value.pad != NO_PADDING or (not value.tensor and _sizes(value.shape) != _sizes(shape)):
            value = replace(value, tensor=self.source(value).name, axes=())
        if value.tensor:
            return replace(value, shape=shape)
        kept = [axis for n, axis in zip(value.shape, value.axes, strict=True) if n > 1]
        return replace(value, shape=shape, axes=tuple(kept.pop(0) if n > 1 else None for n in shape))

    # --- activations ------------------------------------------------------------------------------------------------

    def limits(self, quant: ir.Quant, activation: int) -> tuple[int, int]:
        """Lowest and highest code that a fused activation leaves: RNA(x / scale) + zero point of each limit."""
        low, high = ir.CODE_RANGE[quant.dtype]
        bounds: dict[int, tuple[float | None, float | None]] = {
            0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0),
        }  # fmt: skip
        if activation not in bounds:
            self.fail(f"fused activation {activation} is not supported; accepted: none, RELU, RELU_N1_TO_1, RELU6")
        bottom, top = (None if b is None else _code(b, quant) for b in bounds[activation])
        low, high = low if bottom is None else max(low, bottom), high if top is None else min(high, top)
        return min(low, ir.CODE_RANGE[quant.dtype][1]), max(min(low, ir.CODE_RANGE[quant.dtype][1]), high)


def _sizes(shape: Shape) -> list[int]:
    return [n for n in shape if n > 1]


def _code(real: float, quant: ir.Quant) -> int:
    quotient = float(np.float32(real) / quant.scale)
    return quant.zero_point + int(math.copysign(math.floor(min(abs(quotient), 1e6) + 0.5), quotient))
