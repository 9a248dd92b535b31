"""The published MLPerf Tiny networks whole: golden model against TFLite's runtime, Verilog against golden model.

The files are not part of the repository: INTACT_MODELS names their folder, else `shared/models` beside the checkout.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from pyexport import golden, quantise, readers
from pyexport.hwconfig import HwConfig
from sim.run import host_tail, source_codes
from sim.runner import simulator_missing
from tests import tflite_reference as reference
from tests.rtl_network import assert_equal, prepare, simulated
from tests.test_tflite import network

NETWORKS = [name for name, what in reference.NETWORKS.items() if what != "MobileNetV2"]
LITERT = importlib.util.find_spec("ai_edge_litert") is not None
INFERENCES = 200  # golden model against the runtime
FRAMES = 12  # of them on the Verilog: lowest, highest, zero points, ramps, checkers, stripes, points
# Holds each of the four, so that one build serves them all.
ARRAY = HwConfig(8, 8, 8, act_depth=16384, wgt_depth=8192, prm_depth=512, prg_depth=512, layers=64)


@pytest.mark.skipif(not LITERT, reason="ai-edge-litert is not installed: pip install ai-edge-litert")
@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_golden_model_equals_litert(name: str, runtime: str) -> None:
    """Every output code, softmax included, with the constants that the fit found; and the proof says so too."""
    path = network(name)
    graph = readers.read(path)
    quantised = quantise.quantise(graph, runtime)
    assert not any(values.size for layer in quantised.layers for values in layer.differing)
    inputs = reference.stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, INFERENCES)
    expected = reference.run_litert(path.read_bytes(), [inputs], runtime)
    shift = quantised.tensors[quantised.input.tensor].shift
    codes = golden.run(quantised, (graph.input.to_hwc(inputs) + shift).astype(np.int8), keep=False)
    given = host_tail(quantised, source_codes(quantised, quantised.output.tensor, codes[quantised.output.tensor]))
    different = int((given.reshape(expected.shape) != expected).sum())
    print(f"{name} {runtime}: {INFERENCES} inputs, {expected.size} codes compared, {different} differ")
    assert different == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_verilog_equals_golden_model(name: str) -> None:
    """Every code of every layer and every layer's cycles."""
    if reason := simulator_missing("verilator"):
        pytest.skip(reason)
    graph = readers.read(network(name))
    prepared = prepare(graph, ARRAY, 1, fixed_depths=True)
    inputs = reference.stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, FRAMES)
    shift = prepared.network.tensors[prepared.network.input.tensor].shift
    x = (graph.input.to_hwc(inputs) + shift).astype(np.int8)
    prepared = replace(prepared, x=x, codes=golden.run(prepared.network, x))
    compared = assert_equal(prepared, simulated("verilator", prepared, f"mlperf_{name.partition('.')[0]}"))
    print(f"{name}: {FRAMES} inferences of {sum(prepared.cycles)} cycles, {compared} codes compared, 0 differ")
