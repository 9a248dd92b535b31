"""X86InductorQuantizer's fused sums: a tensor is added to a convolution or a linear layer before it is quantised.

The program computes both in float32, so equality is not its promise; INTACT counts the pairs of accumulator and code
that it rounds otherwise than the real sum, and the rate against the program is printed and bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch runs the programs that the codes are compared with")
logging.disable(logging.WARNING)  # torchao warns of its optional C++ extensions on import
pytest.importorskip("torchao.quantization.pt2e", reason="torchao quantises the models that these tests read")

from torch import nn  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: E402

from pyexport import explain, export, ir, join, readers, verify  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.hwconfig import for_array  # noqa: E402
from sim.runner import simulator_missing  # noqa: E402
from tests import rtl_network  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
RANGE = (-1.0, 1.0)


class Residual(nn.Module):
    """Sums behind a 3x3 convolution, a 1x1 convolution with a stride, a grouped and a linear one; no average pools,
    whose ties the program breaks by chance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), conv(8, 8), conv(8, 8)
        self.skip, self.down, self.next = nn.Conv2d(8, 12, 1, 2), nn.Conv2d(8, 12, 3, 2, 1), conv(12, 12)
        self.wide, self.grouped = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=3)
        self.pool = nn.MaxPool2d(4)
        self.hidden, self.sum, self.last = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(8))

    def forward(self, x: Any) -> Any:
        relu = iter(self.relus)
        x = next(relu)(self.first(x))
        x = next(relu)(self.right(next(relu)(self.left(x))) + x)
        skip = self.skip(x)
        x = next(relu)(skip + self.next(next(relu)(self.down(x))))
        x = self.grouped(next(relu)(self.wide(x))) + x
        x = torch.flatten(self.pool(x), 1)
        x = next(relu)(self.sum(next(relu)(self.hidden(x))) + x)
        return self.last(x)


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Block(nn.Module):
    """One sum of a layer and what `other` makes of the layer's input."""

    def __init__(
        self, layer: nn.Module, other: Callable[[Any], Any], behind: Callable[[Any], Any] = lambda y: y
    ) -> None:
        super().__init__()
        self.first, self.layer, self.other, self.behind = nn.Conv2d(2, 4, 1), layer, other, behind
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        return self.last(self.behind(self.layer(x)) + self.other(x))


def quantizer() -> Any:
    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())


def saved(model: nn.Module, shape: tuple[int, ...], path: Path, chosen: Any = None) -> Any:
    """Quantises for the x86 inductor backend, saves, and returns the program."""
    torch.manual_seed(5)
    torch.set_num_threads(1)
    example, batch = torch.randn(64, *shape), ({0: torch.export.Dim("batch", min=2, max=1024)},)
    exported = torch.export.export(model.eval(), (example,), dynamic_shapes=batch).module()
    prepared = prepare_pt2e(exported, chosen or quantizer())
    prepared(example)
    program = torch.export.export(convert_pt2e(prepared), (example,), dynamic_shapes=batch)
    torch.export.save(program, str(path))
    return program


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("residual") / "model.pt2"
    torch.manual_seed(3)
    return path, saved(Residual(), (3, 8, 8), path)


def test_against_the_program(residual: tuple[Path, Any]) -> None:
    path, _ = residual
    exported = export.export(str(path), output_range=RANGE)
    entries = exported.manifest["layers"]
    joined = {entry["name"]: entry["added_before_rounding"] for entry in entries if "added_before_rounding" in entry}
    assert list(joined) == ["right", "skip", "grouped", "sum"]
    assert joined["right"]["tensor"] == "first"
    for one in joined.values():  # what cannot be exact on this hardware is rarer than what float32 itself gets wrong
        assert one["pairs"] > 1e8 and one["pairs_differing"] <= 1e-5 * one["pairs"]
    assert all(entry["proved_equal"] for entry in entries if entry["name"] not in joined)
    network = exported.network
    checked = verify.verify(path, "pt2e", network, verify.driving_codes(network, 4096))
    print(f"pt2e sums: {checked.output.differing} of {checked.output.compared:,} codes differ from the program's")
    assert checked.output.compared == 4096 * 5 and not checked.promised
    assert checked.output.differing <= checked.output.compared // 200 and checked.output.largest <= 2
    assert "of it is" in explain.explain(network, "right", None)


