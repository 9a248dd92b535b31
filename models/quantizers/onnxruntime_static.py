"""onnxruntime's quantize_static: QDQ and QOperator, the three pairs of code types, per channel and per tensor.

A CNN with a residual sum, a concatenation, a sigmoid and a global pool is trained in torch, exported to ONNX, put
through quant_pre_process (which folds the batch normalisation) and quantised on 200 training images.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torch.nn import functional as F

from models import common
from models.quantizers.common import Built, Images, Labels, digits

FORMATS = ("QDQ", "QOperator")
# Activations and weights; onnxruntime refuses signed activations with unsigned weights.
TYPES = (("QUInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt8", "QInt8"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second, self.gate = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.third, self.last = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(x + F.relu(self.second(x)), 2)
        x = torch.cat([x, torch.sigmoid(self.gate(x))], 1)
        return self.last(F.adaptive_avg_pool2d(F.leaky_relu(self.third(x)), 1).flatten(1))


class Calibration(quantization.CalibrationDataReader):
    """One image at a time."""

    def __init__(self, images: Images) -> None:
        self.images: Iterator[Images] = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        image = next(self.images, None)
        return None if image is None else {"x": image[None]}


def build(folder: Path) -> list[Built]:
    common.setup()
    logging.disable(logging.WARNING)
    images, test, labels, test_labels = digits()
    model = Net()
    common.train(model, torch.from_numpy(images), torch.from_numpy(labels), epochs=12)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    floats, prepared = folder / "float.onnx", folder / "prepared.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.from_numpy(test[:1]),), str(floats), dynamo=False, dynamic_axes=axes,
            input_names=["x"], output_names=["y"],
        )  # fmt: skip
    quant_pre_process(str(floats), str(prepared))
    before = _accuracy(floats, test, test_labels)
    built = []
    for form in FORMATS:
        for activations, weights in TYPES:
            for per_channel in (True, False):
                kind = "per_channel" if per_channel else "per_tensor"
                path = folder / f"{form}_{activations}_{weights}_{kind}.onnx".lower()
                quantization.quantize_static(
                    prepared,
                    path,
                    Calibration(images[:200]),
                    quant_format=quantization.QuantFormat[form],
                    activation_type=quantization.QuantType[activations],
                    weight_type=quantization.QuantType[weights],
                    per_channel=per_channel,
                )
                tool = f"onnxruntime quantize_static: {form}, {activations}/{weights}, {kind.replace('_', ' ')}"
                built.append(Built(5, tool, path, {}, (before, _accuracy(path, test, test_labels))))
    return built


def _accuracy(path: Path, images: Images, labels: Labels) -> float:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return float(np.mean(session.run(None, {"x": images})[0].argmax(1) == labels))
