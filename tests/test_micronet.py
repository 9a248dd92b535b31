"""micronet's models: codes equal to its own forward in float64, at every width, in DoReFa and in IAO."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport import export, golden, ir, quantise, runtimes, verify
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network
from pyexport.readers import micronet
from pyexport.readers import micronet_codes as codes
from pyexport.readers.calls import Module, Ref
from pyexport.readers.options import Options
from sim.runner import simulator_missing
from tests import micronet_reference as reference
from tests.micronet_reference import Net
from tests.rtl_network import assert_equal, prepare, simulated

BITS = range(2, 9)
SHAPE = (3, 9, 8)
RANGE = (-6.0, 9.0)
CLASSES = Path(__file__).parent.parent / "models" / "quantizers" / "classes" / "micronet_nin.py"


def graph_of(net: Net, shape: tuple[int, ...] = SHAPE, limits: tuple[float, float] | None = RANGE) -> ir.Graph:
    return ir.check(micronet.graph_of("net", "net.pth", net.topology, net.state, Options(shape, limits)), "net.pth")


def real_inputs(network: Network, given: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    quant = network.tensors[network.input.tensor].quant
    return np.asarray((given - quant.zero_point) * np.float64(quant.scale))


def compare(net: Net, graph: ir.Graph, count: int = 30, averaged: bool = False) -> int:
    """Every code that a quantiser gives, and the output's; how many were compared.

    averaged: the output is a mean of real numbers in the source, and one of output codes here.
    """
    network = quantise.quantise(graph)
    assert not any(values.size for layer in network.layers for values in layer.differing)  # proved on every accumulator
    given = verify.driving_codes(network, count)
    ours = verify.golden_tensors(network, given)
    theirs = net.run(real_inputs(network, given))
    compared = 0
    for layer in network.layers:
        found = net.seen.get(layer.name.split("+")[0])
        if found is None:
            continue
        ordered = found.reshape(len(found), *np.roll(network.tensors[layer.input].shape, 1)).transpose(0, 2, 3, 1)
        assert np.array_equal(ours[layer.input], ordered), layer.name
        assert len(np.unique(found)) > min(2, np.ptp(network.tensors[layer.input].quant.range)), layer.name
        compared += found.size
    quant = network.tensors[network.output.tensor].quant
    wanted = np.clip(reference.rounded(theirs / float(quant.scale)) + quant.zero_point, *quant.range)
    output = network.output.from_hwc(ours[network.output.tensor])
    assert np.abs(output - wanted).max() <= averaged
    assert len(np.unique(output)) > 20
    return compared + output.size


# --- the quantisers by themselves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "weights", "wanted"),
    [
        # tanh is odd: the largest gives B, its negative -B; 0 is a tie, k = B/2 + 1/2
        (2, [2.0, -2.0, 0.0], [3, -3, 1]),
        (2, [2.0, math.atanh(math.tanh(2.0) * 0.65), math.atanh(math.tanh(2.0) * 0.67)], [3, 1, 3]),
        (8, [2.0, -2.0, 0.0], [255, -255, 1]),
        (3, [-0.5, 0.5, -0.0], [-7, 7, 1]),
    ],
)
def test_dorefa_weights_by_hand(bits: int, weights: list[float], wanted: list[int]) -> None:
    found = codes.dorefa_codes(np.array(weights, np.float32), bits, 1)
    assert found.codes.tolist() == wanted and found.unit == (Fraction(1, 2**bits - 1),)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 8), st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=40).filter(any))
def test_dorefa_weights_are_micronets(bits: int, weights: list[float]) -> None:
    w = np.array(weights, np.float32)
    if not np.tanh(w.astype(np.float64)).any():
        return
    found, top = codes.dorefa_codes(w, bits, 1).codes, 2**bits - 1
    assert np.abs(found / top - reference.dorefa_weight(w, bits)).max() < 1e-12
    assert np.all(found % 2 == 1) and np.abs(found).max() <= top and top in np.abs(found)


@pytest.mark.parametrize("bits", BITS)
def test_dorefa_inputs(bits: int) -> None:
    """Real inputs become the codes that micronet's first quantiser gives, ties and out of range included."""
    top, quant = 2**bits - 1, codes.dorefa_grid(bits).quant
    ties = (np.arange(top) + 0.5) * 10 / top
    x = np.concatenate([ties, np.nextafter(ties, 0), np.arange(161) / 16, [-1, -np.inf, 11, np.inf]]).astype(np.float32)
    found = runtimes.quantise_input(x, quant.scale, 0, "uint8", "dorefa")
    assert np.array_equal(found, np.rint(reference.dorefa_activation(x.astype(np.float64), bits) * top))
    assert quant.range == (0, top) and found.min() == 0 and found.max() == top


