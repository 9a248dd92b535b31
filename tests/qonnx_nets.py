"""QONNX and QCDQ graphs put together by hand, and what they mean: every operation in float64, in plain loops.

Scales are powers of two and codes small, so that float64 holds every value exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

F64 = npt.NDArray[np.float64]
DOMAIN = "qonnx.custom_op.general"


class Net:
    """Collects nodes; `self.last` is the newest tensor."""

    def __init__(self, shape: Sequence[int], seed: int = 0) -> None:
        self.shape, self.last, self.nodes, self.stored = tuple(shape), "x", list[Any](), dict[str, Any]()
        self.narrow: dict[str, Any] = {}
        self.random = np.random.default_rng(seed)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(value, dtype)
        return name

    def packed(self, codes: Any, kind: int) -> str:
        """A constant of 2 or 4 bits."""
        name = self.constant(codes)
        self.narrow[name] = helper.make_tensor(name, kind, np.shape(codes), np.ravel(codes).tolist())
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [self.last], f"{kind}{len(self.nodes)}", domain=domain, **attributes)
        )
        return self.last

    def quant(
        self, source: str, scale: Any, bits: float, signed: int = 1, narrow: int = 0, zero: Any = 0.0,
        rounding: str = "ROUND",
    ) -> str:  # fmt: skip
        parts = [self.constant(value) for value in (scale, zero, bits)]
        return self.node("Quant", source, *parts, domain=DOMAIN, signed=signed, narrow=narrow, rounding_mode=rounding)

    def weights(self, shape: Sequence[int], scale: Any, bits: int, signed: int = 1, zero: float = 0.0) -> str:
        """Float weights half a step or a quarter off their codes, some beyond the range."""
        step = np.asarray(scale, np.float32)
        codes = self.random.integers(-(1 << bits), 1 << bits, shape) + self.random.choice([0, 0.25, 0.5], shape)
        return self.quant(self.constant(codes * step), scale, bits, signed, signed, zero)

    def qcdq(self, source: str, scale: float, limits: tuple[int, int], dtype: Any, zero: int = 0) -> str:
        step, z = self.constant(scale), self.constant(zero, dtype)
        codes = self.node("QuantizeLinear", source, step, z)
        codes = self.node("Clip", codes, self.constant(limits[0], dtype), self.constant(limits[1], dtype))
        return self.node("DequantizeLinear", codes, step, z)

    def save(self, path: Path) -> Path:
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", (1, *self.shape)), (self.last, None))
        ]
        stored = [self.narrow.get(name, numpy_helper.from_array(value, name)) for name, value in self.stored.items()]
        graph = helper.make_graph(self.nodes, "net", ports[:1], ports[1:], stored)
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 2)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
        return path

    def run(self, x: F64) -> dict[str, F64]:
        """(N, *shape) -> every tensor."""
        values: dict[str, Any] = {"x": x, **{name: value.astype(np.float64) for name, value in self.stored.items()}}
        for node in self.nodes:
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            inputs = [values[name] for name in node.input]
            result = MEANING[node.op_type](attributes, *inputs)
            if node.op_type == "QuantizeLinear" and node.input[2] in self.narrow:
                bits = {TensorProto.UINT4: 4, TensorProto.UINT2: 2}[self.narrow[node.input[2]].data_type]
                result = np.clip(result, 0, 2**bits - 1)
            values[node.output[0]] = result
        return values


def _quant(a: Any, x: F64, s: F64, z: F64, bits: F64) -> F64:
    low, high = code_range(int(bits), a["signed"], a["narrow"])
    return (np.rint(np.clip(x / s + z, low, high)) - z) * s


def code_range(bits: int, signed: int, narrow: int) -> tuple[int, int]:
    return (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)


def _trunc(a: Any, x: F64, s: F64, z: F64, bits: F64, out: F64, out_bits: F64) -> F64:
    low, high = code_range(int(out_bits), a["signed"], a["narrow"])
    rounding = np.floor if a["rounding_mode"] == b"FLOOR" else np.rint
    return rounding(np.clip(np.rint(x / s) / 2 ** np.rint(np.log2(out / s)), low, high)) * out


def _windows(x: F64, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], fill: float) -> Any:
    """(y, x, window (N, C, kh, kw)) of every output position, and the output's size."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], kernel, stride, strict=True)]
    places = [(i, j) for i in range(size[0]) for j in range(size[1])]
    cut = [
        padded[:, :, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
        for i, j in places
    ]
    return zip(places, cut, strict=True), size


def _conv(a: Any, x: F64, w: F64, bias: Any = 0.0) -> F64:
    windows, size = _windows(x, w.shape[2:], a.get("strides", [1, 1]), a.get("pads", [0] * 4), 0)
    groups = a.get("group", 1)
    out, per = len(w), w.shape[1]
    result = np.zeros((len(x), out, *size))
    for (i, j), window in windows:
        for o in range(out):
            first = o // (out // groups) * per
            result[:, o, i, j] = (window[:, first : first + per] * w[o]).sum((1, 2, 3))
    return result + np.reshape(bias, (-1, 1, 1))


def _pool(a: Any, x: F64, function: Any, fill: float) -> F64:
    windows, size = _windows(x, a["kernel_shape"], a.get("strides", [1, 1]), [0] * 4, fill)
    result = np.zeros((*x.shape[:2], *size))
    for (i, j), window in windows:
        result[:, :, i, j] = function(window, (2, 3))
    return result


def _norm(a: Any, x: F64, gamma: F64, beta: F64, mean: F64, variance: F64) -> F64:
    parts = [part.reshape(-1, 1, 1) for part in (gamma, beta, mean, variance)]
    return (x - parts[2]) / np.sqrt(parts[3] + a["epsilon"]) * parts[0] + parts[1]


def _quantize(a: Any, x: F64, s: F64, z: F64) -> F64:
    return np.asarray(np.rint(x / s) + z)


def _dequantize(a: Any, q: F64, s: F64, z: F64) -> F64:
    shape = [1] * q.ndim
    if s.ndim:
        shape[a["axis"]] = -1
    return np.asarray((q - z.reshape(shape)) * s.reshape(shape))


MEANING: dict[str, Any] = {
    "Quant": _quant, "Trunc": _trunc, "Conv": _conv, "BatchNormalization": _norm, "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Clip": lambda a, x, low, high: np.clip(x, low, high),
    "Relu": lambda a, x: np.maximum(x, 0),
    "Add": lambda a, x, y: x + y,
    "Concat": lambda a, *xs: np.concatenate(xs, a["axis"]),
    "MaxPool": lambda a, x: _pool(a, x, np.max, -math.inf),
    "AveragePool": lambda a, x: _pool(a, x, np.mean, 0),
    "Flatten": lambda a, x: x.reshape(len(x), -1),
    "Gemm": lambda a, x, w, bias=0.0: x @ w.T + bias,
    "MatMul": lambda a, x, w: x @ w,
}  # fmt: skip
