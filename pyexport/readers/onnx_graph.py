"""ONNX models -> ir.Graph: QDQ and QOperator graphs, as onnxruntime's quantisers write them.

The operations are a table; onnx_qdq.py, onnx_qoperator.py and onnx_shape_ops.py fill it. An operation is a function

    (context, op, *inputs) -> its first output

of inputs that are already read: a `Real` (a layer's result that no scale has been given yet), a `Value` (codes), an
array (a float or integer constant), a `Constant` (a dequantised constant) or None (left out).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import onnx_clips
from pyexport.readers.builder import Builder, Pads, Pair, Value
from pyexport.readers.onnx_file import QONNX, Model, Op, Port
from pyexport.readers.onnx_pairs import merged
from pyexport.readers.options import Options
from pyexport.readers.real import Real, RealContext
from pyexport.readers.tensors import Array, TensorError

TABLE: dict[str, Callable[..., Any]] = {}
MS = "com.microsoft."
EXECUTOR = "qonnx"  # the kind of file, its runtime and its rule for real inputs
# Operations that a step before quantising removes -> what to do.
HINTS = {
    "BatchNormalization": "run onnxruntime's quant_pre_process before quantising: it folds a batch normalisation into "
    "its convolution"
}
SHARED = 16  # how many times its own bytes a file's layers may copy in elements
CODE_TYPES: dict[str, ir.Dtype] = {"int8": "int8", "uint8": "uint8"}


def op(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant that was quantised: codes, with one scale (shape ()) or one for each index along `axis`."""

    codes: Array
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None

    @property
    def real(self) -> npt.NDArray[np.float32]:
        """The float32 values."""
        shape = [1] * self.codes.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        centred = self.codes.astype(np.int64) - self.zero_point.reshape(shape)
        real: npt.NDArray[np.float32] = centred.astype(np.float32) * self.scale.reshape(shape)
        return real


class Unfinished:
    """A result that a constant still completes: integer sums without their scale, or without their bias."""

    def combined(self, context: Context, kind: str, constant: Any) -> Real:
        """The result after operation `kind` (Add, Sub, Mul) with a constant."""
        raise NotImplementedError


