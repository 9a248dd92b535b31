"""What damages a file: of bytes, of text, of JSON and of pickles. Each takes a random generator and gives new content.

Structured mutators keep the format's own syntax, so that the damage reaches what reads the values.
"""

from __future__ import annotations

import json
import math
import pickletools
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]

INTEGERS = [0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, -128, -129, 1000, 32767, 65535, 65536, 1 << 20, (1 << 20) + 1,
            1 << 24, 1 << 29, (1 << 31) - 1, -(1 << 31), 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63),
            1 << 63, (1 << 64) - 1, 1 << 70]  # fmt: skip
REALS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e-7, 1e-30, 1e-38, 1.2e-38, 1e-45, 5e-324, 1e9, 3e38, 3.5e38, 1e300, -1e300,
         math.inf, -math.inf, math.nan]  # fmt: skip
FORMATS = ["<b", "<h", "<i", "<q", "<f", "<d"]  # of numbers in binary files
MARKER = "INTACT_FUZZ_MARKER"  # the file that executed code would make; the audit hook tells before it could


def number(rng: Random, value: object = 0) -> Any:
    """An extreme number, or one near `value`."""
    near = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if near and rng.random() < 0.4:
        assert isinstance(value, (int, float))
        return rng.choice([value + 1, value - 1, -value, value * 2, value // 2, value * 1000, value + 0.5])
    if isinstance(value, float) or rng.random() < 0.2:
        return rng.choice(REALS)
    return rng.choice(INTEGERS)


# --- bytes -----------------------------------------------------------------------------------------------------------


def raw(rng: Random, data: bytes) -> bytes:
    """A few flips, a truncation, a stretch copied, removed or overwritten, numbers set to extremes."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(9)))
    out = bytearray(data)
    kind = rng.randrange(7)
    at = rng.randrange(len(out))
    size = min(rng.choice([1, 2, 4, 8, 16, 64, 512]), len(out) - at)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        del out[at : at + size]
    elif kind == 3:
        to = rng.randrange(len(out))
        out[to:to] = out[at : at + size] * rng.choice([1, 1, 2, 64])
    elif kind == 4:
        for _ in range(rng.choice([1, 1, 2, 8])):
            out[rng.randrange(len(out))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    else:
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            _overwrite(rng, out, aligned=kind == 5)
    return bytes(out)


def _overwrite(rng: Random, out: bytearray, aligned: bool) -> None:
    """One number in place, an extreme one or a little more or less than it was."""
    form = rng.choice(FORMATS)
    size = struct.calcsize(form)
    if len(out) < size:
        return
    at = rng.randrange(len(out) - size + 1)
    at -= at % size if aligned else 0
    (old,) = struct.unpack_from(form, out, at)
    try:
        if form[1] in "fd":
            struct.pack_into(form, out, at, rng.choice(REALS))
        else:
            value = rng.choice([old + rng.choice([-64, -4, -1, 1, 4, 64]), rng.choice(INTEGERS), rng.randrange(4096)])
            out[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    except OverflowError:  # a float that float32 cannot hold
        out[at : at + size] = b"\xff" * size


# --- text ------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(rb"\d+\.\d*(?:[eE][-+]?\d+)?|\d+|[A-Za-z_]\w*|\s+|.", re.DOTALL)
HOSTILE = [
    b"__import__('os').system('touch " + MARKER.encode() + b"')", b"open('" + MARKER.encode() + b"', 'w')",
    b"eval('1')",
    b"().__class__.__base__.__subclasses__()", b"[x for x in x]", b"lambda: 0", b"None", b"True", b"inf", b"nan", b"-1",
    b"9" * 400, b"9" * 5000, b"1e999", b"(" * 90 + b")" * 90, b"[[[]]]", b"'" + b"A" * 5000 + b"'", b"\\", b"\x00",
    b"\xff", b"self", b"x", b"CONSTANTS.c0", b"CONSTANTS.c9999", b"**x", b"*x", b":=",
]  # fmt: skip


def source(rng: Random, data: bytes) -> bytes:
    """Code text: numbers to extremes; names and tokens swapped, removed, doubled; lines likewise; hostile fragments."""
    tokens = TOKEN.findall(data)
    if not tokens:
        return rng.choice(HOSTILE)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        kind = rng.randrange(7)
        at = rng.randrange(len(tokens))
        if kind <= 1:
            numbers = [i for i, token in enumerate(tokens) if token[:1].isdigit()]
            if numbers:
                at = rng.choice(numbers)
                real = not tokens[at].isdigit()
                tokens[at] = str(number(rng, 1.5 if real else int(tokens[at][:18]))).encode()
        elif kind == 2:
            names = [i for i, token in enumerate(tokens) if token[:1].isalpha() or token[:1] == b"_"]
            if names:
                tokens[rng.choice(names)] = tokens[rng.choice(names)]
        elif kind == 3:
            tokens[at] = rng.choice([b"", tokens[at] * 2, tokens[rng.randrange(len(tokens))]])
        elif kind == 4:
            tokens[at] = rng.choice(HOSTILE)
        else:
            lines = b"".join(tokens).split(b"\n")
            at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[at] = rng.choice([b"", lines[other], lines[at] + b"\n" + lines[at]])
            tokens = TOKEN.findall(b"\n".join(lines)) or [b" "]
    return b"".join(tokens)


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_text(rng: Random, data: bytes) -> bytes:
    """Values to extremes and other types, fields and list entries removed, doubled, exchanged with others."""
    try:
        tree = json.loads(data)
    except ValueError:
        return raw(rng, data)
    holder = [tree]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = _places(holder)
        parent, key = rng.choice(places)
        value = parent[key]
        kind = rng.randrange(8)
        if kind <= 2 or (parent is holder and kind < 7):
            leaves = [place for place in places if not isinstance(place[0][place[1]], (dict, list))] or places
            parent, key = rng.choice(leaves)
            parent[key] = changed(rng, parent[key])
        elif kind == 3:
            parent[key] = changed(rng, value)
        elif kind == 4:
            del parent[key]
        elif kind == 5:
            other, place = rng.choice(places)
            parent[key] = json.loads(json.dumps(other[place]))  # a copy: the tree stays one
        elif kind == 6 and isinstance(parent, list):
            parent.insert(key, json.loads(json.dumps(value)))
        elif kind == 6:
            parent[rng.choice(HOSTILE).decode("latin-1")[:50]] = parent.pop(key)
        else:
            parent[key] = rng.choice([{}, [], [[]], {"": {}}, [value] * 3])
    text = json.dumps(holder[0]) if holder else ""
    return text.encode() if rng.random() < 0.95 else raw(rng, text.encode())


def changed(rng: Random, value: object) -> Any:
    """A leaf of another value, and now and then of another type."""
    if rng.random() < 0.2:
        return rng.choice([None, True, "", "x", 0, -1, 1.5, [], {}, [1, 2], {"as_int": 1}])
    if isinstance(value, str):
        try:
            return str(number(rng, int(value)))
        except ValueError:
            return rng.choice(
                [value[:-1], value + "x", value.upper(), "../" * 9 + value, "A" * 5000, "\x00", "\n", "é"]
            )
    if isinstance(value, bool):
        return not value
    return number(rng, value)


def _places(holder: list[Any]) -> list[tuple[Any, Any]]:
    """Every (container, key) below `holder`."""
    found: list[tuple[Any, Any]] = []
    todo: list[Any] = [holder]
    while todo:
        parent = todo.pop()
        keys = parent if isinstance(parent, dict) else range(len(parent))
        for key in keys:
            found.append((parent, key))
            if isinstance(parent[key], (dict, list)):
                todo.append(parent[key])
    return found or [(holder, holder.append(None) or 0)]  # type: ignore[func-returns-value]


# --- pickles ---------------------------------------------------------------------------------------------------------

EVIL = b"cposix\nsystem\nX" + struct.pack("<I", len("touch " + MARKER)) + f"touch {MARKER}".encode() + b"\x85R"


def pickled(rng: Random, data: bytes) -> bytes:
    """Arguments of opcodes to extremes; opcodes removed, doubled, moved, exchanged; a call put in."""
    try:
        starts = [position for _, _, position in pickletools.genops(data) if position is not None]
    except ValueError:
        return raw(rng, data)
    ops = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        kind, at, other = rng.randrange(9), rng.randrange(len(ops)), rng.randrange(len(ops))
        if kind <= 3:
            numbers = [i for i, op in enumerate(ops) if op[:1] in b"KMJG\x8a"]
            if numbers:
                at = rng.choice(numbers)
                ops[at] = _literal(number(rng, 1.0 if ops[at][:1] == b"G" else 1))
        elif kind == 4:
            ops[at] = b""
        elif kind == 5:
            ops[at] = ops[at] * 2
        elif kind == 6:
            ops[at] = ops[other]
        elif kind == 7:
            ops[at] = raw(rng, ops[at])
        else:
            ops.insert(at, rng.choice([EVIL, b"N", b"]", b"}", b")", b"(", b"0", b"\x88", b"h\x00", b"R", b"b", b"."]))
    return b"".join(ops)


def _literal(value: Any) -> bytes:
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def named(rng: Random, name: str, data: bytes) -> bytes:
    """An archive's member, by what its name says that it holds; now and then as plain bytes."""
    kinds: dict[str, Mutator] = {".json": json_text, ".pkl": pickled, ".py": source, "input_shape": json_text}
    kind = next((kinds[end] for end in kinds if name.endswith(end)), raw)
    return kind(rng, data) if rng.random() < 0.9 else raw(rng, data)
