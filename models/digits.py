"""A small CNN on scikit-learn's 8x8 digits, quantised by FX static PTQ (fbgemm, per-channel weights).

Writes digits.pt (TorchScript) and digits_test.npz: the test images in the model's own layout, their labels, torch's
int8 codes, and both accuracies. About 450,000 multiply-accumulates an inference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python models/digits.py`

from models.common import FOLDER, accuracy, codes, digits, save, setup, train


class Net(nn.Module):
    """conv-bn-relu, conv-relu, max-pool, conv-relu, average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.pool2 = nn.AvgPool2d(2)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.pool1(self.relu2(self.conv2(x)))
        x = self.pool2(self.relu3(self.conv3(x)))
        return self.fc(torch.flatten(x, 1))


def main(folder: Path = FOLDER) -> None:
    setup()
    images, test, labels, test_labels = digits()
    model = Net()
    train(model, images, labels, epochs=30)
    with torch.no_grad():
        float_accuracy = accuracy(model(test), test_labels)
        prepared = prepare_fx(model, get_default_qconfig_mapping("fbgemm"), (images[:1],))
        prepared(images[:512])
        quantised = convert_fx(prepared)
        outputs = quantised(test)
    int8_accuracy = accuracy(outputs, test_labels)
    save(quantised, test, folder / "digits.pt")
    np.savez_compressed(
        folder / "digits_test.npz",
        inputs=test.numpy(),
        labels=test_labels.numpy().astype(np.uint8),
        codes=codes(outputs, quantised.fc.scale, quantised.fc.zero_point),
        float_accuracy=float_accuracy,
        int8_accuracy=int8_accuracy,
    )
    print(f"digits: accuracy {float_accuracy:.4f} in float, {int8_accuracy:.4f} in int8, {len(test)} test images")


if __name__ == "__main__":
    main()
