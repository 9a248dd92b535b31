"""torchao's PT2E quantisation, saved as .pt2 (torch.export.save) and as QDQ ONNX (torch.onnx.export).

X86InductorQuantizer leaves the last layer's output real, so its files need a range for it. XNNPACKQuantizer quantises
outputs too.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

from models import common
from models.quantizers.common import Built, digits


class Residual(nn.Module):
    """Two sums, of which X86InductorQuantizer fuses each with a convolution: a 3x3 one, a 1x1 one with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.right, self.down = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.skip, self.next = nn.Conv2d(8, 16, 1, 2), nn.Conv2d(16, 16, 3, padding=1)
        self.pool, self.last = nn.MaxPool2d(2), nn.Linear(64, 10)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        relu = iter(self.relus)
        x = next(relu)(self.first(x))
        x = next(relu)(self.right(next(relu)(self.left(x))) + x)
        x = next(relu)(self.skip(x) + self.next(next(relu)(self.down(x))))
        return self.last(self.pool(x).flatten(1))


def quantizer(kind: str) -> Any:
    if kind.startswith("X86InductorQuantizer"):
        return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=kind.endswith("per channel"))
    return xnnpack.XNNPACKQuantizer().set_global(config)


def build(folder: Path) -> list[Built]:
    common.setup()
    logging.disable(logging.WARNING)
    images, test, labels, test_labels = (torch.from_numpy(part) for part in digits())
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU()),
        nn.Linear(32, 10),
    )
    common.train(model, images, labels, epochs=12)
    residual = Residual()
    common.train(residual, images, labels, epochs=12)
    batch = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    built = []
    kinds = ("X86InductorQuantizer", "XNNPACKQuantizer, per channel", "XNNPACKQuantizer, per tensor")
    for kind, net in (*((kind, model) for kind in kinds), ("X86InductorQuantizer, residual", residual)):
        exported = torch.export.export(net.eval(), (images[:8],), dynamic_shapes=batch).module()
        prepared = prepare_pt2e(exported, quantizer(kind))
        prepared(images[:200])
        converted = convert_pt2e(prepared)
        with torch.no_grad():
            before, after = net(test), converted(test)
        accuracy = (common.accuracy(before, test_labels), common.accuracy(after, test_labels))
        program = torch.export.export(converted, (images[:8],), dynamic_shapes=batch)
        name = kind.replace(", ", "_").replace(" ", "_").lower()
        torch.export.save(program, str(folder / f"{name}.pt2"))
        torch.onnx.export(
            program, (images[:8],), str(folder / f"{name}.onnx"), dynamo=True, external_data=False, verbose=False
        )
        options = {}
        if kind.startswith("X86"):
            options["output_range"] = float(np.floor(after.min())), float(np.ceil(after.max()))
        for form, end in ((".pt2", "pt2"), ("torch.onnx.export", "onnx")):
            tool = f"torchao PT2E, {kind}: {form}"
            built.append(Built(3, tool, folder / f"{name}.{end}", options, accuracy))
    return built
