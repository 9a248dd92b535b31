"""A network as torch's eager mode writes it, all the way: read, exported, run on the Verilog; codes as torch's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is what the codes are compared with")

from torch import Tensor, nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402

from pyexport import readers  # noqa: E402
from pyexport.hwconfig import HwConfig  # noqa: E402
from sim.runner import simulator_missing  # noqa: E402
from tests import torch_nets as nets  # noqa: E402
from tests.rtl_network import assert_equal, prepare, simulated  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Everything(nn.Module):
    """A sum, a concatenation of four scales, a change of scale, sigmoid, adaptive pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.again, self.dequant = tq.QuantStub(), tq.QuantStub(), tq.DeQuantStub()
        self.stem, self.body, self.side = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.sigmoid, self.leaky = nn.Sigmoid(), nn.LeakyReLU(0.2)
        self.sum, self.join = nn.quantized.FloatFunctional(), nn.quantized.FloatFunctional()
        self.head = nn.Linear(80, 3)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.leaky(self.stem(self.quant(x)))
        total = self.sum.add_relu(stem, self.body(stem))
        joined = self.join.cat([total, self.sigmoid(self.side(total)), stem], 1)
        pooled = nn.functional.adaptive_avg_pool2d(joined, 2)
        return self.dequant(self.head(self.again(self.dequant(pooled.flatten(1)))))


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_on_the_verilog(engine: str, tmp_path: Path) -> None:
    """Every layer's codes and cycles against the golden model; its output against torch's."""
    if reason := simulator_missing("icarus"):
        pytest.skip(reason)
    if not (nets.VNNI and nets.AVX512):
        pytest.skip("torch's own kernels saturate or take shorter vectors")
    nets.setup(1, engine)
    model, example = Everything().eval(), torch.randn(8, 2, 6, 6)
    model.qconfig = tq.get_default_qconfig(engine)
    tq.prepare(model, inplace=True)
    with torch.no_grad():
        model(example)
    tq.convert(model, inplace=True)
    path = nets.save(model, example, tmp_path / "model.pt")
    try:
        network = nets.load(path, engine)
        codes = nets.driving_codes(network, 300)
        theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)
    finally:
        torch.backends.quantized.engine = "fbgemm"
    assert np.array_equal(nets.golden_codes(network, codes), theirs)
    assert {"add", "concat", "lookup", "avg_pool2d"} <= {layer.op for layer in network.layers}
    prepared = prepare(replace(readers.read(path), match=engine), HwConfig(8, 8, 4), 2)
    print(f"{assert_equal(prepared, simulated('icarus', prepared, 'torch_hardware'))} codes")
