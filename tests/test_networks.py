"""The demo networks: golden model against torch itself, code by code and layer by layer, and the RTL against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is what the codes are compared with")

from pyexport import export, quantise, verify  # noqa: E402
from sim import run as sim_run  # noqa: E402
from sim.runner import simulator_missing  # noqa: E402
from tests import torch_nets as nets  # noqa: E402

MODELS = Path(__file__).resolve().parent.parent / "models"
XOR_POINTS = np.array([(1, 1), (1, 0), (0, 1), (0, 0), (0, 0.9), (0, 0.75), (0, 0.25)], np.float32)
CONSTANTS = [("0.5", 0.5), ("2", 2.0), ("100", 100.0), ("10000", 10_000.0)]
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not nets.VNNI, reason="without VNNI torch's own int8 kernels saturate"),
]


@pytest.fixture(autouse=True)
def _torch_settings() -> None:
    nets.setup()


def framework(name: str) -> Any:
    """torch's own copy of a demo network; the file is this repository's, so it may be loaded."""
    return torch.jit.load(str(MODELS / f"{name}.pt")).eval()


def on_rtl(name: str, values: Any, folder: Path, sim: str = "icarus", *options: str) -> tuple[Any, dict[str, Any]]:
    """The codes that the RTL gives, in the model's own layout, and report.json; the command must find nothing wrong."""
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    np.save(folder / "given.npy", values)
    arguments = [
        str(MODELS / f"{name}.pt"),
        "--sim",
        sim,
        "--input",
        str(folder / "given.npy"),
        "--out",
        str(folder / name),
    ]
    assert sim_run.main([*arguments, *options]) == 0
    report = json.loads((folder / name / "report.json").read_text())
    return np.load(folder / name / "outputs.npy").astype(np.int64), report


def compare(what: str, ours: Any, theirs: Any, at_least: int) -> None:
    """Fails on the first difference, or where too little was compared."""
    differing = int((ours != theirs).sum())
    print(f"{what}: {differing} of {ours.size:,} codes differ from torch's")
    assert ours.shape == theirs.shape and ours.size >= at_least
    assert differing == 0


def test_xor_on_a_grid() -> None:
    """161,604 points, real inputs through the model's own input quantisation, beyond its range too."""
    network, model = nets.load(MODELS / "xor.pt"), framework("xor")
    axis = np.linspace(-0.25, 1.25, 402, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    codes = quantise.input_codes(network.tensors[network.input.tensor], points, network.float_input)
    ours, theirs = (
        nets.golden_codes(network, codes),
        nets.torch_codes(model, network, torch.from_numpy(points), 1 << 14),
    )
    compare("xor, grid", ours, theirs, 7 * 100_000)
    assert (ours.argmax(1) == theirs.argmax(1)).all()


def test_xor_on_every_code() -> None:
    """All pairs of input codes: nothing that the network can be given is left out."""
    network, model = nets.load(MODELS / "xor.pt"), framework("xor")
    codes = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).reshape(-1, 2)
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 1 << 14)
    compare("xor, all codes", nets.golden_codes(network, codes), theirs, 7 * 65_536)


def test_xor_points_on_the_rtl(tmp_path: Path) -> None:
    codes, _ = on_rtl("xor", XOR_POINTS, tmp_path)
    assert codes.argmax(1).tolist() == list(range(7))
    network = nets.load(MODELS / "xor.pt")
    compare("xor, RTL", codes, nets.torch_codes(framework("xor"), network, torch.from_numpy(XOR_POINTS), 1), 49)


@pytest.mark.parametrize(("name", "bias"), CONSTANTS)
def test_constant(name: str, bias: float, tmp_path: Path) -> None:
    """A bias far beyond int32 at scale sx * sw: torch answers the bias everywhere, and so must everything here."""
    network, model = nets.load(MODELS / f"constant_{name}.pt"), framework(f"constant_{name}")
    quant = network.tensors[network.output.tensor].quant
    codes = nets.driving_codes(network, 40)
    ours = nets.golden_codes(network, codes)
    compare(name, ours, nets.torch_codes(model, network, nets.real_inputs(network, codes), 8), 2_500)
    assert (ours == 255).all()
    assert float(quant.scale) * (255 - quant.zero_point) == pytest.approx(bias, rel=1e-6)
    rtl, report = on_rtl(f"constant_{name}", codes[:2], tmp_path)
    assert (rtl == 255).all() and rtl.shape == (2, 2, 6, 6) and report["mismatches"] == 0


def test_affine_weights(tmp_path: Path) -> None:
    """Weight zero points far from zero, and power-of-two scales: many sums lie exactly between two codes."""
    network, model = nets.load(MODELS / "affine.pt"), framework("affine")
    zero_points = np.concatenate([np.asarray(layer.facts["weight_zero_points"]) for layer in network.layers])
    assert np.abs(zero_points).max() > 50 and all(layer.wide for layer in network.layers)
    codes = nets.driving_codes(network, 4000)
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 500)
    compare("affine", nets.golden_codes(network, codes), theirs, 40_000)
    rtl, _ = on_rtl("affine", codes[:6], tmp_path)
    compare("affine, RTL", rtl, theirs[:6], 60)


