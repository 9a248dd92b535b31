"""Networks with sums, concatenations and tables, as torch's eager and FX modes write them: golden model against torch.

Inputs are full-range codes, one at a time: torch's kernels depend on the tensor's size and memory order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is what the codes are compared with")

from torch import Tensor, nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx  # noqa: E402

from pyexport import ir, readers  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.qlayers import Network  # noqa: E402
from tests import torch_nets as nets  # noqa: E402

SIZE = 32
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not (nets.VNNI and nets.AVX512), reason="torch's own kernels saturate or take shorter vectors"),
]


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    """Leaves torch's engine as it was."""
    yield
    torch.backends.quantized.engine = "fbgemm"


class Eager(nn.Module):
    """A residual sum, a sigmoid, and a concatenation of three scales; ends in a map of 48 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body, self.side = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.leaky, self.sigmoid = nn.LeakyReLU(0.25), nn.Sigmoid()
        self.sum, self.join = nn.quantized.FloatFunctional(), nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        stem = self.leaky(self.stem(self.quant(x)))
        total = self.sum.add_relu(stem, self.body(stem))
        return self.dequant(self.join.cat([total, self.sigmoid(self.side(total)), stem], 1))


class Plain(nn.Module):
    """What FX sees: batch normalisation, a residual sum, a concatenation, tanh. No annotations, so that it scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.side = nn.Conv2d(16, 16, 1)

    def forward(self, x):  # type: ignore[no-untyped-def]
        stem = self.stem(x)
        total = torch.relu(stem + self.body(stem))
        return torch.cat([total, torch.tanh(self.side(total)), stem], 1)


def powers(model: nn.Module, engine: str) -> None:
    """Scales that are powers of two and odd zero points everywhere, weights of whole steps: ties in every layer."""
    weight = nets.config(engine == "fbgemm", False).weight
    rng = np.random.default_rng(1)
    for layer in model.children():
        scale, zero = 2.0 ** -int(rng.integers(3, 6)), 2 * int(rng.integers(20, 60)) + 1
        observer = tq.FixedQParamsObserver.with_args(scale=scale, zero_point=zero, dtype=torch.quint8)
        layer.qconfig = tq.QConfig(observer, weight)
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                steps = torch.randint(-127, 128, layer.weight.shape).float()
                steps.flatten(1)[:, 0] = 127.5  # the observer divides the largest by 127.5
                layer.weight.copy_(steps / 256)
                assert layer.bias is not None
                layer.bias.copy_(torch.randint(-200, 200, layer.bias.shape) / 1024)


def eager(engine: str, ties: bool, images: Any) -> nn.Module:
    model = Eager().eval()
    if ties:
        powers(model, engine)
    else:
        model.qconfig = tq.get_default_qconfig(engine)
    tq.prepare(model, inplace=True)
    with torch.no_grad():
        model(images)
    return tq.convert(model)


