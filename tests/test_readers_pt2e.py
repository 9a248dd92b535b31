"""PT2E archives: what the reader returns against the exported program's own weights and outputs."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, readers
from pyexport.errors import IntactError
from tests import reference

torch = pytest.importorskip("torch", reason="torch writes the models that these tests read")
logging.disable(logging.WARNING)  # torchao warns of its optional C++ extensions on import
pytest.importorskip("torchao.quantization.pt2e", reason="torchao quantises the models that these tests read")

from torch import nn  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: E402

xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer", reason="torchao moved its XNNPACKQuantizer")

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.filterwarnings("ignore")
torch.set_num_threads(1)


def quantizer(kind: str) -> Any:
    if kind == "x86":
        return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=kind == "xnnpack-per-channel")
    return xnnpack.XNNPACKQuantizer().set_global(config)


def quantise(model: nn.Module, example: Any, kind: str, path: Path, fold: bool = True, dynamic: bool = False) -> Any:
    """Saves the quantised model and returns the exported program."""
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},) if dynamic else None
    exported = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes).module()
    prepared = prepare_pt2e(exported, quantizer(kind))
    prepared(example)
    converted = convert_pt2e(prepared, fold_quantize=fold)
    program = torch.export.export(converted, (example,), dynamic_shapes=shapes)
    torch.export.save(program, str(path))
    return program


def outputs(program: Any, graph: ir.Graph, images: Any) -> Any:
    """The program's own outputs as codes of the graph's output tensor."""
    quant = graph.tensors[graph.output.tensor].quant
    with torch.no_grad():
        real = program.module()(images).numpy()
    low, high = ir.CODE_RANGE[quant.dtype]
    return np.clip(np.rint(real / quant.scale) + quant.zero_point, low, high).astype(np.int64)


def network(rng: random.Random) -> tuple[nn.Module, tuple[int, int, int]]:
    groups = rng.choice([1, 1, 2])
    channels, size = groups * rng.randint(1, 3), rng.randint(9, 12)
    out = groups * rng.choice([2, 4, 8])
    conv = nn.Conv2d(channels, out, rng.randint(1, 3), rng.randint(1, 2), rng.randint(0, 1), 1, groups)
    layers: list[nn.Module] = [conv]
    if rng.random() < 0.4:
        layers.append(nn.BatchNorm2d(out))
    layers += [rng.choice([nn.ReLU(), nn.Identity(), nn.Hardtanh(0.0, 6.0)])]
    layers += [rng.choice([nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1), nn.Identity()])]
    layers += [nn.Conv2d(out, 4, (2, 3), bias=rng.random() < 0.7), nn.ReLU()]
    model = nn.Sequential(*layers).eval()
    shape = (channels, size, size)
    with torch.no_grad():
        flat = model(torch.zeros(1, *shape)).numel()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 7), nn.ReLU(), nn.Linear(7, 3)), shape


@pytest.mark.parametrize("kind", ["x86", "xnnpack", "xnnpack-per-channel"])
@pytest.mark.parametrize("seed", range(4))
def test_random_models(kind: str, seed: int, tmp_path: Path) -> None:
    """Weights, biases and outputs are the program's; the output of the x86 flow is real, so a range is given for it."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    model, shape = network(rng)
    images = torch.randn(8, *shape)
    path = tmp_path / "model.pt2"
    program = quantise(model, images, kind, path, fold=seed % 2 == 0)
    graph = readers.read(path, output_range=(-1.0, 1.0))
    assert graph.source == "pt2e" and graph.float_input == "pt2e" and graph.input.shape == shape
    weighted = [node for node in graph.nodes if isinstance(node, (ir.Conv2d, ir.Linear))]
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    assert [node.name for node in weighted] == list(layers)
    for node, layer in zip(weighted, layers.values(), strict=True):
        weights = node.weights
        real = (weights.codes - weights.zero_point[:, None, None, None]) * weights.scale[:, None, None, None]
        assert weights.per_channel == (kind != "xnnpack")
        if isinstance(node, ir.Conv2d):
            assert (node.stride, node.dilation, node.groups) == (layer.stride, layer.dilation, layer.groups)
        if not any(isinstance(part, nn.BatchNorm2d) for part in model):
            expected = layer.weight.detach().numpy()
            expected = expected.reshape(len(expected), *([*real.shape[3:], *real.shape[1:3]]))
            assert np.abs(real - expected.transpose(0, 2, 3, 1)).max() <= weights.scale.max() * 0.5001
    codes, expected = reference.run(graph, images.numpy()), outputs(program, graph, images)
    # The program computes in floats: sums near a tie may fall to the other side.
    assert np.abs(codes - expected).max() <= 1
    assert (codes != expected).mean() < 0.1


def test_folded_and_unfolded_weights_are_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(108, 2)), torch.randn(4, 2, 8, 8)
    graphs = []
    for fold in (True, False):
        quantise(model, images, "xnnpack-per-channel", tmp_path / "model.pt2", fold)
        graphs.append(readers.read(tmp_path / "model.pt2"))
    for a, b in zip(graphs[0].nodes, graphs[1].nodes, strict=True):
        assert isinstance(a, (ir.Conv2d, ir.Linear)) and isinstance(b, (ir.Conv2d, ir.Linear))
        assert np.array_equal(a.weights.codes, b.weights.codes) and np.array_equal(a.weights.scale, b.weights.scale)


