"""QONNX and QCDQ: graphs by hand against their meaning in plain loops, Brevitas's own against their runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport import export, ir, runtimes, verify
from pyexport.errors import IntactError
from pyexport.qlayers import Network

pytest.importorskip("onnx")
from onnx import TensorProto

from tests.qonnx_nets import Net, code_range

f32 = np.float32
WIDTHS = range(2, 9)


def single(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)


def compared(net: Net, path: Path, count: int = 40, **options: Any) -> tuple[export.Exported, int]:
    """The golden model against the graph's meaning, on full-range codes: how many outputs were equal."""
    exported = export.export(str(net.save(path)), **options)
    assert not any(len(values) for layer in exported.network.layers for values in layer.differing)
    return exported, same(net, exported.network, count)


def same(net: Net, network: Network, count: int) -> int:
    codes = verify.driving_codes(network, count)
    quant, out = network.tensors[network.input.tensor].quant, network.tensors[network.output.tensor].quant
    meant = net.run((codes - quant.zero_point) * np.float64(quant.scale))[net.last]
    ours = verify.golden_tensors(network, codes)[network.output.tensor]
    expected = network.output.to_hwc(np.rint(meant / out.scale).astype(np.int64) + out.zero_point)
    assert len(np.unique(expected)) > 2, "the outputs say nothing"
    np.testing.assert_array_equal(ours, expected)
    return ours.size


# --- graphs by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", WIDTHS)
def test_convolutions_and_a_sum(bits: int, tmp_path: Path) -> None:
    """Per-channel scales, an integer and a float bias, odd zero points, a depthwise layer, a sum of both signs."""
    net = Net((3, 5, 5), bits)
    source = net.quant("x", 0.25, 8, signed=0, zero=7.0)
    steps = single([0.5, 0.25, 1, 0.125]).reshape(4, 1, 1, 1)
    bias = net.constant(net.random.integers(-40, 40, 4) * steps.reshape(4) / 4)
    bias = net.quant(bias, steps.reshape(4) / 4, 16)
    net.node("Conv", source, net.weights((4, 3, 3, 3), steps, bits), bias, pads=[1, 1, 1, 1])
    first = net.quant(net.node("Relu", net.last), 2.0 ** (6 - bits), bits, signed=0)
    real = net.constant(net.random.integers(-9, 9, 4) / 8)
    net.node("Conv", first, net.weights((4, 1, 3, 3), 0.25, bits), real, pads=[1, 1, 1, 1], group=4)
    second = net.quant(net.last, 2.0 ** (5 - bits), bits, narrow=1, zero=1.0)
    net.quant(net.node("Add", first, second), 2.0 ** (7 - bits), bits, zero=-1.0)
    exported, _ = compared(net, tmp_path / "sum.onnx")
    assert (exported.graph.source, exported.graph.match) == ("qonnx", "qonnx")
    tensors = [exported.graph.tensors[node.output] for node in exported.graph.nodes]
    assert [tensor.quant.range for tensor in tensors[:2]] == [code_range(bits, 0, 0), code_range(bits, 1, 1)]
    low, high = code_range(bits, 1, 1)
    stored = [layer.weights for layer in exported.network.layers if layer.weights is not None]
    assert len(stored) == 2 and all(low <= codes.min() < codes.max() <= high for codes in stored)


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("behind", ["quant", "round", "floor"])
def test_pools_norms_and_linear_layers(bits: int, behind: str, tmp_path: Path) -> None:
    net = Net((2, 8, 8), bits)
    source = net.quant("x", 0.5, 8)
    net.node("Conv", source, net.weights((4, 2, 3, 3), 0.5, bits))
    norm = [[1, -0.5, 2, 0], [0.25, -3, 1, 5], [1, 0, -2, 4], [0.25, 1, 4, 1]]
    net.node("BatchNormalization", net.last, *[net.constant(values) for values in norm], epsilon=0.0)
    step = 2.0 ** (6 - bits)
    net.quant(net.node("Relu", net.last), step, bits, signed=0)
    net.node("MaxPool", net.last, kernel_shape=[2, 2], strides=[2, 1])
    net.node("AveragePool", net.last, kernel_shape=[2, 2], strides=[1, 2])
    if behind == "quant":
        net.quant(net.last, step / 2, bits, signed=0, narrow=1)
    else:
        scales = [net.constant(value) for value in (step / 4, 0, bits + 2, step * (2 if bits > 6 else 0.5), bits)]
        net.node(
            "Trunc",
            net.last,
            *scales,
            domain="qonnx.custom_op.general",
            signed=0,
            narrow=0,
            rounding_mode=behind.upper(),
        )
    flat = net.node("Flatten", net.last)
    weights = net.weights((6, 16), single([[0.5], [0.25], [1], [0.125], [0.5], [2]]), bits)
    linear = net.quant(net.node("Gemm", flat, weights, net.constant(np.arange(6) / 16), transB=1), 4.0, 8, zero=3.0)
    both = net.node("MatMul", linear, net.weights((6, 5), 0.25, bits, signed=0, zero=1.0))
    net.quant(both, 16.0, 8)
    exported, _ = compared(net, tmp_path / "pools.onnx")
    names = [node.arithmetic for node in exported.graph.nodes if isinstance(node, ir.AvgPool2d)]
    assert names == [{"quant": "ort-average", "round": "trunc-round", "floor": "trunc-floor"}[behind]]


