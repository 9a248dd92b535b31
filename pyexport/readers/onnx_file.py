"""An ONNX file's operations and constants, as plain Python and NumPy values.

The file is parsed as protobuf only; nothing in it is executed, and no other file is opened but external weights that
lie beside it. Everything that is allocated is bounded by the sizes of these files.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyexport.errors import IntactError
from pyexport.readers.tensors import Array, TensorError

MAX_FILE_BYTES = 2 << 30
MAX_OPERATIONS = 20_000
MIN_IR_VERSION, MAX_IR_VERSION = 3, 14
MIN_OPSET, MAX_OPSET = 10, 28
# onnx.TensorProto's numbers of the element types.
DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8",
}  # fmt: skip
# Types of fewer than 8 bits: bits, and the type that holds their codes here.
NARROW = {21: (4, np.uint8), 22: (4, np.int8), 25: (2, np.uint8), 26: (2, np.int8)}
# Domains that QONNX's operations have been given; kinds begin with QONNX for all of them.
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
QONNX = "qonnx."
EXTERNAL = 1  # TensorProto.data_location
# onnx.AttributeProto's numbers of the attribute types that operations use here -> the field that holds the value.
ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
HOW = "save the model as one ONNX file again"


@dataclass(frozen=True)
class Op:
    """One operation. kind: its name, with the domain in front unless that is ONNX's own: "com.microsoft.QGemm".

    inputs, outputs: names of tensors, "" where one is left out. limits: lowest and highest code that it gives, if
    narrower than the codes' type.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    limits: tuple[int, int] | None = None


@dataclass(frozen=True)
class Port:
    """An input or output of the model. dims: None where a size is free. dtype: NumPy's, None for other types."""

    name: str
    dtype: str | None
    dims: tuple[int | None, ...]


def is_onnx(start: bytes) -> bool:
    """Whether a file that starts so may be ONNX: protobuf has no magic; ModelProto's fields begin with ir_version."""
    return start[:1] == b"\x08" and len(start) > 2 and start[1] <= 0x7F