@pytest.mark.parametrize(("asymmetric", "dtype"), [(False, "int8"), (True, "uint8")])
def test_iao_inputs(asymmetric: bool, dtype: str) -> None:
    scale, zero = np.float32(0.25), -37.0 if asymmetric else 0.0
    limits = ir.CODE_RANGE[dtype]
    grid = codes.iao_grid(float(scale), zero, *limits, asymmetric)
    x = (np.arange(-300, 300) / 8).astype(np.float32)  # every second one is a tie
    found = runtimes.quantise_input(x, grid.quant.scale, grid.quant.zero_point, dtype, "iao")
    values = (found - grid.quant.zero_point) * np.float64(scale)
    assert np.array_equal(values, reference.iao(x.astype(np.float64), np.float64(scale), zero, *limits))


def test_batch_norm_turns_signs_and_may_switch_a_channel_off() -> None:
    source, target = codes.dorefa_grid(4), codes.dorefa_grid(2)
    raw = codes.Codes(
        np.array([[3, -1], [1, 3], [-3, 1]]).reshape(3, 1, 1, 2), np.zeros(3, np.int64), (Fraction(1, 3),) * 3
    )
    gain, mean, beta = np.array([0.5, -2.0, 0.0]), np.array([1.0, 1.0, 1.0]), np.array([0.25, 0.25, 7.0])
    found = codes.Sum.of(raw, source, np.array([1.5, 0, 0])).normalised(gain, mean, beta).weights(source.quant, target)
    assert found.codes.reshape(3, 2).tolist() == [[3, -1], [-1, -3], [0, 0]]
    sx, sy = (Fraction(float(grid.quant.scale)) for grid in (source, target))
    for c, wanted in ((0, Fraction(1, 2)), (1, Fraction(2))):  # code of the next layer per accumulator step
        slope = sx * Fraction(float(found.scale[c])) / sy
        exact = wanted * Fraction(1, 3) * Fraction(1, 15) / Fraction(10, 3)
        assert exact <= slope <= exact * (1 + Fraction(1, 1 << 50))
    assert found.bias is not None
    assert np.allclose(found.bias / float(sy) * 10 / 3, [0.5, 2.25, 7.0], rtol=1e-15)