class Context(RealContext):
    """What the operations work on. batch: the batch size that the file fixes, None if free. match: the runtime.

    qonnx: the file has QONNX's own operations, and its executor, which computes in float32, is the runtime to follow.
    """

    def __init__(self, builder: Builder, model: Model, batch: int | None) -> None:
        super().__init__(builder)
        self.model, self.batch = model, batch
        self.qonnx = builder.float_input == EXECUTOR
        self.match = EXECUTOR if self.qonnx else "ort"
        self.taken = 0  # elements of constants that layers have copied
        self.in_float = False  # whether the layer being written has a real result, which onnxruntime computes in float

    def take(self, elements: int) -> None:
        """Counts what a layer copies, so that layers which share a constant cannot need more memory than the file."""
        self.taken += elements
        if self.taken > SHARED * self.model.bytes + (1 << 20):
            self.fail("too many layers share constants")

    # --- quantisation ------------------------------------------------------------------------------------------

    def scale_of(
        self, scale: Any, zero_point: Any, dtype: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Scales and zero points of a tensor, both of shape () or (n,)."""
        if not isinstance(scale, np.ndarray) or scale.dtype != np.float32 or scale.ndim > 1 or not scale.size:
            self.fail("its scale is no float32 constant; accepted are one scale, or one for each channel")
        zero = np.zeros(scale.shape, np.int64) if zero_point is None else zero_point
        if not isinstance(zero, np.ndarray) or zero.size != scale.size or zero.dtype.kind not in "iu":
            self.fail("its zero points do not fit its scales; one for each, as constants, is accepted")
        if zero_point is not None and zero_point.dtype.name != dtype:
            self.fail(f"its zero point has type {zero_point.dtype}, its codes {dtype}")
        if scale.size == 1:
            scale = scale.reshape(())
        return scale, zero.astype(np.int64).reshape(scale.shape)

    def quant(self, scale: Any, zero_point: Any, dtype: str | None = None) -> ir.Quant:
        """Quantisation of an activation. dtype: the codes' type, if something else than the zero point tells it."""
        kind = zero_point.dtype.name if isinstance(zero_point, np.ndarray) else dtype or "uint8"
        if kind not in CODE_TYPES:
            self.fail(f"has {kind} codes; int8 and uint8 activations are accepted")
        step, zero = self.scale_of(scale, zero_point, kind)
        if step.ndim:
            self.fail("has an activation with a scale for each channel; one scale is accepted")
        return self.builder.quant(self.layer, float(step), int(zero), CODE_TYPES[kind])

    def activation(self, value: Any, scale: Any, zero_point: Any) -> Real:
        """Codes become real numbers."""
        if isinstance(value, Real) and value.source is not None and not value.source.tensor:
            value = value.source  # the model's input, which is codes
        if not isinstance(value, Value):
            self.fail("dequantises something that is not quantised")
        quant = self.quant(
            scale, zero_point, None if not value.tensor else self.builder.tensors[value.tensor].quant.dtype
        )
        if not value.tensor:
            value = self.builder.quantize(self.layer, value, quant)
        known = self.builder.codes(self.layer, value).quant
        if quant != replace(known, limits=None):
            self.fail("dequantises with another scale than the tensor was quantised with")
        return self.dequantised(value)

    def dequantised(self, value: Value) -> Real:
        """The real numbers of codes; quantised with another scale, they are changed code by code."""
        layer, source = self.layer, value

        def emit(quant: ir.Quant, relu: bool) -> Value:
            if self.builder.tensors[source.tensor].quant == quant:
                return source
            return self.lookup(layer, source, "requantise", quant)

        return Real(emit, value.shape, value)

    def joined(self, a: Any, b: Any) -> Real | None:
        """As RealContext has it; onnxruntime computes such a layer in float."""
        real = super().joined(a, b)
        if real is None:
            return None

        def emit(quant: ir.Quant, relu: bool) -> Value:
            self.in_float, before = True, self.in_float
            try:
                return real.emit(quant, relu)
            finally:
                self.in_float = before

        return replace(real, emit=emit)

    def lookup(
        self, layer: str, value: Value, function: str, quant: ir.Quant, alpha: float = 0.0,
        constant: tuple[int, ir.Quant] | None = None, constant_first: bool = False,
    ) -> Value:  # fmt: skip
        """A function of each code by itself."""
        if self.builder.codes(layer, value).quant.dtype != quant.dtype and constant is not None:
            self.builder.fail(layer, "input and output have different code types")
        name = self.builder.unique(layer)
        node = ir.Lookup(name, (value.tensor,), name, function, quant.range, alpha, constant, constant_first)
        self.builder.add(node, self.builder.tensors[value.tensor].shape, quant)
        return Value(name, value.shape, False, True, value.hwc)

    # --- values and attributes ---------------------------------------------------------------------------------

    def shape(self, value: Any) -> tuple[int, ...]:
        """The shape of codes or real numbers, without the batch."""
        if not isinstance(value, (Value, Real)):
            self.fail("works on a constant where an activation is expected; run quant_pre_process")
        return value.shape

    def step(self, value: Any, step: Callable[[Value], Value], shape: tuple[int, ...], exact: bool = True) -> Any:
        """A monotone step: on codes at once, on real numbers once they have a scale."""
        if isinstance(value, Value):
            return step(value)
        real = self.real(value)
        return Real(real.emit, shape, real.source, real.relu, (*real.steps, step), real.exact and exact)

    def integers(self, values: Any, what: str) -> list[int]:
        """A constant list of integers."""
        if isinstance(values, np.ndarray) and values.ndim <= 1 and values.dtype.kind in "iu":
            values = values.reshape(-1).tolist()
        if not isinstance(values, list) or len(values) > 64 or not all(isinstance(n, int) for n in values):
            self.fail(f"its {what} is no constant list of integers")
        if any(abs(n) > 1 << 62 for n in values):
            self.fail(f"its {what} has impossible values")
        return values

    def pair(self, op: Op, name: str, default: Pair = (1, 1)) -> Pair:
        """An attribute of two integers, one for each spatial axis."""
        values = self.integers(op.attributes.get(name, list(default)), name)
        if len(values) != 2 or not all(0 <= n < 1 << 20 for n in values):
            self.fail(f"{name} {values} is not supported; layers of two spatial axes are")
        return values[0], values[1]

    def pads(self, op: Op, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pads:
        """(top, bottom, left, right) of a window operation on a map of `size`."""
        auto = op.attributes.get("auto_pad", "NOTSET")
        if auto in ("NOTSET", ""):
            values = self.integers(op.attributes.get("pads", [0, 0, 0, 0]), "pads")
            if len(values) != 4 or not all(0 <= n < 1 << 20 for n in values):
                self.fail(f"pads {values} are not supported; four numbers from 0 are")
            return values[0], values[2], values[1], values[3]
        if auto == "VALID":
            return 0, 0, 0, 0
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            self.fail(f"auto_pad {auto!r} is not known")
        pads = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // max(s, 1)) - 1) * s + d * (k - 1) + 1 - n, 0)
            small, large = total // 2, total - total // 2
            pads += [small, large] if auto == "SAME_UPPER" else [large, small]
        return pads[0], pads[1], pads[2], pads[3]


def accepted() -> str:
    """The names of every operation that is read."""
    return "accepted: " + ", ".join(sorted({name.removeprefix(MS).removeprefix(QONNX) for name in TABLE}))


def read(path: Path, options: Options) -> ir.Graph:
    """The graph of an ONNX file. An input shape, if given, must not contradict the file's own."""
    model = Model(path)
    batch, shape = _input_shape(model.inputs[0], model.file, options)
    own = any(one.kind.startswith(QONNX) for one in model.ops)
    builder = Builder(model.file, shape, EXECUTOR if own else "ort", input_hwc=_is_hwc(model))
    context = Context(builder, model, batch)
    values: dict[str, Any] = {"": None, model.inputs[0].name: Real.of_input(builder.input)}
    try:
        ops = onnx_clips.joined(model, merged(model))
    except TensorError as error:
        raise IntactError(f"{model.file}: {error}") from error
    for one in ops:
        _run(context, one, values)
    result = values.get(model.outputs[0].name)
    if isinstance(result, Real) and result.source is None:
        context.in_float = True
        result = context.quantised_output(result, options.output_range)
    elif isinstance(result, Real):
        result = context.codes(result)
    if not isinstance(result, Value):
        raise IntactError(f"{model.file}: its output {model.outputs[0].name!r} is no result of a layer")
    return builder.finish(result, path.stem, EXECUTOR if own else "onnx", context.match)


def _input_shape(port: Port, file: str, options: Options) -> tuple[int | None, tuple[int, ...]]:
    """The batch (None if free) and the input's shape without it."""
    if port.dtype not in ("float32", "int8", "uint8") or len(port.dims) < 2:
        raise IntactError(
            f"{file}: its input has type {port.dtype} and {len(port.dims)} axes; float32 (N, ...) is accepted"
        )
    given = options.input_shape or port.dims[1:]
    if None in given:
        raise IntactError(f"{file}: the input's sizes {port.dims} are not fixed; give them with --input-shape")
    shape = tuple(int(n) for n in given if n is not None)
    fits = len(shape) == len(port.dims) - 1 and all(n in (None, m) for n, m in zip(port.dims[1:], shape, strict=False))
    if not fits or max(shape) > 1 << 20:
        raise IntactError(f"{file}: its input has shape {port.dims}, not {shape} after the batch")
    return port.dims[0], shape


def _is_hwc(model: Model) -> bool:
    """Whether the input is H, W, C: its first use, scales aside, is a transpose to C, H, W."""
    names = {model.inputs[0].name}
    for one in model.ops:
        if one.inputs and one.inputs[0] in names:
            if one.kind == "Transpose":
                return one.attributes.get("perm") == [0, 3, 1, 2]
            if one.kind not in ("QuantizeLinear", "DequantizeLinear", "Identity"):
                return False
            names.add(one.outputs[0])
    return False


def _run(context: Context, one: Op, values: dict[str, Any]) -> None:
    """Reads one operation."""
    context.layer = one.name.strip("/").replace("/", ".")
    function = TABLE.get(one.kind)
    if function is None:
        context.fail(f"operation {one.kind[:80]} is not supported; {HINTS.get(one.kind, accepted())}")
    try:
        inputs = [values[name] if name in values else context.model.constant(name) for name in one.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        try:
            inspect.signature(function).bind(context, one, *inputs)
        except TypeError:
            context.fail(f"{one.kind} has {len(inputs)} inputs, too few or too many; the file is damaged")
        result = function(context, one, *inputs)
    except TensorError as error:
        context.fail(str(error))
    if one.outputs:
        values[one.outputs[0]] = result
