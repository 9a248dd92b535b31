"""PyTorch eager static quantisation: QuantWrapper or QuantStub, prepare, calibrate, convert; saved as TorchScript.

One CNN, quantised with the engines' default observers (HistogramObserver, weights per channel) and with MinMaxObserver
(weights per tensor, symmetric and affine), saved by script and by trace; and a network with a residual sum, a
concatenation of tensors of different scales, and activations that are tables.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.ao import quantization as tq

from models import common
from models.quantizers.common import Built

EPOCHS = 16


class Branches(nn.Module):
    """A residual sum, and a concatenation of three tensors, each with a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.stem, self.body = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.wide, self.side = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.leaky, self.swish, self.sigmoid = nn.LeakyReLU(0.1), nn.Hardswish(), nn.Sigmoid()
        self.sum, self.cat = nn.quantized.FloatFunctional(), nn.quantized.FloatFunctional()
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.leaky(self.stem(self.quant(x)))
        both = self.sum.add_relu(stem, self.body(stem))
        wide, side = self.swish(self.wide(both)), self.sigmoid(self.side(both))
        joined = self.cat.cat([wide, side, both], 1)
        return self.dequant(self.head(self.flat(self.pool(joined))))


def chain() -> nn.Sequential:
    """Two convolutions, max-pool, average pool, two linear layers."""
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))


def min_max(scheme: torch.qscheme) -> tq.QConfig:
    """MinMaxObserver on both sides, one weight scale for the whole layer."""
    weight = tq.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=scheme)
    return tq.QConfig(tq.MinMaxObserver.with_args(dtype=torch.quint8), weight)


def quantised(model: nn.Module, qconfig: tq.QConfig, images: torch.Tensor) -> nn.Module:
    model = copy.deepcopy(model).eval()
    model.qconfig = qconfig
    tq.prepare(model, inplace=True)
    with torch.no_grad():
        model(images[:512])
    result: nn.Module = tq.convert(model)
    return result


def build(folder: Path) -> list[Built]:
    common.setup()
    images, test, labels, test_labels = common.digits()
    plain = chain()
    common.train(plain, images, labels, EPOCHS)
    fused = tq.fuse_modules(plain, [["0", "1"], ["3", "4"], ["7", "8"]])
    chained, branches = tq.QuantWrapper(fused), Branches()
    common.train(branches, images, labels, EPOCHS)
    found = []
    cases = [
        ("fbgemm, HistogramObserver, per channel", chained, "fbgemm", tq.get_default_qconfig("fbgemm"), True),
        ("fbgemm, MinMaxObserver, symmetric", chained, "fbgemm", min_max(torch.per_tensor_symmetric), False),
        ("fbgemm, MinMaxObserver, affine weights", chained, "fbgemm", min_max(torch.per_tensor_affine), True),
        ("qnnpack, its own qconfig", chained, "qnnpack", tq.get_default_qconfig("qnnpack"), True),
        ("fbgemm, sum, concatenation, tables", branches, "fbgemm", tq.get_default_qconfig("fbgemm"), False),
        ("qnnpack, sum, concatenation, tables", branches, "qnnpack", tq.get_default_qconfig("qnnpack"), False),
    ]
    for number, (what, net, engine, qconfig, script) in enumerate(cases):
        torch.backends.quantized.engine = engine
        model = quantised(net, qconfig, images)
        path = folder / f"eager_{number}_{engine}.pt"
        save(model, test, path, script)
        with torch.no_grad():
            accuracy = common.accuracy(net(test), test_labels), common.accuracy(model(test), test_labels)
        way = "scripted" if script else "traced"
        found.append(Built(1, f"PyTorch eager PTQ: {what}, {way}", path, {"match": engine}, accuracy))
    torch.backends.quantized.engine = "fbgemm"
    return found


def save(model: nn.Module, images: torch.Tensor, path: Path, script: bool) -> None:
    """As users save: a scripted file is told its input shape, a traced one holds it."""
    if script:
        torch.jit.save(torch.jit.script(model), str(path), _extra_files={"input_shape": str([1, *images.shape[1:]])})
    else:
        torch.jit.save(torch.jit.trace(model, images[:1]), str(path))
