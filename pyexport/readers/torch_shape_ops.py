"""The rest of the TorchScript operations: pooling, activations on codes, and changes of shape. See torch_ops.py."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pyexport.readers.builder import Value
from pyexport.readers.torch_ops import CHANNELS_LAST, CONTIGUOUS, Batch, Context, op


def _is_channels_last(x: Value) -> bool:
    """torch's is_contiguous(channels_last): also true of maps with one channel or one pixel."""
    return x.channels_last or x.shape[0] == 1 or x.shape[1:] == (1, 1)


@op("torch.max_pool2d")
def _max_pool(
    context: Context, x: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: Any = False,
) -> Value:  # fmt: skip
    kernel = context.pair(kernel_size)
    sizes = (kernel, context.pair(stride, kernel), context.pair(padding), context.pair(dilation))
    return context.builder.max_pool(context.layer(), context.value(x), *sizes, ceil_mode is True)


@op("torch.avg_pool2d")
def _avg_pool(
    context: Context, x: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: Any = False,
    count_include_pad: Any = True, divisor_override: Any = None,
) -> Value:  # fmt: skip
    value, builder = context.value(x), context.builder
    kernel, pads = context.pair(kernel_size), context.pair(padding)
    step = context.pair(stride, kernel)
    height, width, _ = builder.map_of(context.layer(), value)
    if ceil_mode is True and any(
        s > 0 and (n + 2 * p - k) % s for n, k, p, s in zip((height, width), kernel, pads, step, strict=True)
    ):
        context.fail("avg_pool2d with ceil_mode whose last window is cut off; use ceil_mode=False")
    divisor = None if divisor_override is None else context.integer(divisor_override)
    arithmetic = "torch-channels-last" if _is_channels_last(value) else "torch-contiguous"
    include = count_include_pad is True
    return builder.avg_pool(context.layer(), value, kernel, step, pads, include, divisor, arithmetic)


@op("torch.adaptive_avg_pool2d")
def _adaptive(context: Context, x: Any, output_size: Any) -> Value:
    value = context.value(x)
    height, width, _ = context.builder.map_of(context.layer(), value)
    items = output_size if isinstance(output_size, (list, tuple)) else [output_size] * 2
    sizes = [n if item is None else item for item, n in zip(items, (height, width), strict=False)]
    arithmetic = "torch-adaptive-channels-last" if _is_channels_last(value) else "torch-contiguous"
    return context.builder.adaptive_pool(context.layer(), value, context.pair(sizes), arithmetic)


