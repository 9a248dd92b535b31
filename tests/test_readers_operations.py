"""Single TorchScript operations: every spelling of flatten, clips on codes, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyexport import ir, readers
from pyexport.errors import IntactError

torch = pytest.importorskip("torch", reason="torch writes the models that these tests read")

from torch import nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402

from tests.test_readers_torchscript import qconfig, quantise, save  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.ao.quantization and torch.jit announce their removal


class Function(nn.Module):
    """A model whose layers after the first convolution are the given function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.conv = nn.Conv2d(2, 4, 3)
        self.linear = nn.Linear(4 * 36, 3)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.dequant(self.linear(self.function(self.conv(self.quant(x)))))


class Flattened:
    """A function, then flatten."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, x: Any) -> Any:
        return self.function(x).flatten(1)


def function_model(function: Callable[[Any], Any], path: Path) -> ir.Graph:
    torch.manual_seed(0)
    model, images = Function(function).eval(), torch.randn(4, 2, 8, 8)
    model.qconfig = qconfig("fbgemm", True, False)
    tq.prepare(model, inplace=True)
    model(images)
    return readers.read(save(tq.convert(model), images, path, trace=True))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.flatten(x, 1),
        lambda x: x.reshape(x.size(0), -1),
        lambda x: x.reshape(-1, 144),
        lambda x: x.contiguous().view(x.size(0), x.size(1) * x.size(2) * x.size(3)),
        lambda x: torch.dropout(x, 0.5, False).flatten(1),
        lambda x: x.detach().flatten(2).flatten(1),
    ],
)
def test_flattening_in_every_spelling(function: Callable[[Any], Any], tmp_path: Path) -> None:
    graph = function_model(function, tmp_path / "model.pt")
    assert [node.name for node in graph.nodes] == ["conv", "linear"]
    assert graph.tensors["conv"].shape == (6, 6, 4)


def test_clips_act_on_codes(tmp_path: Path) -> None:
    for function, low, high in (
        (torch.relu, 0.0, None),
        (nn.functional.relu6, 0.0, 6.0),
        (lambda x: torch.clamp(x, -0.1, 0.2), -0.1, 0.2),
        (lambda x: nn.functional.hardtanh(x, -0.3, 0.3), -0.3, 0.3),
    ):
        graph = function_model(Flattened(function), tmp_path / "model.pt")
        quant, node = graph.tensors["conv"].quant, graph.nodes[1]
        assert isinstance(node, ir.Clamp)
        codes = [
            limit
            if real is None
            else torch.quantize_per_tensor(torch.tensor([real]), quant.scale, quant.zero_point, torch.quint8).int_repr()
            for real, limit in ((low, 0), (high, 255))
        ]
        assert node.clamp == tuple(int(code) for code in codes)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.sigmoid(x).flatten(1), "torch.sigmoid is not supported; accepted:"),
        (lambda x: x.permute(0, 2, 3, 1).flatten(1), "torch.permute is not supported"),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, (4, 4)).repeat(1, 1, 3, 3).flatten(1)[:, :144], "unequal"),
    ],
)
def test_unsupported_operations_are_named(function: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(IntactError, match=message):
        function_model(function, tmp_path / "model.pt")


def test_other_kinds_of_model_are_refused_clearly(tmp_path: Path) -> None:
    path, images = tmp_path / "model.pt", torch.randn(2, 3, 8, 8)
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 3)).eval()), str(path))
    with pytest.raises(IntactError, match=r"_conv_forward|conv2d.*not supported"):
        readers.read(path, (3, 8, 8))
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(IntactError, match=r"no quantised weights"):
        readers.read(path)
    dynamic = tq.quantize_dynamic(nn.Sequential(nn.Linear(4, 2)), {nn.Linear})
    torch.jit.save(torch.jit.script(dynamic), str(path))
    with pytest.raises(IntactError, match=r"linear_dynamic.*not supported"):
        readers.read(path, (4,))
    padded = quantise([nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")], images)
    save(padded, images, path)
    with pytest.raises(IntactError, match=r"padding modes"):
        readers.read(path)
