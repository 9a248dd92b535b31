"""PyTorch FX quantisation, static and QAT: prepare_fx or prepare_qat_fx, convert_fx; saved as TorchScript.

A residual network with batch normalisation, a concatenation and adaptive pooling, static and trained with fake
quantisation, for both engines; depthwise convolutions; and a flatten between two scales, which becomes a layer that
requantises only. The forward functions have no annotations: torch.jit.script cannot read those that FX writes.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx

from models import common
from models.quantizers.common import Built
from models.quantizers.torch_eager import save

EPOCHS, QAT_EPOCHS = 12, 3


class Residual(nn.Module):
    """conv-bn-relu, a residual block, a concatenation, adaptive pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.pool, self.drop, self.head = nn.AdaptiveAvgPool2d((2, 2)), nn.Dropout(0.1), nn.Linear(128, 10)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.stem(x)
        y = torch.relu(x + self.second(self.first(x)))
        y = torch.cat([x, y], 1)
        return self.head(self.drop(torch.flatten(self.pool(y), 1)))


class Depthwise(nn.Module):
    """Separable convolutions, tanh, global average."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), activation())
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1, groups=16), activation(), nn.Conv2d(16, 48, 1))
        self.head = nn.Linear(192, 10)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = torch.tanh(self.depth(self.stem(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


class Two(nn.Module):
    """Two halves, quantised apart: between them codes of one scale become codes of another."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.between = nn.Flatten()
        self.back = nn.Sequential(nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.back(self.between(self.front(x)))


def mapping(engine: str, weight_bits: int = 8) -> tq.QConfigMapping:
    """The engine's own qconfigs; with 7-bit weights fbgemm's depthwise kernel never saturates."""
    qconfigs, default = tq.get_default_qconfig_mapping(engine), tq.get_default_qconfig(engine)
    limit = 1 << (weight_bits - 1)
    weight = default.weight.with_args(quant_min=-limit, quant_max=limit - 1)
    return qconfigs if weight_bits == 8 else qconfigs.set_global(tq.QConfig(default.activation, weight))


def static(model: nn.Module, images: torch.Tensor, engine: str, weight_bits: int = 8) -> nn.Module:
    torch.backends.quantized.engine = engine
    prepared = prepare_fx(copy.deepcopy(model).eval(), mapping(engine, weight_bits), (images[:1],))
    with torch.no_grad():
        prepared(images[:512])
    return convert_fx(prepared)


def halves(model: Two, images: torch.Tensor) -> nn.Module:
    """Each half through FX by itself; the second sees what the first computes."""
    result = copy.deepcopy(model)
    result.front = static(model.front, images, "fbgemm")
    with torch.no_grad():
        result.back = static(model.back, model.between(model.front(images)), "fbgemm")
    return result


def trained(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, engine: str) -> nn.Module:
    """Quantisation-aware: a few epochs more with fake quantisation."""
    torch.backends.quantized.engine = engine
    qconfigs = tq.get_default_qat_qconfig_mapping(engine)
    prepared = prepare_qat_fx(copy.deepcopy(model).train(), qconfigs, (images[:1],))
    common.train(prepared, images, labels, QAT_EPOCHS)
    return convert_fx(prepared.eval())


def build(folder: Path) -> list[Built]:
    common.setup()
    images, test, labels, test_labels = common.digits()
    # qnnpack's own ReLU6 mixes up the axes of a convolution's output, so it gets ReLU
    residual, depthwise, six, two = Residual(), Depthwise(nn.ReLU), Depthwise(nn.ReLU6), Two()
    for untrained in (residual, depthwise, six, two):
        common.train(untrained, images, labels, EPOCHS)
    cases: list[tuple[str, nn.Module, str, nn.Module, bool]] = [
        ("PTQ: residual, concat, adaptive pool", residual, "fbgemm", static(residual, images, "fbgemm"), True),
        (
            "QAT: residual, concat, adaptive pool",
            residual,
            "fbgemm",
            trained(residual, images, labels, "fbgemm"),
            False,
        ),
        ("PTQ: residual, concat, adaptive pool", residual, "qnnpack", static(residual, images, "qnnpack"), True),
        (
            "QAT: residual, concat, adaptive pool",
            residual,
            "qnnpack",
            trained(residual, images, labels, "qnnpack"),
            True,
        ),
        ("PTQ: depthwise, 7-bit weights", six, "fbgemm", static(six, images, "fbgemm", 7), True),
        ("PTQ: depthwise", depthwise, "qnnpack", static(depthwise, images, "qnnpack"), False),
        ("PTQ: requantise between two halves", two, "fbgemm", halves(two, images), False),
    ]
    found = []
    for number, (what, net, engine, model, script) in enumerate(cases):
        torch.backends.quantized.engine = engine
        path = folder / f"fx_{number}_{engine}.pt"
        save(model, test, path, script)
        with torch.no_grad():
            accuracy = common.accuracy(net.eval()(test), test_labels), common.accuracy(model(test), test_labels)
        way = "scripted" if script else "traced"
        found.append(Built(2, f"PyTorch FX {what}, {engine}, {way}", path, {"match": engine}, accuracy))
    torch.backends.quantized.engine = "fbgemm"
    return found