@pytest.mark.parametrize(
    ("pool", "kind"),
    [(nn.AdaptiveAvgPool2d(1), ir.AvgPool2d), (nn.AdaptiveAvgPool2d(3), ir.AvgPool2d), (nn.AvgPool2d(2, 1), ir.Conv2d)],
)
def test_average_pools(pool: nn.Module, kind: type, tmp_path: Path) -> None:
    """A pool that keeps its scale is one; the XNNPACK flow gives avg_pool2d another scale, which is a convolution."""
    torch.manual_seed(0)
    images = torch.randn(8, 2, 8, 8)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), pool, nn.Conv2d(4, 5, 1))
    program = quantise(model, images, "xnnpack-per-channel", tmp_path / "model.pt2")
    graph = readers.read(tmp_path / "model.pt2")
    assert [type(node) for node in graph.nodes] == [ir.Conv2d, kind, ir.Conv2d]
    codes, expected = reference.run(graph, images.numpy()), outputs(program, graph, images)
    assert np.abs(codes - expected).max() <= 1 and (codes != expected).mean() < 0.1


def test_free_batch(tmp_path: Path) -> None:
    images = torch.randn(4, 2, 8, 8)
    quantise(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), images, "xnnpack", tmp_path / "m.pt2", dynamic=True)
    assert readers.read(tmp_path / "m.pt2").input == ir.Port("input", (2, 8, 8), (1, 2, 0))


class MeanNet(nn.Module):
    """A mean over a map, which the x86 flow leaves real."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 3, 3), nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.linear(self.conv(x).mean([2, 3]))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    path, images = tmp_path / "model.pt2", torch.randn(4, 2, 8, 8)
    quantise(nn.Sequential(nn.Conv2d(2, 3, 3)), images, "x86", path)
    with pytest.raises(IntactError, match="--output-range"):
        readers.read(path)
    assert readers.read(path, output_range=(-2.0, 3.0)).tensors["0"].quant.scale == np.float32(5 / 255)
    with pytest.raises(IntactError, match="was exported for input shape"):
        readers.read(path, (2, 9, 9))
    quantise(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Softplus()), images, "xnnpack", path)
    with pytest.raises(IntactError, match=r"layer '1': operation aten\.softplus\.default is not supported; accepted:"):
        readers.read(path)
    quantise(MeanNet(), images, "x86", path)
    with pytest.raises(IntactError, match=r"layer 'mean'.*never quantised"):
        readers.read(path)
    torch.export.save(torch.export.export(nn.Conv2d(2, 3, 3), (images,)), str(path))
    with pytest.raises(IntactError, match="no quantised"):
        readers.read(path)


def outcome(path: Path) -> ir.Graph | str:
    try:
        return readers.read(path)
    except IntactError as error:
        assert str(path) in str(error) and len(str(error)) < 700
        return str(error)


def test_damaged_archives(tmp_path: Path) -> None:
    """Cut short, bits flipped, JSON changed under a right checksum, members missing: one error each."""
    path, bad, rng = tmp_path / "model.pt2", tmp_path / "bad.pt2", random.Random(0)
    layers = [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)]
    quantise(nn.Sequential(*layers), torch.randn(4, 2, 8, 8), "xnnpack-per-channel", path)
    data = path.read_bytes()
    for length in range(0, len(data), 211):
        bad.write_bytes(data[:length])
        assert isinstance(outcome(bad), str)
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        bad.write_bytes(flipped)
        outcome(bad)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def write(changed: dict[str, bytes | None]) -> Path:
        with zipfile.ZipFile(bad, "w") as archive:
            for name, content in {**members, **changed}.items():
                if content is not None:
                    archive.writestr(name, content)
        return bad

    for name in members:
        result = outcome(write({name: None}))
        assert isinstance(result, str) or not name.endswith(("model.json", "weights_config.json"))
        outcome(write({name: members[name][: len(members[name]) // 2]}))
    for name in ("model/models/model.json", "model/data/weights/model_weights_config.json"):
        for _ in range(150):
            content = bytearray(members[name])
            content[rng.randrange(len(content))] = rng.randrange(256)
            outcome(write({name: bytes(content)}))
        for junk in (b"", b"[]", b"{}", b"null", b"[" * 200_000, b'{"graph_module": 1}', b'{"config": [1]}'):
            assert isinstance(outcome(write({name: junk})), str)
        for _ in range(150):
            assert isinstance(
                outcome(write({name: json.dumps(mutate(json.loads(members[name]), rng)).encode()})), object
            )


def mutate(value: Any, rng: random.Random) -> Any:
    """Replaces one random part of a JSON document by something of another kind."""
    if isinstance(value, dict) and value and rng.random() < 0.97:
        key = rng.choice(list(value))
        return {**value, key: mutate(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.97:
        index = rng.randrange(len(value))
        return [*value[:index], mutate(value[index], rng), *value[index + 1 :]]
    return rng.choice([None, -1, 0, 1 << 70, 1.5, "x", [], {}, True, [1, 2], {"as_int": -5}])


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    quantise(nn.Sequential(nn.Conv2d(2, 3, 3)), torch.randn(4, 2, 8, 8), "xnnpack", path)
    code = (
        "import sys; sys.modules['torch'] = None; from pyexport import readers; print(readers.read(sys.argv[1]).name)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "model", result.stderr
