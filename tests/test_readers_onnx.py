"""ONNX files that are damaged, hostile or beyond what the reader takes: one clear error. Needs neither torch nor
onnxruntime.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx writes the models that these tests read")

from pyexport import ir, readers  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.readers.onnx_pairs import common  # noqa: E402
from pyexport.readers.tensors import TensorError  # noqa: E402
from tests.onnx_writer import Model  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def refusal(data: bytes | Any, folder: Path) -> str:
    """The one error that reading gives, or "" where the file is read; any other exception fails the test."""
    path = folder / "bad.onnx"
    path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    try:
        readers.read(path)
    except IntactError as error:
        text = str(error)
        assert str(path) in text and "\n" not in text and len(text) < 1200
        return text
    return ""


def small(change: Callable[[Model], Any] | None = None, shape: tuple[int | str, ...] = ("batch", 2, 5, 5)) -> Any:
    """One convolution; `change` may add operations on its output "y_d"."""
    model = Model(shape)
    model.pair("x", model.scale("in", 0.05, 3))
    codes = np.arange(36).reshape(2, 2, 3, 3) - 17
    model.op("Conv", f"x_d {model.weights('w', codes, [0.01, 0.02])}", "y", pads=[1, 0, 0, 1])
    model.pair("y", model.scale("y", 0.03, -5))
    if change:
        change(model)
    return model.proto(model.nodes[-1].output[0])


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(small().SerializeToString())
    graph = readers.read(path)
    (node,) = graph.nodes
    assert isinstance(node, ir.Conv2d) and node.name == "n_y" and node.padding == (1, 0, 0, 1)
    assert np.array_equal(node.weights.codes[1, 2, 0], [7, 16]) and node.weights.scale.tolist() == [
        np.float32(0.01),
        np.float32(0.02),
    ]
    assert graph.tensors["n_y"].quant == ir.Quant(np.float32(0.03), -5, "int8") and graph.output.shape == (2, 4, 4)
    assert graph.input.shape == (2, 5, 5) and graph.tensors["input"].quant.zero_point == 3


@pytest.mark.parametrize(
    ("kind", "attributes", "text"),
    [
        ("Softplus", {}, "operation Softplus is not supported; accepted: Add, AveragePool"),
        ("BatchNormalization", {}, "quant_pre_process"),
        ("Transpose", {"perm": [0, 1, 3, 2]}, "moves values"),
        ("Flatten", {"axis": 2}, "mixes the batch"),
        ("Cast", {"to": 10}, "only shapes are cast"),
        ("AveragePool", {"kernel_shape": [2, 2], "ceil_mode": 1}, "ceil_mode"),
        ("MaxPool", {"kernel_shape": [2]}, "two spatial axes"),
        ("MaxPool", {"kernel_shape": [9, 9]}, "does not fit"),
        ("Sigmoid", {}, "--output-range"),
    ],
)
def test_refused_operations(kind: str, attributes: dict[str, Any], text: str, tmp_path: Path) -> None:
    found = refusal(small(lambda model: str(model.op(kind, "y_d", "z", **attributes))), tmp_path)
    assert text in found and ("layer 'n_z'" in found or kind == "Sigmoid")


def test_refused_constants(tmp_path: Path) -> None:
    def bias(model: Model) -> None:
        model.constant("b", np.ones(2, np.int32))
        model.constant("bs", np.float32(0.5))
        model.constant("bz", np.int32(0))
        model.op("DequantizeLinear", "b bs bz", "bd")
        model.op("Conv", "y_d w_d bd", "z")
        model.pair("z", "ys yz")

    assert "another scale than input scale * weight scale" in refusal(small(bias), tmp_path)

    def floats(model: Model) -> None:
        model.constant("v", np.ones((2, 2, 1, 1), np.float32))
        model.op("Conv", "y_d v", "z")
        model.pair("z", "ys yz")

    assert "no quantised (out, in, kh, kw) constant" in refusal(small(floats), tmp_path)
    assert "1 inputs" not in refusal(small(shape=("batch", 2, 5)), tmp_path)
    assert "--input-shape" in refusal(small(shape=("batch", 2, "height", 5)), tmp_path)
    assert "takes 2 channels" in refusal(small(shape=("batch", 3, 5, 5)), tmp_path)


def test_versions(tmp_path: Path) -> None:
    model = small()
    model.ir_version = 99
    assert "IR version 99" in refusal(model, tmp_path)
    model = small()
    model.opset_import[0].version = 5
    assert "opset 5" in refusal(model, tmp_path)


def test_graphs_that_are_none(tmp_path: Path) -> None:
    def loop(model: Model) -> None:
        model.op("Relu", "b", "a")
        model.op("Relu", "a", "b")

    assert "cycle" in refusal(small(loop), tmp_path)
    assert "nothing writes" in refusal(small(lambda model: str(model.op("Relu", "nowhere", "z"))), tmp_path)
    assert "two operations write" in refusal(small(lambda model: str(model.op("Relu", "x_d", "y_d"))), tmp_path)
    model = small()
    reordered = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(reordered)
    assert refusal(model, tmp_path) == ""


def test_external_weights(tmp_path: Path) -> None:
    """Beside the model they are read; a path that leads elsewhere or out of the file is not."""
    model = small()
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "w"]
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4 + weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL

    def entries(**values: str) -> Any:
        del weights.external_data[:]
        for key, value in values.items():
            weights.external_data.add(key=key, value=value)
        return model

    assert refusal(entries(location="weights.bin", offset="4", length="36"), tmp_path) == ""
    assert "lies outside" in refusal(entries(location="weights.bin", offset="5"), tmp_path)
    assert "lies outside" in refusal(entries(location="weights.bin", length="1000000000000"), tmp_path)
    for location in ("../weights.bin", "/etc/passwd", "none.bin", ""):
        assert "not beside the model" in refusal(entries(location=location), tmp_path)
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    assert "not beside the model" in refusal(entries(location="link.bin"), tmp_path)


def test_constants_do_not_multiply(tmp_path: Path) -> None:
    """Layers that share a constant, and shapes that double, would need more memory than the file has bytes."""

    def shapes(model: Model) -> None:
        model.constant("s0", np.ones(4, np.int64))
        for i in range(60):
            model.op("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0)

    assert "share constants" in refusal(small(shapes), tmp_path)

    def layers(model: Model) -> None:
        model.constant("v", np.zeros((256, 2, 11, 11), np.int8))
        model.op("DequantizeLinear", "v inz_s inz_z", "vd")
        model.constant("inz_s", np.float32(0.1))
        model.constant("inz_z", np.int8(0))
        for i in range(2000):
            model.op("Conv", "y_d vd", f"z{i}", pads=[5] * 4)
            model.pair(f"z{i}", "ys yz")

    assert "share constants" in refusal(small(layers), tmp_path)

    def channels(model: Model) -> None:
        for i in range(40):
            model.op(
                "Concat", f"{'y_d' if i == 0 else f'z{i - 1}_d'} {'y_d' if i == 0 else f'z{i - 1}_d'}", f"z{i}", axis=1
            )
            model.pair(f"z{i}", "ys yz")

    assert "positions along axis" in refusal(small(channels), tmp_path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = small().SerializeToString()
    for length in range(0, len(data) - 1, 3):
        refusal(data[:length], tmp_path)
    assert "damaged" in refusal(data[: len(data) // 2], tmp_path)


def test_damaged_bytes(tmp_path: Path) -> None:
    """Bytes set to extremes, and random damage: an error or a graph, never a crash, a hang or a huge allocation."""
    data = small().SerializeToString()
    rng = np.random.default_rng(0)
    for place in range(2, len(data), 4):
        for value in (0x00, 0x7F, 0xFF):
            refusal(data[:place] + bytes([value]) + data[place + 1 :], tmp_path)
    for _ in range(200):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(2, len(data), 6)] = rng.integers(0, 256, 6)
        refusal(changed.tobytes(), tmp_path)


def test_common_range() -> None:
    """Scales 1 and 2 with zero points 0: -128..127 is in both. Zero points -128: 0..255 and 0..510."""

    def scale(step: float, zero: int) -> tuple[Any, Any]:
        return np.asarray(step, np.float32), np.asarray(zero, np.int8)

    for zero in (0, -128):
        step, point = common(scale(1, zero), scale(2, zero))
        assert (float(step), int(point)) == (1.0, zero)
    step, point = common(scale(1, -100), scale(1, 100))  # -28..227 and -228..27: -28..27, 55 steps
    assert step == np.float32(55) / np.float32(255) and point == round(-128 + 28 * 255 / 55)
    with pytest.raises(TensorError, match="no range in common"):
        common(scale(1, -128), scale(1, 127))


def test_other_formats_need_no_onnx() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pyexport import readers\n"
        f"readers.read({str(ROOT / 'models' / 'digits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
