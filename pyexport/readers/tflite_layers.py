"""TFLite's layers with windows or weights: convolutions, fully connected layers, pools, means, and PAD before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyexport import ir
from pyexport.readers.tflite_graph import MAX_PAD, NO_PADDING, Context, Padding, Value, op
from pyexport.readers.tflite_schema import Operator, TensorInfo

Pair = tuple[int, int]
SAME, VALID = 0, 1
MAX_SIZE = 1 << 16


def _sizes(context: Context, what: str, *sizes: int) -> tuple[int, ...]:
    if not all(1 <= n <= MAX_SIZE for n in sizes):
        context.fail(f"{what} {sizes} lies outside 1..{MAX_SIZE}")
    return sizes


def _padding(context: Context, mode: int, value: Value, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    """A window's padding: TFLite's SAME puts the odd one at the end; a PAD before the window adds to it."""
    height, width = (1, 1, *value.shape[:-1])[-2:]
    before = value.pad
    if mode == VALID:
        return before
    if mode != SAME:
        context.fail(f"padding {mode} is neither SAME nor VALID")
    total = []
    for size, k, s, d, extra in zip(
        (height, width), kernel, stride, dilation, (before[0] + before[1], before[2] + before[3]), strict=True
    ):
        size += extra
        total.append(max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0))
    top, left = total[0] // 2, total[1] // 2
    return before[0] + top, before[1] + total[0] - top, before[2] + left, before[3] + total[1] - left


def _window(
    context: Context, operator: Operator, kernel: Pair, dilation: Pair = (1, 1)
) -> tuple[ir.Tensor, Value, Pair, Padding]:
    """Source tensor and value without its PAD, stride, padding of a window operator (stride_w, stride_h: 1 and 2)."""
    value = context.value(operator)
    stride_w, stride_h = _sizes(context, "stride", operator.integer(1), operator.integer(2))
    stride = stride_h, stride_w
    padding = _padding(context, operator.integer(0, "b"), value, kernel, stride, dilation)
    bare = replace(value, pad=NO_PADDING)
    return context.map(bare), value, stride, padding


def _weights(
    context: Context, operator: Operator, codes: np.ndarray[tuple[int, ...], np.dtype[np.int16]], info: TensorInfo,
    axis: int, bias_at: int = 2,
) -> ir.Weights:  # fmt: skip
    """codes: (out, kh, kw, in / groups). axis: where the file's weights have their output channels.

    bias_at: which input is the bias.
    """
    out, count = codes.shape[0], info.scales.size
    if count not in (1, out) or info.zero_points.size != count:
        context.fail(f"weights have {count} scales and {info.zero_points.size} zero points for {out} output channels")
    if count > 1 and info.axis != axis:
        context.fail(f"weights are quantised along axis {info.axis}; axis {axis} is accepted")
    low, high = (-128, 127) if info.dtype == "int8" else (0, 255)
    if info.zero_points.min(initial=0) < low or info.zero_points.max(initial=0) > high:
        context.fail(f"a weight zero point lies outside {low}..{high}")
    bias = None
    stored = context.info(operator, bias_at)
    if stored is not None:
        if stored.dtype != "int32" or stored.shape != (out,):
            context.fail(f"the bias is {stored.dtype} of shape {stored.shape}; int32 of shape ({out},) is accepted")
        bias = context.constant(operator, bias_at).astype(np.float64)
    scale = np.broadcast_to(info.scales, (out,)).astype(np.float32)
    zero = np.broadcast_to(info.zero_points, (out,)).astype(np.int32)
    return ir.Weights(codes, scale, zero, bias, True, count > 1)


def _filter(context: Context, operator: Operator, axes: int) -> TensorInfo:
    info = context.info(operator, 1)
    if info is None or not info.constant or info.dtype not in ("int8", "uint8") or len(info.shape) != axes:
        what = "missing" if info is None else f"{info.dtype} of shape {info.shape}"
        context.fail(f"the weights are {what}; constant int8 or uint8 weights with {axes} axes are accepted")
    if min(info.shape) < 1 or max(info.shape) > 1 << 20:
        context.fail(f"weights of shape {info.shape} are not supported")
    return info


@op("CONV_2D")
def _conv(context: Context, operator: Operator) -> Value:
    info = _filter(context, operator, 4)
    kernel = info.shape[1], info.shape[2]
    dilation_w, dilation_h = _sizes(context, "dilation", operator.integer(4, "i", 1), operator.integer(5, "i", 1))
    dilation = dilation_h, dilation_w
    source, _, stride, padding = _window(context, operator, kernel, dilation)
    if source.shape[2] % info.shape[3]:
        context.fail(f"weights of shape {info.shape} do not take {source.shape[2]} channels")
    codes = context.constant(operator, 1).astype(np.int16)
    return _emit_conv(context, operator, source, codes, info, 0, (stride, padding, dilation), 3, info.shape[3])


@op("DEPTHWISE_CONV_2D")
def _depthwise(context: Context, operator: Operator) -> Value:
    info = _filter(context, operator, 4)
    kernel = info.shape[1], info.shape[2]
    dilation_w, dilation_h = _sizes(context, "dilation", operator.integer(5, "i", 1), operator.integer(6, "i", 1))
    dilation = dilation_h, dilation_w
    source, _, stride, padding = _window(context, operator, kernel, dilation)
    if info.shape[0] != 1 or info.shape[3] % source.shape[2]:
        context.fail(f"weights of shape {info.shape} do not take {source.shape[2]} channels")
    codes = np.ascontiguousarray(context.constant(operator, 1).transpose(3, 1, 2, 0)).astype(np.int16)
    return _emit_conv(context, operator, source, codes, info, 3, (stride, padding, dilation), 4, 1)


@op("TRANSPOSE_CONV")
def _transposed(context: Context, operator: Operator) -> Value:
    """Inputs: output shape, weights (out, kh, kw, in), activation, bias. SAME cuts what a convolution from the output
    back to the input would pad; the odd row or column is cut at the end.
    """
    info, target = _filter(context, operator, 4), context.output(operator)
    source = context.map(context.value(operator, 2))
    stride_w, stride_h = _sizes(context, "stride", operator.integer(1), operator.integer(2))
    stride, kernel = (stride_h, stride_w), (info.shape[1], info.shape[2])
    shape, mode = context.integers(operator, 0), operator.integer(0, "b")
    if shape != [1, *context.shape(target)] or len(shape) != 4:
        context.fail(f"its output is to have the shape {shape}, but has {context.shape(target)} after a batch of 1")
    if info.shape[3] != source.shape[2] or info.shape[0] != shape[3]:
        context.fail(
            f"weights of shape {info.shape} do not take {source.shape[2]} channels to {shape[3]}; groups are not "
            "supported"
        )
    if mode not in (SAME, VALID):
        context.fail(f"padding {mode} is neither SAME nor VALID")
    padding: list[int] = []
    for n, size, s, k in zip(source.shape[:2], shape[1:3], stride, kernel, strict=True):
        back = -(-size // s) if mode == SAME else (size - k) // s + 1
        if n != back:
            context.fail(f"makes {shape[1:3]} of a map of {source.shape[:2]}; a convolution back would give {back}")
        before = max((n - 1) * s + k - size, 0) // 2 if mode == SAME else 0
        padding += [before, (n - 1) * s + k - size - before]
    # XNNPACK leaves it to TFLite where the shape is no constant, and where SAME would have to cut less than nothing
    stored = context.info(operator, 0)
    fits = mode == VALID or (kernel[0] >= stride[0] and kernel[1] >= stride[1])
    delegated = fits and stored is not None and stored.constant
    codes = context.constant(operator, 1).astype(np.int16)
    weights = _weights(context, operator, codes, info, 0, 3)
    clamp = context.limits(context.quant(target), operator.integer(3, "b"))
    name = operator.layer
    pads = padding[0], padding[1], padding[2], padding[3]
    node = ir.ConvTranspose2d(name, (source.name,), name, weights, stride, pads, (1, 1), 1, clamp, delegated)
    return context.add(node, target)


def _emit_conv(
    context: Context, operator: Operator, source: ir.Tensor,
    codes: np.ndarray[tuple[int, ...], np.dtype[np.int16]], info: TensorInfo, axis: int,
    window: tuple[Pair, Padding, Pair], activation: int, per_group: int,
) -> Value:  # fmt: skip
    """activation: number of the fused activation among the options."""
    target = context.output(operator)
    stride, padding, dilation = window
    node = ir.Conv2d(
        operator.layer,
        (source.name,),
        operator.layer,
        _weights(context, operator, codes, info, axis),
        stride,
        padding,
        dilation,
        source.shape[2] // per_group,
        context.limits(context.quant(target), operator.integer(activation, "b")),
    )
    return context.add(node, target)


@op("FULLY_CONNECTED")
def _linear(context: Context, operator: Operator) -> Value:
    info, target = _filter(context, operator, 2), context.output(operator)
    if operator.integer(1, "b"):
        context.fail("shuffled weights are not supported; convert without them")
    source = context.source(context.value(operator))
    out, features = info.shape
    if features != int(np.prod(source.shape)):
        context.fail(
            f"weights of shape {info.shape} do not take the whole input of shape {source.shape}; a fully connected "
            "layer for each position is not supported"
        )
    codes = context.constant(operator, 1).astype(np.int16).reshape(out, *source.shape)
    weights = _weights(context, operator, codes, info, 0)
    clamp = context.limits(context.quant(target), operator.integer(0, "b"))
    return context.add(ir.Linear(operator.layer, (source.name,), operator.layer, weights, clamp), target)


@op("MAX_POOL_2D", "AVERAGE_POOL_2D")
def _pool(context: Context, operator: Operator) -> Value:
    width, height = _sizes(context, "window", operator.integer(3), operator.integer(4))
    source, value, stride, padding = _window(context, operator, (height, width))
    target = context.output(operator)
    quant = context.quant(target)
    if quant != source.quant:
        context.fail("input and output have different scales; pooling keeps them")
    clamp = context.limits(quant, operator.integer(5, "b"))
    name, kernel, padded = operator.layer, (height, width), value.pad != NO_PADDING
    if operator.kind == "MAX_POOL_2D":
        if padded and quant.zero_point != ir.CODE_RANGE[quant.dtype][0]:
            context.fail("PAD before MAX_POOL_2D is accepted only where the zero point is the lowest code")
        return context.add(ir.MaxPool2d(name, (source.name,), name, kernel, stride, padding, (1, 1), clamp), target)
    if padded and padding != value.pad:
        context.fail("PAD before AVERAGE_POOL_2D with SAME padding is not supported; use VALID")
    mean = ir.AvgPool2d(name, (source.name,), name, kernel, stride, padding, padded, None, clamp, "tflite")
    return context.add(mean, target)


@op("MEAN")
def _mean(context: Context, operator: Operator) -> Value:
    value, target = context.value(operator), context.output(operator)
    source = context.map(value)
    rank = len(value.shape) + 1
    axes = sorted(axis % rank if -rank <= axis < rank else -1 for axis in context.integers(operator, 1))
    spatial = list(range(1, rank - 1))
    if axes != spatial and [a for a in spatial if value.shape[a - 1] > 1] != [a for a in axes if a in spatial]:
        context.fail(f"means over axes {axes} of {rank}; all axes between batch and channels are accepted")
    if rank - 1 in axes or 0 in axes or -1 in axes:
        context.fail(f"means over axes {axes} of {rank}; all axes between batch and channels are accepted")
    quant, name = context.quant(target), operator.layer
    if quant.dtype != source.quant.dtype:
        context.fail("input and output have different code types")
    kernel = source.shape[0], source.shape[1]
    node = ir.AvgPool2d(
        name, (source.name,), name, kernel, (1, 1), clamp=ir.CODE_RANGE[quant.dtype], arithmetic="tflite-mean"
    )
    return context.add(node, target)


@op("PAD", "PADV2")
def _pad(context: Context, operator: Operator) -> Value:
    value = context.value(operator)
    quant = context.quant_of(value)
    amounts = context.integers(operator, 1)
    rank = len(value.shape) + 1
    if len(amounts) != 2 * rank or not all(0 <= n <= MAX_PAD for n in amounts):
        context.fail(f"pads {amounts} do not fit a tensor with {rank} axes")
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, 2 * rank, 2)]
    if not 3 <= rank <= 4 or pairs[0] != (0, 0) or pairs[-1] != (0, 0):
        context.fail(f"pads {amounts}: only rows and columns may be padded")
    rows, columns = [(0, 0), *pairs[1:-1]][-2:]
    if operator.kind == "PADV2":
        stored = context.info(operator, 2)
        same = stored is not None and stored.dtype == quant.dtype and context.quant(stored) == quant
        if not same or context.constant(operator, 2).ravel().tolist() != [quant.zero_point]:
            context.fail(f"pads with something else than the zero point {quant.zero_point}")
    if context.quant(context.output(operator)) != quant:
        context.fail("input and output have different scales; PAD keeps them")
    pad = tuple(a + b for a, b in zip(value.pad, (*rows, *columns), strict=True))
    return replace(value, pad=(pad[0], pad[1], pad[2], pad[3]), pad_layer=operator.layer)