def test_a_concatenation_of_signed_and_unsigned_codes(tmp_path: Path) -> None:
    net = Net((2, 4, 4))
    source = net.quant("x", 0.5, 8, zero=5.0)
    left = net.quant(net.node("Relu", net.node("Conv", source, net.weights((3, 2, 1, 1), 0.5, 4))), 0.5, 5, signed=0)
    right = net.quant(net.node("Conv", source, net.weights((2, 2, 1, 1), 0.25, 4)), 1.0, 6)
    net.quant(net.node("Concat", left, right, axis=1), 2.0, 4, zero=1.0)
    compared(net, tmp_path / "concat.onnx")


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("match", ["ort", "qonnx", "exact"])
def test_qcdq(bits: int, match: str, tmp_path: Path) -> None:
    """Clips of activations and of integer weights; a runtime that rounds each value once gives the same codes."""
    net = Net((2, 6, 6), bits)
    source = net.qcdq("x", 0.5, (-128, 127), np.int8)
    low, high = code_range(bits, 1, 1)
    stored = net.constant(net.random.integers(-128, 128, (4, 2, 3, 3)), np.int8)
    stored = net.node("Clip", stored, net.constant(low, np.int8), net.constant(high, np.int8))
    weights = net.node("DequantizeLinear", stored, net.constant(0.25), net.constant(0, np.int8))
    net.node("Relu", net.node("Conv", source, weights))
    middle = net.qcdq(net.last, 2.0 ** (5 - bits), code_range(bits, 0, 0), np.uint8)
    net.node("Conv", net.node("MaxPool", middle, kernel_shape=[2, 2]), net_weights(net, bits))
    net.qcdq(net.last, 2.0 ** (6 - bits), code_range(bits, 1, 0), np.int8, zero=-2)
    exported, _ = compared(net, tmp_path / "qcdq.onnx", match=match)
    assert exported.graph.source == "onnx"
    assert all(layer.weights is None or np.abs(layer.weights).max() <= high for layer in exported.network.layers)
    unsigned = [tensor.quant for tensor in exported.graph.tensors.values() if tensor.quant.dtype == "uint8"]
    assert unsigned and all(quant.range == code_range(bits, 0, 0) for quant in unsigned)


def net_weights(net: Net, bits: int) -> str:
    low, high = code_range(bits, 1, 1)
    codes = net.constant(net.random.integers(low, high + 1, (3, 4, 2, 2)), np.int8)
    scale, zero = net.constant([0.25, 0.5, 1]), net.constant([0, 0, 0], np.int8)
    return net.node("DequantizeLinear", codes, scale, zero, axis=0)


