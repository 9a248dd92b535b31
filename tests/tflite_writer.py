"""Writes small `.tflite` files: a FlatBuffers writer of tables given as {field id: value}, and TFLite's schema on top.

Everything an offset points at is written after the table that holds the offset, as FlatBuffers wants it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Fields = Mapping[int, Any]
SIZES = {"b": 1, "B": 1, "?": 1, "h": 2, "i": 4, "I": 4, "f": 4, "q": 8}
TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


@dataclass(frozen=True)
class Scalar:
    """A number stored in the table itself; kind: a `struct` letter."""

    kind: str
    value: float


def i32(value: int) -> Scalar:
    return Scalar("i", value)


def u8(value: int) -> Scalar:
    return Scalar("B", value)


def f32(value: float) -> Scalar:
    return Scalar("f", value)


def flatbuffer(root: Fields, identifier: bytes = b"TFL3") -> bytes:
    """The file whose root table is `root`. Values: Scalar, str, NumPy array, list of dicts (tables) or one dict."""
    out = bytearray(4) + identifier
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _pad(out: bytearray, size: int, ahead: int = 0) -> None:
    while (len(out) + ahead) % size:
        out.append(0)


def _table(out: bytearray, fields: Fields) -> int:
    present = {key: value for key, value in fields.items() if value is not None}
    slots: dict[int, int] = {}
    at = 4
    for key, value in present.items():
        size = SIZES[value.kind] if isinstance(value, Scalar) else 4
        at += -at % size
        slots[key] = at
        at += size
    count = max(present, default=-1) + 1
    _pad(out, 8, 4 + 2 * count)
    vtable = len(out)
    out += struct.pack(f"<HH{count}H", 4 + 2 * count, at, *(slots.get(key, 0) for key in range(count)))
    start = len(out)
    out += bytes(at)
    struct.pack_into("<i", out, start, start - vtable)
    for key, value in present.items():
        where = start + slots[key]
        if isinstance(value, Scalar):
            struct.pack_into("<" + value.kind, out, where, value.value)
        else:
            struct.pack_into("<I", out, where, _target(out, value) - where)
    return start


def _target(out: bytearray, value: Any) -> int:
    if isinstance(value, Mapping):
        return _table(out, value)
    if isinstance(value, str):
        _pad(out, 4)
        at, data = len(out), value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
        return at
    if isinstance(value, list):
        _pad(out, 4)
        at = len(out)
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for i, item in enumerate(value):
            where = at + 4 + 4 * i
            struct.pack_into("<I", out, where, _target(out, item) - where)
        return at
    _pad(out, 16, 4)
    at = len(out)
    out += struct.pack("<I", value.size) + np.ascontiguousarray(value).tobytes()
    return at


@dataclass
class Model:
    """A model with one subgraph, filled tensor by tensor and operator by operator; `data` is the file."""

    tensors: list[Fields] = field(default_factory=list)
    buffers: list[Fields] = field(default_factory=lambda: [{}])
    codes: list[int] = field(default_factory=list)
    operators: list[Fields] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Array | None = None,
        zero: int | Array = 0,
        data: Array | None = None,
        axis: int = 0,
        name: str | None = None,
    ) -> int:
        """Adds a tensor, constant where it has data; returns its index."""
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append({0: np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)})
        quant: Fields | None = None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
            quant = {2: scales, 3: zeros, 6: i32(axis)}
        index = len(self.tensors)
        self.tensors.append(
            {
                0: np.asarray(shape, np.int32),
                1: Scalar("b", TYPES[dtype]),
                2: Scalar("I", buffer),
                3: name or f"t{index}",
                4: quant,
            }
        )
        return index

    def op(self, code: int, inputs: Sequence[int], output: int, options: tuple[int, Fields] | None = None) -> int:
        """Adds an operator. options: (the schema's number of the options table, its fields). Returns `output`."""
        if code not in self.codes:
            self.codes.append(code)
        kind, table = options or (0, None)
        self.operators.append(
            {
                0: Scalar("I", self.codes.index(code)),
                1: np.asarray(inputs, np.int32),
                2: np.asarray([output], np.int32),
                3: u8(kind) if kind else None,
                4: table,
            }
        )
        return output

    @property
    def data(self) -> bytes:
        subgraph: Fields = {
            0: self.tensors_list(),
            1: np.asarray(self.inputs, np.int32),
            2: np.asarray(self.outputs, np.int32),
            3: list(self.operators),
        }
        codes = [{0: Scalar("b", min(c, 127)), 2: i32(VERSIONS.get(c, 1)), 3: i32(c)} for c in self.codes]
        return flatbuffer({0: Scalar("I", 3), 1: codes, 2: [subgraph], 4: list(self.buffers)})

    def tensors_list(self) -> list[Fields]:
        return list(self.tensors)


# Operator versions that have int8 kernels; 1 for the others.
VERSIONS = {0: 2, 1: 2, 2: 2, 3: 3, 4: 3, 6: 2, 9: 4, 14: 2, 17: 2, 18: 2, 19: 2, 21: 2, 25: 2, 28: 2, 34: 2, 39: 2,
            40: 2, 41: 2, 60: 2, 67: 4, 98: 2, 114: 2}  # fmt: skip