@op("torch.mean")
def _mean(context: Context, x: Any, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> Value:
    value, builder = context.value(x), context.builder
    channels = builder.map_of(context.layer(), value)[2]
    axes = sorted(context.integer(axis) % 4 for axis in dim) if isinstance(dim, (list, tuple)) else None
    if axes != [2, 3] or dtype is not None:
        context.fail("mean is accepted over height and width only (dim [2, 3] of a map)")
    if value.channels_last and not keepdim:
        context.fail("mean([2, 3]) without keepdim after a convolution fails in torch itself; use keepdim=True")
    contiguous = not value.channels_last or _is_channels_last(replace(value, channels_last=False))
    if not contiguous:
        builder.notes.append(
            f"layer {context.layer()!r}: torch takes this mean over floats, in an order that the CPU decides; a code "
            "may differ by one where the exact mean is a tie (AdaptiveAvgPool2d(1) is exact)"
        )
    result = builder.adaptive_pool(context.layer(), value, (1, 1), "torch-mean" if contiguous else "exact")
    return result if keepdim else replace(result, shape=(channels,), channels_last=False)


@op("torch.relu", "torch.relu_")
def _relu(context: Context, x: Any) -> Value:
    return context.builder.clamp(context.layer(), context.value(x), 0.0, None)


@op("ops.quantized.relu6", "torch.relu6", "torch.relu6_")
def _relu6(context: Context, x: Any, inplace: Any = False) -> Value:
    return context.builder.clamp(context.layer(), context.value(x), 0.0, 6.0)


@op("torch.hardtanh", "torch.hardtanh_")
def _hardtanh(context: Context, x: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Value:
    return context.builder.clamp(context.layer(), context.value(x), context.number(min_val), context.number(max_val))


@op("torch.clamp", "torch.clamp_", "ops.quantized.clamp")
def _clamp(context: Context, x: Any, min: Any = None, max: Any = None) -> Value:
    low, high = (None if limit is None else context.number(limit) for limit in (min, max))
    return context.builder.clamp(context.layer(), context.value(x), low, high)


@op("torch.clamp_min", "torch.clamp_min_")
def _clamp_min(context: Context, x: Any, min: Any) -> Value:
    return context.builder.clamp(context.layer(), context.value(x), context.number(min), None)


@op("torch.clamp_max", "torch.clamp_max_")
def _clamp_max(context: Context, x: Any, max: Any) -> Value:
    return context.builder.clamp(context.layer(), context.value(x), None, context.number(max))


@op("torch.flatten")
def _flatten(context: Context, x: Any, start_dim: Any = 0, end_dim: Any = -1) -> Value:
    value = context.value(x)
    rank = len(value.shape) + 1
    start, end = (context.integer(axis) % rank for axis in (start_dim, end_dim))
    if start == 0:
        context.fail("flatten from axis 0 mixes the batch into the features; use torch.flatten(x, 1)")
    if end <= start:
        return value
    merged = math.prod(value.shape[start - 1 : end])
    return context.builder.reshape(context.layer(), value, (*value.shape[: start - 1], merged, *value.shape[end:]))


@op("torch.reshape", "torch.view", "torch._unsafe_view")
def _reshape(context: Context, x: Any, shape: Any) -> Value:
    """A reshape that keeps the batch axis, which is written as the batch size, -1 or 1."""
    value = context.value(x)
    if not isinstance(shape, (list, tuple)) or len(shape) < 2:
        context.fail("reshape must keep the batch axis; use torch.flatten(x, 1)")
    first, rest = shape[0], [context.integer(n) for n in shape[1:]]
    total = math.prod(value.shape)
    if rest.count(-1) == 1 and (isinstance(first, Batch) or first == 1):
        known = -math.prod(rest)
        rest = [total // max(known, 1) if n == -1 else n for n in rest]
    if min(rest) < 0 or math.prod(rest) != total or not (isinstance(first, (Batch, int))):
        context.fail(f"reshape of {value.shape} (without the batch) to {rest} does not keep the batch axis apart")
    return context.builder.reshape(context.layer(), value, tuple(rest))


@op("torch.squeeze", "torch.squeeze_")
def _squeeze(context: Context, x: Any, dim: Any = None) -> Value:
    value = context.value(x)
    rank = len(value.shape) + 1
    dims = dim if isinstance(dim, (list, tuple)) else [0 if dim is None else dim]
    axes = [context.integer(axis) % rank for axis in dims]
    if 0 in axes:
        context.fail("squeeze may remove the batch axis; use torch.flatten(x, 1)")
    kept = tuple(n for axis, n in enumerate(value.shape, 1) if axis not in axes or n != 1)
    return context.builder.reshape(context.layer(), value, kept)


@op("torch.dropout", "torch.dropout_", "torch.feature_dropout")
def _dropout(context: Context, x: Any, p: Any, train: Any) -> Value:
    if train is not False:
        context.fail("dropout is active; call model.eval() before saving")
    return context.value(x)


@op("ops.quantized.dropout")
def _quantized_dropout(
    context: Context, self: Any, output_scale: Any, output_zero_point: Any, p: Any = 0.5, training: Any = False
) -> Value:
    """torch's kernel gives its operand as it is, at the operand's own scale."""
    if training is not False:
        context.fail("dropout is active; call model.eval() before saving")
    return context.value(self)


@op("torch.contiguous")
def _contiguous(context: Context, x: Any, memory_format: Any = CONTIGUOUS) -> Value:
    value = context.value(x)
    if memory_format in (CONTIGUOUS, CHANNELS_LAST):
        return replace(value, channels_last=memory_format == CHANNELS_LAST and len(value.shape) == 3)
    return value


@op("torch.detach", "torch.detach_", "torch.alias")
def _same(context: Context, x: Any) -> Value:
    return context.value(x)
