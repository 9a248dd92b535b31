"""Keras models trained with tfmot, from hand-made files: integers, layers, containers, refusals, damage."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("h5py")

import h5py

from pyexport import export, ir, quantise, readers, verify
from pyexport.errors import IntactError
from pyexport.readers import keras_bundle, keras_quant
from pyexport.readers.keras_quant import Width
from pyexport.readers.tensors import TensorError
from tests.keras_writer import CONV8, PLAIN8, Layer, Model, aware, write_h5, write_keras, write_saved_model

F32 = np.float32


def dense(name: str = "fc", **config: Any) -> Layer:
    """4 inputs, 2 outputs; weights range -1.27..1.27, so the scale is 0.01; activations 0..2.55: the same, from 0."""
    kernel = np.array([[1.27, -0.5], [-1.27, 0.005], [0.0, 0.0149], [0.3, -2.0]], F32)
    inner = {"kernel": kernel, "bias": np.array([0.25, -0.75], F32)}
    ranges = {"kernel": (-1.27, 1.27), "post_activation": (0.0, 2.55)}
    return Layer("Dense", name, {"units": 2, "use_bias": True, "activation": aware("relu")} | config, inner, ranges)


def conv(name: str = "conv", activation: Any = "relu", **config: Any) -> Layer:
    rng = np.random.default_rng(5)
    inner = {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(F32), "bias": rng.normal(size=4).astype(F32)}
    ranges = {"kernel": ([-2.0, -1.0, -3.0, 0.0], [2.0, 1.0, 3.0, 0.0])}
    if activation != "NoOpActivation":
        ranges["post_activation"] = (0.0, 6.0)  # type: ignore[assignment]
    settings = {"strides": [1, 1], "padding": "same", "dilation_rate": [1, 1], "groups": 1, "use_bias": True}
    named = {"class_name": activation, "config": {}} if activation == "NoOpActivation" else activation
    return Layer("Conv2D", name, settings | {"activation": aware(named)} | config, inner, ranges, (CONV8, {}))


def norm(name: str = "norm", **config: Any) -> Layer:
    values = {"gamma": [1.0, -2.0, 0.0, 0.5], "beta": [0.5, 0.25, 3.0, -1.0]}
    values |= {"moving_mean": [0.1, 0.2, 0.3, 0.4], "moving_variance": [0.999, 3.999, 1.0, 0.249]}
    inner = {key: np.array(one, F32) for key, one in values.items()}
    settings = {"axis": [3], "epsilon": 0.001, "scale": True, "center": True}
    return Layer("BatchNormalization", name, settings | config, inner, {}, ("NoOpQuantizeConfig", {}))


def relu(name: str = "relu", **config: Any) -> Layer:
    return Layer(
        "ReLU", name, {"max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0} | config, {}, {"output": (0, 4)}
    )


def plain(kind: str, name: str, **config: Any) -> Layer:
    return Layer(kind, name, config)


def network() -> Model:
    layers = [
        conv("first", "NoOpActivation"),
        norm(),
        relu(),
        plain("MaxPooling2D", "pool", pool_size=[2, 2], padding="valid"),
    ]
    rng = np.random.default_rng(6)
    inner = {"kernel": rng.normal(size=(36, 3)).astype(F32)}
    ranges = {"kernel": (-2.0, 2.0), "pre_activation": (-5.0, 5.0)}
    last = Layer("Dense", "fc", {"use_bias": False, "activation": aware("softmax")}, inner, ranges)
    return Model((6, 6, 2), [*layers, plain("Flatten", "flatten"), last])


# --- integers ------------------------------------------------------------------------------------------------------


def test_a_dense_layer_by_hand(tmp_path: Path) -> None:
    graph = readers.read(write_h5(tmp_path / "m.h5", Model((4,), [dense()])))
    (node,) = graph.nodes
    assert isinstance(node, ir.Linear) and (graph.source, graph.match) == ("keras", "exact-up")
    # symmetric and narrow: codes 1..255 around 128; 0.005 is a tie in float32 too, and goes up
    codes = node.weights.codes.reshape(2, 4) - node.weights.zero_point.reshape(2, 1)
    assert codes.tolist() == [[127, -127, 0, 30], [-50, 1, 1, -127]] or codes.tolist()[1][1] == 0
    assert node.weights.zero_point.tolist() == [128, 128]
    assert np.array_equal(node.weights.scale, np.full(2, F32(2.54) / F32(254), np.float64))
    assert node.weights.bias is not None and node.weights.bias.tolist() == [0.25, -0.75]
    output = graph.tensors["fc"].quant
    assert (output.zero_point, output.dtype, output.limits) == (0, "uint8", None)
    assert output.scale == F32(2.55) / F32(255)


@pytest.mark.parametrize(
    ("low", "high", "size", "scale", "zero"),
    [
        (-1.0, 1.0, Width(8, True), 1 / 127, 128),
        (-1.0, 1.0, Width(2, True), 1.0, 2),
        (0.0, 3.0, Width(2, False), 1.0, 0),
        (-3.0, 0.0, Width(2, False), 1.0, 3),
        (-1.5, 1.5, Width(2, False), 1.0, 2),  # the zero point 1.5 rounds half away from zero
        (1.0, 4.0, Width(2, False), 1.0, 0),  # a range without 0 keeps its width and moves
        (-4.0, -1.0, Width(2, False), 1.0, 3),
        (-8.0, 7.0, Width(4, False), 1.0, 8),
    ],
)
def test_ranges_are_nudged_so_that_0_is_a_code(low: float, high: float, size: Width, scale: float, zero: int) -> None:
    found = keras_quant.nudge(np.array(low, F32), np.array(high, F32), size)
    assert int(found[1]) == zero and abs(float(found[0]) - scale) <= 1e-7 * scale


@given(st.integers(2, 8), st.booleans(), st.floats(2**-10, 2**10, width=32), st.integers(0, 2**32 - 1))
def test_codes_stay_within_their_width_and_half_a_step(bits: int, narrow: bool, top: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(5, 3)) * top).astype(F32)
    low, high = np.minimum(values.min(0), 0), np.maximum(values.max(0), 0)
    codes, scale, zero = keras_quant.weight_codes(values, low, high, Width(bits, narrow))
    assert codes.min() >= int(narrow) and codes.max() <= 2**bits - 1
    bottom, ceiling = ((edge - zero) * scale.astype(np.float64) for edge in Width(bits, narrow).limits)
    real = (codes - zero) * scale.astype(np.float64)
    assert (np.abs(real - np.clip(values, bottom, ceiling)) <= scale * (0.5 + 1e-3)).all()


def test_ties_go_up() -> None:
    values = (np.arange(-4, 4) + 0.5).astype(F32)
    codes, _, zero = keras_quant.weight_codes(values, np.array(-8, F32), np.array(7, F32), Width(4, False))
    assert (codes - zero).tolist() == [-3, -2, -1, 0, 1, 2, 3, 4]


def test_a_range_of_0_to_0_gives_zero_weights() -> None:
    values = np.array([[0.0, 1.0], [5.0, 2.0]], F32)
    codes, scale, zero = keras_quant.weight_codes(values, np.array([0, -1], F32), np.array([0, 1], F32), Width(8, True))
    assert (codes[:, 0] == zero[0]).all() and scale[0] == 1 and (codes[:, 1] - zero[1]).tolist() == [127, 127]


def test_a_normalisation_is_folded_exactly(tmp_path: Path) -> None:
    """Variances plus epsilon are 1, 4, 1.001, 0.25: factors 1, -1, 0 and 1."""
    graph = readers.read(write_h5(tmp_path / "m.h5", Model((6, 6, 2), [conv("c", "NoOpActivation"), norm(), relu()])))
    bare = readers.read(write_h5(tmp_path / "b.h5", Model((6, 6, 2), [conv("c")])))
    (node,), (plain_node,) = graph.nodes, bare.nodes
    assert isinstance(node, ir.Conv2d) and isinstance(plain_node, ir.Conv2d)
    folded, stored = node.weights, plain_node.weights
    variance = np.array([0.999, 3.999, 1.0, 0.249], F32).astype(np.float64)
    factor = np.array([1, -2, 0, 0.5]) / np.sqrt(variance + 0.001)
    steps = folded.codes - folded.zero_point.reshape(-1, 1, 1, 1)
    before = stored.codes - stored.zero_point.reshape(-1, 1, 1, 1)
    assert np.array_equal(steps, before * np.sign(factor).astype(int).reshape(-1, 1, 1, 1))
    assert folded.scale.dtype == np.float64 and (folded.scale > 0).all()
    assert np.array_equal(folded.scale[[0, 1, 3]], (stored.scale * np.abs(factor))[[0, 1, 3]])
    assert stored.bias is not None and folded.bias is not None
    mean, beta = (norm().inner[key].astype(np.float64) for key in ("moving_mean", "beta"))
    assert np.array_equal(folded.bias, stored.bias * factor + (beta - mean * factor))
    assert folded.bias[2] == 3.0
    assert node.clamp == (0, 255)  # a range of 0..4 saturates before 6


def test_relu6_becomes_a_clamp(tmp_path: Path) -> None:
    last = replace(relu(), ranges={"output": (-2.0, 8.0)})
    graph = readers.read(write_h5(tmp_path / "m.h5", Model((6, 6, 2), [conv("c", "NoOpActivation"), norm(), last])))
    assert graph.nodes[0].clamp == (51, 204)  # scale 10/255, zero point 51: 6 is 153 steps above


def test_a_depthwise_layers_ranges_belong_to_its_multiplier(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    kernel = rng.normal(size=(3, 3, 2, 3)).astype(F32)
    ranges = {"depthwise_kernel": ([-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]), "post_activation": (0.0, 1.0)}
    config = {
        "strides": [1, 1],
        "padding": "valid",
        "dilation_rate": [1, 1],
        "use_bias": False,
        "activation": aware("linear"),
    }
    layer = Layer("DepthwiseConv2D", "d", config, {"depthwise_kernel": kernel}, ranges, (CONV8, {}))
    (node,) = readers.read(write_h5(tmp_path / "m.h5", Model((6, 6, 2), [layer]))).nodes
    assert isinstance(node, ir.Conv2d) and node.groups == 2
    assert np.allclose(node.weights.scale * 127, [1, 2, 3, 1, 2, 3])
    for channel in range(2):
        for one in range(3):
            real = (node.weights.codes[3 * channel + one, :, :, 0] - 128) * node.weights.scale[3 * channel + one]
            top = one + 1
            assert np.abs(real - np.clip(kernel[:, :, channel, one], -top, top)).max() <= top / 254 + 1e-6


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(6, 3, 1, (1, 1)), (6, 3, 2, (0, 1)), (5, 2, 1, (0, 1)), (7, 5, 3, (2, 2))],
)
def test_padding_same_puts_the_odd_one_last(tmp_path: Path, size: int, kernel: int, stride: int, padding: Any) -> None:
    layer = conv("c", strides=[stride, stride])
    layer.inner["kernel"] = np.ones((kernel, kernel, 2, 4), F32)
    (node,) = readers.read(write_h5(tmp_path / "m.h5", Model((size, size, 2), [layer]))).nodes
    assert isinstance(node, ir.Conv2d) and node.padding == (*padding, *padding)


def test_an_input_without_channels_is_laid_out(tmp_path: Path) -> None:
    layer = conv("c", padding="valid")
    layer.inner["kernel"] = np.ones((3, 3, 1, 4), F32)
    model = Model((6, 5), [plain("Reshape", "r", target_shape=[6, 5, 1]), layer])
    graph = readers.read(write_h5(tmp_path / "m.h5", model))
    assert graph.input == ir.Port("input", (6, 5), (0, 1, None)) and graph.tensors["input"].shape == (6, 5, 1)


def test_a_network_runs(tmp_path: Path) -> None:
    """The same layers in float64, the pool between codes."""
    exported = export.export(str(write_h5(tmp_path / "m.h5", network())))
    codes = verify.driving_codes(exported.network, 20)
    tensors = verify.golden_tensors(exported.network, codes)
    assert [layer.name for layer in exported.network.layers] == ["first", "pool", "fc"]
    assert any("softmax" in note for note in exported.graph.notes)
    quant = exported.graph.tensors["input"].quant
    x = np.pad((codes - quant.zero_point) * np.float64(quant.scale), [(0, 0), (1, 1), (1, 1), (0, 0)])
    node = exported.graph.nodes[0]
    assert isinstance(node, ir.Conv2d) and node.weights.bias is not None
    w = (node.weights.codes - node.weights.zero_point.reshape(-1, 1, 1, 1)) * node.weights.scale.reshape(-1, 1, 1, 1)
    views = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    real = np.einsum("nhwcij,oijc->nhwo", views, w) + node.weights.bias
    scale = np.float64(exported.graph.tensors["relu"].quant.scale)
    assert np.array_equal(np.clip(np.floor(real / scale + 0.5), 0, 255), tensors["relu"])


# --- widths --------------------------------------------------------------------------------------------------------


def test_the_n_bit_scheme_says_its_widths(tmp_path: Path) -> None:
    layer = replace(
        dense(), quantize_config=("DefaultNBitQuantizeConfig", {"num_bits_weight": 3, "num_bits_activation": 5})
    )
    graph = readers.read(write_h5(tmp_path / "m.h5", Model((4,), [layer], bits=4)))
    node = graph.nodes[0]
    assert isinstance(node, ir.Linear) and node.weights.codes.min() >= 1 and node.weights.codes.max() <= 7
    assert graph.tensors["fc"].quant.limits == (0, 31) and graph.tensors["input"].quant.limits == (0, 15)
    assert node.clamp == (0, 31)


def own(config: dict[str, Any]) -> Model:
    return Model((4,), [replace(dense(), quantize_config=("Mine", config))])


def quantizer(bits: int, narrow: bool) -> dict[str, Any]:
    settings = {"num_bits": bits, "per_axis": False, "symmetric": True, "narrow_range": narrow}
    return {"class_name": "LastValueQuantizer", "config": settings}


def test_ones_own_config_may_say_its_widths(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", own({"weight_quantizer": quantizer(4, True), "output": [quantizer(6, False)]}))
    graph = readers.read(path)
    assert graph.tensors["fc"].quant.limits == (0, 63)
    node = graph.nodes[0]
    assert isinstance(node, ir.Linear) and node.weights.zero_point.tolist() == [8, 8]


def test_ones_own_config_may_leave_it_to_the_user(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", own({}))
    with pytest.raises(IntactError, match=r"--quantizers FILE.json with .*Mine.*weights.*num_bits"):
        readers.read(path)
    told = {"Mine": {"weights": {"num_bits": 4, "narrow_range": True}, "activations": {"num_bits": 6}}}
    (tmp_path / "q.json").write_text(json.dumps(told))
    exported = export.export(str(path), quantizers=str(tmp_path / "q.json"))
    assert exported.graph.tensors["fc"].quant.limits == (0, 63)
    assert export.main([str(path), "--quantizers", str(tmp_path / "q.json"), "-o", str(tmp_path / "out")]) == 0
    for bad in ("[1]", '{"Mine": 3}', "no", '{"Mine": {"weights": {"num_bits": 9}}}'):
        (tmp_path / "q.json").write_text(bad)
        with pytest.raises(IntactError, match=r"must be|not JSON|num_bits 2 to 8"):
            export.export(str(path), quantizers=str(tmp_path / "q.json"))


def test_a_fixed_quantizer_has_8_bits_whatever_it_says(tmp_path: Path) -> None:
    settings = {"num_bits": 4, "init_min": 0.0, "init_max": 2.55, "narrow_range": False, "quantize_output": False}
    inner = {"class_name": PLAIN8, "config": {"quantize_output": False}}
    layer = replace(dense(), quantize_config=("FixedQuantizeConfig", settings | {"config": inner}))
    layer.ranges.pop("post_activation")
    graph = readers.read(write_h5(tmp_path / "m.h5", Model((4,), [layer])))
    assert graph.tensors["fc"].quant == ir.Quant(F32(2.55) / F32(255), 0, "uint8")


# --- containers ----------------------------------------------------------------------------------------------------


def same(a: ir.Graph, b: ir.Graph) -> bool:
    def described(graph: ir.Graph) -> Any:
        nodes = [vars(node).copy() for node in graph.nodes]
        for node in nodes:
            if "weights" in node:
                node["weights"] = [np.asarray(part).tolist() for part in vars(node["weights"]).values()]
        return nodes, graph.tensors, graph.input, graph.output

    return bool(described(a) == described(b))


@pytest.mark.parametrize("functional", [False, True])
def test_three_containers_hold_one_model(tmp_path: Path, functional: bool) -> None:
    model = replace(network(), functional=functional)
    graph = readers.read(write_h5(tmp_path / "m.h5", model))
    assert same(graph, readers.read(write_keras(tmp_path / "m.keras", model)))
    assert same(graph, readers.read(write_saved_model(tmp_path / "m", model)))
    assert export.export(str(tmp_path / "m")).manifest["source"]


def test_a_residual_network(tmp_path: Path) -> None:
    second = conv("second")
    second.inner["kernel"] = np.random.default_rng(9).normal(size=(3, 3, 4, 4)).astype(F32)
    add = Layer("Add", "add", {}, {}, {"output": (-1.0, 9.0)}, inputs=("first", "second"))
    both = Layer("Concatenate", "both", {"axis": -1}, {}, {"output": (-1.0, 9.0)}, inputs=("add", "first"))
    model = Model((6, 6, 2), [conv("first"), second, add, both], functional=True)
    graph = readers.read(write_h5(tmp_path / "m.h5", model))
    assert [type(node) for node in graph.nodes] == [ir.Conv2d, ir.Conv2d, ir.Add, ir.Concat]
    assert graph.tensors["both"].shape == (6, 6, 8) and quantise.quantise(graph).layers


# --- refusals ------------------------------------------------------------------------------------------------------


def unquantised() -> Layer:
    layer = dense()
    layer.ranges.pop("kernel")
    return layer


def real() -> Layer:
    return replace(dense("real"), ranges={"kernel": (-1.0, 1.0)})


REFUSED: dict[str, tuple[Model, str]] = {
    "float weights": (Model((4,), [unquantised()]), "'fc': its weights are not quantised; annotate it"),
    "float output": (Model((4,), [real()]), "'real': the model's output is not quantised; give its range"),
    "float between": (
        Model((4,), [real(), replace(dense(), inner=dense().inner | {"kernel": np.ones((2, 2), F32)})]),
        "'real': its output is not quantised, but layer 'fc' reads it",
    ),
    "float input": (Model((4,), [dense()], None), "model's input, which no quantizer stands behind"),
    "never trained": (Model((4,), [dense()], (0.0, 0.0)), "stored range is 0..0"),
    "an unknown layer": (Model((4,), [plain("Lambda", "code")]), "'code': class 'Lambda' is not supported"),
    "channels first": (Model((6, 6, 2), [conv("c", data_format="channels_first")]), "use channels_last"),
    "gelu": (Model((4,), [dense(activation=aware("gelu"))]), "activation 'gelu' is not supported"),
    "sigmoid of real numbers": (
        Model((4,), [replace(dense(activation=aware("sigmoid")), ranges={"kernel": (-1.0, 1.0)})]), "applies sigmoid",
    ),
    "a shape that does not fit": (Model((5,), [dense()]), "do not take an input of shape"),
    "a flipped range": (Model((4,), [replace(dense(), ranges={"kernel": (1.0, -1.0)})]), "the stored range"),
    "no number": (
        Model((4,), [replace(dense(), inner=dense().inner | {"kernel": np.full((4, 2), np.nan, F32)})]), "not finite",
    ),
    "a normalisation behind relu": (
        Model((6, 6, 2), [conv("c", "NoOpActivation"), plain("ReLU", "r"), norm()]), "is no weighted layer",
    ),
    "a huge kernel": (Model((6, 6, 2), [conv("c", strides=[1 << 40, 1])]), "strides"),
    "a hole in the range": (Model((4,), [dense()], (3.0, float("inf"))), "the stored range"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(tmp_path: Path, name: str) -> None:
    model, text = REFUSED[name]
    with pytest.raises(IntactError) as caught:
        readers.read(write_h5(tmp_path / "m.h5", model))
    assert text in str(caught.value) and "m.h5" in str(caught.value) and "damaged" not in str(caught.value)


def test_a_real_output_takes_the_users_range(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", Model((4,), [real()]))
    graph = readers.read(path, output_range=(-1.0, 2.0))
    assert graph.tensors["real"].quant == ir.Quant(F32(3 / 255), 85, "uint8")


def test_weights_without_layers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["layer/vars/0"] = np.zeros(3)
    with pytest.raises(IntactError, match="holds variables but no layers"):
        readers.read(tmp_path / "m.h5")


def test_a_model_that_is_not_quantised(tmp_path: Path) -> None:
    layers = [{"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "in"}}]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    with pytest.raises(IntactError, match="is not quantised; quantise it: tfmot"):
        readers.read(tmp_path / "m.h5")


def test_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    """External links, external storage and compressed arrays: nothing outside is opened, nothing large unpacked."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.ones((4, 2), F32)
    for kind in ("external", "soft", "packed", "elsewhere"):
        path = write_h5(tmp_path / f"{kind}.h5", Model((4,), [dense()]))
        with h5py.File(path, "a") as file:
            group = file["model_weights/quant_fc/fc"]
            del group["kernel:0"]
            if kind == "external":
                group["kernel:0"] = h5py.ExternalLink(str(secret), "kernel")
            elif kind == "soft":
                group["kernel:0"] = h5py.SoftLink("/model_weights/quant_fc/fc/bias:0")
            elif kind == "packed":
                group.create_dataset("kernel:0", (1 << 20, 1 << 12), "f4", compression="gzip", fillvalue=1.0)
            else:
                group.create_dataset("kernel:0", (4, 2), "f4", external=[(str(secret), 0, 32)])
        with pytest.raises(IntactError, match=r"link to elsewhere|not stored plainly"):
            readers.read(path)


