"""quantize_dynamic models: refused as they are, exact once their scales are fixed; against onnxruntime itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx writes the models")
pytest.importorskip("onnxruntime", reason="onnxruntime is what the codes are compared with")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pyexport import calibrate, export, verify  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.readers import read  # noqa: E402


def model(path: Path, rng: np.random.Generator, conv: bool, signed: bool, per_channel: bool, power: bool) -> None:
    """One dynamic layer with ReLU, then another one; power: weight scales that are powers of two."""
    dtype = np.int8 if signed else np.uint8
    limits = np.iinfo(dtype)
    nodes: list[Any] = []
    stored: list[Any] = []

    def constant(name: str, values: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def layer(i: int, source: str, shape: tuple[int, ...], kind: str, out: int) -> str:
        n = str(i)
        per = per_channel and kind == "MatMulInteger"
        count = (out,) if per else ()
        scale = 2.0 ** rng.integers(-9, -5, count) if power else rng.uniform(1e-3, 9e-3, count)
        zero = rng.integers(limits.min, limits.max, count) if not signed else np.zeros(count)
        codes = constant(f"w{n}", rng.integers(limits.min, limits.max + 1, shape).astype(dtype))
        zero_name, scale_name = (
            constant(f"z{n}", np.asarray(zero, dtype)),
            constant(f"s{n}", np.asarray(scale, np.float32)),
        )
        bias = rng.normal(size=(1, out, 1, 1) if kind == "ConvInteger" else (out,)).astype(np.float32)
        nodes.extend(
            [
                helper.make_node("DynamicQuantizeLinear", [source], [f"q{n}", f"qs{n}", f"qz{n}"], f"quantise{n}"),
                helper.make_node("Mul", [f"qs{n}", scale_name], [f"m{n}"], f"scales{n}"),
                helper.make_node(kind, [f"q{n}", codes, f"qz{n}", zero_name], [f"a{n}"], f"layer{n}"),
                helper.make_node("Cast", [f"a{n}"], [f"c{n}"], f"cast{n}", to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"c{n}", f"m{n}"], [f"r{n}"], f"scale{n}"),
                helper.make_node("Add", [f"r{n}", constant(f"b{n}", bias)], [f"y{n}"], f"bias{n}"),
            ]
        )
        return f"y{n}"

    shape: tuple[int, ...]
    if conv:
        shape, first = (2, 6, 6), layer(0, "x", (8, 2, 3, 3), "ConvInteger", 8)
        nodes[2].attribute.extend([helper.make_attribute("pads", [1, 1, 1, 1])])
        nodes.append(helper.make_node("Relu", [first], ["relu"], "relu"))
        nodes.append(helper.make_node("MaxPool", ["relu"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]))
        nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], "flatten"))
        last = layer(1, "flat", (72, 40), "MatMulInteger", 40)
    else:
        shape, first = (16,), layer(0, "x", (16, 64), "MatMulInteger", 64)
        nodes.append(helper.make_node("Relu", [first], ["relu"], "relu"))
        last = layer(1, "relu", (64, 40), "MatMulInteger", 40)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("conv", [False, True])
def test_fixed_scales(conv: bool, signed: bool, per_channel: bool, power: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = tmp_path / "dynamic.onnx"
    model(path, rng, conv, signed, per_channel, power)
    with pytest.raises(IntactError, match=r"quantise0.*--quantize --inputs"):
        read(path)
    shape = (2, 6, 6) if conv else (16,)
    made = calibrate.calibrate(path, rng.normal(size=(30, *shape)).astype(np.float32), tmp_path)
    assert made.was and np.abs(made.before - made.after).max() < 0.2 * np.abs(made.before).max()
    exported = export.export(str(made.file), output_range=made.output_range)
    assert exported.network.match == "ort-dynamic"
    checked = verify.verify(made.file, "onnx", exported.network, verify.driving_codes(exported.network, 400))
    assert checked.output.compared == 16_000 and not any(one.differing for one in checked.tensors)
    listed = sum(len(values) for layer in exported.network.layers for values in layer.differing)
    assert listed <= 8  # single accumulators of some channels whose three float32 roundings no integer form follows


def test_integers_are_the_files_own(tmp_path: Path) -> None:
    """The weights' codes go through untouched; the scale that is divided out of the product gives the product back."""
    path = tmp_path / "dynamic.onnx"
    model(path, np.random.default_rng(5), False, True, True, False)
    made = calibrate.calibrate(path, np.random.default_rng(6).normal(size=(9, 16)).astype(np.float32), tmp_path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(made.file)).graph.initializer}
    graph = read(made.file, output_range=(-1.0, 1.0))
    for i, node in enumerate(graph.nodes):
        weights = getattr(node, "weights")  # noqa: B009  both are linear layers
        assert np.array_equal(weights.codes.reshape(-1, len(stored[f"w{i}"])).T, stored[f"w{i}"])
        sx = graph.tensors[node.inputs[0]].quant.scale
        assert np.array_equal(sx * weights.scale, stored[f"qs{i}"] * stored[f"s{i}"])
        assert np.array_equal(weights.bias, stored[f"b{i}"].astype(np.float64))


def test_wrong_files(tmp_path: Path) -> None:
    """A scale of another size, a zero point that is not the input's."""
    path = tmp_path / "dynamic.onnx"
    model(path, np.random.default_rng(7), False, True, True, False)
    made = calibrate.calibrate(path, np.zeros((2, 16), np.float32) + 1, tmp_path)

    def changed(name: str, values: Any) -> Path:
        proto = onnx.load(str(made.file))
        for tensor in proto.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
        target = tmp_path / "changed.onnx"
        onnx.save(proto, str(target))
        return target

    for name, values, text in (
        ("s0", np.ones(3, np.float32), "one for each channel"),
        ("b0", np.ones(5, np.float32), "a bias of 64"),
        ("z0", np.zeros(3, np.int8), "zero point does not fit"),
        ("w0", np.zeros((16, 64), np.float32), "no int8 or uint8"),
    ):
        with pytest.raises(IntactError, match=text):
            read(changed(name, values), output_range=(-1.0, 1.0))