def test_exact_ties_go_up() -> None:
    """Without bias and batch norm the next code is acc / (10 B) exactly: 15 steps at 2 bits are half a code."""
    grid = codes.dorefa_grid(2)
    weights = codes.Sum.of(
        codes.Codes(np.ones((1, 1, 1, 1), np.int64), np.zeros(1, np.int64), (Fraction(1, 3),)), grid, None
    )
    found = weights.weights(grid.quant, grid)
    layer = runtimes.Layer(
        grid.quant.scale, found.scale.astype(np.float32), grid.quant.scale, 0, 0, 3, found.bias,
        wide=found.scale.astype(np.float64),
    )  # fmt: skip
    acc = np.arange(-100, 120)
    got = runtimes.layer_curve("exact-away", layer)(acc, np.zeros_like(acc))
    assert np.array_equal(got, np.clip((2 * acc + 30) // 60, 0, 3))


# --- whole networks, no torch ----------------------------------------------------------------------------------------


def dorefa_net(bits: int, seed: int = 0) -> Net:
    net = Net(np.random.default_rng(seed + bits))
    quant = {"bits": bits}
    net.conv(3, 12, 5, quant, padding=2)
    net.norm(12, spread=4)
    net.relu()
    net.max_pool(3, 2, 1)
    net.conv(12, 8, 3, quant, bias=False, stride=2, padding=1, groups=4)
    net.norm(8, spread=4)
    net.relu()
    net.conv(8, 6, 1, quant)
    net.norm(6, spread=4)
    net.flatten()
    net.linear(6 * 3 * 2, 9, quant)
    return net


def iao_net(asymmetric: bool, bits: int, per_channel: bool) -> Net:
    net = Net(np.random.default_rng(7))
    quant = {"asymmetric": asymmetric, "bits": bits, "per_channel": per_channel}
    net.conv(3, 8, 3, quant, padding=1)
    net.norm(8)
    net.relu()
    net.max_pool(2, 2, asymmetric=asymmetric)
    branch = net.tap()
    net.conv(8, 8, 3, quant, padding=1)
    net.curve("LeakyReLU", lambda x: np.where(x >= 0, x, x * 0.125), asymmetric, negative_slope=0.125)
    net.add(branch, asymmetric)
    net.curve("Sigmoid", lambda x: 1 / (1 + np.exp(-x)), asymmetric)
    net.avg_pool(2, asymmetric)
    net.flatten()
    net.linear(8 * 2 * 2, 7, quant)
    return net


@pytest.mark.parametrize("bits", BITS)
def test_dorefa_at_every_width(bits: int) -> None:
    net = dorefa_net(bits)
    graph = graph_of(net)
    assert graph.match == "exact-away" and graph.float_input == "dorefa"
    assert compare(net, graph, 60) > 20_000
    network = quantise.quantise(graph)
    widest = max(int(np.abs(layer.weights).max()) for layer in network.layers if layer.weights is not None)
    assert widest == 2**bits - 1  # two passes from 8 bits on
    assert network.layers[0].wide == (bits == 8)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("asymmetric", "bits"), [(False, 8), (True, 8), (False, 5), (True, 4)])
def test_iao(asymmetric: bool, bits: int, per_channel: bool) -> None:
    net = iao_net(asymmetric, bits, per_channel)
    graph = graph_of(net)
    assert graph.match == ("exact-up" if asymmetric else "exact-away")
    assert compare(net, graph) > 10_000


def test_an_average_of_real_numbers_at_the_end() -> None:
    """It becomes an average of output codes; at most one code off the source's, which the notes say."""
    net = Net(np.random.default_rng(3))
    net.conv(3, 8, 3, {"bits": 4}, padding=1)
    net.norm(8, spread=4)
    net.relu()
    net.conv(8, 10, 1, {"bits": 4})
    net.relu()
    net.avg_pool(4)
    graph = graph_of(net, limits=(0.0, 12.0))
    assert any("average" in note for note in graph.notes)
    compare(net, graph, averaged=True)


@pytest.mark.parametrize(
    ("bits", "stride", "padding", "groups"), [(2, 2, 1, 1), (4, 1, 0, 2), (8, 3, 1, 4), (7, 2, 0, 1)]
)
def test_transposed_convolution(bits: int, stride: int, padding: int, groups: int) -> None:
    net = Net(np.random.default_rng(bits))
    net.transposed(4, 8, 3, bits, stride, padding, groups)
    net.relu()
    net.conv(8, 4, 1, {"bits": bits})
    assert compare(net, graph_of(net, (4, 5, 6), (-4.0, 4.0))) > 10_000


def test_channel_shuffle() -> None:
    net = Net(np.random.default_rng(5))
    net.conv(3, 12, 3, {"bits": 8}, padding=1)
    net.norm(12, spread=4)
    net.relu()
    net.shuffle(12, 9, 8, 3)
    net.conv(12, 8, 1, {"bits": 8}, groups=4)
    net.norm(8, spread=4)
    net.shuffle(8, 9, 8, 4)
    net.conv(8, 8, 3, {"bits": 8}, groups=2)
    net.norm(8, spread=4)
    assert compare(net, graph_of(net)) > 20_000


def test_the_first_layer_may_stay_real() -> None:
    """As micronet's `prepare` leaves it: the network begins at the first quantiser."""
    net = Net(np.random.default_rng(0))
    net.conv(3, 6, 3, {"bits": 4}, padding=1)
    for name in ("activation_quantizer", "weight_quantizer"):
        del net.modules[f"layer0.{name}"]
    net.relu()
    net.max_pool(2, 2)
    net.conv(6, 4, 3, {"bits": 4})
    graph = graph_of(net)
    assert graph.input.shape == (6, 4, 4) and "layer0, layer1, layer2" in graph.notes[0]
    net.layers = net.layers[3:]
    compare(net, graph)


def test_weights_that_are_stored_quantised() -> None:
    """quant_inference: the checkpoint holds the quantised values; anything else there is refused."""
    net = dorefa_net(3)
    whole = graph_of(net)
    for path, module in net.modules.items():
        if f"{path}.weight_quantizer" in net.modules:
            net.modules[path] = replace(module, attributes={**module.attributes, "quant_inference": True})
    with pytest.raises(IntactError, match=r"layer0.*quant_inference=False"):
        graph_of(net)
    for path in net.modules:
        if f"{path}.weight_quantizer" in net.modules:
            name = f"{path}.weight"
            net.state[name] = reference.dorefa_weight(net.state[name], 3).astype(np.float32)
    for a, b in zip(graph_of(net).nodes, whole.nodes, strict=True):
        if isinstance(a, ir.Conv2d):
            assert isinstance(b, ir.Conv2d) and np.array_equal(a.weights.codes, b.weights.codes)


@pytest.mark.parametrize("bits", [2, 8])
def test_on_the_verilog(bits: int) -> None:
    """Codes of every layer, weights of +-3 and of +-255, which take two passes."""
    sim = "icarus"
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    net = Net(np.random.default_rng(bits))
    net.conv(3, 8, 3, {"bits": bits}, padding=1)
    net.norm(8, spread=4)
    net.relu()
    net.max_pool(2, 2)
    net.flatten()
    net.linear(32, 5, {"bits": bits})
    prepared = prepare(graph_of(net, (3, 4, 4)), HwConfig(4, 4, 4), 1)
    assert assert_equal(prepared, simulated(sim, prepared, f"micronet_{bits}")) > 150


# --- what is refused ------------------------------------------------------------------------------------------------


def broken(change: Any) -> Net:
    net = dorefa_net(4)
    change(net)
    return net


def set_bits(net: Net, path: str, **attributes: Any) -> None:
    net.modules[path] = replace(net.modules[path], attributes=attributes)


def float_layer(net: Net) -> None:
    for name in ("activation_quantizer", "weight_quantizer"):
        del net.modules[f"layer4.{name}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.state.pop("layer4.weight"), "layer4.*no tensor 'layer4.weight'.*--arch"),
        (lambda n: n.state.update({"layer4.weight": np.zeros((1, 2), np.float32)}), "layer4.*shape"),
        (lambda n: n.state["layer0.weight"].fill(np.nan), "layer0.*not finite"),
        (lambda n: n.state["layer0.weight"].fill(0), "layer0.*every weight is 0"),
        (lambda n: n.state["layer1.running_var"].fill(-1), "layer1.*negative variance"),
        (lambda n: set_bits(n, "layer0.weight_quantizer", w_bits=9), "layer0.*w_bits=9.*2 to 8"),
        (lambda n: set_bits(n, "layer0.activation_quantizer", a_bits=1), "layer0.*a_bits=1"),
        (lambda n: set_bits(n, "layer4.weight_quantizer", w_bits=32), "layer4.*weights or activations only"),
        (lambda n: n.modules.pop("layer4.activation_quantizer"), "layer4.*another way than DoReFa and IAO"),
        (float_layer, "layer4.*no quantised layer, but stands behind one"),
        (lambda n: n.modules.update(layer2=Module(("torch.nn.GELU",))), "layer2.*GELU is not supported"),
        (lambda n: n.steps.pop(-2), "."),
        (lambda n: n.modules.update(layer2=Module(("torch.nn.LogSoftmax",))), "layer4.*'layer2'.*no function of codes"),
    ],
)
def test_what_cannot_be_followed(change: Any, message: str) -> None:
    net = broken(change)
    if message == ".":
        net.steps[-1] = replace(net.steps[-1], args=(Ref("s7"),))  # the flatten is gone
        message = "layer10.*36 features but gets shape \\(6, 3, 2\\)"
    with pytest.raises(IntactError, match=message):
        graph_of(net)


