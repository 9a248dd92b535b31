"""PT2E programs against the golden model. The saved program computes layers in float32, so equality is not its promise:

a sum that lies within float error of a tie between two codes may fall to the other side, and the order of the float
sums is the CPU library's. Codes may differ by one at such ties; the rate is printed and bounded.
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
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: E402

from pyexport import export, ir, quantise  # noqa: E402
from sim import run as sim_run  # noqa: E402
from sim.runner import simulator_missing  # noqa: E402
from tests import torch_nets as nets  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
RANGE = (-2.0, 2.0)
NETWORKS: dict[str, tuple[tuple[int, ...], list[nn.Module]]] = {
    "mlp": ((20,), [nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10)]),
    "conv": ((3, 10, 10), [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, 2)]),
    "cnn": (
        (2, 12, 12),
        [
            *(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(72, 10)),
        ],
    ),
}


def program_of(layers: list[nn.Module], example: Any, path: Path) -> Any:
    """Quantises for the x86 inductor backend, saves, and returns the program."""
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(nn.Sequential(*layers).eval(), (example,)).module(), quantizer)
    prepared(example)
    program = torch.export.export(convert_pt2e(prepared), (example,))
    torch.export.save(program, str(path))
    return program


def test_on_the_rtl(tmp_path: Path) -> None:
    """The commands on a program whose output is real: --output-range gives its codes."""
    if reason := simulator_missing("icarus"):
        pytest.skip(reason)
    nets.setup(8)
    shape, layers = NETWORKS["mlp"]
    model, images = tmp_path / "model.pt2", torch.randn(5, *shape)
    program_of(layers, images, model)
    np.save(tmp_path / "given.npy", images.numpy())
    arguments = [str(model), "--sim", "icarus", "--out", str(tmp_path / "out"), "--output-range=-2,2"]
    assert sim_run.main([*arguments, "--input", str(tmp_path / "given.npy")]) == 0
    network = export.export(str(model), output_range=RANGE).network
    codes = quantise.input_codes(network.tensors[network.input.tensor], images.numpy(), network.float_input)
    assert np.array_equal(np.load(tmp_path / "out" / "inputs.npy"), codes)
    assert np.array_equal(np.load(tmp_path / "out" / "outputs.npy"), nets.golden_codes(network, codes))


@pytest.mark.parametrize("name", NETWORKS)
def test_x86_inductor(name: str, tmp_path: Path) -> None:
    nets.setup(7)
    shape, layers = NETWORKS[name]
    example = torch.randn(256, *shape)
    program = program_of(layers, example, tmp_path / "model.pt2").module()
    exported = export.export(str(tmp_path / "model.pt2"), output_range=RANGE)
    network = exported.network
    assert exported.manifest["proved_equal"] and network.float_input == "pt2e"
    compared, differing = 0, 0
    for seed in range(8):
        images = torch.randn(256, *shape, generator=torch.Generator().manual_seed(seed))
        codes = quantise.input_codes(network.tensors[network.input.tensor], images.numpy(), network.float_input)
        ours = nets.golden_codes(network, codes)
        quant = network.tensors[network.output.tensor].quant
        with torch.no_grad():
            real = program(images).numpy()
        low, high = ir.CODE_RANGE[quant.dtype]
        theirs = np.clip(np.rint(real / quant.scale) + quant.zero_point, low, high).astype(np.int64)
        assert np.abs(ours - theirs).max() <= 1
        compared, differing = compared + ours.size, differing + int((ours != theirs).sum())
    print(f"pt2e {name}: {differing} of {compared:,} codes differ from the program's, each by one")
    assert compared >= 20_000 and differing <= compared // 200
