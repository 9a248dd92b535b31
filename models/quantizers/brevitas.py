"""Digits classifiers trained with Brevitas at 2 to 8 bits, written in both of its formats: QCDQ and QONNX.

QCDQ: QuantizeLinear, Clip, DequantizeLinear around float operations; integer weights.  QONNX: `Quant` nodes; the
trained float weights, which whoever reads the file rounds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.inject.enum import RestrictValueType
from brevitas.quant import Int32Bias, ShiftedUint8ActPerTensorFloat, ShiftedUint8WeightPerTensorFloat
from torch import nn

from models.quantizers.common import Built, Images, Labels, digits

WIDTHS = (2, 4, 8)
CHANNELS = 8


@dataclass(frozen=True)
class Style:
    """How one model is quantised. width: bits of weights and activations between the layers; input and output have 8.

    fixed_point: scales are powers of two.  per_channel: one weight scale per channel.  integer_bias: biases are
    rounded to 32-bit codes; else they stay float.
    """

    width: int
    fixed_point: bool = False
    per_channel: bool = True
    integer_bias: bool = True

    @property
    def name(self) -> str:
        return f"w{self.width}_{'fixed' if self.fixed_point else 'float'}"


class Net(nn.Module):
    """Three convolutions, a sum of two branches with codes of one scale, a max pool, an average and a classifier."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        restrict: dict[str, Any] = {}
        if style.fixed_point:
            restrict = {"restrict_scaling_type": RestrictValueType.POWER_OF_TWO}
        width = {"bit_width": style.width, "return_quant_tensor": True, **restrict}
        weights = {"weight_bit_width": style.width, "bias": True, "return_quant_tensor": style.integer_bias}
        weights |= {"weight_scaling_per_output_channel": style.per_channel}
        weights |= {f"weight_{key}": value for key, value in restrict.items()}
        if style.integer_bias:
            weights["bias_quant"] = Int32Bias
        self.image = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True, **restrict)
        self.conv1 = qnn.QuantConv2d(1, CHANNELS, 3, padding=1, **weights)
        self.relu1 = qnn.QuantReLU(**width)  # one scale for both operands of the sum
        self.conv2 = qnn.QuantConv2d(CHANNELS, CHANNELS, 3, padding=1, **weights)
        self.sum = qnn.QuantReLU(**width)
        self.pool = nn.MaxPool2d(2)
        self.conv3 = qnn.QuantConv2d(CHANNELS, 2 * CHANNELS, 3, padding=1, **weights)
        self.signed = qnn.QuantIdentity(**width)
        self.mean = nn.AvgPool2d(2)
        self.rounded = qnn.QuantIdentity(**width)
        self.fc = qnn.QuantLinear(8 * CHANNELS, 10, **weights)
        self.scores = qnn.QuantIdentity(bit_width=8, **restrict)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.conv1(self.image(x)))
        x = self.pool(self.sum(x + self.relu1(self.conv2(x))))
        x = self.rounded(self.mean(self.signed(self.conv3(x))))
        return self.scores(self.fc(x.flatten(1)))


