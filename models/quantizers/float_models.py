"""A plain float CNN, saved as .pt2 and as ONNX, quantised by `export.py --quantize` with calibration data.

Writes float.pt2, float.onnx, calibration.npz, and what the framework's own quantisers make of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import common
from models.quantizers.common import Built, Images, digits
from pyexport.calibrate import calibrate
from pyexport.calibrate.onnx_float import outputs
from pyexport.torch_program import Program


def build(folder: Path) -> list[Built]:
    common.setup()
    images, test, labels, test_labels = (torch.from_numpy(part) for part in digits())
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)),
    )
    common.train(model, images, labels, epochs=15)
    calibration = images[:200].numpy()
    np.savez(folder / "calibration.npz", inputs=calibration, labels=labels[:200].numpy())
    logging.disable(logging.WARNING)
    torch.export.save(torch.export.export(model, (test[:1],)), str(folder / "float.pt2"))
    torch.onnx.export(model, (test[:1],), str(folder / "float.onnx"), dynamo=True, external_data=False, verbose=False)
    return [
        _quantised(folder, "float.pt2", calibration, lambda path: Program(path).outputs(test.numpy()), test_labels),
        _quantised(folder, "float.onnx", calibration, lambda path: outputs(path, test.numpy()), test_labels),
    ]


def _quantised(
    folder: Path, name: str, calibration: Images, run: Callable[[Path], Images], labels: torch.Tensor
) -> Built:
    made = calibrate(folder / name, calibration, folder)
    options = {"output_range": made.output_range} if name.endswith(".pt2") else {}
    before, after = (float(np.mean(run(path).argmax(1) == labels.numpy())) for path in (folder / name, made.file))
    return Built(10, f"{name}, --quantize: {made.tool}", made.file, options, (before, after))
