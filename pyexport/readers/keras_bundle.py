"""TensorFlow's checkpoint files (a tensor bundle) and protocol buffers, read without TensorFlow.

variables.index is a sorted string table in LevelDB's format: blocks of entries whose keys share prefixes, a footer that
says where the block of blocks is. Its values are messages with each tensor's type, shape, offset and size in
variables.data-00000-of-00001. One of the tensors is the object graph, which knows the variables' full names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyexport.errors import IntactError
from pyexport.readers.tensors import Array, TensorError

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER, TRAILER = 48, 5
MAX_INDEX_BYTES = 64 << 20
MAX_FILE_BYTES = 2 << 30
GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
STRING = 7


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and the position behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number runs over its end")
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: (number, integer or bytes)."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a protocol buffer's field of kind {kind}")
        if at + size > len(data):
            raise ValueError("a protocol buffer's field is cut short")
        yield key >> 3, data[at : at + size]
        at += size


def root_metadata(data: bytes) -> bytes:
    """The root object's JSON in keras_metadata.pb: a list (1) of nodes, with path (3) and metadata (5)."""
    for number, node in fields(data):
        if number == 1:
            parts = dict(fields(node))
            if parts.get(3) == b"root":
                return bytes(parts[5])
    raise ValueError("keras_metadata.pb describes no model")


def _block(data: bytes, at: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block."""
    if at + size + TRAILER > len(data) or size < 4:
        raise ValueError("a block lies outside the index")
    if data[at + size]:
        raise ValueError("a compressed index; TensorFlow writes none")
    block = data[at : at + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise ValueError("a block is cut short")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError("an entry lies outside its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def entries(data: bytes) -> dict[bytes, bytes]:
    """All keys and values of variables.index."""
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise ValueError("variables.index does not end as an index does")
    _, at = varint(data, len(data) - FOOTER)
    _, at = varint(data, at)
    start, at = varint(data, at)
    size, at = varint(data, at)
    found: dict[bytes, bytes] = {}
    done = names = 0
    for _, handle in _block(data, start, size):
        where, at = varint(handle, 0)
        length, at = varint(handle, at)
        done += length
        if done > len(data):  # blocks that overlap could unpack to far more than the file
            raise ValueError("blocks overlap")
        for key, value in _block(data, where, length):
            names += len(key)
            if names > MAX_INDEX_BYTES:
                raise ValueError("the keys are too long")
            found[key] = value
    return found


class Bundle:
    """The variables of a checkpoint, by their full names such as quant_conv/kernel_min."""

    def __init__(self, folder: Path) -> None:
        index, shards = folder / "variables.index", sorted(folder.glob("variables.data-*"))
        if len(shards) != 1:
            raise IntactError(f"{folder}: needs one file variables.data-00000-of-00001; save the model as .h5 instead")
        for path, most in ((index, MAX_INDEX_BYTES), (shards[0], MAX_FILE_BYTES)):
            if path.stat().st_size > most:
                raise IntactError(f"{path}: is larger than the {most} bytes accepted")
        self.data = shards[0].read_bytes()
        self.entries = entries(index.read_bytes())
        self.names: dict[str, bytes] = {}
        for number, node in fields(self._string(GRAPH)):
            for kind, attribute in fields(node) if number == 1 else ():
                if kind == 2:
                    parts = dict(fields(attribute))
                    if parts.get(1) == b"VARIABLE_VALUE" and not parts[3].startswith(b"optimizer/"):
                        self.names[bytes(parts[2]).decode()] = bytes(parts[3])

    def array(self, name: str) -> Array:
        """The values of a variable. Raises TensorError."""
        parts: dict[int, Any] = {}
        for number, value in fields(self.entries[self.names[name]]):
            parts.setdefault(number, value)
        shape = tuple(int(dict(fields(dim)).get(1, 0)) for number, dim in fields(parts.get(2, b"")) if number == 2)
        if parts.get(1) not in DTYPES or 7 in parts or parts.get(3, 0):
            raise TensorError(f"variable {name[:80]!r} has an element type or storage that is not supported")
        dtype = np.dtype(DTYPES[parts[1]])
        raw = self._slice(parts)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise TensorError(f"variable {name[:80]!r} of shape {shape} has {len(raw)} bytes; the file is damaged")
        return np.frombuffer(raw, dtype).reshape(shape)

    def _string(self, key: bytes) -> bytes:
        """A tensor of one string: its length, a checksum of that, its bytes."""
        parts = dict(fields(self.entries[key]))
        raw = self._slice(parts)
        size, at = varint(raw, 0)
        if parts.get(1) != STRING or at + 4 + size != len(raw):
            raise ValueError("the object graph is cut short")
        return raw[at + 4 :]

    def _slice(self, parts: dict[int, Any]) -> bytes:
        start, size = parts.get(4, 0), parts.get(5, 0)
        if start + size > len(self.data):
            raise ValueError("a variable lies outside its file")
        return self.data[start : start + size]