@pytest.mark.parametrize(("name", "layers", "count"), [("digits", 6, 400), ("qconvbnrelu", 5, 400), ("affine", 2, 400)])
def test_every_layer(name: str, layers: int, count: int) -> None:
    """Every layer's whole output, not only the network's: torch's modules run one after another."""
    network, model = nets.load(MODELS / f"{name}.pt"), framework(name)
    codes = nets.driving_codes(network, count, seed=2)
    tensors = verify.golden_tensors(network, codes)
    ours = {layer.name.split("+")[-1]: tensors[layer.output] for layer in network.layers}
    seen = 0
    for layer, theirs in nets.layer_codes(model, network, nets.real_inputs(network, codes)):
        if layer in ours:  # a convolution that a ReLU follows is one layer here, compared after the ReLU
            compare(f"{name} {layer}", ours[layer].reshape(theirs.shape), theirs, 10 * count)
            seen += 1
    assert seen == layers == len(network.layers)


def test_digits_on_the_test_split() -> None:
    network, data = nets.load(MODELS / "digits.pt"), np.load(MODELS / "digits_test.npz")
    codes = quantise.input_codes(network.tensors[network.input.tensor], data["inputs"], network.float_input)
    ours = nets.golden_codes(network, codes)
    compare(
        "digits, test split",
        ours,
        nets.torch_codes(framework("digits"), network, torch.from_numpy(data["inputs"]), 60),
        3600,
    )
    assert np.array_equal(ours, data["codes"])
    right = float((ours.argmax(1) == data["labels"]).mean())
    print(f"digits: accuracy {right:.4f}, torch int8 {data['int8_accuracy']:.4f}, float {data['float_accuracy']:.4f}")
    assert right == pytest.approx(float(data["int8_accuracy"]), abs=1e-6) and right > 0.95
    assert abs(right - float(data["float_accuracy"])) < 0.02


@pytest.mark.parametrize(("name", "count"), [("digits", 2000), ("qconvbnrelu", 4000)])
def test_codes_over_the_whole_range(name: str, count: int) -> None:
    network, model = nets.load(MODELS / f"{name}.pt"), framework(name)
    codes = nets.driving_codes(network, count)
    assert codes.min() == 0 and codes.max() == 255
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 250)
    compare(name, nets.golden_codes(network, codes), theirs, 10 * count)
    one_by_one = nets.torch_codes(model, network, nets.real_inputs(network, codes[:50]), 1)
    assert np.array_equal(one_by_one, theirs[:50])


@pytest.mark.parametrize(
    ("name", "sim", "count", "options"),
    [
        ("digits", "verilator", 40, ()),
        ("digits", "icarus", 1, ()),
        ("digits", "icarus", 1, ("--array", "16x4")),
        ("qconvbnrelu", "verilator", 200, ()),
        ("qconvbnrelu", "icarus", 2, ("--array", "3x7")),
    ],
)
def test_rtl_against_torch(name: str, sim: str, count: int, options: tuple[str, ...], tmp_path: Path) -> None:
    """The codes that left the Verilog, against torch's: nothing of the exporter's lies between."""
    network = nets.load(MODELS / f"{name}.pt")
    codes = nets.driving_codes(network, max(count, 3), seed=3)[-count:]
    rtl, report = on_rtl(name, codes.astype(np.uint8), tmp_path, sim, *options)
    compare(
        f"{name}, RTL",
        rtl,
        nets.torch_codes(framework(name), network, nets.real_inputs(network, codes), count),
        10 * count,
    )
    assert report["cycles"] == report["predicted_cycles"] and report["inferences"] == count
    assert all(layer["outputs_compared"] and not layer["mismatches"] for layer in report["layers"])


def test_qconvbnrelu_against_its_own_integers() -> None:
    """The from-scratch quantiser's formula in float64, run on the integers that the file holds.

    torch computes M and the bias in float32, so a code may be one off where M * acc lies within a few float32 steps of
    a tie: none or nearly none are.
    """
    network = nets.load(MODELS / "qconvbnrelu.pt")
    layer = network.layers[0]
    source, target = network.tensors[layer.input], network.tensors[layer.output]
    codes = nets.driving_codes(network, 100, seed=4)
    ours = verify.golden_tensors(network, codes)[layer.output]
    assert layer.weights is not None
    x = np.pad(codes[:, 0] - source.quant.zero_point, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    scale = float(source.quant.scale) * float(np.asarray(layer.facts["weight_scales"])[0])
    bias = np.rint(np.asarray(layer.facts["bias"]) / scale)
    acc = np.einsum("nhwij,cij->nhwc", windows, layer.weights[..., 0].astype(np.int64)) + bias
    own = np.rint(acc * (scale / float(target.quant.scale))).astype(np.int64) + target.quant.zero_point
    own = np.clip(own, target.quant.zero_point, 255)
    differing = int((own != ours).sum())
    print(f"qconvbnrelu, own formula: {differing} of {own.size:,} differ")
    assert np.abs(own - ours).max() <= 1 and differing <= own.size // 10_000


def test_exports_are_proved() -> None:
    """Every accumulator of every demo network is proved equal to torch's formula, not only those sampled above."""
    for path in sorted(MODELS.glob("*.pt")):
        assert export.export(str(path)).manifest["proved_equal"], path.name