@pytest.mark.parametrize("bits", [2, 4])
def test_codes_of_4_and_2_bits(bits: int, tmp_path: Path) -> None:
    """ONNX's own types: weights packed, activations by the type of their zero point."""
    signed, unsigned = {2: (TensorProto.INT2, TensorProto.UINT2), 4: (TensorProto.INT4, TensorProto.UINT4)}[bits]
    net = Net((2, 5, 5), bits)
    source = net.qcdq("x", 0.5, (-128, 127), np.int8)
    low, high = code_range(bits, 1, 0)
    codes = net.random.integers(low, high + 1, (3, 2, 3, 3))
    weights = net.node("DequantizeLinear", net.packed(codes, signed), net.constant(0.25), net.packed(0, signed))
    net.node("Conv", source, weights)
    step, zero = net.constant(2.0 ** (5 - bits)), net.packed(1, unsigned)
    net.node("DequantizeLinear", net.node("QuantizeLinear", net.last, step, zero), step, zero)
    exported, _ = compared(net, tmp_path / "narrow.onnx")
    weighted = exported.network.layers[0].weights
    assert weighted is not None and np.array_equal(weighted, codes.transpose(0, 2, 3, 1))
    assert exported.graph.tensors[exported.graph.output.tensor].quant.range == code_range(bits, 0, 0)


def small(**changes: Any) -> Net:
    """A network whose activation quantiser is changed."""
    net = Net((2, 4, 4))
    source = net.quant("x", 0.5, 8)
    net.quant(net.node("Conv", source, net.weights((3, 2, 1, 1), 0.5, 4)), **{"scale": 0.5, "bits": 4, **changes})
    return net


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bits": 1.0}, "1 bit"),
        ({"bits": 9.0}, "bit width 9; whole numbers from 2 to 8"),
        ({"bits": 3.5}, "bit width 3.5"),
        ({"bits": [4.0, 4.0, 4.0]}, "bit width is no single constant"),
        ({"scale": single([0.5, 0.5, 1]).reshape(3, 1, 1)}, "scale is no single constant"),
        ({"scale": -1.0}, "re-calibrate"),
        ({"scale": float("nan")}, "re-calibrate"),
        ({"zero": 0.5}, "zero point 0.5"),
        ({"zero": 8.0}, "zero point 8 is none of its codes -8..7"),
        ({"rounding": "FLOOR"}, "rounding_mode 'FLOOR'"),
    ],
)
def test_a_quantiser_that_cannot_be_followed_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(IntactError, match=says) as error:
        export.export(str(small(**changes).save(tmp_path / "net.onnx")))
    assert "layer 'Quant" in str(error.value) and "net.onnx" in str(error.value)


def refused(net: Net, path: Path, says: str) -> None:
    with pytest.raises(IntactError, match=says):
        export.export(str(net.save(path)))


def test_other_nodes_that_are_refused(tmp_path: Path) -> None:
    domain = "qonnx.custom_op.general"
    net = small()
    net.node("BipolarQuant", net.last, net.constant(1.0), domain=domain)
    refused(net, tmp_path / "net.onnx", "BipolarQuant has 1 bit")
    net = small()
    net.node("Trunc", net.last, *[net.constant(n) for n in (0.5, 0, 8, 4)], domain=domain, rounding_mode="FLOOR")
    refused(net, tmp_path / "net.onnx", "first version")
    net = small()
    parts = [net.constant(n) for n in (0.5, 0, 8, 1, 7)]
    net.node("Trunc", net.last, *parts, domain=domain, rounding_mode="FLOOR")
    refused(net, tmp_path / "net.onnx", "behind an average pool")
    for scale, out in ((0.2, 0.25), (0.125, 0.3)):
        net = small()
        net.node("AveragePool", net.last, kernel_shape=[2, 2])
        parts = [net.constant(n) for n in (scale, 0, 8, out, 7)]
        net.node("Trunc", net.last, *parts, domain=domain, rounding_mode="FLOOR")
        refused(net, tmp_path / "net.onnx", "power of two")
    net = small()
    net.node("Sigmoid", net.last)
    net.quant(net.last, 0.5, 4)
    refused(net, tmp_path / "net.onnx", "no formula of qonnx")


def test_a_weight_without_a_quantiser_is_refused(tmp_path: Path) -> None:
    net = Net((2, 4, 4))
    net.node("Conv", net.quant("x", 0.5, 8), net.constant(np.ones((3, 2, 1, 1))))
    refused(net, tmp_path / "net.onnx", "no quantised")


# --- the arithmetic ------------------------------------------------------------------------------------------------


