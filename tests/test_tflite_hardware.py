"""`.tflite` models all the way: read, exported, run on the Verilog, and the codes are TFLite's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyexport import golden, ir, quantise, readers
from pyexport.hwconfig import HwConfig
from sim.runner import simulator_missing
from tests import tflite_reference as reference
from tests.rtl_network import assert_equal, prepare, simulated
from tests.test_tflite import LITERT
from tests.tflite_nets import CASES

NETS = [name for name in CASES if "softmax" not in name]  # which the host computes
KINDS = ("concatenation", "activations", "int8 add", "average pool same", "int8 transposed odd")
SIMULATED = [name for name in CASES if any(kind in name for kind in KINDS)]
ARRAYS = {"4x4": HwConfig(4, 4, 4), "8x4": HwConfig(8, 4, 2)}


@pytest.mark.parametrize("runtime", reference.MATCHES)
@pytest.mark.parametrize("name", NETS)
def test_golden_model_equals_litert(name: str, runtime: str, tmp_path: Path) -> None:
    """The integers that sit in the hardware; without ai-edge-litert against its formulas."""
    for seed in range(3):
        graph, data = read(name, seed, tmp_path)
        inputs = reference.stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, 12, seed)
        network = quantise.quantise(graph, runtime)
        assert not any(len(values) for layer in network.layers for values in layer.differing)
        first, last = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
        codes = golden.run(network, (graph.input.to_hwc(inputs) + first.shift).astype(np.int8), keep=False)
        given = graph.output.from_hwc(codes[last.name].astype(np.int64) - last.shift)
        if LITERT:
            expected = reference.run_litert(data, [inputs], runtime)
        else:
            expected = reference.evaluate(graph, inputs, runtime)[""].reshape(given.shape)
        assert np.array_equal(given, expected), f"seed {seed}: {int((given != expected).sum())} codes differ"


@pytest.mark.parametrize("array", list(ARRAYS))
@pytest.mark.parametrize("name", SIMULATED)
def test_on_the_verilog(name: str, array: str, tmp_path: Path) -> None:
    """Every layer's codes and cycles."""
    if reason := simulator_missing("icarus"):
        pytest.skip(reason)
    prepared = prepare(read(name, 1, tmp_path)[0], ARRAYS[array], 2)
    print(f"{assert_equal(prepared, simulated('icarus', prepared, 'tflite_hardware'))} codes")


def read(name: str, seed: int, folder: Path) -> tuple[ir.Graph, bytes]:
    data = CASES[name](seed).data
    path = folder / "net.tflite"
    path.write_bytes(data)
    return readers.read(path), data
