"""The smallest classifier: [2, 3, 7] with ReLU, seven points, one class each, quantised by FX static PTQ.

Writes xor.pt and checks that the int8 model still gets all seven points right.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python models/xor.py`

from models.common import FOLDER, save, setup

POINTS = torch.tensor([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.9), (0.0, 0.75), (0.0, 0.25)])
CLASSES = torch.arange(7)


def fit(model: nn.Module, steps: int = 4000) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(POINTS), CLASSES).backward()
        optimizer.step()


def main(folder: Path = FOLDER, seed: int = 0) -> None:
    setup(seed)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 7))
    fit(model)
    prepared = prepare_fx(model.eval(), get_default_qconfig_mapping("fbgemm"), (POINTS,))
    prepared(POINTS)
    quantised = convert_fx(prepared)
    right = int((quantised(POINTS).argmax(1) == CLASSES).sum())
    if right != 7:
        raise SystemExit(f"xor: only {right} of 7 points are right in int8; choose another seed")
    save(quantised, POINTS, folder / "xor.pt")
    print("xor: 7 of 7 points right in int8")


if __name__ == "__main__":
    main()
