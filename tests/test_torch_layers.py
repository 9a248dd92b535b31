"""Every operation that torch's eager quantisation writes, golden model against torch itself on full-range codes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is what the codes are compared with")

from torch import nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402

from pyexport import ir  # noqa: E402
from tests import torch_nets as nets  # noqa: E402

RELU = nn.ReLU()
needs_vnni = pytest.mark.skipif(not nets.VNNI, reason="without VNNI torch's own int8 kernels saturate")
needs_avx512 = pytest.mark.skipif(not nets.AVX512, reason="torch rounds pools by another rule in narrower vectors")
pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHTED: dict[str, list[nn.Module]] = {
    "conv": [nn.Conv2d(3, 8, 3), RELU],
    "no bias": [nn.Conv2d(3, 8, 3, bias=False)],
    "stride and padding": [nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 2))],
    "dilation": [nn.Conv2d(3, 4, 3, dilation=2, padding=2), RELU],
    "groups": [nn.Conv2d(3, 9, 3, groups=3)],
    "depthwise by two": [nn.Conv2d(3, 6, 3, groups=3), RELU, nn.Conv2d(6, 4, 1)],
    "one channel": [nn.Conv2d(3, 1, 3, padding=1)],
    "more channels than columns": [nn.Conv2d(3, 37, 2)],
    "relu6": [nn.Conv2d(3, 8, 3), nn.ReLU6()],
    "hardtanh": [nn.Conv2d(3, 4, 3), nn.Hardtanh(-0.3, 0.7)],
    "mlp": [nn.Flatten(), nn.Linear(300, 16), RELU, nn.Linear(16, 5)],
    "conv, linear": [nn.Conv2d(3, 6, 3), RELU, nn.Flatten(), nn.Linear(384, 7)],
}
POOLED: dict[str, list[nn.Module]] = {
    "max": [nn.Conv2d(3, 20, 3), RELU, nn.MaxPool2d(3, 2, 1)],
    "max, uncovered edge": [nn.Conv2d(3, 20, 3), nn.MaxPool2d(3, 2)],
    "max, ceil": [nn.Conv2d(3, 20, 2), nn.MaxPool2d(2, ceil_mode=True)],
    "max, dilated, first": [nn.MaxPool2d(2, 1, dilation=2), nn.Conv2d(3, 4, 1)],
    "average of the input": [nn.AvgPool2d((3, 2))],
    "average, channels last": [nn.Conv2d(3, 32, 3), RELU, nn.AvgPool2d(2)],
    "average, channels last, odd": [nn.Conv2d(3, 16, 3), nn.AvgPool2d((3, 2), (1, 2))],
    "average, padded": [nn.Conv2d(3, 17, 3), nn.AvgPool2d(3, 2, 1)],
    "average, one channel": [nn.Conv2d(3, 1, 3), RELU, nn.AvgPool2d(2)],
    "average, divisor": [nn.Conv2d(3, 5, 3), nn.AvgPool2d(2, divisor_override=3)],
    "adaptive of the input": [nn.AdaptiveAvgPool2d((5, 2))],
    "adaptive of the input to one": [nn.AdaptiveAvgPool2d(1)],
    "adaptive, channels last": [nn.Conv2d(3, 20, 1), nn.AdaptiveAvgPool2d((5, 2))],
    "adaptive to one": [nn.Conv2d(3, 20, 3), RELU, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5)],
    "adaptive, one channel": [nn.Conv2d(3, 1, 3), RELU, nn.AdaptiveAvgPool2d((4, 2))],
}
SCHEMES = [(False, False), (False, True), (True, False), (True, True)]
SCHEME_NAMES = ["per tensor", "per tensor, affine", "per channel", "per channel, affine"]


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    """Leaves torch's engine as it was."""
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def compare(
    layers: list[nn.Module],
    qconfig: tq.QConfig,
    path: Path,
    bits: int = 8,
    shape: Any = (3, 10, 10),
    match: str | None = None,
) -> int:
    """Both sides on the same codes, torch with batches of one and of all; returns how many codes were compared."""
    example = torch.randn(16, *shape)
    model = nets.quantised(copy.deepcopy(layers), example, qconfig)
    network = nets.load(nets.save(model, example, path / "model.pt"), match)
    codes = nets.driving_codes(network, 60, bits=bits)
    images = nets.real_inputs(network, codes)
    ours = nets.golden_codes(network, codes)
    for batch in (1, 60):
        theirs = nets.torch_codes(model, network, images, batch)
        assert ours.shape == theirs.shape
        differing = np.argwhere(ours != theirs)
        assert not len(differing), f"batch of {batch}: {len(differing)} of {ours.size} differ, first at {differing[0]}"
    return ours.size