def layer(**changes: Any) -> runtimes.Layer:
    given = runtimes.Layer(sx=f32(0.5), sw=single([1]), sy=f32(1), zy=0, lo=-128, hi=127)
    return replace(given, **changes)


def test_the_zero_point_goes_in_before_the_rounding() -> None:
    """2.5 with zero point 1: RNE(3.5) = 4, but RNE(2.5) + 1 = 3."""
    acc, channel = np.array([5, 3, -5, -1]), np.zeros(4, np.int64)
    assert runtimes.layer_curve("qonnx", layer(zy=1))(acc, channel).tolist() == [4, 2, -2, 0]
    assert runtimes.layer_curve("exact", layer(zy=1))(acc, channel).tolist() == [3, 3, -1, 1]
    assert runtimes.quantise_input(single([2.5, 1.5, -2.5]), f32(1), 1, "int8", "qonnx").tolist() == [4, 2, -2]
    assert runtimes.quantise_input(single([2.5, 1.5, -2.5]), f32(1), 1, "int8", "ort").tolist() == [3, 3, -1]


def test_biases_and_limits() -> None:
    acc, channel = np.array([0, 1, 2, 300, -300]), np.zeros(5, np.int64)
    whole = layer(bias=np.array([3.0]), bias_is_integer=True)  # 3 * 0.5 = 1.5
    assert runtimes.layer_curve("qonnx", whole)(acc, channel).tolist() == [2, 2, 2, 127, -128]
    real = layer(bias=np.array([1.25]), lo=-2, hi=5)
    assert runtimes.layer_curve("qonnx", real)(acc, channel).tolist() == [1, 2, 2, 5, -2]


@settings(max_examples=60, deadline=None)
@given(
    *[st.integers(-5, 0)] * 3, st.integers(-128, 127), st.integers(-(1 << 20), 1 << 20), st.booleans(), st.integers()
)
def test_powers_of_two_make_it_exact(x: int, w: int, y: int, zero: int, bias: int, whole: bool, seed: int) -> None:
    """Nothing is rounded but the code: with an even zero point it is the real value, half to even.

    The steps are not too fine: a zero point of 100 leaves the quotient 17 bits behind the point.
    """
    real = np.array([float(bias)]) * (1 if whole else 2.0 ** (x + w))
    scales = {"sx": f32(2.0**x), "sw": single([2.0**w]), "sy": f32(2.0**y)}
    given = layer(**scales, zy=zero & ~1, bias=real, bias_is_integer=whole)
    near = np.random.default_rng(abs(seed)).integers(-300, 300, 200) * 2.0 ** (y - x - w - 1) - bias
    acc = np.clip(np.rint(near), -(1 << 22), 1 << 22).astype(np.int64)
    channel = np.zeros(acc.size, np.int64)
    ours, exact = (runtimes.layer_curve(name, given)(acc, channel) for name in ("qonnx", "exact"))
    assert (ours == exact).all()


def test_trunc_divides_the_sum_by_a_power_of_two() -> None:
    source, acc = ir.Quant(f32(0.3), 0, "uint8"), np.array([0, 1, 2, 3, 5, 6, 7, 10, 1000])
    channel = np.zeros(acc.size, np.int64)
    quarter = ir.Quant(f32(0.3 / 9 * 4), 0, "uint8")  # not quite a power of two times the scale of the sum
    for name, expected in (
        ("trunc-round", [0, 0, 0, 1, 1, 2, 2, 2, 250]),
        ("trunc-floor", [0, 0, 0, 0, 1, 1, 1, 2, 250]),
    ):
        curve = runtimes.average_curve(name, "qonnx", 9, 9, 1, source, quarter, (0, 255))
        assert curve(acc, channel).tolist() == expected
    double = ir.Quant(f32(0.3 / 18), 0, "uint8")
    curve = runtimes.average_curve("trunc-floor", "exact", 9, 9, 1, source, double, (0, 15))
    assert curve(acc, channel).tolist() == [0, 2, 4, 6, 10, 12, 14, 15, 15]