class Float(nn.Module):
    """The same network before it is quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.conv3 = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1)
        self.fc = nn.Linear(8 * CHANNELS, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).relu()
        x = nn.functional.max_pool2d(x + self.conv2(x).relu(), 2)
        return self.fc(nn.functional.avg_pool2d(self.conv3(x).clamp(-4, 4), 2).flatten(1))


def train(model: nn.Module, images: Images, labels: Labels, epochs: int, rate: float) -> None:
    optimiser = torch.optim.Adam(model.parameters(), rate)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    model.eval()


def accuracy(model: nn.Module, images: Images, labels: Labels) -> float:
    with torch.no_grad():
        return float(np.mean(model(torch.from_numpy(images)).argmax(1).numpy() == labels))


class Separable(nn.Module):
    """What else Brevitas's users write, at one width: an input with a zero point, batch normalisation behind layers, a
    depthwise layer, branches with codes of either sign side by side, an average in integers (Trunc), float biases.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        width = {"bit_width": bits, "return_quant_tensor": True}
        self.image = qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, bit_width=8, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(1, CHANNELS, 3, padding=1, bias=False, weight_bit_width=bits)
        self.norm1 = nn.BatchNorm2d(CHANNELS)
        self.relu1 = qnn.QuantReLU(**width)
        self.depthwise = qnn.QuantConv2d(
            CHANNELS,
            CHANNELS,
            3,
            padding=1,
            groups=CHANNELS,
            weight_bit_width=bits,
            weight_scaling_per_output_channel=True,
        )
        self.signed = qnn.QuantIdentity(**width)
        self.both = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
        self.conv2 = qnn.QuantConv2d(
            2 * CHANNELS, 2 * CHANNELS, 3, padding=1, stride=2, bias=False, weight_bit_width=bits
        )
        self.norm2 = nn.BatchNorm2d(2 * CHANNELS)
        self.relu2 = qnn.QuantReLU(**width)
        self.pool = qnn.TruncAvgPool2d(2)
        self.fc = qnn.QuantLinear(
            8 * CHANNELS, 10, bias=True, weight_bit_width=bits, weight_quant=ShiftedUint8WeightPerTensorFloat
        )
        self.scores = qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat, bit_width=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.norm1(self.conv1(self.image(x))))
        branches = [getattr(branch, "value", branch) for branch in (x, self.signed(self.depthwise(x)))]
        x = self.relu2(self.norm2(self.conv2(self.both(torch.cat(branches, 1)))))
        return self.scores(self.fc(self.pool(x).flatten(1)))


def write(model: Net, folder: Path, name: str) -> tuple[Path, Path]:
    """The model as QCDQ and as QONNX."""
    example = torch.zeros(1, 1, 8, 8)
    qcdq, qonnx = folder / f"{name}_qcdq.onnx", folder / f"{name}_qonnx.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's newer exporter (dynamo) keeps no integer bias in QCDQ
        export_onnx_qcdq(model, args=example, export_path=str(qcdq), dynamo=False)
        export_qonnx(model, args=example, export_path=str(qonnx), dynamo=False)
    return qcdq, qonnx


def build(folder: Path, widths: tuple[int, ...] = WIDTHS, epochs: int = 5) -> list[Built]:
    """Both formats at each width, with scales of any value and with powers of two; `Separable` as QONNX."""
    torch.set_num_threads(1)
    images, test, labels, test_labels = digits()
    torch.manual_seed(0)
    start = Float()
    train(start, images, labels, 2 * epochs, rate=5e-3)
    before = accuracy(start, test, test_labels)
    found = []
    for width in widths:
        for fixed_point in (False, True):
            style = Style(width, fixed_point)
            torch.manual_seed(width)
            model = Net(style)
            model.load_state_dict(start.state_dict(), strict=False)
            train(model, images, labels, 2 * epochs if width < 4 else epochs, rate=5e-3)
            after = accuracy(model, test, test_labels)
            for path, kind in zip(write(model, folder, style.name), ("QCDQ", "QONNX"), strict=True):
                tool = f"Brevitas, {width} bits, {kind}" + (", scales powers of two" if fixed_point else "")
                found.append(Built(9, tool, path, accuracy=(before, after)))
    torch.manual_seed(0)
    separable, path = Separable(4), folder / "separable_qonnx.onnx"
    train(separable, images, labels, 2 * epochs, rate=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_qonnx(separable, args=torch.zeros(1, 1, 8, 8), export_path=str(path), verbose=False)
    return [*found, Built(9, "Brevitas, 4 bits, QONNX, batch normalisation and Trunc", path)]


if __name__ == "__main__":
    out = Path("build/brevitas")
    out.mkdir(parents=True, exist_ok=True)
    for built in build(out):
        print(built)
