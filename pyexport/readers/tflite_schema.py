"""The parts of TensorFlow Lite's schema that the reader needs: models, tensors, operators (schema version 3).

Numbers of fields, types and operators are those of TFLite's schema.fbs. Constants are views of the file until a layer
takes them; together they may not be larger than twice the file, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError
from pyexport.readers.flatbuffer import FlatbufferError, Table

MAX_OPERATORS, MAX_TENSORS, MAX_BUFFERS, MAX_INPUTS = 5_000, 100_000, 100_000, 1_024
MAX_ELEMENTS = 1 << 28
MAX_AXES = 8
TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 9: "int8",
    10: "float64", 16: "uint16", 17: "int4",
}  # fmt: skip
OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE",
    6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP", 8: "FLOOR", 9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION", 12: "L2_POOL_2D",
    14: "LOGISTIC", 16: "LSTM", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6",
    22: "RESHAPE", 23: "RESIZE_BILINEAR", 24: "RNN", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 27: "SVDF", 28: "TANH",
    32: "CUSTOM", 34: "PAD", 36: "GATHER", 37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE",
    47: "EXP", 49: "SPLIT", 50: "LOG_SOFTMAX", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 56: "ARG_MAX", 57: "MINIMUM",
    60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 69: "TILE", 70: "EXPAND_DIMS", 73: "LOG", 74: "SUM", 75: "SQRT",
    76: "RSQRT", 77: "SHAPE", 78: "POW", 82: "REDUCE_MAX", 83: "PACK", 88: "UNPACK", 97: "RESIZE_NEAREST_NEIGHBOR",
    98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE", 100: "MIRROR_PAD", 101: "ABS", 102: "SPLIT_V", 111: "ELU",
    114: "QUANTIZE", 117: "HARD_SWISH", 118: "IF", 119: "WHILE", 126: "BATCH_MATMUL", 150: "GELU", 152: "RELU_0_TO_1",
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """A tensor. shape: with the batch. scales, zero_points: views of the file, empty where it is not quantised.

    constant: has values.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int
    buffer: int
    constant: bool


@dataclass(frozen=True)
class Operator:
    """An operator. inputs: tensor indices, -1 for one left out. options: its table of options, if it has one."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    @property
    def layer(self) -> str:
        """The name that the layer goes by."""
        return f"{self.kind.lower()}_{self.index}"

    def integer(self, number: int, kind: str = "i", default: int = 0) -> int:
        return self.options.integer(number, kind, default) if self.options else default


class Model:
    """An opened file: one subgraph."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file, self.allowance = file, 2 * len(data)
        root = Table.root(data)
        if root.integer(0, "I") != 3:
            raise IntactError(f"{file}: schema version {root.integer(0, 'I')} is not supported; use version 3")
        graphs = root.tables(2, MAX_OPERATORS)
        if len(graphs) != 1:
            raise IntactError(f"{file}: has {len(graphs)} subgraphs; one is accepted (no control flow)")
        self.buffers = root.tables(4, MAX_BUFFERS)
        codes = [_code(table) for table in root.tables(1, MAX_OPERATORS)]
        self.tensors = [self._tensor(i, table) for i, table in enumerate(graphs[0].tables(0, MAX_TENSORS))]
        self.inputs, self.outputs = self._indices(graphs[0], 1), self._indices(graphs[0], 2)
        self.operators = [self._operator(i, t, codes) for i, t in enumerate(graphs[0].tables(3, MAX_OPERATORS))]

    def _indices(self, table: Table, number: int) -> tuple[int, ...]:
        values = table.vector(number, "i4")
        if values is not None and values.size > MAX_INPUTS:
            raise FlatbufferError(f"an operator with {values.size} inputs or outputs")
        indices = () if values is None else tuple(int(v) for v in values.tolist())
        if any(not -1 <= index < len(self.tensors) for index in indices):
            raise FlatbufferError("an operator refers to a tensor that does not exist")
        return indices

    def _tensor(self, index: int, table: Table) -> TensorInfo:
        sizes = table.vector(0, "i4")
        shape = () if sizes is None else tuple(int(n) for n in sizes[: MAX_AXES + 1].tolist())
        if len(shape) > MAX_AXES or any(n < 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise IntactError(f"{self.file}: tensor {index} has the shape {shape}, which is not supported")
        quant = table.table(4)
        scales = quant.vector(2, "f4") if quant else None
        zeros = quant.vector(3, "i8") if quant else None
        number = table.integer(2, "I")
        if number >= len(self.buffers):
            raise FlatbufferError(f"tensor {index} refers to a buffer that does not exist")
        constant = number != 0 and (self.buffers[number].has(0) or self.buffers[number].has(1))
        values = self.buffers[number].vector(0, "u1") if constant else None
        empty = values is not None and not values.size and math.prod(shape) > 0
        kind = table.integer(1, "b")
        dtype = "float32 sparse" if table.has(6) else TYPES.get(kind, f"type {kind}")
        return TensorInfo(
            index,
            table.text(3),
            shape,
            dtype,
            np.zeros(0, np.float32) if scales is None else scales.astype(np.float32, copy=False),
            np.zeros(0, np.int64) if zeros is None else zeros.astype(np.int64, copy=False),
            quant.integer(6, "i") if quant else 0,
            number,
            constant and not empty,
        )

    def _operator(self, index: int, table: Table, codes: list[str]) -> Operator:
        code = table.integer(0, "I")
        if code >= len(codes):
            raise FlatbufferError(f"operator {index} has a code that does not exist")
        options = table.table(4) if table.integer(3, "B") else None
        return Operator(index, codes[code], self._indices(table, 1), self._indices(table, 2), options)

    def constant(self, info: TensorInfo) -> npt.NDArray[np.generic]:
        """The values of a constant tensor in its shape; TensorInfo.constant must hold."""
        values = self.buffers[info.buffer].vector(0, "u1")
        if values is None or info.dtype not in ("float32", "int32", "uint8", "int64", "int8"):
            raise IntactError(f"{self.file}: tensor {info.name!r} holds {info.dtype} outside the file or packed")
        kind = np.dtype(info.dtype).newbyteorder("<")
        if values.size != math.prod(info.shape) * kind.itemsize:
            raise FlatbufferError(f"tensor {info.name!r} has {values.size} bytes, which do not fit its shape")
        self.allowance -= values.size
        if self.allowance < 0:
            raise IntactError(f"{self.file}: its layers share constants so often that they are larger than the file")
        return values.view(kind).reshape(info.shape)


def _code(table: Table) -> str:
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    if code == 32:
        return f"CUSTOM {table.text(1)!r}"
    return OPERATORS.get(code, f"number {code}")
