"""Sums and int32: bounds that are attained and never passed, the proof's edges, and wrapping as the runtimes wrap."""

from __future__ import annotations

import importlib.util
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport import arith, export, golden, ir, lower, overflow, quantise, readers
from pyexport.errors import IntactError
from pyexport.fit import accumulator_bounds
from pyexport.golden.accumulate import accumulate
from pyexport.qlayers import Network
from sim.runner import simulator_missing
from tests import rtl_network
from tests.refusals import message
from tests.test_random_networks import ARRAYS
from tests.tflite_nets import Net, byte

ROOT = Path(__file__).resolve().parent.parent
LOW, HIGH = arith.INT32
LITERT = importlib.util.find_spec("ai_edge_litert") is not None
needs_litert = pytest.mark.skipif(not LITERT, reason="ai-edge-litert is not installed: pip install ai-edge-litert")


def one(value: int) -> arith.IntArray:
    return np.array([value], np.int64)


# --- bounds ----------------------------------------------------------------------------------------------------------


@given(
    weights=st.lists(st.integers(-255, 255), min_size=1, max_size=4),
    low=st.integers(-6, 0),
    width=st.integers(0, 5),
)
def test_bounds_against_every_input(weights: list[int], low: int, width: int) -> None:
    """Brute force: no input passes a bound, and some input attains each; an x of 0 is always among the inputs."""
    high = max(low + width, 0)
    bounds = accumulator_bounds(np.array([weights]), low, high)
    sums = {int(np.dot(x, weights)) for x in itertools.product(range(low, high + 1), repeat=len(weights))}
    assert (int(bounds[0][0]), int(bounds[1][0])) == (min(sums), max(sums))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), taps=st.integers(1, 1 << 12), high=st.sampled_from([1, 127, 255]))
def test_long_sums(seed: int, taps: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-255, 256, taps)
    lo, hi = accumulator_bounds(weights[None], -high, high)
    x = rng.integers(-high, high + 1, (20, taps))
    assert ((x @ weights >= lo) & (x @ weights <= hi)).all()
    assert int(np.sign(weights) @ weights) * high == hi[0] == -lo[0]


def test_the_largest_layers_do_not_overflow_the_proof_itself() -> None:
    """2^17 taps of 255 x 255: about four times int32, exact in int64."""
    lo, hi = accumulator_bounds(np.full((2, 1 << 17), -255, np.int16), -255, 255)
    assert hi[0] == 255 * 255 << 17 == -lo[0] > HIGH


# --- the proof -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lo", "hi", "bias"), [(LOW, HIGH, 0), (-5, HIGH - 7, 7), (LOW + 7, 5, -7), (0, 0, HIGH), (0, 0, LOW)]
)
def test_just_inside(lo: int, hi: int, bias: int) -> None:
    found = overflow.domain(one(lo), one(hi), np.array([float(bias)]), (0, 255), "ort", False)
    assert (found.lo[0], found.hi[0], found.wraps) == (lo, hi, False)


@pytest.mark.parametrize(
    ("lo", "hi", "bias", "value", "codes"),
    [
        (0, HIGH, 1, HIGH + 1, (255, 0)),
        (LOW, 0, -1, LOW - 1, (0, 255)),
        (-5, HIGH + 1, 0, HIGH + 1, (255, 0)),
        (LOW - 3, HIGH + 1, 0, LOW - 3, (0, 255)),
        (LOW - 3, HIGH + 4, 0, HIGH + 4, (255, 0)),
    ],
)
def test_just_outside(lo: int, hi: int, bias: int, value: int, codes: tuple[int, int]) -> None:
    with pytest.raises(IntactError, match=rf"codes {codes[0]} under positive weights and {codes[1]} ") as refused:
        overflow.domain(one(lo), one(hi), np.array([float(bias)]), (0, 255), "ort", False)
    assert f"{value:,}, outside int32" in str(refused.value) and overflow.FLAG in str(refused.value)
    found = overflow.domain(one(lo), one(hi), np.array([float(bias)]), (0, 255), "ort", True)
    assert found.wraps and (found.lo[0] + bias, found.hi[0] + bias) == (LOW, HIGH)


def test_a_float_bias_is_no_part_of_the_sum() -> None:
    assert not overflow.domain(one(LOW), one(HIGH), None, (0, 255), "fbgemm", False).wraps