def test_an_average_before_a_quantiser_is_refused() -> None:
    net = Net(np.random.default_rng(0))
    net.conv(3, 4, 3, {"bits": 4})
    net.avg_pool(2)
    net.conv(4, 4, 1, {"bits": 4})
    with pytest.raises(IntactError, match=r"layer2.*layer1.*QuantAvgPool2d"):
        graph_of(net)


def test_iao_ranges_without_zero_are_refused() -> None:
    net = iao_net(True, 8, True)
    net.state["layer0.activation_quantizer.zero_point"] = np.array([3], np.float32)
    with pytest.raises(IntactError, match=r"layer0.*does not contain 0"):
        graph_of(net)
    net = iao_net(True, 8, True)
    net.state["layer0.weight_quantizer.zero_point"][2] = 900
    with pytest.raises(IntactError, match=r"layer0.*more than the 255 that fit.*q_type=0"):
        graph_of(net)


def test_what_was_never_calibrated_is_said() -> None:
    net = iao_net(False, 8, True)
    name = "layer3.activation_quantizer"
    net.state |= {f"{name}.scale": np.ones(1, np.float32), f"{name}.observer.max_val": np.zeros(1, np.float32)}
    assert [note for note in graph_of(net).notes if "calibration" in note and "'layer3'" in note]


