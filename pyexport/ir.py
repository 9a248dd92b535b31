"""The graph IR: what a reader produces, and the check that it is legal.

A graph is a list of nodes in execution order over named activation tensors. Activations are laid out H, W, C with no
batch axis, whatever the source used; a vector of N features is (1, 1, N). Quantised values follow

    real = scale * (code - zero_point)

with float32 scales. Nothing here knows a file format, a runtime's rounding or the hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError

Dtype = Literal["int8", "uint8"]
CODE_RANGE: dict[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True)
class Quant:
    """Per-tensor quantisation of an activation: float32 scale, zero point and code type.

    limits: lowest and highest code that occur, where the source quantises to fewer than 8 bits; None: the type's own.
    """

    scale: np.float32
    zero_point: int
    dtype: Dtype
    limits: tuple[int, int] | None = None

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest code."""
        return self.limits or CODE_RANGE[self.dtype]


@dataclass(frozen=True)
class Tensor:
    """An activation. `shape` is (H, W, C)."""

    name: str
    shape: tuple[int, int, int]
    quant: Quant


@dataclass(frozen=True)
class Weights:
    """Quantised weights of a convolution or linear layer.

    codes: integer codes, int16, shape (out, kh, kw, in / groups); |codes - zero_point| <= 255.
    scale: float32, shape (out,); or float64 where the source folds such a factor into it, which the exact runtimes use
    and the others take as float32.  zero_point: int32, shape (out,).
    bias: float64, shape (out,): real values (exact float32 values) where `bias_is_integer` is false, else int32 codes
    at the scale input scale * weight scale.
    per_channel: whether the source stored one scale per output channel (some runtimes round differently).
    """

    codes: npt.NDArray[np.int16]
    scale: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    zero_point: npt.NDArray[np.int32]
    bias: npt.NDArray[np.float64] | None
    bias_is_integer: bool = False
    per_channel: bool = True


@dataclass(frozen=True)
class Node:
    """Common part of every node. `name` is the layer's name in the source model; tensors are referred to by name."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Conv2d(Node):
    """2-D convolution. padding is (top, bottom, left, right); pads hold the input's zero point.

    clamp: lowest and highest output code (a fused ReLU raises the lower one to the zero point).
    in_float: the source's own runtime computes the layer in float, so its value is rounded once, bias included.
    inputs: may name a second tensor, of the output's shape and a scale of its own: it is added to the layer's real
    result, and the sum is rounded once.
    joined: that second tensor's name, where `inputs` has one name and the tensor's channels are its last ones.
    """

    weights: Weights
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: tuple[int, int] = (0, 255)
    in_float: bool = False
    joined: str | None = None


@dataclass(frozen=True)
class ConvTranspose2d(Node):
    """Transposed 2-D convolution: input pixel (y, x) adds code * w[:, ky, kx] to output pixel (y * stride + ky *
    dilation - top, x * stride + kx * dilation - left).

    padding: (top, bottom, left, right), what is cut off the full result; bottom and right may be negative (an output
    padding), down to 1 - stride. groups, clamp, in_float: as in Conv2d.
    delegated: whether TFLite's delegate XNNPACK takes the layer; TFLite's own kernel rounds otherwise.
    """

    weights: Weights
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: tuple[int, int] = (0, 255)
    delegated: bool = True
    in_float: bool = False


@dataclass(frozen=True)
class Linear(Node):
    """Fully connected layer on the input flattened in H, W, C order; weights.codes has shape (out, H, W, C).

    in_float, a second input: as in Conv2d.
    """

    weights: Weights
    clamp: tuple[int, int] = (0, 255)
    in_float: bool = False


@dataclass(frozen=True)
class MaxPool2d(Node):
    """Maximum over each window; pads never win. Input and output have the same quantisation."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    clamp: tuple[int, int] = (0, 255)


