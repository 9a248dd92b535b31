"""TorchScript archives: what the reader returns against torch's own weights and outputs, on many small models."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, readers
from pyexport.errors import IntactError
from tests import reference

torch = pytest.importorskip("torch", reason="torch writes the models that these tests read")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch.ao.quantization and torch.jit announce their removal

from torch import nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx  # noqa: E402

from tests import torch_nets  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


def qconfig(engine: str, per_channel: bool, affine: bool) -> tq.QConfig:
    """7-bit activations, so that fbgemm's kernels are exact on every CPU."""
    scheme = f"per_{'channel' if per_channel else 'tensor'}_{'affine' if affine else 'symmetric'}"
    observer = tq.PerChannelMinMaxObserver if per_channel else tq.MinMaxObserver
    weight = observer.with_args(dtype=torch.qint8, qscheme=getattr(torch, scheme))
    return tq.QConfig(tq.MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=engine == "fbgemm"), weight)


def quantise(layers: list[nn.Module], example: Any, engine: str = "fbgemm", how: str = "eager", **kind: bool) -> Any:
    """A statically quantised model of `layers`; conv-relu and linear-relu pairs fused."""
    torch.backends.quantized.engine = engine
    config = qconfig(engine, kind.get("per_channel", True), kind.get("affine", False))
    if how == "fx":
        prepared = prepare_fx(nn.Sequential(*layers).eval(), tq.QConfigMapping().set_global(config), (example,))
        prepared(example)
        return convert_fx(prepared)
    return torch_nets.quantised(layers, example, config)


def save(model: Any, example: Any, path: Path, trace: bool = False, freeze: bool = False, shape: bool = True) -> Path:
    module = torch.jit.trace(model, example, check_trace=False) if trace else torch.jit.script(model)
    module = torch.jit.freeze(module.eval()) if freeze else module
    extra = {"input_shape": str([1, *example.shape[1:]])} if shape else {}
    torch.jit.save(module, str(path), _extra_files=extra)
    return path


def output_codes(model: Any, graph: ir.Graph, images: Any) -> Any:
    quant = graph.tensors[graph.output.tensor].quant
    with torch.no_grad():
        return np.rint(model(images).numpy() / quant.scale).astype(np.int64) + quant.zero_point


def check_layers(graph: ir.Graph, model: Any) -> int:
    """Compares every weighted node with the torch module of the same name; returns how many there were."""
    modules = dict(model.named_modules())
    count = 0
    for node in graph.nodes:
        if not isinstance(node, (ir.Conv2d, ir.Linear)) or node.name.startswith("quantize"):
            continue
        module, weights = modules[node.name], node.weights
        tensor = module.weight()
        codes = tensor.int_repr().numpy()
        if isinstance(node, ir.Linear):
            height, width, channels = weights.codes.shape[1:]
            codes = codes.reshape(len(codes), channels, height, width)
        else:
            assert (node.stride, node.dilation, node.groups) == (module.stride, module.dilation, module.groups)
            assert node.padding == tuple(np.repeat(module.padding, 2))
        assert np.array_equal(weights.codes, codes.transpose(0, 2, 3, 1))
        if weights.per_channel:
            scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        else:
            scales, zero_points = torch.tensor([tensor.q_scale()]), torch.tensor([tensor.q_zero_point()])
        assert np.array_equal(weights.scale, np.broadcast_to(scales.numpy().astype(np.float32), weights.scale.shape))
        assert np.array_equal(weights.zero_point, np.broadcast_to(zero_points.numpy(), weights.scale.shape))
        bias = module.bias()
        assert (weights.bias is None) == (bias is None)
        assert weights.bias is None or np.array_equal(weights.bias, bias.detach().numpy().astype(np.float64))
        quant = graph.tensors[node.output].quant
        assert (quant.scale, quant.zero_point) == (np.float32(module.scale), module.zero_point)
        fused = "ReLU" in type(module).__name__
        assert node.clamp == (quant.zero_point if fused else 0, 255)
        count += 1
    return count


def random_layers(rng: random.Random) -> tuple[list[nn.Module], tuple[int, int, int]]:
    """A random chain: convolutions with stride, padding, dilation and groups, activations, pools, linear layers."""
    groups = rng.choice([1, 1, 2])
    channels, height, width = groups * rng.randint(1, 3), rng.randint(9, 12), rng.randint(9, 12)
    shape = (channels, height, width)
    layers: list[nn.Module] = []
    for _ in range(rng.randint(1, 2)):
        out = groups * rng.choice([1, 2, 4, 9])
        kernel = (rng.randint(1, 3), rng.randint(1, 3))
        stride, padding, dilation = rng.randint(1, 2), (rng.randint(0, 1), rng.randint(0, 2)), rng.randint(1, 2)
        conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.8)
        layers += [conv, rng.choice([nn.ReLU(), nn.ReLU6(), nn.Identity(), nn.Hardtanh(-0.25, 0.5)])]
        channels = out
    pools = [
        nn.MaxPool2d(2, ceil_mode=rng.random() < 0.5),
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=rng.random() < 0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Identity(),
    ]
    layers.append(rng.choice(pools))
    with torch.no_grad():
        flat = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).numel()
    if rng.random() < 0.8:
        layers += [nn.Dropout(), nn.Flatten(), nn.Linear(flat, 6), nn.ReLU(), nn.Linear(6, 4)]
    return layers, shape