def fixed(scale: float, zero_point: int, config: tq.QConfig) -> tq.QConfig:
    """Every activation with this scale and zero point."""
    observer = tq.FixedQParamsObserver.with_args(scale=scale, zero_point=zero_point, dtype=torch.quint8)
    return tq.QConfig(observer, config.weight)


@needs_vnni
@pytest.mark.parametrize(("per_channel", "affine"), SCHEMES, ids=SCHEME_NAMES)
@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted(name: str, per_channel: bool, affine: bool, tmp_path: Path) -> None:
    nets.setup(1)
    for layer in WEIGHTED[name]:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.reset_parameters()
    assert compare(WEIGHTED[name], nets.config(per_channel, affine), tmp_path) >= 300


@needs_vnni
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", sorted(set(WEIGHTED) - {"relu6", "hardtanh"}))
@pytest.mark.parametrize("engine", ["qnnpack", "onednn"])
def test_other_engines(engine: str, name: str, per_channel: bool, tmp_path: Path) -> None:
    """--match follows torch's other engines. relu6 is left out: qnnpack's own swaps axes of channels-last tensors."""
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no {engine}")
    nets.setup(5, engine)
    assert compare(WEIGHTED[name], nets.config(per_channel, False), tmp_path, match=engine) >= 300


@needs_avx512
@needs_vnni
@pytest.mark.parametrize("name", POOLED)
def test_pooled(name: str, tmp_path: Path) -> None:
    """Windows of 4, 6, 9, 10, 64 and 100 taps: exact ties, where torch's kernels differ among themselves.

    The zero point is odd, so that rounding ties to even before and after adding it differs.
    """
    nets.setup(2)
    assert compare(POOLED[name], fixed(0.02, 61, nets.config(True, False)), tmp_path) >= 180


@needs_avx512
@needs_vnni
@pytest.mark.parametrize("zero_point", [60, 61])
def test_a_pool_with_two_rules(zero_point: int, tmp_path: Path) -> None:
    """20 channels, channels last: torch rounds 16 by one rule and 4 by another, which an odd zero point tells apart.

    Where one layer cannot give both, exactly the channels that the export names may differ, by one code.
    """
    nets.setup(2)
    example = torch.randn(16, 3, 10, 10)
    layers = [nn.Conv2d(3, 20, 3), nn.AvgPool2d(2)]
    model = nets.quantised(layers, example, fixed(0.02, zero_point, nets.config(True, False)))
    network = nets.load(nets.save(model, example, tmp_path / "model.pt"))
    codes = nets.driving_codes(network, 60)
    differ = nets.golden_codes(network, codes) - nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)
    named = {channel for channel, values in enumerate(network.layers[1].differing) if len(values)}
    assert set(np.argwhere(differ)[:, 1].tolist()) <= named <= (set(range(16, 20)) if zero_point % 2 else set())
    assert np.abs(differ).max() <= 1