@dataclass(frozen=True)
class AvgPool2d(Node):
    """Mean over each window (global pooling: kernel = the whole map).

    count_include_pad: whether padding counts in the divisor; divisor: a fixed divisor instead.
    arithmetic: which of the source runtime's kernels rounds (a name that `runtimes` knows).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = True
    divisor: int | None = None
    clamp: tuple[int, int] = (0, 255)
    arithmetic: str = "torch-channels-last"


@dataclass(frozen=True)
class Clamp(Node):
    """A stand-alone ReLU, ReLU6 or clip on the codes. Input and output have the same quantisation."""

    clamp: tuple[int, int]


@dataclass(frozen=True)
class Add(Node):
    """a + sign * b of two tensors of one shape, each with its own scale. sign: 1 or -1.

    arithmetic: which of the source runtime's kernels rounds, where it has several (a name that `runtimes` knows).
    """

    sign: int = 1
    clamp: tuple[int, int] = (0, 255)
    arithmetic: str = ""


@dataclass(frozen=True)
class Lookup(Node):
    """A function of each code by itself: at most 256 different values, so a table holds it.

    function: a name that `runtimes` knows ("logistic", "tanh", "leaky_relu", "hard_swish", "requantise", or "add",
    "subtract", "multiply" with a constant); the table follows from it and the runtime to match.
    alpha: leaky_relu's slope.  constant: the other operand's code and quantisation.
    constant_first: whether the constant is the left operand.  arithmetic: as in Add.
    """

    function: str
    clamp: tuple[int, int] = (0, 255)
    alpha: float = 0.0
    constant: tuple[int, Quant] | None = None
    constant_first: bool = False
    arithmetic: str = ""


@dataclass(frozen=True)
class Concat(Node):
    """The inputs side by side along `axis` (0, 1, 2: H, W, C).

    requantise: the Lookup function by which an input of another scale than the output's is changed first.
    arithmetic: of that function, as in Add.
    """

    axis: int = 2
    clamp: tuple[int, int] = (0, 255)
    requantise: str = "requantise"
    arithmetic: str = ""


AnyNode = Conv2d | ConvTranspose2d | Linear | MaxPool2d | AvgPool2d | Clamp | Add | Lookup | Concat


@dataclass(frozen=True)
class Softmax:
    """Softmax on the host, after the last layer: over the last axis of the output in the source's layout.

    source: quantisation of the codes that it reads, the graph's output tensor.  target: of the codes that it gives.
    """

    name: str
    source: Quant
    target: Quant
    beta: float = 1.0


@dataclass(frozen=True)
class Port:
    """How the source model shows an input or output: the axes of its array, batch first, and their mapping to H, W, C.

    shape: the source's own shape without the batch axis, e.g. (1, 8, 8) for a (N, C, H, W) input.
    axes: for each of H, W, C the source axis (0 = first after the batch) or None where the source has none,
    e.g. (1, 2, 0) for NCHW, (None, None, 0) for a feature vector.
    """

    tensor: str
    shape: tuple[int, ...]
    axes: tuple[int | None, int | None, int | None]

    def to_hwc(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(N, *shape) in the source's layout -> (N, H, W, C)."""
        order = [0] + [a + 1 for a in self.axes if a is not None]
        dims = [1 if a is None else self.shape[a] for a in self.axes]
        return np.ascontiguousarray(array.transpose(order)).reshape(len(array), *dims)

    def from_hwc(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(N, H, W, C) -> (N, *shape) in the source's layout."""
        kept = [a for a in self.axes if a is not None]
        squeezed = array.reshape(len(array), *[self.shape[a] for a in kept])
        return np.ascontiguousarray(squeezed.transpose([0] + [kept.index(a) + 1 for a in range(len(self.shape))]))


@dataclass(frozen=True)
class Graph:
    """A quantised network: one input, one output.

    source: the kind of file it came from ("torchscript", "pt2e", "tflite"); match: the runtime whose arithmetic is the
    default. float_input: the rule by which real inputs become codes (a name that `runtimes` knows).
    tail: what the host computes from the output tensor, if anything.
    """

    name: str
    source: str
    match: str
    tensors: dict[str, Tensor]
    nodes: tuple[AnyNode, ...]
    input: Port
    output: Port
    float_input: str = "torch"
    notes: tuple[str, ...] = field(default=())
    tail: Softmax | None = None


def conv_output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Number of output positions along one axis; 0 or less where the window does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def window_shape(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Output (H, W) of a window operation on an (H, W, C) input."""
    top, bottom, left, right = padding
    return (
        conv_output_size(shape[0], kernel[0], stride[0], top, bottom, dilation[0]),
        conv_output_size(shape[1], kernel[1], stride[1], left, right, dilation[1]),
    )


def transposed_shape(
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Output (H, W) of a transposed convolution of an (H, W, C) input."""
    top, bottom, left, right = padding
    height, width = ((shape[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1))
    return height - top - bottom, width - left - right


def check(graph: Graph, file: str) -> Graph:
    """Returns the graph if it is legal, else raises IntactError naming `file`, the layer and the attribute."""
    for problem in _problems(graph):
        raise IntactError(f"{file}: {problem}")
    return graph


def _problems(graph: Graph) -> Iterator[str]:
    for tensor in graph.tensors.values():
        yield from _tensor_problems(tensor)
    for port, role in ((graph.input, "input"), (graph.output, "output")):
        if port.tensor not in graph.tensors:
            yield f"the {role} tensor {port.tensor!r} is not defined"
    if not graph.nodes:
        yield "the model has no layers; INTACT needs at least one"
    known = {graph.input.tensor}
    names: set[str] = set()
    for node in graph.nodes:
        where = f"layer {node.name!r}"
        if node.name in names:
            yield f"{where}: two layers have this name"
        names.add(node.name)
        for name in (*node.inputs, node.output):
            if name not in graph.tensors:
                yield f"{where}: tensor {name!r} is not defined"
                return
        for name in node.inputs:
            if name not in known:
                yield f"{where}: reads {name!r} before it is written"
        known.add(node.output)
        yield from (f"{where}: {text}" for text in _node_problems(graph, node))
    if graph.output.tensor not in known:
        yield f"no layer writes the output tensor {graph.output.tensor!r}"
    elif graph.tail is not None and graph.tail.source != graph.tensors[graph.output.tensor].quant:
        yield f"layer {graph.tail.name!r}: its scale is not that of the output tensor {graph.output.tensor!r}"


def _tensor_problems(tensor: Tensor) -> Iterator[str]:
    where, quant = f"tensor {tensor.name!r}", tensor.quant
    if len(tensor.shape) != 3 or min(tensor.shape) < 1:
        yield f"{where}: shape {tensor.shape} has a size below 1"
    if not (np.isfinite(quant.scale) and quant.scale > 0):
        yield f"{where}: scale {quant.scale} is not a positive finite number; re-calibrate the model"
    if quant.dtype not in CODE_RANGE:
        yield f"{where}: code type {quant.dtype!r} is not supported; use int8 or uint8"
        return
    low, high = CODE_RANGE[quant.dtype]
    if not low <= quant.zero_point <= high:
        yield f"{where}: zero point {quant.zero_point} lies outside {quant.dtype}'s {low}..{high}"
    if not low <= quant.range[0] <= quant.range[1] <= high:
        yield f"{where}: limits {quant.limits} are no range within {quant.dtype}'s {low}..{high}"


def _node_problems(graph: Graph, node: AnyNode) -> Iterator[str]:
    source, target = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    low, high = CODE_RANGE[target.quant.dtype]
    if not low <= node.clamp[0] <= node.clamp[1] <= high:
        yield f"clamp {node.clamp} is not a range within {low}..{high}"
    if isinstance(node, (Conv2d, ConvTranspose2d, Linear)):
        yield from _weights_problems(node.weights)
    expected: tuple[int, int, int]
    if isinstance(node, Linear):
        if node.weights.codes.shape[1:] != source.shape:
            yield f"weight shape {node.weights.codes.shape} does not take an input of shape {source.shape}"
        expected = (1, 1, node.weights.codes.shape[0])
    elif isinstance(node, (Clamp, Add, Lookup)):
        expected = source.shape
    elif isinstance(node, Concat):
        total = sum(graph.tensors[name].shape[node.axis] for name in node.inputs)
        height, width, channels = (total if axis == node.axis else size for axis, size in enumerate(source.shape))
        expected = (height, width, channels)
    elif isinstance(node, ConvTranspose2d):
        yield from _transposed_problems(node, source)
        kernel = node.weights.codes.shape[1:3]
        height, width = transposed_shape(source.shape, (kernel[0], kernel[1]), node.stride, node.padding, node.dilation)
        if min(height, width) < 1:
            yield f"padding {node.padding} cuts everything off"
        expected = (height, width, node.weights.codes.shape[0])
    else:
        yield from _window_problems(node, source)
        dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
        kernel = node.weights.codes.shape[1:3] if isinstance(node, Conv2d) else node.kernel
        height, width = window_shape(source.shape, (kernel[0], kernel[1]), node.stride, node.padding, dilation)
        channels = node.weights.codes.shape[0] if isinstance(node, Conv2d) else source.shape[2]
        if min(height, width) < 1:
            yield f"kernel {tuple(kernel)} does not fit an input of shape {source.shape} with padding {node.padding}"
        expected = (height, width, channels)
    if target.shape != expected:
        yield f"output shape {target.shape} should be {expected}"
    if isinstance(node, (MaxPool2d, Clamp)) and source.quant != target.quant:
        yield "input and output must have the same scale and zero point"
    yield from _several_inputs_problems(graph, node)


def _several_inputs_problems(graph: Graph, node: AnyNode) -> Iterator[str]:
    inputs = [graph.tensors[name] for name in node.inputs]
    if isinstance(node, Concat):
        if node.axis not in (0, 1, 2):
            yield f"axis {node.axis} is not 0, 1 or 2"
        elif any(_without(t.shape, node.axis) != _without(inputs[0].shape, node.axis) for t in inputs):
            yield f"inputs of shapes {', '.join(str(t.shape) for t in inputs)} do not fit side by side"
    elif isinstance(node, (Conv2d, Linear)) and len(inputs) == 2:
        if inputs[1].shape != graph.tensors[node.output].shape:
            yield f"adds a tensor of shape {inputs[1].shape} to a result of {graph.tensors[node.output].shape}"
    elif len(inputs) != (2 if isinstance(node, Add) else 1):
        yield f"has {len(inputs)} inputs"
    elif isinstance(node, Add):
        if inputs[0].shape != inputs[1].shape:
            yield f"adds shapes {inputs[0].shape} and {inputs[1].shape}; they must be equal"
        if node.sign not in (1, -1):
            yield f"sign {node.sign} is not 1 or -1"


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _weights_problems(weights: Weights) -> Iterator[str]:
    out = weights.codes.shape[0]
    if weights.codes.ndim != 4 or min(weights.codes.shape) < 1:
        yield f"weight shape {weights.codes.shape} has a size below 1"
    if weights.scale.shape != (out,) or weights.zero_point.shape != (out,):
        yield f"{weights.scale.size} weight scales and {weights.zero_point.size} zero points for {out} output channels"
        return
    if not (np.isfinite(weights.scale).all() and (weights.scale > 0).all()):
        yield "a weight scale is not a positive finite number; re-calibrate the model"
    if np.abs(weights.codes - weights.zero_point.reshape(-1, 1, 1, 1)).max(initial=0) > 255:
        yield "a weight lies more than 255 codes from its zero point"
    if weights.bias is not None:
        if weights.bias.shape != (out,):
            yield f"{weights.bias.size} biases for {out} output channels"
        elif not np.isfinite(weights.bias).all():
            yield "a bias is not a finite number"
        elif weights.bias_is_integer and not ((weights.bias == np.rint(weights.bias)) & _in_int32(weights.bias)).all():
            yield "a bias in accumulator steps is no int32"


def _in_int32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((values >= -(2.0**31)) & (values < 2.0**31))


def _transposed_problems(node: ConvTranspose2d, source: Tensor) -> Iterator[str]:
    if min(*node.stride, *node.dilation) < 1:
        yield f"stride {node.stride} and dilation {node.dilation} must be at least 1"
        return
    top, bottom, left, right = node.padding
    if min(top, left) < 0 or bottom <= -node.stride[0] or right <= -node.stride[1]:
        yield f"padding {node.padding} adds more than stride {node.stride} less one"
    yield from _groups_problems(node, source)


def _groups_problems(node: Conv2d | ConvTranspose2d, source: Tensor) -> Iterator[str]:
    out, _, _, per_group = node.weights.codes.shape
    if node.groups < 1 or out % node.groups or per_group * node.groups != source.shape[2]:
        yield (
            f"weight shape {node.weights.codes.shape} with groups={node.groups} does not take an input of "
            f"{source.shape[2]} channels"
        )


def _window_problems(node: Conv2d | MaxPool2d | AvgPool2d, source: Tensor) -> Iterator[str]:
    dilation = (1, 1) if isinstance(node, AvgPool2d) else node.dilation
    if min(*node.stride, *dilation) < 1:
        yield f"stride {node.stride} and dilation {dilation} must be at least 1"
        return
    if min(node.padding) < 0:
        yield f"padding {node.padding} must not be negative"
    if isinstance(node, Conv2d):
        yield from _groups_problems(node, source)
    elif min(node.kernel) < 1:
        yield f"kernel {node.kernel} must be at least 1"
    elif any(pad >= dilation[axis // 2] * (node.kernel[axis // 2] - 1) + 1 for axis, pad in enumerate(node.padding)):
        yield f"padding {node.padding} holds whole windows of kernel {node.kernel}; they have no value"