def test_the_sum_is_the_real_one(residual: tuple[Path, Any]) -> None:
    """The golden model against the real sum in float64, from the codes that the layer and the tensor really have."""
    path, _ = residual
    exported = export.export(str(path), output_range=RANGE)
    graph, network = readers.read(path, output_range=RANGE), exported.network
    node = next(node for node in graph.nodes if node.name == "right")
    assert isinstance(node, ir.Conv2d) and len(node.inputs) == 2 and node.weights.bias is not None
    codes = verify.golden_tensors(network, verify.driving_codes(network, 400))
    reals = [
        float(graph.tensors[name].quant.scale) * (codes[name] - graph.tensors[name].quant.zero_point)
        for name in node.inputs
    ]
    weights = node.weights.codes.astype(np.float64) * node.weights.scale[:, None, None, None].astype(np.float64)
    padded = np.pad(reals[0], ((0, 0), (1, 1), (1, 1), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    total = np.einsum("nhwcij,oijc->nhwo", views, weights) + node.weights.bias + reals[1]
    target = graph.tensors[node.output].quant
    near = total / float(target.scale)
    expected = np.clip(np.rint(near) + target.zero_point, *node.clamp)
    different = expected != codes[node.output]
    assert codes[node.output].size == 400 * 512 and different.sum() <= 2
    assert (np.abs(near - np.floor(near) - 0.5)[different] < 1e-3).all()
    assert len(np.unique(expected)) > 100


@pytest.mark.parametrize("array", ["8x8", "4x3"])
def test_on_the_rtl(array: str, tmp_path: Path) -> None:
    """A small network of each kind of sum on Icarus: every layer's codes and cycles."""
    if reason := simulator_missing("icarus"):
        pytest.skip(reason)
    torch.manual_seed(4)
    path = tmp_path / "model.pt2"
    saved(Block(conv(4, 4), lambda x: x), (2, 4, 4), path)
    rows, columns = map(int, array.split("x"))
    prepared = rtl_network.prepare(readers.read(path, output_range=RANGE), for_array(rows, columns), 2)
    assert [layer.digits for layer in prepared.network.layers] == [1, 1, 3, 1]
    result = rtl_network.simulated("icarus", prepared, f"pt2e_sums_{array}")
    assert rtl_network.assert_equal(prepared, result) > 0


def test_the_same_from_onnx(residual: tuple[Path, Any], tmp_path: Path) -> None:
    """torch.onnx.export of the program: onnxruntime computes such a layer in float."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        residual[1], (torch.zeros(8, 3, 8, 8),), str(path), dynamo=True, external_data=False, verbose=False
    )
    exported = export.export(str(path), output_range=RANGE)
    joined = [
        entry["added_before_rounding"] for entry in exported.manifest["layers"] if "added_before_rounding" in entry
    ]
    assert len(joined) == 4 and all(one["pairs_differing"] <= 1e-5 * one["pairs"] for one in joined)
    network = exported.network
    checked = verify.verify(path, "onnx", network, verify.driving_codes(network, 1024))
    print(f"onnx sums: {checked.output.differing} of {checked.output.compared:,} codes differ from onnxruntime's")
    assert checked.output.differing <= checked.output.compared // 100 and checked.output.largest <= 2


def test_groups_that_would_take_too_many_weights(residual: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "MOST_WEIGHTS", 12 * 9 * 24 - 1)
    with pytest.raises(IntactError, match=r"'grouped': .* takes 2,592 weights; 2,591 are accepted"):
        export.export(str(residual[0]), output_range=RANGE)


REFUSED = {
    "stride": (Block(nn.Conv2d(4, 4, 3, 2, 1), nn.MaxPool2d(2)), "stride .* accepted are stride 1, and other strides"),
    "size": (Block(nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 1)), "accepted are layers that keep the map's size"),
    "both": (Block(nn.Conv2d(4, 4, 1), lambda x: x * 0.5), "multiplies|adds|not supported|never quantised"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    model, message = REFUSED[name]
    path = tmp_path / "model.pt2"
    saved(model, (2, 8, 8), path)
    with pytest.raises(IntactError, match=message):
        export.export(str(path), output_range=RANGE)