@pytest.mark.parametrize("bias", [2.0**31, -(2.0**31) - 1, 2.9e10, 1e300])
def test_a_bias_that_int32_cannot_hold(bias: float) -> None:
    with pytest.raises(IntactError, match=r"channel 0: bias .* does not fit int32, in which qnnpack holds it"):
        overflow.domain(one(-5), one(5), np.array([bias]), (0, 255), "qnnpack", False)
    found = overflow.domain(one(-5), one(5), np.array([bias]), (0, 255), "qnnpack", True)
    assert (found.lo[0], found.hi[0], found.wraps) == (-5, 5, False)


@given(st.integers(-(1 << 40), 1 << 40))
def test_wrapped(value: int) -> None:
    expected = (value + (1 << 31)) % (1 << 32) - (1 << 31)
    assert int(arith.wrapped(one(value))[0]) == expected


def test_integer_bias_of_a_file() -> None:
    """A reader's integer bias that is no int32 is refused before any arithmetic."""
    graph = linear_graph(3, 1, 0)
    node = graph.nodes[0]
    assert isinstance(node, ir.Linear)
    for bias in (2.0**31, -(2.0**31) - 1, 0.5):
        weights = replace(node.weights, bias=np.array([bias]), bias_is_integer=True)
        with pytest.raises(IntactError, match="no int32"):
            ir.check(replace(graph, nodes=(replace(node, weights=weights),)), "file")


# --- whole layers ----------------------------------------------------------------------------------------------------


def linear_graph(inputs: int, weight: int, bias: int, zero: int = 0, match: str = "ort") -> ir.Graph:
    """One output: `weight`, at weight zero point `zero`, under each of `inputs` uint8 codes of zero point 0."""
    quant, out = ir.Quant(np.float32(1), 0, "uint8"), ir.Quant(np.float32(2.0**24), 128, "uint8")
    weights = ir.Weights(
        np.full((1, 1, 1, inputs), weight, np.int16), np.ones(1, np.float32), np.array([zero], np.int32),
        np.array([float(bias)]), True,
    )  # fmt: skip
    tensors = {"input": ir.Tensor("input", (1, 1, inputs), quant), "y": ir.Tensor("y", (1, 1, 1), out)}
    node = ir.Linear("fc", ("input",), "y", weights, (0, 255))
    ends = ir.Port("input", (inputs,), (None, None, 0)), ir.Port("y", (1,), (None, None, 0))
    return ir.check(ir.Graph("net", "made", match, tensors, (node,), *ends, "ort"), "net")


# Inputs of one sign, and few inputs with a bias at the edge: every way over.
OVER = [(70_000, 127, 0), (70_000, -128, 0), (1_000, 127, HIGH - 1_000), (1_000, -128, LOW + 1_000)]


@pytest.mark.parametrize(("inputs", "weight", "bias"), OVER)
def test_refused_with_inputs_that_overflow(inputs: int, weight: int, bias: int) -> None:
    """The named codes, put through the golden model's own sum, give the named value."""
    graph = linear_graph(inputs, weight, bias)
    with pytest.raises(IntactError, match="layer 'fc': channel 0: input codes") as refused:
        quantise.quantise(graph)
    text = str(refused.value).replace(",", "")
    found = re.search(r"codes (\d+) under positive weights and (\d+) under negative ones", text)
    value = re.search(r"= (-?\d+) outside|accumulator (-?\d+) outside", text)
    assert found and value
    code = int(found[1] if weight > 0 else found[2])
    network = quantise.quantise(graph, allow_overflow=True)
    source = network.tensors["input"]
    acc = accumulate(np.full((1, 1, 1, inputs), code - 128, np.int8), network.layers[0], source)
    assert int(acc[0, 0, 0, 0]) + bias == int(value[1] or value[2]) and not LOW <= int(acc[0, 0, 0, 0]) + bias <= HIGH


