"""`.tflite` files that are damaged, hostile or beyond what the reader takes: one clear error, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyexport import readers
from pyexport.errors import IntactError
from tests.tflite_nets import CASES, Net, padded, softmax, transposed
from tests.tflite_writer import Model


def refusal(data: bytes, folder: Path) -> str:
    """The one error that reading gives, or "" where the file is read; any other exception fails the test."""
    path = folder / "bad.tflite"
    path.write_bytes(data)
    try:
        readers.read(path)
    except IntactError as error:
        text = str(error)
        assert str(path) in text and "\n" not in text and len(text) < 1200
        return text
    return ""


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    net = Net(0)
    source = net.act(4, 4, 2)
    net.ends(source, net.op(100, [source], net.act(4, 4, 2)))
    text = refusal(net.data, tmp_path)
    assert "layer 'mirror_pad_0'" in text and "MIRROR_PAD is not" in text


def test_transposed_shapes_are_checked(tmp_path: Path) -> None:
    assert not refusal(transposed(0, "int8").data, tmp_path)
    assert "a convolution back would give 6" in refusal(transposed(0, "int8", output=(11, 8)).data, tmp_path)
    assert "a convolution back" in refusal(transposed(0, "int8", output=(13, 9), same=False).data, tmp_path)
    net = transposed(0, "int8")
    net.tensors[1] = {**net.tensors[1], 0: np.array([5, 3, 6, 3], np.int32)}
    assert "do not take 6 channels" in refusal(net.data, tmp_path)
    net = transposed(0, "int8")
    net.tensors[3] = {**net.tensors[3], 0: np.array([1, 10, 9, 5], np.int32)}
    assert "is to have the shape [1, 10, 8, 5]" in refusal(net.data, tmp_path)


def test_shapes_are_no_activations(tmp_path: Path) -> None:
    net = transposed(0, "int8", open_batch=True)
    number = next(
        i for i, info in enumerate(net.tensors) if info[1].value == 2 and info[0].size == 0 and not info[2].value
    )
    assert not refusal(net.data, tmp_path)
    net.ends(net.inputs[0], net.op(19, [number], net.act(1, scale=0.1)))
    assert "is a shape, not an activation" in refusal(net.data, tmp_path)
    net = transposed(0, "int8", open_batch=True)
    net.operators[1] = {**net.operators[1], 1: np.array([net.inputs[0], *net.operators[1][1][1:]], np.int32)}
    assert "layer 'strided_slice_1': input 0 must be a constant" in refusal(net.data, tmp_path)
    net = transposed(0, "int8", open_batch=True)
    net.operators[2] = {**net.operators[2], 1: np.array([net.operators[0][2][0]] * 4, np.int32)}
    assert "packs lists" in refusal(net.data, tmp_path)


def test_float_model_is_refused(tmp_path: Path) -> None:
    model = Model()
    a, b = model.tensor((1, 4), "float32"), model.tensor((1, 4), "float32")
    model.inputs, model.outputs = [a], [model.op(19, [a], b)]
    assert "full integer quantisation" in refusal(model.data, tmp_path)


def test_several_faults_are_named(tmp_path: Path) -> None:
    net = softmax(0, "int8", 5)
    net.ends(net.inputs[0], net.op(19, [net.outputs[0]], net.act(5, scale=1 / 256, zero=-128)))
    assert "SOFTMAX is accepted as the last layer only" in refusal(net.data, tmp_path)
    net = padded(0)
    net.operators.pop()
    net.outputs = [2]
    net.op(19, [net.operators[-1][2][0]], net.outputs[0])
    assert "PAD is accepted before a convolution" in refusal(net.data, tmp_path)


@pytest.mark.parametrize(
    "name", ["int8 conv same", "int8 softmax", "int8 add", "pad, transpose", "int8 transposed same"]
)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    data = CASES[name](0).data
    for length in range(8, len(data), 7):
        assert refusal(data[:length], tmp_path) or length > len(data) - 64


@pytest.mark.parametrize(
    "name", ["int8 conv same", "int8 softmax", "int8 add", "pad, transpose", "int8 mean", "int8 transposed same"]
)
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    """Bytes set to extremes, and random damage: an error or a graph, never a crash, a hang or a huge allocation."""
    data = CASES[name](0).data
    rng = np.random.default_rng(0)
    for place in range(8, len(data), 3):
        for value in (0x00, 0x7F, 0xFF):
            refusal(data[:place] + bytes([value]) + data[place + 1 :], tmp_path)
    for _ in range(200):
        changed = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(8, len(data), 6)
        changed[places] = rng.integers(0, 256, 6)
        refusal(changed.tobytes(), tmp_path)


def test_shared_constants_do_not_multiply(tmp_path: Path) -> None:
    """Thousands of layers that all read one large constant would need more memory than the file has bytes."""
    net = Net(0)
    source = net.act(256, scale=0.05, zero=0)
    weights, value = net.weights((256, 256), False), source
    bias = net.bias(source, weights, 256)
    for _ in range(2000):
        value = net.op(9, [value, weights, bias], net.act(256, scale=0.05, zero=0), (8, {}))
    assert "share constants" in refusal(net.ends(source, value).data, tmp_path)