class Model:
    """An opened file: operations in an order in which each one's inputs come first, and constants by name."""

    def __init__(self, path: Path) -> None:
        import onnx  # only here: other formats do without the package

        self.path, self.file = path, str(path)
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise IntactError(f"{self.file}: {size} bytes is larger than the {MAX_FILE_BYTES} accepted")
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(path.read_bytes())
        except Exception as error:  # protobuf's own error type is no public name
            raise IntactError(f"{self.file}: is no ONNX model, or a damaged one; {HOW}") from error
        if not proto.HasField("graph") or not proto.graph.node:
            raise IntactError(f"{self.file}: holds no ONNX graph; {HOW}")
        self._check_versions(proto)
        graph, self.bytes = proto.graph, size
        if len(graph.node) > MAX_OPERATIONS:
            raise IntactError(f"{self.file}: {len(graph.node)} operations are more than the {MAX_OPERATIONS} accepted")
        if graph.sparse_initializer:
            raise IntactError(f"{self.file}: has sparse weights; save them dense")
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._decoded: dict[str, Array] = {}
        self.inputs = tuple(_port(info) for info in graph.input if info.name not in self._stored)
        self.outputs = tuple(_port(info) for info in graph.output)
        self.ops = self._sorted([self._op(node, i) for i, node in enumerate(graph.node)])
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise IntactError(
                f"{self.file}: the model has {len(self.inputs)} inputs and {len(self.outputs)} outputs; one of each is "
                "accepted"
            )

    def _check_versions(self, proto: Any) -> None:
        opsets = {item.domain: item.version for item in proto.opset_import}
        opset = opsets.get("", opsets.get("ai.onnx", 0))
        if not MIN_IR_VERSION <= proto.ir_version <= MAX_IR_VERSION:
            raise IntactError(
                f"{self.file}: ONNX IR version {proto.ir_version} is not supported; {MIN_IR_VERSION} to "
                f"{MAX_IR_VERSION} are"
            )
        if not MIN_OPSET <= opset <= MAX_OPSET:
            raise IntactError(
                f"{self.file}: opset {opset} is not supported, {MIN_OPSET} to {MAX_OPSET} are; convert it with "
                "onnx.version_converter"
            )
        self.opset = opset

    def _op(self, node: Any, index: int) -> Op:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if node.domain in QONNX_DOMAINS:
            kind = QONNX + node.op_type
        attributes = {}
        for item in node.attribute:
            if item.type in ATTRIBUTES:
                value = getattr(item, ATTRIBUTES[item.type])
                if item.type in (6, 7):
                    value = list(value)
                elif item.type == 3:
                    value = value.decode("utf-8", "replace")
                attributes[item.name] = value
            else:
                attributes[item.name] = None
        name = node.name or (node.output[0] if node.output else "") or f"node{index}"
        return Op(kind, name, tuple(node.input), tuple(node.output), attributes)

    def _sorted(self, ops: list[Op]) -> tuple[Op, ...]:
        """In topological order, the file's own where that is one."""
        known = {"", *self._stored, *(port.name for port in self.inputs)}
        writers = {name: i for i, op in enumerate(ops) for name in op.outputs if name}
        if len(writers) != sum(bool(name) for op in ops for name in op.outputs):
            raise IntactError(f"{self.file}: two operations write the same tensor; {HOW}")
        waiting = [0] * len(ops)
        readers: dict[int, list[int]] = {}
        for i, op in enumerate(ops):
            for name in set(op.inputs) - known:
                if name not in writers:
                    raise IntactError(f"{self.file}: layer {op.name!r}: nothing writes its input {name!r}; {HOW}")
                waiting[i] += 1
                readers.setdefault(writers[name], []).append(i)
        ready = deque(i for i, count in enumerate(waiting) if not count)
        order = []
        while ready:
            i = ready.popleft()
            order.append(ops[i])
            for reader in readers.get(i, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        if len(order) != len(ops):
            raise IntactError(f"{self.file}: its operations form a cycle; {HOW}")
        return tuple(order)

    def constant(self, name: str) -> Array | None:
        """The values of an initialiser; None if there is none of this name. Raises TensorError."""
        if name not in self._decoded:
            if name not in self._stored:
                return None
            self._decoded[name] = self.array(self._stored[name])
        return self._decoded[name]

    def define(self, name: str, values: Array) -> None:
        """Adds a constant."""
        self._decoded[name] = values

    def narrow(self, name: str) -> tuple[int, int] | None:
        """Lowest and highest code of an initialiser's type, if it has fewer than 8 bits."""
        if name not in self._stored or self._stored[name].data_type not in NARROW:
            return None
        bits, dtype = NARROW[self._stored[name].data_type]
        return (0, (1 << bits) - 1) if dtype == np.uint8 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    def array(self, tensor: Any) -> Array:
        """The values of a TensorProto. Raises TensorError."""
        if tensor.data_type in NARROW:
            return self._unpacked(tensor)
        if tensor.data_type not in DTYPES:
            raise TensorError(f"tensor {tensor.name[:60]!r} has ONNX element type {tensor.data_type}, not supported")
        dtype, dims = np.dtype(DTYPES[tensor.data_type]), tuple(tensor.dims)
        count = math.prod(dims)
        if len(dims) > 8 or min(dims, default=0) < 0 or count > MAX_FILE_BYTES:
            raise TensorError(f"tensor {tensor.name[:60]!r} has the impossible shape {dims}")
        if tensor.data_location == EXTERNAL:
            flat = np.frombuffer(self._external(tensor, count * dtype.itemsize), dtype)
        elif tensor.raw_data:
            if len(tensor.raw_data) != count * dtype.itemsize:
                raise TensorError(f"tensor {tensor.name[:60]!r} of shape {dims} has {len(tensor.raw_data)} bytes")
            flat = np.frombuffer(tensor.raw_data, dtype)
        else:
            kept = {"<f4": "float_data", "<f8": "double_data", "<i8": "int64_data"}
            kept |= {"<u4": "uint64_data", "<u8": "uint64_data"}
            values = np.asarray(getattr(tensor, kept.get(DTYPES[tensor.data_type], "int32_data")))
            if values.size != count:
                raise TensorError(f"tensor {tensor.name[:60]!r} of shape {dims} has {values.size} values")
            flat = values.astype(np.uint16).view(dtype) if dtype == np.float16 else values.astype(dtype)
        return flat.reshape(dims)

    def _unpacked(self, tensor: Any) -> Array:
        """Values of 4 or 2 bits, several in a byte, the first one lowest."""
        (bits, dtype), dims = NARROW[tensor.data_type], tuple(tensor.dims)
        count, each = math.prod(dims), 8 // NARROW[tensor.data_type][0]
        if len(dims) > 8 or min(dims, default=0) < 0 or count > MAX_FILE_BYTES or tensor.data_location == EXTERNAL:
            raise TensorError(f"tensor {tensor.name[:60]!r} of {bits} bits, shape {dims}, is not in the file itself")
        raw = np.frombuffer(tensor.raw_data, np.uint8) if tensor.raw_data else np.asarray(tensor.int32_data, np.int64)
        if raw.size != -(-count // each):
            raise TensorError(f"tensor {tensor.name[:60]!r} of {bits} bits, shape {dims}, has {raw.size} bytes")
        parts = (raw.astype(np.uint8)[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & ((1 << bits) - 1)
        codes = parts.reshape(-1)[:count].astype(np.int16)
        if dtype == np.int8:
            codes -= (codes >> (bits - 1)) << bits
        return codes.astype(dtype).reshape(dims)

    def _external(self, tensor: Any, size: int) -> bytes:
        """Weights kept in a file of their own, in the model's folder."""
        entries = {item.key: item.value for item in tensor.external_data}
        location = entries.get("location", "")
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        path = self.path.parent / location
        if not location or Path(location).name != location or path.is_symlink() or not path.is_file():
            raise TensorError(
                f"tensor {tensor.name[:60]!r} is kept in the file {location[:60]!r}, which is not beside the model; "
                "put it there, or save the model as one file"
            )
        if length != size or offset < 0 or offset + size > path.stat().st_size:
            raise TensorError(f"tensor {tensor.name[:60]!r} lies outside the file {location[:60]!r}; save both again")
        with path.open("rb") as stream:
            stream.seek(offset)
            data: bytes = stream.read(size)
        self.bytes += size
        if len(data) != size:
            raise TensorError(f"the file {location[:60]!r} ends early; save the model again")
        return data


def _port(info: Any) -> Port:
    kind = info.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim)
    dtype = DTYPES.get(kind.elem_type)
    return Port(info.name, np.dtype(dtype).name if dtype else None, dims)
