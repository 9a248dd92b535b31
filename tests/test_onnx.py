"""ONNX models of onnxruntime's and torchao's quantisers: the golden model against onnxruntime, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, quantise, readers, verify
from tests.onnx_writer import Model

torch = pytest.importorskip("torch", reason="torch writes the models that these tests read")
pytest.importorskip("onnxruntime", reason="onnxruntime quantises the models and is what they are compared with")

from pyexport.hwconfig import HwConfig  # noqa: E402
from sim.runner import simulator_missing  # noqa: E402
from tests import onnx_nets, rtl_network  # noqa: E402
from tests.onnx_nets import FORMATS, NETS, TYPES  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The float networks, ready for quantize_static."""
    folder = tmp_path_factory.mktemp("float")
    torch.manual_seed(0)
    return {
        name: onnx_nets.prepare(net(), shape, folder / f"{i}.onnx")
        for i, (name, (net, shape)) in enumerate(NETS.items())
    }


def assert_equal(result: verify.Verification, least: int) -> None:
    wrong = [tensor for tensor in result.tensors if tensor.differing]
    assert not wrong and sum(tensor.compared for tensor in result.tensors) >= least, (wrong, result.notes)


@pytest.mark.parametrize("types", TYPES, ids="/".join)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NETS)
def test_quantize_static(
    prepared: dict[str, Path], name: str, form: str, types: tuple[str, str], tmp_path: Path
) -> None:
    """Per channel and per tensor; symmetric activations keep ReLU and clips as operations of their own."""
    per_channel, extra = ((True, {}), (False, {}), (True, {"ActivationSymmetric": True}))[
        (FORMATS.index(form) + TYPES.index(types)) % 3
    ]
    path = tmp_path / "net.onnx"
    onnx_nets.quantize_static(prepared[name], NETS[name][1], path, form, types, per_channel, **extra)
    graph = readers.read(path)
    assert (graph.source, graph.match, graph.float_input) == ("onnx", "ort", "ort")
    result = onnx_nets.verified(path)
    assert_equal(result, 30_000)
    assert len(result.tensors) >= 5 and not any("in float" in note for note in result.notes)


@pytest.mark.parametrize("seed", range(8))
def test_two_quantisations_become_one(seed: int, tmp_path: Path) -> None:
    """As onnxruntime has it; without the merge up to half the outputs differ."""
    rng = np.random.default_rng(seed)
    model = Model(("batch", 3, 4, 4))
    first = float(rng.uniform(0.01, 0.1))
    zeros = [int(rng.integers(-128, 128)) for _ in range(2)]
    second = first if seed % 4 == 0 else first * float(rng.uniform(0.5, 2))
    if seed % 3 == 0:
        zeros[1] = zeros[0]
    model.pair("x", model.scale("in", 0.05, 3))
    model.op("Conv", f"x_d {model.weights('v', rng.integers(-127, 128, (4, 3, 1, 1)), 0.01)}", "a")
    twice = model.pair(model.pair("a", model.scale("a", first, zeros[0])), model.scale("b", second, zeros[1]))
    model.op(
        "Conv", f"{twice} {model.weights('w', rng.integers(-127, 128, (4, 4, 1, 1)), [0.01, 0.02, 0.03, 0.04])}", "c"
    )
    path = model.save(tmp_path, model.pair("c", model.scale("c", 0.1, 0)))
    assert_equal(onnx_nets.verified(path, 40), 2_560)


