"""Quantise, dequantise, quantise again with another scale, dequantise: onnxruntime makes one pair of the two.

It does so when it loads a model, before anything else: the inner operations go, and the outer ones get a scale of their
own, that of the range which both pairs hold. What the file says, two roundings, is computed by no runtime.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pyexport.readers.onnx_file import Model, Op
from pyexport.readers.tensors import Array, TensorError

PASSES = 10  # as many as onnxruntime makes over a graph
Scale = tuple[Array, Array]  # a scale and a zero point of one element


def merged(model: Model) -> tuple[Op, ...]:
    """The model's operations after the merge. New scales become constants of the model."""
    ops: dict[str, Op] = {one.outputs[0] if one.outputs else one.name: one for one in model.ops}
    readers: dict[str, list[str]] = {port.name: [""] for port in model.outputs}
    for name, one in ops.items():
        for source in one.inputs:
            readers.setdefault(source, []).append(name)
    for _ in range(PASSES):
        if not sum(name in ops and _merge(model, ops, readers, name) for name in list(ops)):
            break
    return tuple(ops.values())


def _merge(model: Model, ops: dict[str, Op], readers: dict[str, list[str]], first: str) -> bool:
    """Merges the pairs that start with the operation `first`; whether there were any."""
    chain = [first]
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        following = readers.get(chain[-1], [])
        if len(following) != 1 or following[0] not in ops or ops[following[0]].kind != kind:
            return False
        if ops[following[0]].inputs[0] != chain[-1]:
            return False
        chain.append(following[0])
    if ops[first].kind != "QuantizeLinear":
        return False
    last = readers.get(chain[2], [])
    if not last or any(name not in ops or ops[name].kind != "DequantizeLinear" for name in last):
        return False
    scales = [_scale(model, ops[name]) for name in (*chain, *last)]
    if not _alike(scales[0], scales[1]) or not all(_alike(scales[2], scale) for scale in scales[3:]):
        return False
    one, two = scales[0], scales[2]
    if one is None or two is None or one[1].dtype != two[1].dtype or one[1].dtype.name not in ("int8", "uint8"):
        return False
    names = (f"{first}:scale", f"{first}:zero_point")
    if not _alike(one, two):
        for name, value in zip(names, common(one, two), strict=True):
            model.define(name, value)
        ops[first] = replace(ops[first], inputs=(ops[first].inputs[0], *names))
    for name in last:
        ops[name] = replace(ops[name], inputs=(first, *(ops[name].inputs[1:] if _alike(one, two) else names)))
    del ops[chain[1]], ops[chain[2]]
    readers[first] = last
    return True


def _scale(model: Model, one: Op) -> Scale | None:
    """The constant scale and zero point of an operation, if it has one of each."""
    if len(one.inputs) < 2:
        return None
    try:
        scale = model.constant(one.inputs[1])
        zero = model.constant(one.inputs[2]) if len(one.inputs) > 2 else np.zeros((), np.uint8)
    except TensorError:
        return None
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or scale.dtype != np.float32:
        return None
    return scale.reshape(()), zero.reshape(())


def _alike(a: Scale | None, b: Scale | None) -> bool:
    return a is not None and b is not None and a[0] == b[0] and a[1] == b[1] and a[1].dtype == b[1].dtype


def common(a: Scale, b: Scale) -> Scale:
    """The scale and zero point of the range that both hold, each step in float32, halves rounded away from zero."""
    limits = np.iinfo(a[1].dtype)
    low = max(np.float32(limits.min - int(zero)) * np.float32(scale) for scale, zero in (a, b))
    high = min(np.float32(limits.max - int(zero)) * np.float32(scale) for scale, zero in (a, b))
    scale = (high - low) / np.float32(limits.max - limits.min)
    if not scale > 0:
        raise TensorError("two quantisations after each other have no range in common; re-calibrate the model")
    zero = float(np.float32(limits.min) - low / scale)
    rounded = math.floor(abs(zero) + 0.5) * (1 if zero >= 0 else -1)
    return np.asarray(scale, np.float32), np.asarray(min(max(rounded, limits.min), limits.max), a[1].dtype)