@pytest.mark.parametrize("layers", [[nn.Conv2d(8, 8, 3, padding=1, groups=8), RELU], [nn.Conv2d(3, 9, 3, groups=3)]])
@pytest.mark.parametrize(("weights", "activations"), [(7, 8), (8, 7)])
def test_depthwise(layers: list[nn.Module], weights: int, activations: int, tmp_path: Path) -> None:
    """fbgemm's depthwise kernel adds pairs of products in saturating int16: exact with 7 bits on one side only."""
    nets.setup(3)
    assert isinstance(layers[0], nn.Conv2d)
    config = nets.config(True, False, weights, activations)
    shape = (layers[0].in_channels, 10, 10)
    assert compare(layers, config, tmp_path, activations, shape) >= 30_000


@needs_vnni
@pytest.mark.parametrize("per_channel", [False, True])
def test_ties(per_channel: bool, tmp_path: Path) -> None:
    """Scales that are powers of two: one output in eight or so lies exactly between two codes."""
    nets.setup(4)
    conv = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        steps = torch.randint(-127, 128, conv.weight.shape).float()
        steps.flatten(1)[:, 0] = 127.5  # the observer divides the largest by 127.5
        conv.weight.copy_(steps / 128)
        conv.bias.copy_(torch.randint(-200, 200, (8,)) / 1024)
    config = fixed(2**-3, 61, nets.config(per_channel, False))
    model = nets.quantised([conv], torch.randn(4, 3, 10, 10), config)
    network = nets.load(nets.save(model, torch.randn(1, 3, 10, 10), tmp_path / "model.pt"))
    assert set(np.asarray(network.layers[0].facts["weight_scales"]).tolist()) == {2**-7}
    codes = nets.driving_codes(network, 200, seed=5)
    ours = nets.golden_codes(network, codes)
    assert np.array_equal(ours, nets.torch_codes(model, network, nets.real_inputs(network, codes), 200))
    assert ((ours > 0) & (ours < 255)).sum() > 20_000  # few saturate, so ties are seen


@needs_vnni
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("layer", [nn.Linear(2, 4096), nn.Conv2d(2, 4096, 1)], ids=["linear", "conv"])
def test_last_bits(layer: nn.Module, per_channel: bool, tmp_path: Path) -> None:
    """A million outputs, 4,096 biases: dozens lie within one float32 step of a tie, so each float rounding shows."""
    nets.setup(6)
    layer.reset_parameters()
    shape = (2,) if isinstance(layer, nn.Linear) else (2, 16, 16)
    example = torch.randn(256 if isinstance(layer, nn.Linear) else 1, *shape)
    model = nets.quantised([copy.deepcopy(layer)], example, nets.config(per_channel, False))
    network = nets.load(nets.save(model, example, tmp_path / "model.pt"))
    codes = np.random.default_rng(6).integers(0, 256, example.shape)
    ours = nets.golden_codes(network, codes)
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 256)
    assert ours.size == 1 << 20 and np.array_equal(ours, theirs)


def test_input_quantisation() -> None:
    """Real inputs to codes: each tie, its two float32 neighbours and values far outside, against torch's quantiser."""
    nets.setup()
    from pyexport.qlayers import QTensor
    from pyexport.quantise import input_codes

    compared = 0
    for scale, zero in ((2**-7, 128), (0.007874015718698502, 0), (0.02747, 119), (3.7e-5, 255), (39.2, 3)):
        step = np.float32(scale)
        ties = ((np.arange(-40, 300, dtype=np.float32) + np.float32(0.5)) - np.float32(zero)) * step
        values = np.concatenate([np.nextafter(ties, np.float32(-1e9)), ties, np.nextafter(ties, np.float32(1e9))])
        values = np.concatenate([values, np.array([0, -0.0, 1e-45, 1e20, -1e20], np.float32)])
        theirs = torch.quantize_per_tensor(torch.from_numpy(values), float(step), zero, torch.quint8).int_repr()
        quant = ir.Quant(step, zero, "uint8")
        ours = input_codes(QTensor("input", (1, 1, 1), zero - 128, -128, quant), values, "torch")
        assert np.array_equal(ours, theirs.numpy())
        compared += values.size
    assert compared > 5_000
