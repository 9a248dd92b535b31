"""FlatBuffers tables read from untrusted bytes: every offset and length is checked before it is used.

A table starts with a signed distance back to its vtable: uint16 size of the vtable, uint16 size of the table, then
for each field its offset in the table, 0 where the field has its default. Strings, vectors and tables are referred to
by a distance forward. Fields are told by their number in the schema.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

MAX_NAME = 200  # characters of a string that are kept


class FlatbufferError(ValueError):
    """An offset or a length that leads out of the file."""


class Table:
    """One table of `data`; pos: where it starts."""

    def __init__(self, data: bytes, pos: int) -> None:
        self.data, self.pos = data, pos
        self.vtable = pos - self._at("<i", pos)
        self.vtable_size = self._at("<H", self.vtable)
        if self.vtable_size < 4 or self.vtable + self.vtable_size > len(data):
            raise FlatbufferError(f"the table at byte {pos} has no valid list of fields")

    @staticmethod
    def root(data: bytes) -> Table:
        """The file's root table."""
        start = Table._unpack("<I", data, 0)
        return Table(data, start)

    @staticmethod
    def _unpack(kind: str, data: bytes, pos: int) -> int:
        if not 0 <= pos <= len(data) - struct.calcsize(kind):
            raise FlatbufferError(f"byte {pos} is referred to but lies outside the file of {len(data)} bytes")
        return int(struct.unpack_from(kind, data, pos)[0])

    def _at(self, kind: str, pos: int) -> int:
        return self._unpack(kind, self.data, pos)

    def _field(self, number: int) -> int:
        """Where field `number` is stored, 0 if it is not."""
        slot = 4 + 2 * number
        if slot + 2 > self.vtable_size:
            return 0
        offset = self._at("<H", self.vtable + slot)
        return self.pos + offset if offset else 0

    def _target(self, number: int) -> int:
        """What the offset in field `number` points at, 0 if there is none."""
        at = self._field(number)
        return at + self._at("<I", at) if at else 0

    def integer(self, number: int, kind: str, default: int = 0) -> int:
        """An integer field; kind: a `struct` letter."""
        at = self._field(number)
        return self._at("<" + kind, at) if at else default

    def real(self, number: int, default: float = 0.0) -> float:
        """A float32 field."""
        at = self._field(number)
        if not at:
            return default
        self._at("<I", at)  # checks the bounds
        return float(struct.unpack_from("<f", self.data, at)[0])

    def has(self, number: int) -> bool:
        return self._field(number) != 0

    def vector(self, number: int, dtype: str) -> npt.NDArray[np.generic] | None:
        """A vector of numbers, as a view of the file's bytes; None where the field is absent."""
        start = self._target(number)
        if not start:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        count = self._at("<I", start)
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