def fx(engine: str, qat: bool, images: Any) -> nn.Module:
    model = Plain()
    if qat:
        prepared = prepare_qat_fx(model.train(), tq.get_default_qat_qconfig_mapping(engine), (images[:1],))
        optimizer = torch.optim.SGD(prepared.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            prepared(images).square().mean().backward()
            optimizer.step()
    else:
        prepared = prepare_fx(model.eval(), tq.get_default_qconfig_mapping(engine), (images[:1],))
    with torch.no_grad():
        prepared.eval()(images)
    return convert_fx(prepared)


def compared(model: nn.Module, path: Path, engine: str, count: int, shape: Any = (3, SIZE, SIZE)) -> int:
    """How many output codes were compared, all equal and all proved."""
    network, ours, theirs = both(model, path, engine, count, shape)
    assert not any(len(values) for layer in network.layers for values in layer.differing)
    wrong = np.argwhere(ours != theirs)
    assert not len(wrong), f"{len(wrong)} of {ours.size} differ, first at {wrong[0]}"
    return ours.size


def both(model: nn.Module, path: Path, engine: str, count: int, shape: Any) -> tuple[Network, Any, Any]:
    network = nets.load(nets.save(model, torch.zeros(1, *shape), path / "model.pt"), engine)
    codes = nets.driving_codes(network, count)
    ours = nets.golden_codes(network, codes)
    return network, ours, nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_eager(engine: str, tmp_path: Path) -> None:
    """A million outputs per engine, half of them with ties in every layer: 0 differ."""
    total = 0
    for ties in (False, True):
        nets.setup(3, engine)
        total += compared(eager(engine, ties, torch.randn(4, 3, SIZE, SIZE)), tmp_path, engine, 11)
    assert total >= 1 << 20


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_fx(engine: str, tmp_path: Path) -> None:
    """Static and QAT: a million outputs per engine, 0 differ."""
    total = 0
    for qat in (False, True):
        nets.setup(4, engine)
        total += compared(fx(engine, qat, torch.randn(4, 3, SIZE, SIZE)), tmp_path, engine, 11)
    assert total >= 1 << 20


class Joined(nn.Module):
    """A function of the input, contiguous in memory, and of a convolution's output, which is channels-last."""

    def __init__(self, function: Any, channels: int) -> None:
        super().__init__()
        self.quant, self.dequant, self.conv = tq.QuantStub(), tq.DeQuantStub(), nn.Conv2d(3, channels, 1)
        self.function = function

    def forward(self, x: Any) -> Any:
        x = self.quant(x)
        return self.dequant(self.function(x, self.conv(x)))


def traced(function: Any, channels: int, path: Path, zero_point: int = 61) -> tuple[nn.Module, Network]:
    nets.setup(5)
    model, example = Joined(function, channels).eval(), torch.randn(4, 3, 5, 5)
    observer = tq.FixedQParamsObserver.with_args(scale=2**-4, zero_point=zero_point, dtype=torch.quint8)
    model.qconfig = tq.QConfig(observer, nets.config(True, False).weight)
    tq.prepare(model, inplace=True)
    tq.convert(model, inplace=True)
    torch.jit.save(torch.jit.trace(model, example[:1], check_trace=False), str(path))
    return model, nets.load(path)


Q = torch.ops.quantized
FUNCTIONS = {
    "sum of both orders": (3, lambda x, y: Q.add(x, y, 0.125, 61)),
    "sum, rest left over": (3, lambda x, y: Q.add(y, y, 0.125, 60)),
    "concatenation of both orders": (5, lambda x, y: Q.cat([x, y], 1, 0.125, 61)),
    "concatenation, channels last": (16, lambda x, y: Q.cat([y, y], 1, 0.25, 61)),
    "concatenation of rows": (3, lambda x, y: Q.cat([x, y], 2, 0.25, 61)),
    "concatenation of columns": (3, lambda x, y: Q.cat([y, y, y], -1, 0.25, 61)),
    "concatenation, relu": (16, lambda x, y: Q.cat_relu([y, y], 1, 0.25, 61)),
    "torch.cat": (8, lambda x, y: torch.cat([y, y, y], 1)),
    "concatenated vectors": (3, lambda x, y: torch.cat([x.mean([2, 3]), x.mean([2, 3])], 1)),
    "two scales": (3, lambda x, y: torch.quantize_per_tensor(x.dequantize(), 0.1, 61, torch.quint8)),
    "sigmoid": (64, lambda x, y: torch.sigmoid(y)),
    "sigmoid with a scale": (64, lambda x, y: Q.sigmoid(y, 0.01, 3)),
    "tanh, contiguous": (3, lambda x, y: torch.tanh(x)),
    "hardsigmoid": (64, lambda x, y: nn.functional.hardsigmoid(y)),
    "hardswish": (64, lambda x, y: Q.hardswish(y, 0.1, 60)),
    "leaky relu": (64, lambda x, y: Q.leaky_relu(y, 0.1, False, 0.0371, 60)),
    "leaky relu, same scale": (64, lambda x, y: nn.functional.leaky_relu(y, 0.3)),
    "elu": (64, lambda x, y: Q.elu(y, 0.05, 60)),
    "pool after a concatenation of both": (5, lambda x, y: nn.functional.avg_pool2d(Q.cat([x, y], 1, 0.1, 61), 2)),
    "pool after a sum": (16, lambda x, y: nn.functional.avg_pool2d(Q.add(y, y, 0.125, 60), 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_function(name: str, tmp_path: Path) -> None:
    """5x5 maps and scales of whole powers: ties, and elements that are left over of torch's vectors."""
    channels, function = FUNCTIONS[name]
    model, network = traced(function, channels, tmp_path / "model.pt")
    codes = nets.driving_codes(network, 200)
    ours = nets.golden_codes(network, codes)
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)
    assert not any(len(values) for layer in network.layers for values in layer.differing)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("channels", "zero_point"), [(3, 61), (20, 61), (3, 60)])
def test_left_over_elements_that_round_apart_are_named(channels: int, zero_point: int, tmp_path: Path) -> None:
    """A sum's vectors and what is left over round ties apart where the zero point is odd. A layer has one table: it
    follows the vectors, and exactly the channels that hold the rest may differ, by one code, and are named."""
    function = lambda x, y: Q.add(y, y, 0.25, zero_point)  # noqa: E731
    model, network = traced(function, channels, tmp_path / "model.pt")
    codes = nets.driving_codes(network, 200)
    differ = nets.golden_codes(network, codes) - nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)
    left = (25 * channels) % 64
    held = {i % channels for i in range(25 * channels - left, 25 * channels)}
    named = {channel for channel, values in enumerate(network.layers[-1].differing) if len(values)}
    assert named == (held if zero_point % 2 else set())
    assert set(np.argwhere(differ)[:, 1].tolist()) <= named
    assert np.abs(differ).max() == zero_point % 2
    if channels == 20:
        order = differ.transpose(0, 2, 3, 1).reshape(len(differ), -1)
        assert not order[:, : order.shape[1] - left].any()


class Other(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.quant, self.dequant = function, tq.QuantStub(), tq.DeQuantStub()

    def forward(self, x: Any) -> Any:
        return self.dequant(self.function(self.quant(x)))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: Q.mul(x, y, 0.1, 0), "product of two activations is not supported"),
        (lambda x, y: torch.cat([x, y], 0), "batch axis"),
        (lambda x, y: Q.add(x, y[:, :, :1], 0.1, 0), "slice|not supported"),
        (lambda x, y: Q.add(x.flatten(1), y.mean([2, 3], keepdim=True).flatten(1).repeat(1, 25), 0.1, 0), "not supp"),
        (lambda x, y: torch.cat([x.flatten(1), y.flatten(1)], 1), "concatenates flattened maps"),
        (lambda x, y: Q.celu(y, 0.1, 0), "not supported"),
    ],
)
def test_refused(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(IntactError, match=message):
        traced(function, 3, tmp_path / "model.pt")


def test_transposed_convolution_reads_as_torch_stores_it(tmp_path: Path) -> None:
    """Weights, groups, output padding and sizes, against the module's own."""
    nets.setup(6, "qnnpack")
    layer = nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), groups=2, dilation=(1, 2))
    example = torch.randn(4, 4, 5, 6)
    model = tq.QuantWrapper(layer).eval()
    model.qconfig = nets.config(False, False)
    tq.prepare(model, inplace=True)
    model(example)
    tq.convert(model, inplace=True)
    graph = readers.read(nets.save(model, example, tmp_path / "model.pt"))
    (node,) = graph.nodes
    assert isinstance(node, ir.ConvTranspose2d) and node.groups == 2
    assert (node.stride, node.padding, node.dilation) == ((2, 3), (1, 0, 0, -2), (1, 2))
    with torch.no_grad():
        out = model(example)
    assert graph.tensors[node.output].shape == (*out.shape[2:], out.shape[1])
    weights = model.module.weight().int_repr().numpy()  # (in, out / groups, kh, kw)
    for channel in range(6):
        group, inner = divmod(channel, 3)
        own = weights[2 * group : 2 * group + 2, inner].transpose(1, 2, 0)
        assert np.array_equal(node.weights.codes[channel], own)