@pytest.mark.parametrize("seed", range(48))
def test_random_models(seed: int, tmp_path: Path) -> None:
    """Structure and weights equal torch's, and the graph evaluated with fbgemm's formula gives torch's codes."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    while True:
        try:
            layers, shape = random_layers(rng)
            break
        except RuntimeError:  # a kernel that does not fit
            continue
    images = torch.randn(8, *shape)
    options = {"per_channel": rng.random() < 0.7, "affine": rng.random() < 0.5}
    how, trace, freeze = rng.choice(["eager", "fx"]), rng.random() < 0.5, seed % 8 == 7
    model = quantise(layers, images, "fbgemm", how, **options)
    path = save(model, images, tmp_path / "model.pt", trace, freeze)
    graph = readers.read(path)
    assert graph.input.shape == shape and graph.source == "torchscript" and graph.match == "fbgemm"
    if not freeze:
        assert check_layers(graph, model) == sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in layers)
    expected = output_codes(model, graph, images)
    assert np.array_equal(reference.run(graph, images.numpy()).reshape(expected.shape), expected)


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("how", ["eager", "fx"])
@pytest.mark.parametrize("trace", [False, True], ids=["scripted", "traced"])
@pytest.mark.parametrize("freeze", [False, True], ids=["plain", "frozen"])
def test_every_way_of_saving_reads_the_same(engine: str, how: str, trace: bool, freeze: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)]
    images = torch.randn(4, 2, 8, 8)
    model = quantise(layers, images, engine, how)
    path = save(model, images, tmp_path / "model.pt", trace, freeze)
    graph = readers.read(path)
    prefix = "module." if how == "eager" else ""
    assert [type(node) for node in graph.nodes] == [ir.Conv2d, ir.MaxPool2d, ir.Linear]
    if not freeze:
        assert [node.name for node in graph.nodes] == [prefix + "0", prefix + "2", prefix + "4"]
        assert check_layers(graph, model) == 2
    assert graph.input == ir.Port("input", (2, 8, 8), (1, 2, 0))
    assert graph.output.shape == (3,)
    torch.backends.quantized.engine = "fbgemm"


def averages(layer: nn.Module, first: nn.Module | None, channels: int, tmp_path: Path) -> ir.AvgPool2d:
    example = torch.randn(2, channels, 8, 8)
    model = quantise([*([first] if first else []), layer], example)
    graph = readers.read(save(model, example, tmp_path / "model.pt"))
    node = graph.nodes[-1]
    assert isinstance(node, ir.AvgPool2d)
    return node


class Mean(nn.Module):
    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x.mean([2, 3], keepdim=self.keepdim)


def test_memory_format_decides_the_average_pool(tmp_path: Path) -> None:
    """Convolutions write channels-last memory, the input is contiguous; one channel or one pixel is both."""
    conv = nn.Conv2d(16, 16, 3)
    assert averages(nn.AvgPool2d(2), conv, 16, tmp_path).arithmetic == "torch-channels-last"
    assert averages(nn.AvgPool2d(2), None, 16, tmp_path).arithmetic == "torch-contiguous"
    assert averages(nn.AvgPool2d(2), None, 1, tmp_path).arithmetic == "torch-channels-last"
    assert averages(nn.AdaptiveAvgPool2d(2), conv, 16, tmp_path).arithmetic == "torch-adaptive-channels-last"
    assert averages(nn.AdaptiveAvgPool2d(2), None, 16, tmp_path).arithmetic == "torch-contiguous"
    assert averages(Mean(False), None, 16, tmp_path).arithmetic == "torch-mean"
    assert averages(Mean(True), conv, 16, tmp_path).arithmetic == "exact"


@pytest.mark.parametrize("channels", [3, 16, 24])
def test_memory_format_is_torch_s(channels: int, tmp_path: Path) -> None:
    """Windows of 4 and 16 codes with many ties, odd zero point: the kernel that the reader names gives torch's."""
    generator = torch.Generator().manual_seed(0)
    scale = 2.0**-5
    images = (torch.randint(0, 128, (64, channels, 8, 8), generator=generator) - 41) * scale
    for kernel in (2, 4):
        model = quantise([nn.AvgPool2d(kernel)], images)
        graph = readers.read(save(model, images, tmp_path / "model.pt"))
        assert np.array_equal(reference.run(graph, images.numpy()), output_codes(model, graph, images))


def test_input_shape_is_found_solved_or_asked_for(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 8, 8)
    layers = [nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)]
    model = quantise(layers, images)
    assert readers.read(save(model, images, tmp_path / "solved.pt", shape=False)).input.shape == (3, 8, 8)
    traced = save(model, images, tmp_path / "traced.pt", trace=True, shape=False)
    assert readers.read(traced).input.shape == (3, 8, 8)
    layers = [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)]
    ambiguous = save(quantise(layers, images), images, tmp_path / "ambiguous.pt", shape=False)
    with pytest.raises(IntactError, match=r"--input-shape"):
        readers.read(ambiguous)
    assert readers.read(ambiguous, (3, 9, 9)).input.shape == (3, 9, 9)
    with pytest.raises(IntactError, match="channels"):
        readers.read(ambiguous, (1, 8, 8))
    vector = torch.randn(2, 5)
    graph = readers.read(save(quantise([nn.Linear(5, 2)], vector), vector, tmp_path / "v.pt", shape=False))
    assert graph.input == ir.Port("input", (5,), (None, None, 0))


def test_torch_is_not_needed(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 8, 8)
    path = save(quantise([nn.Conv2d(3, 2, 3)], images), images, tmp_path / "model.pt")
    code = (
        "import sys; sys.modules['torch'] = None; from pyexport import readers; print(readers.read(sys.argv[1]).name)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "model", result.stderr
