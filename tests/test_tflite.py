"""TFLite's formulas through the reader: layers, pairs of codes and the published networks against ai-edge-litert."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pyexport import ir, quantise, readers, runtimes
from pyexport.errors import IntactError
from tests import tflite_reference as reference
from tests.tflite_nets import CASES, LOW, Net, softmax, transposed
from tests.tflite_writer import Model

LITERT = importlib.util.find_spec("ai_edge_litert") is not None
needs_litert = pytest.mark.skipif(not LITERT, reason="ai-edge-litert is not installed: pip install ai-edge-litert")
INPUTS = {"mobilenet_v2_quantized_1x3x224x224.tflite": 4}  # 300 M MACs: more with `python -m tests.tflite_reference`


@pytest.mark.parametrize("name", CASES)
def test_layer_reads(name: str, tmp_path: Path) -> None:
    """Reads and evaluates in every runtime, without ai-edge-litert."""
    graph = read(CASES[name](1), tmp_path)
    inputs = reference.stimuli(graph.input.shape, graph.tensors["input"].quant, 3)
    for runtime in reference.MATCHES:
        assert len(reference.evaluate(graph, inputs, runtime)[""]) == 3


@needs_litert
@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("name", CASES)
def test_layer_equals_litert(name: str, runtime: str, tmp_path: Path) -> None:
    for seed in range(6):
        net = CASES[name](seed)
        graph = read(net, tmp_path)
        inputs = reference.stimuli(graph.input.shape, graph.tensors["input"].quant, 24, seed)
        expected = reference.run_litert(net.data, [inputs], runtime)
        given = reference.evaluate(graph, inputs, runtime)[""].reshape(expected.shape)
        assert np.array_equal(given, expected), f"seed {seed}: {int((given != expected).sum())} codes differ"


def test_transposed_without_delegate(tmp_path: Path) -> None:
    """uint8 whose kernel is below the stride: TFLite's own kernel rounds by place, only its reference is followed."""
    graph = read(transposed(0, "uint8", stride=(3, 2), kernel=(2, 1)), tmp_path)
    assert quantise.quantise(graph).match == "tflite-ref"
    for runtime in ("tflite-xnnpack", "tflite-ruy"):
        with pytest.raises(IntactError, match=r"layer 'transpose_conv_0'.*--match tflite-ref"):
            quantise.quantise(graph, runtime)


def read(net: Model, folder: Path) -> ir.Graph:
    path = folder / "net.tflite"
    path.write_bytes(net.data)
    return readers.read(path)


# --- pairs of codes ------------------------------------------------------------------------------------------------


@needs_litert
@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_pair_of_codes(dtype: ir.Dtype, runtime: str) -> None:
    """ADD, SUB and MUL on all 65,536 pairs."""
    codes = np.arange(256) + LOW[dtype]
    pairs = [np.repeat(codes, 256)[None], np.tile(codes, 256)[None]]
    for seed in range(8):
        net = Net(seed, dtype)
        qa, qb, qy = (ir.Quant(np.float32(np.exp(net.rng.uniform(-5, -2))), net.zero(), dtype) for _ in range(3))
        a, b, y = (net.act(65536, scale=float(q.scale), zero=q.zero_point) for q in (qa, qb, qy))
        for code, options in ((0, 11), (41, 28), (18, 21)):
            model = Model(list(net.tensors), inputs=[a, b], outputs=[y])
            model.op(code, [a, b], y, (options, {}))
            given = reference.run_litert(model.data, [p.astype(dtype) for p in pairs], runtime).reshape(256, 256)
            if code == 18:
                expected = runtimes.multiply_table(qa, qb, qy, runtime)
            else:
                expected = runtimes.add_table(qa, qb, qy, runtime, sign=1 if code == 0 else -1)
            assert np.array_equal(given, expected), f"operator {code}: {int((given != expected).sum())} differ"


