"""PT2E layers on codes: sums, concatenations and functions of each code, against the program run eagerly.

Each output is a function of one code or of two, all of which are driven: what differs is counted exactly.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch runs the programs that the codes are compared with")
logging.disable(logging.WARNING)  # torchao warns of its optional C++ extensions on import
pytest.importorskip("torchao.quantization.pt2e", reason="torchao quantises the models that these tests read")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402

from pyexport import export, ir, runtimes, verify  # noqa: E402

xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer", reason="torchao moved its XNNPACKQuantizer")
pytestmark = pytest.mark.filterwarnings("ignore")


class Network(nn.Module):
    """A residual sum with and without ReLU, and a concatenation, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(16, 6, 1)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.first(x))
        y = functional.relu(x + self.left(x))
        z = y + self.right(y)
        return self.last(torch.cat([y, z], 1))


def saved(model: nn.Module, example: Any, path: Path) -> None:
    quantizer = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model.eval(), (example,)).module(), quantizer)
    for _ in range(4):
        prepared(torch.randn_like(example))
    torch.export.save(torch.export.export(convert_pt2e(prepared), (example,)), str(path))


def test_sums_and_concatenations(tmp_path: Path) -> None:
    torch.manual_seed(2)
    torch.set_num_threads(1)
    path = tmp_path / "model.pt2"
    saved(Network(), torch.randn(1, 3, 8, 8), path)
    exported = export.export(str(path))
    kinds = [layer.op for layer in exported.network.layers]
    assert kinds.count("add") == 2 and "concat" in kinds
    assert exported.manifest["proved_equal"]
    checked = verify.verify(path, "pt2e", exported.network, verify.driving_codes(exported.network, 200))
    assert checked.output.compared == 200 * 6 * 64
    assert checked.output.differing <= 8 and checked.output.largest <= 1  # float convolutions near a tie


@pytest.mark.parametrize("power", [False, True])
def test_tables_are_the_programs_own(power: bool) -> None:
    """The operations themselves, as an exported graph has them, on all codes and all pairs."""
    from torch.ao.quantization.fx import _decomposed  # noqa: F401  registers the operations

    torch.set_num_threads(1)
    decomposed: Any = torch.ops.quantized_decomposed
    rng = np.random.default_rng(3)
    functions = {
        "logistic": torch.sigmoid, "tanh": torch.tanh, "hard_swish": functional.hardswish,
        "hard_sigmoid": functional.hardsigmoid, "leaky_relu": lambda x: functional.leaky_relu(x, 0.125),
        "requantise": lambda x: x,
    }  # fmt: skip
    for _ in range(20):
        scales = 2.0 ** rng.integers(-7, -3, 3) if power else rng.uniform(0.004, 0.06, 3)
        a, b, out = (
            ir.Quant(np.float32(s), int(z), "int8") for s, z in zip(scales, rng.integers(-40, 40, 3), strict=True)
        )
        codes = torch.arange(-128, 128, dtype=torch.int32).to(torch.int8)

        def real(quant: ir.Quant, codes: Any = codes) -> Any:
            return decomposed.dequantize_per_tensor(codes, float(quant.scale), quant.zero_point, -128, 127, torch.int8)

        def quantised(x: Any, out: ir.Quant = out) -> Any:
            given = decomposed.quantize_per_tensor(x, float(out.scale), out.zero_point, -128, 127, torch.int8)
            return given.numpy().astype(np.int64)

        for sign in (1, -1):
            theirs = quantised(real(a)[:, None] + sign * real(b)[None, :])
            assert np.array_equal(theirs, runtimes.add_table(a, b, out, "pt2e", None, sign))
        for name, function in functions.items():
            node = ir.Lookup("f", ("x",), "f", name, (-128, 127), 0.125, arithmetic="pt2e")
            assert np.array_equal(quantised(function(real(a))), runtimes.lookup_table(node, a, out, "pt2e")), name
