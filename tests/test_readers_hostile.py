"""Damaged and hostile model files: one IntactError each, nothing runs, nothing large is allocated. Needs no torch."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, readers
from pyexport.errors import IntactError
from pyexport.readers import inert, tensors

MODEL = Path(__file__).resolve().parent.parent / "models" / "digits.pt"
needs_model = pytest.mark.skipif(not MODEL.exists(), reason="models/digits.py has not been run")
CONV = "code/__torch__/torch/fx/graph_module.py"


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(MODEL) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, change: dict[str, bytes | None], compress: int = zipfile.ZIP_STORED) -> Path:
    """A copy of the model with the members named by their ending replaced or (None) left out; checksums are right."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in members().items():
            key = next((key for key in change if name == f"digits/{key}"), None)
            new = data if key is None else change[key]
            if new is not None:
                archive.writestr(name, new)
    return path


def outcome(path: Path) -> ir.Graph | str:
    """The graph, or the message of the one error; any other exception is a failure of the test."""
    try:
        return readers.read(path)
    except IntactError as error:
        text = str(error)
        assert str(path) in text and "\n" not in text and len(text) < 700
        return text


def same(a: ir.Graph, b: ir.Graph) -> bool:
    """Whether two graphs hold the same layers and weights."""
    pairs = list(zip(a.nodes, b.nodes, strict=False))
    weights = [(x.weights, y.weights) for x, y in pairs if isinstance(x, ir.Conv2d) and isinstance(y, ir.Conv2d)]
    return len(a.nodes) == len(b.nodes) and a.tensors == b.tensors and all(
        np.array_equal(x.codes, y.codes) and np.array_equal(x.scale, y.scale) for x, y in weights
    )  # fmt: skip


class Evil:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@needs_model
@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickled_command_does_not_run(member: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = rewrite(tmp_path / "evil.pt", {member: pickle.dumps(Evil(f"touch {marker}"), protocol)})
    message = outcome(path)
    assert isinstance(message, str) and member in message
    assert ("system" in message and "nothing was run" in message) or protocol != 2
    assert not marker.exists()


def test_bare_pickle_does_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(f"touch {marker}")))
    message = outcome(path)
    assert isinstance(message, str) and "pickle" in message and not marker.exists()


@needs_model
def test_truncated_anywhere(tmp_path: Path) -> None:
    data, path = MODEL.read_bytes(), tmp_path / "cut.pt"
    for length in [*range(64), *range(64, len(data), 397), len(data) - 1]:
        path.write_bytes(data[:length])
        assert isinstance(outcome(path), str), length


@needs_model
def test_flipped_bits(tmp_path: Path) -> None:
    """A flipped bit is found by a checksum, or lies where it changes nothing."""
    data, path, rng = MODEL.read_bytes(), tmp_path / "flip.pt", random.Random(0)
    original, found = readers.read(MODEL), 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        result = outcome(path)
        found += isinstance(result, str)
        assert isinstance(result, str) or same(result, original)
    assert found > 100


@needs_model
@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl", "traced_inputs.pkl", CONV, "extra/input_shape"])
def test_changed_bytes_under_right_checksums(member: str, tmp_path: Path) -> None:
    data, rng = members()[f"digits/{member}"], random.Random(1)
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        outcome(rewrite(tmp_path / "changed.pt", {member: bytes(damaged)}))


@needs_model
def test_missing_members(tmp_path: Path) -> None:
    original = readers.read(MODEL)
    for name in members():
        member = name.removeprefix("digits/")
        result = outcome(rewrite(tmp_path / "missing.pt", {member: None}))
        needed = member.startswith(("data", "constants", "code")) and not member.endswith("classes/quantized.py")
        assert isinstance(result, str) if needed else isinstance(result, str) or same(result, original)