def test_sums_and_changes_of_scale_are_float32_operations() -> None:
    a, b, out = ir.Quant(f32(0.1), 3, "int8"), ir.Quant(f32(0.37), -9, "int8"), ir.Quant(f32(0.21), 5, "uint8")
    table = runtimes.add_table(a, b, out, "qonnx", (5, 200), -1)
    for i, j in ((-128, 127), (3, -9), (77, -11), (127, -128)):
        real = f32(i - 3) * a.scale - f32(j + 9) * b.scale
        assert table[i + 128, j + 128] == min(max(np.rint(real / out.scale + f32(5)), 5), 200)
    node = ir.Lookup("l", ("a",), "o", "leaky_relu", (0, 255), alpha=0.25)
    found = runtimes.lookup_table(node, a, out, "qonnx")
    real = f32(-100) * a.scale * f32(0.25)
    assert found[128 - 97] == max(np.rint(real / out.scale + f32(5)), 0) and found[255] == np.rint(
        f32(124) * a.scale / out.scale + f32(5)
    )


# --- Brevitas and qonnx themselves ---------------------------------------------------------------------------------


def test_quant_nodes_round_as_qonnx_does() -> None:
    """Half steps and their neighbours, zero points even and odd."""
    quant = pytest.importorskip("qonnx.custom_op.general.quant").quant
    for scale, zero, bits, signed in ((0.25, 3, 8, 1), (0.037, 7, 5, 0), (1.7e-3, -2, 4, 1)):
        near = (np.arange(-300, 300) / 2 * f32(scale)).astype(f32)
        x = np.concatenate([near, np.nextafter(near, f32(1e9)), np.nextafter(near, f32(-1e9))])
        parts = [np.float32(value) for value in (scale, zero, bits)]
        theirs = quant(x, *parts, signed, 0, "ROUND") / np.float64(f32(scale)) + zero
        low, high = code_range(bits, signed, 0)
        ours = runtimes.quantise_input(x, f32(scale), zero, "int8" if signed else "uint8", "qonnx")
        assert (np.clip(ours, low, high) == np.rint(theirs)).all()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for package in ("brevitas", "qonnx", "onnxruntime", "sklearn"):
        pytest.importorskip(package)
    from models.quantizers import brevitas

    return {one.path.name: one for one in brevitas.build(tmp_path_factory.mktemp("brevitas"), (3,), epochs=1)}


@pytest.mark.parametrize("match", ["ort", "qonnx"])
def test_powers_of_two_give_the_runtimes_codes(built: dict[str, Any], match: str) -> None:
    """Every layer: the sums are exact in float32, so that no code may differ."""
    for name, one in built.items():
        if "fixed" not in name or ("qonnx" in name and match == "ort"):
            continue
        exported = export.export(str(one.path), match=match)
        codes = verify.driving_codes(exported.network, 60)
        found = verify.verify(one.path, exported.graph.source, exported.network, codes)
        assert ("qonnx" if match == "qonnx" else "onnxruntime") in found.runtime
        assert len(found.tensors) == 6 and sum(part.compared for part in found.tensors) > 100_000
        assert [part.differing for part in found.tensors] == [0] * 6


def test_other_scales_differ_at_ties_only(built: dict[str, Any]) -> None:
    """The first layer, whose inputs are the same: a code that differs lies within float32's error of a tie."""
    for name, one in built.items():
        if "float" not in name:
            continue
        exported = export.export(str(one.path), match="qonnx")
        codes = verify.driving_codes(exported.network, 60)
        found = verify.verify(one.path, exported.graph.source, exported.network, codes)
        assert sum(part.compared for part in found.tensors) > 100_000
        assert all(part.differing <= part.compared // 10_000 for part in found.tensors)
        assert found.tensors[0].largest <= 1


def test_batch_normalisation_trunc_and_zero_points(built: dict[str, Any]) -> None:
    one = built["separable_qonnx.onnx"]
    exported = export.export(str(one.path))
    assert any(isinstance(node, ir.AvgPool2d) and node.arithmetic == "trunc-round" for node in exported.graph.nodes)
    codes = verify.driving_codes(exported.network, 60)
    found = verify.verify(one.path, "qonnx", exported.network, codes)
    assert sum(part.compared for part in found.tensors) > 100_000
    assert all(part.differing <= part.compared // 10_000 for part in found.tensors)