def test_what_the_user_must_say() -> None:
    with pytest.raises(IntactError, match="--output-range"):
        graph_of(dorefa_net(4), limits=None)
    net = dorefa_net(4)
    with pytest.raises(IntactError, match="--input-shape"):
        micronet.graph_of("net", "net.pth", net.topology, net.state, Options(None, RANGE))
    with pytest.raises(IntactError, match=r"layer0.*takes 3 channels.*input shape"):
        graph_of(net, (1, 9, 8))


# --- against micronet itself -----------------------------------------------------------------------------------------

NAMES = [
    *(f"dorefa_{bits}" for bits in BITS),
    *(f"whole_{bits}" for bits in BITS),
    *("iao_symmetric", "iao_asymmetric", "iao_fused", "iao_four_bits", "iao_ptq", "iao_residual", "iao_upsampling"),
    *("transposed_2", "transposed_4", "transposed_8"),
]


def shape_of(name: str) -> tuple[int, int, int]:
    return (4, 5, 5) if name.startswith("transposed") else (1, 8, 8)


def saved(folder: Path, name: str, whole: bool = False) -> Path:
    """A checkpoint with random batch norms, calibrated on random images, as micronet's scripts save it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("micronet")
    from models.quantizers.classes import micronet_nin

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = getattr(micronet_nin, name)().train()
    for _ in range(3):
        net(torch.rand(32, *shape_of(name)) * 10)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.normal_()
                module.bias.normal_(0.5, 0.5)
    path = folder / f"{name}.pth"
    torch.save(net.eval() if whole else {"best_acc": 0.0, "state_dict": net.state_dict()}, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_micronets_own_forward(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, name)
    given = {"arch": f"{CLASSES}:{name}", "input_shape": shape_of(name), "output_range": (-4.0, 6.0)}
    exported = export.export(str(path), **given)  # type: ignore[arg-type]
    drive = verify.driving_codes(exported.network, 40)
    checked = verify.verify(path, exported.graph.source, exported.network, drive, given)
    assert sum(one.compared for one in checked.tensors) > 20_000
    assert not any(one.differing for one in checked.tensors), checked.tensors
    assert any("float32" in note for note in checked.notes)


def test_a_checkpoint_without_its_class_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "net.pth"
    torch.save({"state_dict": {"conv.activation_quantizer.scale": torch.ones(1)}}, path)
    with pytest.raises(IntactError, match=r"micronet's; name the code.*--arch"):
        export.export(str(path), input_shape=(1, 8, 8))


def test_a_whole_module_saved_by_torch(tmp_path: Path) -> None:
    path = saved(tmp_path, "iao_symmetric", whole=True)
    given = {"arch": f"{CLASSES}:iao_symmetric", "input_shape": (1, 8, 8), "output_range": (-4.0, 6.0)}
    network = export.export(str(path), **given).network  # type: ignore[arg-type]
    state = export.export(str(saved(tmp_path, "iao_symmetric")), **given).network  # type: ignore[arg-type]
    x = np.random.default_rng(0).integers(-128, 128, (5, 8, 8, 1), dtype=np.int8)
    a, b = golden.run(network, x, keep=False), golden.run(state, x, keep=False)
    assert np.array_equal(a[network.output.tensor], b[state.output.tensor])
