"""Layers whose real result another tensor is added to before either is rounded: conv(x) + o, with one rounding.

The other tensor's codes come beside the layer's own input, as further channels; each output's own has a weight at the
tap that lies on the output's pixel, and none elsewhere. So one sum over the array holds both (pyexport/fit_join.py).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pyexport import fit, ir
from pyexport.arith import IntArray
from pyexport.errors import IntactError
from pyexport.fit_join import Sum, fit_join
from pyexport.qlayers import QLayer, QTensor

MOST_WEIGHTS = 1 << 26  # of one layer once its groups are one
ADVICE = "quantise the layer's own output before it is added (docs/quantizers/torchao-pt2e.md says how)"


def side_by_side(graph: ir.Graph) -> ir.Graph:
    """The graph with a concatenation before each layer with a second input, and that layer as a convolution over it.

    Raises IntactError naming the layer where the two do not lie on one grid of pixels.
    """
    tensors, nodes = dict(graph.tensors), list[ir.AnyNode]()
    for node in graph.nodes:
        if isinstance(node, (ir.Conv2d, ir.Linear)) and len(node.inputs) == 2:
            first, other = (tensors[name] for name in node.inputs)
            conv = _convolution(node, first)
            if conv.stride != (1, 1):
                first = ir.Tensor(f"{node.name}.taken", (*tensors[node.output].shape[:2], first.shape[2]), first.quant)
                nodes.append(_taken(conv, first, tensors[conv.inputs[0]]))
                conv = replace(conv, stride=(1, 1))
            _central(conv, first, other)
            size = conv.weights.codes[..., 0].size * (first.shape[2] + other.shape[2])
            if size > MOST_WEIGHTS:
                raise IntactError(
                    f"layer {node.name!r}: a tensor is added before it is rounded, which takes {size:,} weights; "
                    f"{MOST_WEIGHTS:,} are accepted; {ADVICE}"
                )
            both = ir.Tensor(f"{node.name}.joined", (*first.shape[:2], first.shape[2] + other.shape[2]), first.quant)
            tensors |= {first.name: first, both.name: both}
            nodes.append(ir.Concat(both.name, (first.name, other.name), both.name, 2, ir.CODE_RANGE[first.quant.dtype]))
            node = replace(conv, inputs=(both.name,), joined=other.name)
        nodes.append(node)
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def _convolution(node: ir.Conv2d | ir.Linear, source: ir.Tensor) -> ir.Conv2d:
    if isinstance(node, ir.Conv2d):
        return node
    if source.shape[:2] != (1, 1):
        raise IntactError(
            f"layer {node.name!r}: a tensor is added to a linear layer that flattens a map of {source.shape}; {ADVICE}"
        )
    return ir.Conv2d(node.name, node.inputs, node.output, node.weights, clamp=node.clamp, in_float=node.in_float)


def _taken(conv: ir.Conv2d, taken: ir.Tensor, source: ir.Tensor) -> ir.MaxPool2d:
    """The pixels that a 1x1 convolution with a stride reads, and no others."""
    if conv.weights.codes.shape[1:3] != (1, 1) or any(conv.padding):
        raise IntactError(
            f"layer {conv.name!r}: a tensor is added to a convolution of stride {conv.stride} before it is rounded; "
            f"accepted are stride 1, and other strides with kernel 1x1 and no padding; {ADVICE}"
        )
    return ir.MaxPool2d(
        taken.name, (source.name,), taken.name, (1, 1), conv.stride, clamp=ir.CODE_RANGE[source.quant.dtype]
    )


def _central(conv: ir.Conv2d, source: ir.Tensor, other: ir.Tensor) -> tuple[int, int]:
    """The tap (ky, kx) that reads the input at the output's own pixel."""
    (ky, off_y), (kx, off_x) = (divmod(conv.padding[2 * i], conv.dilation[i]) for i in (0, 1))
    kernel = conv.weights.codes.shape[1:3]
    if source.shape[:2] != other.shape[:2] or off_y or off_x or ky >= kernel[0] or kx >= kernel[1]:
        raise IntactError(
            f"layer {conv.name!r}: a tensor of {other.shape} is added to a convolution of a map of {source.shape}, "
            f"padding {conv.padding}, before it is rounded; accepted are layers that keep the map's size; {ADVICE}"
        )
    return ky, kx