def codes_of(network: Network, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs whose sums lie on both sides of the edges; the source's codes, and the golden model's output codes."""
    rng = np.random.default_rng(0)
    source = network.tensors["input"]
    low, high = source.quant.range
    levels = rng.integers(low, high + 1, (24, 1))
    x = np.clip(levels + rng.integers(-8, 9, (24, inputs)), low, high)
    x[0], x[1] = low, high
    out = golden.run(network, (x + source.shift).astype(np.int8)[:, None, None])[network.output.tensor]
    return x, out.astype(np.int64).reshape(24, -1) - network.tensors[network.output.tensor].shift


def wrapped_codes(x: np.ndarray, weight: int, bias: int) -> tuple[np.ndarray, int]:
    """The sum modulo 2^32, then RNE(F(v) * 2^-24) + 128; and how many sums lie outside int32."""
    sums = x.sum(1) * weight + bias
    v = (sums + (1 << 31)) % (1 << 32) - (1 << 31)
    codes = np.clip(np.rint(v.astype(np.float32) * np.float32(2.0**-24)) + 128, 0, 255)
    return codes.astype(np.int64)[:, None], int(((sums < LOW) | (sums > HIGH)).sum())


@pytest.mark.parametrize(("inputs", "weight", "bias"), OVER)
def test_allowed_sums_wrap(inputs: int, weight: int, bias: int) -> None:
    network = quantise.quantise(linear_graph(inputs, weight, bias), allow_overflow=True)
    layer = network.layers[0]
    assert layer.wraps and int(layer.requant.bias[0]) == bias
    x, found = codes_of(network, inputs)
    expected, outside = wrapped_codes(x, weight, bias)
    assert outside > 1 and np.array_equal(found, expected)


@pytest.mark.parametrize(("inputs", "weight", "bias"), OVER)
def test_onnxruntime_wraps_alike(inputs: int, weight: int, bias: int) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx writes the model")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs it")
    numbers = {
        "sx": np.float32(1), "zx": np.uint8(0), "w": np.full((1, inputs, 1, 1), weight, np.int8), "sw": np.float32(1),
        "zw": np.int8(0), "sy": np.float32(2.0**24), "zy": np.uint8(128), "b": np.array([bias], np.int32),
    }  # fmt: skip
    kind, info = onnx.TensorProto.UINT8, onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("QLinearConv", ["x", *numbers], ["y"])
    ends = [info("x", kind, [1, inputs, 1, 1])], [info("y", kind, [1, 1, 1, 1])]
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "net", *ends, held),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    session = runtime.InferenceSession(model.SerializeToString())
    x, found = codes_of(quantise.quantise(linear_graph(inputs, weight, bias), allow_overflow=True), inputs)
    theirs = [session.run(None, {"x": row.astype(np.uint8).reshape(1, -1, 1, 1)})[0].reshape(-1) for row in x]
    assert np.array_equal(found, np.stack(theirs))


@needs_litert
@pytest.mark.parametrize("runtime", ["tflite-ref", "tflite-xnnpack"])
@pytest.mark.parametrize(("inputs", "weight", "bias"), [(n, max(w, -127), b) for n, w, b in OVER])
def test_tflite_wraps_alike(inputs: int, weight: int, bias: int, runtime: str, tmp_path: Path) -> None:
    from tests import tflite_reference

    net, path = Net(0), tmp_path / "net.tflite"
    source = net.act(inputs, scale=1.0, zero=-128)
    weights = net.tensor((1, inputs), "int8", 1.0, 0, np.full((1, inputs), weight))
    biases = net.tensor((1,), "int32", 1.0, 0, np.array([bias]))
    net.ends(source, net.op(9, [source, weights, biases], net.act(1, scale=2.0**24, zero=0), (8, {0: byte(0)})))
    path.write_bytes(net.data)
    with pytest.raises(IntactError, match=r"net\.tflite: layer .*: channel 0: input codes"):
        export.export(str(path), match=runtime)
    network = quantise.quantise(readers.read(path), runtime, allow_overflow=True)
    x, found = codes_of(network, inputs)
    assert np.array_equal(found, tflite_reference.run_litert(net.data, [x], runtime).reshape(24, 1))


@pytest.mark.parametrize("engine", ["fbgemm", "onednn"])
@pytest.mark.parametrize(("inputs", "weight"), [(70_000, 127), (70_000, -128)])
def test_torch_wraps_alike(inputs: int, weight: int, engine: str) -> None:
    """torch's float bias is added to the sum that has wrapped."""
    torch = pytest.importorskip("torch", reason="torch is the runtime")
    from tests import torch_nets

    if not torch_nets.VNNI:
        pytest.skip("without VNNI torch's kernels saturate in int16")
    torch_nets.setup(engine=engine)
    graph, bias = linear_graph(inputs, weight, 0, match=engine), 3.0 * 2.0**24
    node = graph.nodes[0]
    assert isinstance(node, ir.Linear)
    weights = replace(node.weights, bias=np.array([bias]), bias_is_integer=False)
    network = quantise.quantise(replace(graph, nodes=(replace(node, weights=weights),)), allow_overflow=True)
    x, found = codes_of(network, inputs)
    codes = torch.quantize_per_channel(
        torch.full((1, inputs), float(weight)), torch.ones(1), torch.zeros(1, dtype=torch.int), 0, torch.qint8
    )
    packed = torch.ops.quantized.linear_prepack(codes, torch.tensor([bias]))
    real = torch.quantize_per_tensor(torch.from_numpy(x.astype(np.float32)), 1.0, 0, torch.quint8)
    theirs = torch.ops.quantized.linear(real, packed, 2.0**24, 128).int_repr().numpy()
    assert np.array_equal(found, theirs) and len(np.unique(found)) > 5


@pytest.mark.parametrize(
    ("inputs", "weight", "zero", "bias"),
    [(900, 127, 0, HIGH - 1_000), (900, 127, -128, HIGH - 1_000), (900, -128, 127, LOW + 1_000)],
)
def test_the_verilog_wraps_alike(inputs: int, weight: int, zero: int, bias: int) -> None:
    """One pass and two passes of weights, every code of the layer compared."""
    if reason := simulator_missing("verilator"):
        pytest.skip(reason)
    graph = linear_graph(inputs, weight, bias, zero)
    network = quantise.quantise(graph, allow_overflow=True)
    assert network.layers[0].wraps
    config = ARRAYS["8x8"]
    lowered = lower.with_depths(lower.lower(network, config), config)
    x, _ = codes_of(network, inputs)
    on_chip = (x[:6] - 128).astype(np.int8)[:, None, None]
    codes, cycles = golden.run(network, on_chip), golden.network_cycles(network, config)
    prepared = rtl_network.Prepared(network, lowered, on_chip, codes, cycles)
    compared = rtl_network.assert_equal(prepared, rtl_network.simulated("verilator", prepared, "overflow"))
    assert compared >= 6
    sums = x[:6].sum(1) * (weight - zero) + bias
    assert ((sums < LOW) | (sums > HIGH)).any()


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Refused in one line, nothing written; with the flag it is exported, says so, and explains a wrapped sum."""
    net, path, out = Net(0), tmp_path / "net.tflite", tmp_path / "out"
    source = net.act(70_000, scale=1.0, zero=-128)
    weights = net.tensor((1, 70_000), "int8", 1.0, 0, np.full((1, 70_000), 127))
    net.ends(source, net.op(9, [source, weights, -1], net.act(1, scale=2.0**24, zero=0), (8, {0: byte(0)})))
    path.write_bytes(net.data)
    said = message(capsys, export.main, [str(path), "-o", str(out)])
    assert "channel 0: input codes 127 under positive weights and -128 under negative ones" in said and not out.exists()
    assert "2,266,950,000, outside int32" in said
    assert export.main([str(path), "-o", str(out), overflow.FLAG]) == 0
    assert "wrap modulo 2^32" in capsys.readouterr().out
    shown = export.export(str(path), allow_overflow=True).manifest["layers"][0]
    assert shown["sums_wrap"] and shown["sum_range"] == [0, 2_266_950_000]
    inputs = tmp_path / "x.npy"
    np.save(inputs, np.full((1, 70_000), 127))
    assert export.main([str(path), overflow.FLAG, "--inputs", str(inputs), "--explain", shown["name"]]) == 0
    text = capsys.readouterr().out
    assert "wraps modulo 2^32" in text and f"= {2_266_950_000 - (1 << 32)}" in text


def test_the_demo_cannot_overflow() -> None:
    exported = export.export(str(ROOT / "models" / "digits.pt"))
    for layer in exported.manifest["layers"]:
        if "sum_range" in layer:
            low, high = layer["sum_range"]
            assert LOW <= low <= 0 <= high <= HIGH and not layer["sums_wrap"]
        if "weights" in layer:
            ends = np.asarray(layer["weights"]["accumulator_range"]) + np.asarray(layer["bias"])
            assert (low, high) == (ends.min(), ends.max())


@pytest.mark.parametrize("match", ["qnnpack", "ort"])
def test_a_huge_bias_over_weights_of_zero(match: str) -> None:
    """A bias of 100 at a step of 3e-9 is no int32: fbgemm holds it in float, the others would not return it."""
    model = str(ROOT / "models" / "constant_100.pt")
    assert export.export(model).manifest["proved_equal"]
    with pytest.raises(IntactError, match="does not fit int32"):
        export.export(model, match=match)
    layer = export.export(model, match=match, allow_overflow=True).network.layers[0]
    assert not layer.wraps