@needs_litert
@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_input_quantise(dtype: str, runtime: str) -> None:
    """QUANTIZE of real numbers, most of them at or beside a rounding tie."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        scale, zero = np.float32(np.exp(rng.uniform(-5, 2))), int(rng.integers(256)) + LOW[dtype]
        x = ((rng.integers(-300, 300, 4096) + 0.5) * scale).astype(np.float32)
        x = np.concatenate([x, np.nextafter(x, np.float32(0)), rng.normal(size=4096).astype(np.float32)])
        model = Model()
        a, y = model.tensor((1, x.size), "float32"), model.tensor((1, x.size), dtype, float(scale), zero)
        model.inputs, model.outputs = [a], [model.op(114, [a], y)]
        given = reference.run_litert(model.data, [x[None]], runtime)[0]
        rule = runtimes.input_rule("tflite-ref", runtime)
        assert np.array_equal(given, runtimes.quantise_input(x, scale, zero, dtype, rule))


@needs_litert
@pytest.mark.parametrize("runtime", reference.MATCHES)
def test_float_ends(runtime: str, tmp_path: Path) -> None:
    """QUANTIZE, FULLY_CONNECTED, SOFTMAX, DEQUANTIZE: real numbers in and out."""
    net = softmax(3, "int8", 9)
    model = Model(list(net.tensors), list(net.buffers))
    real = model.tensor((1, 60), "float32"), model.tensor((1, 9), "float32")
    model.op(114, [real[0]], net.inputs[0])
    for operator in net.operators:
        options = (operator[3].value, operator[4]) if operator[3] else None
        model.op(net.codes[int(operator[0].value)], operator[1].tolist(), int(operator[2][0]), options)
    model.op(6, [net.outputs[0]], real[1])
    model.inputs, model.outputs = [real[0]], [real[1]]
    graph = read(model, tmp_path)
    quant = graph.tensors["input"].quant
    x = (np.random.default_rng(0).uniform(-160, 160, (50, 60)) * quant.scale).astype(np.float32)
    rule = runtimes.input_rule(graph.float_input, runtime)
    codes = runtimes.quantise_input(x, quant.scale, quant.zero_point, quant.dtype, rule)
    given = reference.evaluate(graph, codes, runtime)[""]
    assert np.array_equal(reference.run_litert(model.data, [x], runtime, real=True), (given + 128) / 256)


# --- the published networks ----------------------------------------------------------------------------------------


def network(name: str) -> Path:
    path = reference.models_folder() / name
    if not path.exists():
        pytest.skip(f"{name} is not in {reference.models_folder()}: set INTACT_MODELS to the folder that has it")
    return path


@pytest.mark.parametrize("name", reference.NETWORKS)
def test_network_reads(name: str) -> None:
    graph = readers.read(network(name))
    macs = sum(
        int(np.prod(node.weights.codes.shape)) * int(np.prod(graph.tensors[node.output].shape[:2]))
        for node in graph.nodes
        if isinstance(node, (ir.Conv2d, ir.Linear))
    )
    known = {"Resnet": 12_501_632, "kws": 2_656_768, "vww": 7_489_664, "ad01": 264_192, "mobilenet": 300_774_272}
    assert macs == next(number for part, number in known.items() if part in name)
    assert (graph.tail is None) == (name.startswith(("ad01", "mobilenet")))


@needs_litert
@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("name", reference.NETWORKS)
def test_network_equals_litert(name: str, runtime: str) -> None:
    result = reference.compare(network(name), runtime, INPUTS.get(name, 200))
    print(f"{name} {runtime}: {result.inputs} inputs, {result.compared} codes compared, {result.differing} differ")
    assert result.differing == 0


@needs_litert
@pytest.mark.parametrize("name", reference.NETWORKS)
def test_every_tensor_equals_litert(name: str) -> None:
    """Layer by layer with the reference kernels, which alone show their intermediate results."""
    result = reference.compare_tensors(network(name), min(INPUTS.get(name, 40), 40))
    print(f"{name}: {result.inputs} inputs, {result.compared} codes of all layers compared, {result.differing} differ")
    assert result.differing == 0