def layer(node: ir.Conv2d, other: QTensor, source: ir.Tensor, tensors: dict[str, QTensor]) -> QLayer:
    """The convolution over both. other: the tensor that is added, the last channels of `source`."""
    target, stored, quant = tensors[node.output], node.weights, other.quant
    own = (stored.codes.astype(np.int64) - stored.zero_point.reshape(-1, 1, 1, 1)).astype(np.int64)
    low, high = (code - source.quant.zero_point for code in source.quant.range)
    acc_lo, acc_hi = fit.accumulator_bounds(own, low, high)
    largest = np.abs(own).reshape(len(own), -1).max(axis=1)
    other_step, sx = Fraction(float(quant.scale)), Fraction(float(source.quant.scale))
    # a channel without weights has no scale worth the name
    step = [
        sx * Fraction(float(scale)) if most else other_step for scale, most in zip(stored.scale, largest, strict=True)
    ]
    bias = np.zeros(len(own)) if stored.bias is None else stored.bias
    real = [Fraction(float(b)) * (s if stored.bias_is_integer else 1) for b, s in zip(bias, step, strict=True)]
    others = tuple(code - quant.zero_point for code in quant.range)
    limits = (target.quant.zero_point, *node.clamp)
    found = fit_join(
        Sum(step, real, other_step, Fraction(float(target.quant.scale)), acc_lo, acc_hi, largest,
            (others[0], others[1]), *limits),
        target.shift,
    )  # fmt: skip
    a, b = found.factors.T
    weights = _weights(own, a, b, node, source.shape[2])
    # the array takes the joined tensor's zero point off every channel: the other's own is made up for in the bias
    made_up = b * (tensors[source.name].zero_point - other.zero_point)
    height, width, _ = target.shape
    return QLayer(
        name=node.name,
        op="conv2d",
        input=source.name,
        output=target.name,
        kernel=(weights.shape[1], weights.shape[2]),
        stride=(1, 1),
        padding=node.padding,
        dilation=node.dilation,
        groups=1,
        weights=weights,
        maximum=False,
        requant=replace(found.requant, bias=found.requant.bias + made_up),
        macs=height * width * own.size,
        differing=tuple(values - shift for values, shift in zip(found.differing, made_up, strict=True)),
        facts={
            "sum_range": (int((found.low + found.requant.bias).min()), int((found.high + found.requant.bias).max())),
            "weight_scales": np.array([float(s / sx / int(n)) for s, n in zip(step, a, strict=True)]),
            "weight_zero_points": np.zeros(len(own), np.int32),
            "weight_codes": weights,
            "bias": bias if not stored.bias_is_integer else np.array([float(value) for value in real]),
            "bias_is_integer": False,
            "acc_lo": found.low - made_up,
            "acc_hi": found.high - made_up,
            "exceptions": found.exceptions,
            "joined": {"tensor": other.name, "factors": found.factors.tolist(), "pairs": found.pairs},
        },
    )


def _weights(own: IntArray, a: IntArray, b: IntArray, node: ir.Conv2d, channels: int) -> npt.NDArray[np.int32]:
    """int32 (out, kh, kw, channels): A times the layer's own, without groups, then B for the other tensor's channel."""
    out, _, _, each = own.shape
    found = np.zeros((out, *own.shape[1:3], channels), np.int32)
    per_group = out // node.groups
    for channel in range(out):
        first = channel // per_group * each
        found[channel, ..., first : first + each] = own[channel] * a[channel]
    ky, kx = (node.padding[2 * i] // node.dilation[i] for i in (0, 1))
    found[np.arange(out), ky, kx, channels - out + np.arange(out)] = b
    return found
