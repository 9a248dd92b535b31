"""The float classes that `--arch` names for the files of torch_saved.py.

No `from __future__ import annotations` here: it makes annotations text, and torch.save of an FX module then fails.
"""

import torch
from torch import nn
from torch.ao import quantization as tq
from torch.nn import functional


class Cnn(nn.Module):
    """For FX: conv-bn-relu, a block used through its own forward, pooling by functions, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = Block(8, 16)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(functional.max_pool2d(self.stem(x), 2))
        x = functional.dropout(x, 0.1, self.training)
        return self.head(x.reshape(x.size(0), -1))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.deep = nn.Conv2d(outputs, outputs, 3, padding=1, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.wide(x))
        return functional.avg_pool2d(functional.relu6(self.deep(x)), 2)


def chain() -> nn.Module:
    """For eager mode: a Sequential between the stubs."""
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)]
    return tq.QuantWrapper(nn.Sequential(*first, *second))


def mlp() -> nn.Module:
    """For --relu: linear layers only."""
    layers = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10)]
    return tq.QuantWrapper(nn.Sequential(*layers))