@needs_model
def test_short_and_long_storages(tmp_path: Path) -> None:
    weights = members()["digits/data/6"]
    for data in (b"", weights[:-1], weights[: len(weights) // 2]):
        message = outcome(rewrite(tmp_path / "short.pt", {"data/6": data}))
        assert isinstance(message, str) and "storage" in message and "conv2" in message


@needs_model
def test_zip_bombs(tmp_path: Path) -> None:
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("digits/constants.pkl", bytes(64 << 20))
    (tmp_path / "bomb.pt").write_bytes(huge.getvalue())
    message = outcome(tmp_path / "bomb.pt")
    assert isinstance(message, str) and "nothing was unpacked" in message
    # Declared small, inflating to more: the declared size is all that is read, and the checksum fails.
    data = bytearray(huge.getvalue())
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<I", 1000)
    (tmp_path / "lies.pt").write_bytes(data)
    assert isinstance(outcome(tmp_path / "lies.pt"), str)
    # Stored members that claim more than the file holds.
    plain = bytearray(MODEL.read_bytes())
    start = plain.index(b"PK\x01\x02")
    plain[start + 20 : start + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    (tmp_path / "claims.pt").write_bytes(plain)
    message = outcome(tmp_path / "claims.pt")
    assert isinstance(message, str) and "nothing was unpacked" in message


FORWARD = "class GraphModule(Module):\n  def forward(self: Any,\n    x: Tensor) -> Tensor:\n"


@needs_model
@pytest.mark.parametrize(
    "code",
    [
        "    return (self).forward(x, )\n",
        "    return " + "(" * 50_000 + "x" + ")" * 50_000 + "\n",
        "    return x" + ".a" * 100_000 + "\n",
        "    return " + "-" * 100_000 + "1\n",
        "    return __import__('os').system('true')\n",
        "    return [y for y in x]\n",
        "    while True:\n      pass\n    return x\n",
        "    x = eval('1')\n    return x\n",
        "    return torch.flatten()\n",
        "    return torch.relu(x, 1, 2, 3)\n",
        "    return torch.relu(1)\n",
        "    return x\n",
        "    return None\n",
        "    return self.conv1[0]\n",
        "    return (self.nothing).forward(x, )\n",
        "    a, b, = x\n    return a\n",
        "    return torch.quantize_per_tensor(x, 0., 0, 13)\n",
        "    return torch.quantize_per_tensor(x, 1e400, 0, 13)\n",
        "    return torch.quantize_per_tensor(x, 0.1, 300, 13)\n",
        "    return torch.view(x, [-1, -1])\n",
        "    return torch.view(x, [9223372036854775807, 9223372036854775807])\n",
        "    q = torch.quantize_per_tensor(x, 0.1, 0, 13)\n    return torch.max_pool2d(q, [2, 2], [0, 0])\n",
        "    q = torch.quantize_per_tensor(x, 0.1, 0, 13)\n    return torch.max_pool2d(q, [1000000, 1], [1, 1])\n",
        "    q = torch.quantize_per_tensor(x, 0.1, 0, 13)\n    return ops.quantized.linear(q, self, 0.1, 0)\n",
        "    q = torch.quantize_per_tensor(x, 0.1, 0, 13)\n    return ops.quantized.conv2d(q, 1, 0.1, 0)\n",
        "\x00",
        "    return 'é\n",
    ],
)  # fmt: skip
def test_hostile_code(code: str, tmp_path: Path) -> None:
    """Endless recursion, deep nesting, Python that is no TorchScript, wrong arguments: always one error."""
    path = rewrite(tmp_path / "code.pt", {CONV: (FORWARD + code).encode()})
    assert isinstance(outcome(path), str)


@needs_model
def test_calls_that_double(tmp_path: Path) -> None:
    """Forty functions that each call the next twice stop at the step limit."""
    here = "__torch__.torch.fx.graph_module."
    text = "".join(
        f"def f{i}(x: Tensor) -> Tensor:\n  return {here}f{i + 1}({here}f{i + 1}(x, ), )\n" for i in range(40)
    )
    code = text + "def f40(x: Tensor) -> Tensor:\n  return x\n" + FORWARD
    code += "    return __torch__.torch.fx.graph_module.f0(x, )\n"
    message = outcome(rewrite(tmp_path / "double.pt", {CONV: code.encode()}))
    assert isinstance(message, str) and "too long" in message


@pytest.mark.parametrize(
    "build",
    [
        lambda: b"\x80\x02]q\x00h\x00a.",  # a list that contains itself
        lambda: b"\x80\x02" + b"(" * 100_000 + b"." ,
        lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        lambda: b"\x80\x02X\xff\xff\xff\x7fabc.",
        lambda: b"\x80\x02h\x05.",
        lambda: b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        lambda: b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        lambda: b"\x80\x02}].",
        lambda: b"\x80\x02}}}s.",
        lambda: b"\x80\x02NQ.",
        lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
        lambda: b"i__builtin__\neval\n.",
        lambda: b"",
        lambda: b"\xff\xff",
        lambda: b"\x80\x02" + b"N" * 10,
    ],
)  # fmt: skip
@needs_model
def test_hostile_pickles(build: Callable[[], bytes], tmp_path: Path) -> None:
    assert isinstance(outcome(rewrite(tmp_path / "model.pt", {"data.pkl": build()})), str)
    outcome(rewrite(tmp_path / "model.pt", {"constants.pkl": build()}))  # a strange constant that nothing uses may pass


def test_pickle_records_are_inert() -> None:
    data = pickle.dumps({"a": [1, 2.5, "x", None, True], "b": (1, 2)}, 2)
    assert inert.load(data, "file", "data") == {"a": [1, 2.5, "x", None, True], "b": (1, 2)}
    with pytest.raises(IntactError, match=r"builtins\.eval|__builtin__\.eval"):
        inert.load(b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", "file", "data")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (11,), (1,)), (10, (1,), (1,)), (1, (5, 2), (2, 1)), (0, (2, 6), (5, 1)), (-1, (2,), (1,)),
        (0, (-2,), (1,)), (0, (2,), (-1,)), (0, (10**6, 10**6), (0, 0)), (0, (2,), (1, 1)), (0, (2.0,), (1,)),
        (0, (3, 4), (0, 1)), (2**70, (1,), (1,)), (0, (2, 2), (9, 9)),
    ],
)  # fmt: skip
def test_tensors_stay_inside_their_storage(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    with pytest.raises(tensors.TensorError):
        tensors.strided(np.arange(10), offset, shape, strides)


def test_views_of_a_storage() -> None:
    flat = np.arange(24)
    assert np.array_equal(tensors.strided(flat, 0, (4, 6), (6, 1)), flat.reshape(4, 6))
    assert np.array_equal(tensors.strided(flat, 2, (2, 3), (1, 2)), [[2, 4, 6], [3, 5, 7]])
    assert tensors.strided(flat, 0, (0, 3), (3, 1)).shape == (0, 3)


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"hello", bytes(1000)])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert isinstance(outcome(path), str)


def test_no_file(tmp_path: Path) -> None:
    assert "cannot be read" in str(outcome(tmp_path / "nothing.pt"))
    assert "is no SavedModel" in str(outcome(tmp_path))


@needs_model
@pytest.mark.parametrize("shape", [(), (0, 8, 8), (8,), (1, 8), (1, 1, 8, 8), (1, 1 << 30, 9), (1, 7, 8), (2, 8, 8)])
def test_wrong_input_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(IntactError, match="input shape"):
        readers.read(MODEL, shape)
