"""A convolution whose weights are all zero: eager PTQ with per-channel affine weights gives it a vanishing scale.

The observer's scale for an all-zero channel is float32's epsilon, so a bias of 100 is 2.9e10 steps of sx * sw, which no
int32 holds. torch (fbgemm) answers the bias everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import (
    DeQuantStub,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QuantStub,
    convert,
    prepare,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python models/constant.py`

from models.common import FOLDER, save, setup

BIASES = (0.5, 2.0, 100.0, 10_000.0)


def build(bias: float) -> tuple[nn.Module, torch.Tensor]:
    """The quantised model and an example input."""
    setup()
    conv = nn.Conv2d(5, 2, 3, bias=True)
    nn.init.zeros_(conv.weight)
    nn.init.constant_(conv.bias, bias)
    model = nn.Sequential(QuantStub(), conv, DeQuantStub()).eval()
    weight = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_affine)
    model.qconfig = QConfig(activation=MinMaxObserver.with_args(dtype=torch.quint8), weight=weight)
    prepare(model, inplace=True)
    example = torch.randn(4, 5, 8, 8)
    model(example)
    convert(model, inplace=True)
    return model, example


def make(bias: float, folder: Path = FOLDER) -> Path:
    """Writes constant_<bias>.pt and returns its path."""
    model, example = build(bias)
    return save(model, example, folder / f"constant_{bias:g}.pt")


def main(folder: Path = FOLDER) -> None:
    for bias in BIASES:
        model, example = build(bias)
        make(bias, folder)
        print(f"constant: bias {bias:g}, torch answers {sorted(set(model(example).flatten().tolist()))}")


if __name__ == "__main__":
    main()