def test_h5py_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write_h5(tmp_path / "m.h5", Model((4,), [dense()]))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(IntactError, match="needs the package h5py: pip install h5py"):
        readers.read(path)


# --- damage --------------------------------------------------------------------------------------------------------


def read_or_refuse(path: Path) -> bool:
    """Whether the file was refused; anything but a graph or one clear error fails."""
    try:
        readers.read(path)
    except IntactError as error:
        assert str(path) in str(error) or "layer" in str(error)
        return True
    return False


@pytest.mark.parametrize("kind", ["m.h5", "m.keras", "variables/variables.index", "keras_metadata.pb"])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    """Cut anywhere, and with bytes changed anywhere."""
    model, source = network(), tmp_path / "source"
    source.mkdir()
    if kind == "m.h5":
        part, path = write_h5(source / kind, model), source / kind
    elif kind == "m.keras":
        part, path = write_keras(source / kind, model), source / kind
    else:
        path = write_saved_model(source / "m", model)
        part = path / kind
    whole, rng = part.read_bytes(), random.Random(kind)
    assert not read_or_refuse(path)
    refused = 0
    fewer = 8 if kind in ("m.h5", "m.keras") else 1  # a process for each
    for _ in range(32 // fewer):
        cut = rng.randrange(len(whole))
        part.write_bytes(whole[:cut])
        refused += read_or_refuse(path)
    for _ in range(88 // fewer):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 255, 1, 127, 128, rng.randrange(256)))
        part.write_bytes(data)
        refused += read_or_refuse(path)
    assert refused >= 32 // fewer
    shutil.rmtree(source)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_index(data: bytes) -> None:
    for text in (data, data + keras_bundle.MAGIC):
        try:
            keras_bundle.entries(text)
            list(keras_bundle.fields(text))
        except (ValueError, TensorError):
            pass


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(IntactError, match="no SavedModel"):
        readers.read(tmp_path)
