"""Per-channel affine weights with zero points far from 0, in a convolution and a linear layer (eager PTQ).

The scales of the convolution are powers of two by construction, so that many outputs lie exactly between two codes and
the rounding of ties shows. Writes affine.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import (
    DeQuantStub,
    FixedQParamsObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QuantStub,
    convert,
    prepare,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python models/affine.py`

from models.common import FOLDER, save, setup


def fixed(scale: float, zero_point: int) -> QConfig:
    """Given scale for what a layer writes; per-channel affine weights."""
    activation = FixedQParamsObserver.with_args(scale=scale, zero_point=zero_point, dtype=torch.quint8)
    return QConfig(activation=activation, weight=WEIGHT)


WEIGHT = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_affine)


def weights(out: int, *shape: int) -> torch.Tensor:
    """Random multiples of 2^-8 that span exactly 255 steps from a different lowest value in each channel."""
    steps = torch.randint(0, 256, (out, *shape))
    steps.flatten(1)[:, 0], steps.flatten(1)[:, 1] = 0, 255
    lowest = torch.linspace(-220, -20, out).round().reshape(-1, *[1] * len(shape))
    return (steps + lowest) / 256


def build() -> tuple[nn.Module, torch.Tensor]:
    """The quantised model and an example input."""
    setup()
    conv, linear = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(128, 10)
    with torch.no_grad():
        conv.weight.copy_(weights(8, 3, 3, 3))
        conv.bias.copy_(torch.randint(-200, 200, (8,)) / 512)
        linear.weight += torch.linspace(-0.1, 0.1, 10)[:, None]
    model = nn.Sequential(QuantStub(), conv, nn.ReLU(), nn.Flatten(), linear, DeQuantStub()).eval()
    model.qconfig = QConfig(activation=MinMaxObserver.with_args(dtype=torch.quint8), weight=WEIGHT)
    model[0].qconfig, model[1].qconfig = fixed(2**-6, 128), fixed(2**-5, 100)
    prepare(model, inplace=True)
    example = torch.randn(64, 3, 8, 8)
    model(example)
    convert(model, inplace=True)
    return model, example


def main(folder: Path = FOLDER) -> None:
    model, example = build()
    save(model, example, folder / "affine.pt")
    conv = model[1].weight()
    print(f"affine: convolution scales {conv.q_per_channel_scales().unique().tolist()}")
    print(f"affine: convolution zero points {conv.q_per_channel_zero_points().tolist()}")
    print(f"affine: linear zero points {model[4].weight().q_per_channel_zero_points().tolist()}")


if __name__ == "__main__":
    main()
