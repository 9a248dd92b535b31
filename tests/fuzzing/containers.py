"""What damages files that hold other things: zip archives (checksums made right again), FlatBuffers and protobuf."""

from __future__ import annotations

import io
import struct
import zipfile
from random import Random
from typing import Any

import numpy as np

from tests.fuzzing.mutators import INTEGERS, REALS, changed, named, raw
from tests.tflite_writer import Model, Scalar

# --- zip -------------------------------------------------------------------------------------------------------------

WEIGHT = 4  # how much oftener than another a member is chosen that describes the network


def zip_members(rng: Random, data: bytes) -> bytes:
    """Members damaged by their kind, removed, doubled, renamed or exchanged, under right checksums."""
    if rng.random() < 0.15:
        return raw(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    likely = [name for name in names for _ in range(WEIGHT if name.endswith((".json", ".pkl", ".py")) else 1)]
    for _ in range(rng.choice([1, 1, 1, 2])):
        name, other = rng.choice(likely), rng.choice(names)
        kind = rng.randrange(12)
        if kind == 0:
            members.pop(name, None)
        elif kind == 1:
            members[name] = members.get(other, b"")
        elif kind == 2:
            members[rng.choice([name + "x", "/" + name, "../" + name, name.upper(), "x/" + name])] = members.pop(
                name, b""
            )
        else:
            members[name] = named(rng, name, members.get(name, b""))
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    ) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


# --- FlatBuffers -----------------------------------------------------------------------------------------------------


def tflite_fields(rng: Random, model: Model) -> bytes:
    """A model with fields of its tables set to extremes, removed or exchanged; now and then the bytes damaged too."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        tables: list[list[Any]] = [model.tensors, model.operators, model.buffers]
        table = rng.choice([t for t in tables if t])
        if rng.random() < 0.1:
            at = rng.randrange(len(table))
            table[at] = table[rng.randrange(len(table))]
        elif rng.random() < 0.1:
            ends = rng.choice([model.inputs, model.outputs, model.codes])
            ends[rng.randrange(len(ends))] = rng.choice(
                [-1, 0, 1, 2, 3, 5, 9, 28, 77, 117, 127, 1000, 1 << 20, (1 << 31) - 1]
            )
        else:
            at = rng.randrange(len(table))
            table[at] = _field(rng, dict(table[at]))
    try:
        data = model.data
    except (struct.error, OverflowError, ValueError, IndexError):  # a value that the field cannot hold
        return raw(rng, b"\x1c\0\0\0TFL3" + bytes(64))
    return data if rng.random() < 0.7 else raw(rng, data)


def _field(rng: Random, fields: dict[int, Any]) -> dict[int, Any]:
    """A table with one field changed."""
    if not fields:
        return {0: np.zeros(rng.choice([0, 1, 4, 1000]), np.uint8)}
    key = rng.choice(list(fields))
    value = fields[key]
    if rng.random() < 0.1:
        del fields[key]
    elif isinstance(value, Scalar):
        fields[key] = Scalar(value.kind, _fitting(rng, value))
    elif isinstance(value, np.ndarray):
        fields[key] = _array(rng, value)
    elif isinstance(value, dict):
        fields[key] = _field(rng, dict(value))
    elif isinstance(value, str):
        fields[key] = str(changed(rng, value))
    return fields


def _fitting(rng: Random, value: Scalar) -> float:
    if value.kind == "f":
        return rng.choice([x for x in REALS if not np.isfinite(x) or abs(x) <= 3e38])
    low, high = {"b": (-128, 127), "B": (0, 255), "?": (0, 1), "I": (0, 2**32 - 1)}.get(
        value.kind, (-(2**31), 2**31 - 1)
    )
    near = [int(value.value) + 1, int(value.value) - 1]
    return rng.choice([n for n in [*INTEGERS, *near, *near, *near] if low <= n <= high])


def _array(rng: Random, values: Any) -> Any:
    """A vector with entries set to extremes, cut, lengthened or reordered."""
    out = np.array(values).reshape(-1)
    kind = rng.randrange(6)
    if kind == 0 or not out.size:
        return np.resize(out, rng.choice([0, 1, max(0, out.size - 1), out.size + 1, 5000])) if out.size else out
    if kind == 1:
        return out[::-1].copy()
    for _ in range(rng.choice([1, 1, out.size])):
        if out.dtype.kind == "f":
            new = rng.choice([x for x in REALS if not np.isfinite(x) or abs(x) <= 3e38])
        else:
            bounds = np.iinfo(out.dtype)
            new = rng.choice([n for n in INTEGERS if bounds.min <= n <= bounds.max])
        out[rng.randrange(out.size)] = new
    return out


# --- protobuf --------------------------------------------------------------------------------------------------------

Field = tuple[int, int, Any]  # number, wire type, value: an integer, bytes, or a list of fields


def protobuf(rng: Random, data: bytes) -> bytes:
    """Fields at any depth set to extremes, removed, doubled or exchanged; lengths made right again."""
    if rng.random() < 0.2:
        return raw(rng, data)
    root = parse_message(data)
    if not root:
        return raw(rng, data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        lists = _messages(root)
        fields = rng.choice(lists)
        if not fields:
            continue
        at = rng.randrange(len(fields))
        key, wire, value = fields[at]
        kind = rng.randrange(8)
        if kind == 0:
            del fields[at]
        elif kind == 1:
            fields.insert(at, fields[at])
        elif kind == 2:
            other = rng.choice(lists)
            if other:
                key, wire, value = rng.choice(other)
                fields[at] = (
                    fields[at][0],
                    wire,
                    value if not isinstance(value, list) else parse_message(message(value)) or b"",
                )
        elif kind == 3:
            fields[at] = (rng.choice([0, 1, 2, 3, 5, 9, 13, 20, 1000]), wire, value)
        elif isinstance(value, int):
            fields[at] = (key, wire, rng.choice([value + 1, value - 1, *INTEGERS]) & ((1 << 64) - 1))
        else:
            content = message(value) if isinstance(value, list) else value
            fields[at] = (key, wire, raw(rng, content))
    return message(root)


def parse_message(data: bytes, depth: int = 0) -> list[Field] | None:
    """The fields of a protobuf message, lengths that hold messages taken apart too; None where `data` is none."""
    fields: list[Field] = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        key, wire = tag >> 3, tag & 7
        if key == 0 or at < 0:
            return None
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value = data[at : at + size]
            at = at + size if len(value) == size else -1
        elif wire == 2:
            size, at = _varint(data, at)
            if at < 0 or at + size > len(data):
                return None
            value = data[at : at + size]
            at += size
            inner = parse_message(value, depth + 1) if size and depth < 8 else None
            value = value if inner is None else inner
        else:
            return None
        if at < 0:
            return None
        fields.append((key, wire, value))
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where the next field starts, -1 where the bytes hold none."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            return 0, -1
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    return 0, -1


def message(fields: list[Field]) -> bytes:
    """The bytes of fields."""
    out = bytearray()
    for key, wire, value in fields:
        if isinstance(value, list):
            value = message(value)
        wire = wire if isinstance(value, int) == (wire == 0) else 0 if isinstance(value, int) else 2
        out += _number(key << 3 | wire)
        if isinstance(value, int):
            out += _number(value)
        else:
            out += (_number(len(value)) if wire == 2 else b"") + value
    return bytes(out)


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _messages(fields: list[Field]) -> list[list[Field]]:
    """Every list of fields, the root first."""
    found = [fields]
    for _, _, value in fields:
        if isinstance(value, list):
            found += _messages(value)
    return found
