"""pyexport/quantise.py and explain.py where no whole network shows them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexport import explain, golden, ir, quantise
from pyexport.errors import IntactError
from pyexport.fit_add import fit_add
from tests import fixed_networks

f32 = np.float32
codes = st.integers(0, 255)
ranges = st.tuples(codes, codes).map(lambda pair: (min(pair), max(pair)))


def clamps(*limits: tuple[int, int]) -> ir.Graph:
    quant = ir.Quant(f32(0.1), 7, "uint8")
    tensors = {f"t{i}": ir.Tensor(f"t{i}", (1, 1, 1), quant) for i in range(len(limits) + 1)}
    nodes = tuple(ir.Clamp(f"c{i}", (f"t{i}",), f"t{i + 1}", limit) for i, limit in enumerate(limits))
    ports = [ir.Port(name, (1,), (None, None, 0)) for name in ("t0", f"t{len(limits)}")]
    return ir.check(ir.Graph("clamps", "test", "fbgemm", tensors, nodes, ports[0], ports[1]), "clamps")


@given(ranges, ranges)
def test_folded_clamps_are_the_clamps_one_after_the_other(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Ranges that overlap, touch or lie apart."""
    network = quantise.quantise(clamps(first, second))
    assert [layer.name for layer in network.layers] == ["c0+c1"]
    x = np.arange(256) - 128
    got = golden.run(network, x.astype(np.int8).reshape(256, 1, 1, 1))["t2"].reshape(-1).astype(int) + 128
    assert (got == np.clip(np.clip(np.arange(256), *first), *second)).all()


@pytest.mark.parametrize("name", ["three", "two"])
def test_an_add_is_explained_as_it_is_computed(name: str) -> None:
    network = quantise.quantise(fixed_networks.adding())
    text = explain.explain(network, name, None)
    place = re.search(r"Output \(h, w, c\) = \((\d+), (\d+), (\d+)\)", text)
    code = re.search(r"code (-?\d+) in the model", text)
    assert place and code
    x = np.random.default_rng(0).integers(-128, 128, (1, 3, 2, 6)).astype(np.int8)  # what explain draws
    output = next(layer.output for layer in network.layers if layer.name == name)
    assert golden.run(network, x)[output][(0, *map(int, place.groups()))] == int(code[1])


@pytest.mark.parametrize("name", ["conv+hard_swish", "leaky_relu", "pool", "concat", "again"])
def test_tables_and_joined_tensors_are_explained_as_they_are_computed(name: str) -> None:
    network = quantise.quantise(fixed_networks.tables())
    assert network.layers[0].name == "conv+hard_swish"
    text = explain.explain(network, name, None)
    place = re.search(r"Output \(h, w, c\) = \((\d+), (\d+), (\d+)\)", text)
    assert place
    x = np.random.default_rng(0).integers(-128, 128, (1, 3, 2, 5)).astype(np.int8)  # what explain draws
    layer = next(layer for layer in network.layers if layer.name == name)
    code = int(golden.run(network, x)[layer.output][(0, *map(int, place.groups()))])
    said = {"pool": f"window is {code};", "concat": f"kept as {code}."}.get(name, f", code {code} in the model")
    assert said in text
    assert ("Requantise" in text) == (name == "conv+hard_swish")


def test_a_pool_whose_divisor_changes_is_explained_as_it_is_computed() -> None:
    quant = ir.Quant(f32(0.1), 7, "int8")
    tensors = {name: ir.Tensor(name, (4, 3, 2), quant) for name in ("x", "y")}
    node = ir.AvgPool2d("pool", ("x",), "y", (3, 3), (1, 1), (1, 1, 1, 1), False, None, (-128, 127), "exact")
    ports = [ir.Port(name, (4, 3, 2), (0, 1, 2)) for name in ("x", "y")]
    network = quantise.quantise(
        ir.check(ir.Graph("pool", "test", "exact", tensors, (node,), ports[0], ports[1]), "pool")
    )
    assert [area.divisor for area in network.layers[0].areas] == [4, 6, 4, 6, 9, 6, 4, 6, 4]
    text = explain.explain(network, "pool", None)
    place = re.search(r"Output \(h, w, c\) = \((\d+), (\d+), (\d+)\)", text)
    code = re.search(r"code (-?\d+) in the model", text)
    assert place and code
    x = np.random.default_rng(0).integers(-128, 128, (1, 4, 3, 2)).astype(np.int8)  # what explain draws
    assert golden.run(network, x)["y"][(0, *map(int, place.groups()))] == int(code[1])


def test_a_table_stands_behind_a_layer_only_if_nothing_else_reads_it() -> None:
    """Not behind one with a table, a concatenation, the output tensor, or a tensor with two readers."""
    quant = ir.Quant(f32(0.1), 7, "int8")
    tensors = {f"t{i}": ir.Tensor(f"t{i}", (2, 2, 2), quant) for i in range(7)}
    whole = (-128, 127)

    def names(output: str) -> list[str]:
        nodes = (
            ir.MaxPool2d("pool", ("t0",), "t1", (1, 1), (1, 1), clamp=whole),
            ir.Lookup("a", ("t1",), "t2", "hard_swish", whole),
            ir.Lookup("b", ("t2",), "t3", "hard_swish", whole),
            ir.MaxPool2d("again", ("t3",), "t4", (1, 1), (1, 1), clamp=whole),
            ir.Lookup("c", ("t4",), "t5", "hard_swish", whole),
            ir.Add("add", ("t5", "t3"), "t6", 1, whole),
        )
        ports = [ir.Port(name, (2, 2, 2), (0, 1, 2)) for name in ("t0", output)]
        graph = ir.Graph("tables", "test", "tflite-ref", tensors, nodes, ports[0], ports[1])
        return [layer.name for layer in quantise.quantise(ir.check(graph, "tables")).layers]

    assert names("t6") == ["pool+a", "b", "again+c", "add"]
    assert names("t1") == ["pool", "a", "b", "again+c", "add"]
    assert names("t4") == ["pool+a", "b", "again", "c", "add"]


@pytest.mark.parametrize("scales", [(1e29, 1e29, 1e-36), (1e10, 1.0, 1e-5), (1e-9, 1e-9, 1.0)])
def test_an_add_of_absurd_scales_is_refused(scales: tuple[float, float, float]) -> None:
    x = np.arange(-128, 128)
    with pytest.raises(IntactError, match="re-calibrate"):
        fit_add(np.zeros((256, 256), np.int64), x, x, scales, 0, 1)


def test_a_softmax_needs_a_runtime_that_has_one() -> None:
    graph = fixed_networks.adding()
    quant = graph.tensors["out"].quant
    tail = ir.Softmax("softmax", quant, ir.Quant(f32(1 / 256), -128, "int8"))
    graph = ir.Graph(**(graph.__dict__ | {"tail": tail}))
    assert quantise.quantise(graph).tail == tail
    with pytest.raises(IntactError, match=r"'softmax'|'three'"):
        quantise.quantise(graph, "exact")