def conv_net(attributes: dict[str, Any], rng: np.random.Generator, kernel: tuple[int, int], groups: int = 1) -> Model:
    """One convolution with an int32 bias, its weights quantised per channel."""
    model = Model(("batch", 4, 9, 8))
    model.pair("x", model.scale("in", 0.05, 3))
    scales = rng.uniform(0.001, 0.01, 6).astype(np.float32)
    weights = model.weights("w", rng.integers(-127, 128, (6, 4 // groups, *kernel)), scales)
    model.constant("b", rng.integers(-9999, 9999, 6).astype(np.int32))
    model.constant("bs", np.float32(0.05) * scales)
    model.constant("bz", np.zeros(6, np.int32))
    model.op("DequantizeLinear", "b bs bz", "bd", axis=0)
    model.op("Conv", f"x_d {weights} bd", "y", **attributes)
    model.pair("y", model.scale("y", 0.03, -5))
    return model


@pytest.mark.parametrize(
    ("attributes", "padding"),
    [
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (1, 1, 0, 1)),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (1, 1, 1, 0)),
        ({"auto_pad": "VALID"}, (0, 0, 0, 0)),
        ({"pads": [0, 2, 1, 0], "dilations": [2, 1]}, (0, 1, 2, 0)),
        ({"pads": [1, 1, 1, 1], "group": 2}, (1, 1, 1, 1)),
    ],
)
def test_windows(attributes: dict[str, Any], padding: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = conv_net(attributes, rng, (3, 3), attributes.get("group", 1)).save(tmp_path, "y_d")
    (node,) = readers.read(path).nodes
    assert isinstance(node, ir.Conv2d) and node.padding == padding and node.weights.bias_is_integer
    assert_equal(onnx_nets.verified(path, 100), 10_000)


@pytest.mark.parametrize("kind", ["Gemm", "MatMul", "Gemm transposed"])
def test_linear(kind: str, tmp_path: Path) -> None:
    """Weights (in, out) have their scales along axis 1."""
    rng = np.random.default_rng(1)
    model = Model(("batch", 2, 3, 3))
    model.pair("x", model.scale("in", 0.05, 3))
    transposed = kind.endswith("transposed")
    codes = rng.integers(-127, 128, (18, 32)).astype(np.int8)
    model.constant("w", codes.T if transposed else codes)
    model.constant("ws", rng.uniform(0.001, 0.01, 32).astype(np.float32))
    model.constant("wz", np.zeros(32, np.int8))
    model.op("DequantizeLinear", "w ws wz", "wd", axis=0 if transposed else 1)
    model.op("Flatten", "x_d", "f")
    bias = ""
    if kind != "MatMul":
        model.constant("b", rng.integers(-999, 999, 32).astype(np.int32))
        model.constant("bs", np.float32(0.05) * model.constants["ws"])
        model.constant("bz", np.zeros(32, np.int32))
        bias = model.op("DequantizeLinear", "b bs bz", "bd", axis=0)
    fed = model.pair("f", "ins inz")
    attributes: dict[str, Any] = {"transB": 1} if transposed else {}
    model.op(kind.split()[0], f"{fed} wd {bias}", "y", **attributes)
    path = model.save(tmp_path, model.pair("y", model.scale("y", 0.02, 9)))
    (node,) = readers.read(path).nodes
    assert isinstance(node, ir.Linear) and np.array_equal(node.weights.codes[5].transpose(2, 0, 1).ravel(), codes[:, 5])
    assert_equal(onnx_nets.verified(path, 400), 12_800)


def test_a_million_outputs_of_convolution_and_linear(tmp_path: Path) -> None:
    """Power-of-two and other scales, many channels, codes over the whole range: none differs."""
    compared = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = Model(("batch", 3, 8, 8))
        model.pair("x", model.scale("in", 2.0**-5 if seed < 2 else 0.043, 3))
        scales = 2.0 ** rng.integers(-9, -5, 64) if seed < 2 else rng.uniform(0.001, 0.02, 64)
        model.op("Conv", f"x_d {model.weights('v', rng.integers(-127, 128, (64, 3, 3, 3)), scales)}", "a", pads=[1] * 4)
        fed = model.pair("a", model.scale("a", 2.0**-4 if seed < 2 else 0.061, -7))
        model.op("Flatten", fed, "f")
        flat = model.pair("f", "as az")
        codes = rng.integers(-127, 128, (96, 4096))
        model.op("Gemm", f"{flat} {model.weights('w', codes, scales.mean())}", "y", transB=1)
        path = model.save(tmp_path, model.pair("y", model.scale("y", 2.0 if seed < 2 else 1.9, 0)))
        result = onnx_nets.verified(path, 64, seed)
        assert_equal(result, 64 * (4096 + 96))
        compared += sum(tensor.compared for tensor in result.tensors)
    assert compared >= 1_000_000


@pytest.mark.parametrize("power_of_two", [False, True])
def test_every_channel_is_proved(power_of_two: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = Model(("batch", 3, 6, 6))
    model.pair("x", model.scale("in", 0.03125 if power_of_two else 0.0437, 3))
    scales = 2.0 ** rng.integers(-12, -4, 1000) if power_of_two else np.exp(rng.uniform(-9, -4, 1000))
    model.op("Conv", f"x_d {model.weights('v', rng.integers(-127, 128, (1000, 3, 3, 3)), scales)}", "a")
    path = model.save(tmp_path, model.pair("a", model.scale("a", 0.0625 if power_of_two else 0.061, -7)))
    (layer,) = quantise.quantise(readers.read(path)).layers
    assert not sum(values.size for values in layer.differing)


@pytest.mark.parametrize("form", FORMATS)
def test_on_the_verilog(prepared: dict[str, Path], form: str, tmp_path: Path) -> None:
    """Sum, concatenation with a change of scale, sigmoid, leaky ReLU, global pool: every layer's codes and cycles."""
    if reason := simulator_missing("verilator"):
        pytest.skip(reason)
    path = tmp_path / "net.onnx"
    onnx_nets.quantize_static(prepared["residual"], NETS["residual"][1], path, form)
    graph = readers.read(path)
    assert {"Add", "Concat", "AvgPool2d", "Lookup"} <= {type(node).__name__ for node in graph.nodes}
    config = HwConfig(4, 4, 4, act_depth=2048, wgt_depth=1024, prm_depth=128, prg_depth=512, layers=16, tables=4)
    ready = rtl_network.prepare(graph, config, 3, fixed_depths=True)
    count = rtl_network.assert_equal(ready, rtl_network.simulated("verilator", ready, "onnx_hardware"))
    print(f"{count} codes")


@pytest.mark.parametrize(
    "kind", ["X86InductorQuantizer", "XNNPACKQuantizer, per channel", "XNNPACKQuantizer, per tensor"]
)
def test_torchao_exported_to_onnx(kind: str, tmp_path: Path) -> None:
    """Float biases, which onnxruntime quantises; the last layer of X86InductorQuantizer, which it computes in float."""
    pytest.importorskip("torchao.quantization.pt2e", reason="torchao quantises the models that this test reads")
    pytest.importorskip("onnxscript", reason="torch.onnx.export(dynamo=True) needs it")
    path = onnx_nets.torchao(kind, tmp_path / "net.onnx")
    result = onnx_nets.verified(path, 100)
    *inner, output = result.tensors
    assert sum(tensor.compared for tensor in inner) > 500_000 and not any(tensor.differing for tensor in inner)
    if kind.startswith("X86"):
        assert output.differing <= 2 and "1 Gemm" in result.notes[0]
    else:
        assert not output.differing and not result.notes


def test_a_layer_in_float_keeps_its_bias(tmp_path: Path) -> None:
    """A bias of a third of an accumulator step counts where nothing rounds it."""
    model = Model(("batch", 4))
    model.pair("x", model.scale("in", 1.0, 0))
    model.constant("b", np.array([1 / 3, -1 / 3], np.float32))
    model.op("Gemm", f"x_d {model.weights('w', np.eye(2, 4), 1.0)} b", "y", transB=1)
    graph = readers.read(model.save(tmp_path, "y"), output_range=(-1.275, 1.275))
    (node,) = graph.nodes
    assert isinstance(node, ir.Linear) and node.in_float and not node.weights.bias_is_integer
    quant = graph.tensors[graph.output.tensor].quant
    network = quantise.quantise(graph)
    codes = verify.golden_tensors(network, np.zeros((1, 4), np.int64))[network.output.tensor].ravel()
    assert (codes - quant.zero_point).tolist() == [33, -33]  # a third in steps of 0.01
