"""FlatBuffers tables read from untrusted bytes: every offset and length is checked before it is used.

The package `flatbuffers` knows the format but trusts the file: an offset may lead anywhere. Here every access goes
through a check. Fields are told by their number in the schema.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from flatbuffers import number_types as types
from flatbuffers import table

MAX_NAME = 200  # characters of a string that are kept
INTEGERS = {"b": types.Int8Flags, "B": types.Uint8Flags, "i": types.Int32Flags, "I": types.Uint32Flags}


class FlatbufferError(ValueError):
    """An offset or a length that leads out of the file."""


class Table:
    """One table of `data`; pos: where it starts."""

    def __init__(self, data: bytes, pos: int) -> None:
        self.data, self.pos = data, pos
        vtable = pos - self._at(types.SOffsetTFlags, pos)
        self.size = self._at(types.VOffsetTFlags, vtable)  # of the list of fields, in bytes
        if self.size < 4 or vtable + self.size > len(data):
            raise FlatbufferError(f"the table at byte {pos} has no valid list of fields")
        self.fields = table.Table(data, pos)

    @staticmethod
    def root(data: bytes) -> Table:
        """The file's root table."""
        return Table(data, _get(types.UOffsetTFlags, data, 0))

    def _at(self, kind: Any, pos: int) -> int:
        return _get(kind, self.data, pos)

    def _field(self, number: int) -> int:
        """Where field `number` is stored, 0 if it is not."""
        slot = 4 + 2 * number
        offset = self.fields.Offset(slot) if slot + 2 <= self.size else 0
        return self.pos + offset if offset else 0

    def _target(self, number: int) -> int:
        """What the offset in field `number` points at, 0 if there is none."""
        at = self._field(number)
        return at + self._at(types.UOffsetTFlags, at) if at else 0

    def integer(self, number: int, kind: str, default: int = 0) -> int:
        """An integer field; kind: a key of INTEGERS."""
        at = self._field(number)
        return self._at(INTEGERS[kind], at) if at else default

    def real(self, number: int, default: float = 0.0) -> float:
        """A float32 field."""
        at = self._field(number)
        return float(self._at(types.Float32Flags, at)) if at else default

    def has(self, number: int) -> bool:
        return self._field(number) != 0

    def vector(self, number: int, dtype: str) -> npt.NDArray[np.generic] | None:
        """A vector of numbers, as a view of the file's bytes; None where the field is absent."""
        start = self._target(number)
        if not start:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        count = self._at(types.UOffsetTFlags, start)
        if count * kind.itemsize > len(self.data) - start - 4:
            raise FlatbufferError(f"a vector of {count} entries at byte {start} is longer than the file")
        return np.frombuffer(self.data, kind, count, start + 4)

    def text(self, number: int) -> str:
        """A string, cut after MAX_NAME bytes."""
        values = self.vector(number, "u1")
        return "" if values is None else values[:MAX_NAME].tobytes().decode("utf-8", "replace")

    def table(self, number: int) -> Table | None:
        start = self._target(number)
        return Table(self.data, start) if start else None

    def tables(self, number: int, most: int) -> list[Table]:
        """A vector of tables; raises FlatbufferError where it has more than `most`."""
        offsets = self.vector(number, "u4")
        if offsets is None:
            return []
        if len(offsets) > most:
            raise FlatbufferError(f"{len(offsets)} entries in one list are more than the {most} accepted")
        start = self._target(number) + 4
        return [Table(self.data, start + 4 * i + int(offset)) for i, offset in enumerate(offsets.tolist())]


def _get(kind: Any, data: bytes, pos: int) -> int:
    """One number of a `flatbuffers` type at byte `pos`."""
    if not 0 <= pos <= len(data) - kind.bytewidth:
        raise FlatbufferError(f"byte {pos} is referred to but lies outside the file of {len(data)} bytes")
    value: int = table.Table(data, 0).Get(kind, pos)
    return value
