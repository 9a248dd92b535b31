"""The golden model against plain Python, and the program against the golden model, without a simulator."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyexport import golden, ir, quantise, runtimes
from pyexport.hwconfig import HwConfig
from pyexport.lower import lower
from sim.compare import from_words
from tests import program_walk, slow_reference
from tests.rtl_network import prepare
from tests.strategies import configs, graphs

CONSTANTS = ("bias", "m", "s", "r", "d", "even", "exc_v", "exc_d")
COMMON = settings(
    derandomize=True, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)


def images_of(graph: ir.Graph, seed: int, count: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    shape = graph.tensors[graph.input.tensor].shape
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape), dtype=np.int8)


@settings(COMMON, max_examples=60)
@given(graphs(layers=3, channels=5, side=5), st.integers(0, 99))
def test_golden_model_against_plain_python(graph: ir.Graph, seed: int) -> None:
    """Sums, maxima and Eq. 1 to 9 as loops over single taps, with the constants that the fit found."""
    graph = quantise.fold_clamps(graph)
    network = quantise.quantise(graph)
    x = images_of(graph, seed)
    codes = golden.run(network, x)
    layers = {layer.rounded or layer.output: layer for layer in network.layers}

    def rounded(node: ir.AnyNode, acc: int, place: slow_reference.Place) -> int:
        if isinstance(node, ir.Lookup):
            source, target = (graph.tensors[name].quant for name in (node.inputs[0], node.output))
            table = runtimes.lookup_table(node, source, target, network.match)
            return int(table[acc - ir.CODE_RANGE[source.dtype][0]])
        layer = layers[node.output]
        here = [
            area.requant
            for area in layer.areas
            if 0 <= place[0] - area.y < area.height and 0 <= place[1] - area.x < area.width
        ]
        assert len(here) == bool(layer.areas)
        rq = (here or [layer.requant])[0]
        constants = {name: int(getattr(rq, name)[place[2]]) for name in CONSTANTS}
        return slow_reference.requantise(acc, constants, rq.z) - network.tensors[node.output].shift

    for i, image in enumerate(x):
        start = image.astype(int) - network.tensors[network.input.tensor].shift
        expected = slow_reference.run(graph, slow_reference.to_codes(start), rounded)
        for name in codes:
            values = expected[name]
            got = slow_reference.to_codes(codes[name][i].astype(int) - network.tensors[name].shift)
            assert got == values, name


@settings(COMMON, max_examples=60)
@given(graphs(layers=1, channels=5, side=5, match="exact"), st.integers(0, 99))
def test_golden_model_against_real_arithmetic(graph: ir.Graph, seed: int) -> None:
    """With the runtime `exact`, codes are those of real numbers rounded once; no constants of the fit take part."""
    network = quantise.quantise(graph)
    layer = network.layers[0]
    assert not any(values.size for values in layer.differing)
    x = images_of(graph, seed)
    codes = golden.run(network, x)
    for i, image in enumerate(x):
        start = image.astype(int) - network.tensors[network.input.tensor].shift
        expected = slow_reference.run(graph, slow_reference.to_codes(start), slow_reference.exactly(graph))
        got = codes[layer.output][i].astype(int) - network.tensors[layer.output].shift
        assert slow_reference.to_codes(got) == expected[layer.output]


@settings(COMMON, max_examples=100)
@given(graphs(adds=True), configs(), st.booleans())
def test_program_against_golden_model(graph: ir.Graph, config: HwConfig, overlap: bool) -> None:
    """The program, walked word by word: its codes, cycles and every address it touches."""
    prepared = prepare(graph, config, 1, overlap=overlap)
    assert bool(prepared.lowered.header["free_job"]) == overlap
    network, lowered, config = prepared.network, prepared.lowered, prepared.config
    memory = np.random.default_rng(5).integers(-128, 128, (config.act_depth, config.rows), dtype=np.int8)
    places = lowered.plan.placements
    source = places[network.input.tensor]
    memory[source.base : source.base + source.words] = prepared.frames()[0]
    tables = [table.tolist() for table in lowered.tables]
    walk = program_walk.run(lowered.program, lowered.weights, list(lowered.params), config, memory, tables)
    assert [walk.layer_cycles[i] for i in range(len(network.layers))] == prepared.cycles
    for i, layer in enumerate(network.layers):
        sources, writes = [places[name] for name in layer.inputs], places[layer.output]
        readable = {word for place in sources for word in range(place.base, place.base + place.words)}
        if layer.operands:  # it reads what it wrote where operands share a group of channels, and writes it again
            readable |= set(range(writes.base, writes.base + writes.words))
        assert walk.reads.get(i, set()) <= readable, "a read outside the layer's inputs"
        expected = {
            (word, group)
            for word in range(writes.base, writes.base + writes.words)
            if (word - writes.base) % writes.row_words < network.tensors[layer.output].shape[1] * writes.pixel_words
            for group in range(config.groups_per_word)
        }
        assert layer.operands or len(walk.writes[i]) == len(set(walk.writes[i])), "a byte is written twice"
        assert set(walk.writes[i]) <= expected, "a write outside the layer's output"
    assert walk.weights_read == set(range(len(lowered.weights))), "a weight word is stored and never read"
    assert walk.params_read == set(range(len(lowered.params) // lowered.config.lanes)), (
        "a parameter word is stored and never read"
    )
    target, output = places[network.output.tensor], network.tensors[network.output.tensor]
    got = from_words(walk.memory[None, target.base : target.base + target.words], target, output.shape)
    assert (got == prepared.codes[output.name]).all()


@settings(COMMON, max_examples=150)
@given(graphs(layers=6, channels=12, side=6, adds=True), st.integers(1, 16), st.booleans())
def test_live_tensors_never_overlap(graph: ir.Graph, rows: int, overlap: bool) -> None:
    """A tensor lives from the layer that writes it to the last that reads it; the host's are the first and last.

    With overlapped input the first one lives to the end.
    """
    network = quantise.quantise(graph)
    placements = lower(network, HwConfig(rows, 2 if rows == 1 else rows, rows), overlap).plan.placements
    alive: dict[str, set[int]] = {network.input.tensor: {-1}}
    for i, layer in enumerate(network.layers):
        alive.setdefault(layer.output, set()).add(i)
        for name in layer.inputs:
            alive[name] |= set(range(min(alive[name]), i + 1))
    output = alive[network.output.tensor]
    output |= set(range(min(output), len(network.layers) + 1))
    if overlap:
        alive[network.input.tensor] = set(range(-1, len(network.layers) + 1))
    names = list(alive)
    for i, one in enumerate(names):
        place = placements[one]
        height, width, channels = place.patches.shape if place.patches else network.tensors[one].shape
        assert place.pixel_words >= -(-channels // rows) and place.words == height * place.row_words
        assert place.row_words - width * place.pixel_words in (0, 1)
        for other in names[i + 1 :]:
            if alive[one] & alive[other]:
                there = placements[other]
                apart = place.base + place.words <= there.base or there.base + there.words <= place.base
                assert apart, f"{one} {place} and {other} {there}"
