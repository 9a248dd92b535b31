"""onnxruntime's quantize_dynamic on a small CNN, and its activation scales fixed by `export.py --quantize`.

Writes float.onnx, dynamic-*.onnx as quantize_dynamic makes them, and static.onnx of each.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from models import common
from models.quantizers.common import Built, digits
from pyexport.calibrate import calibrate
from pyexport.calibrate.onnx_session import outputs


def build(folder: Path) -> list[Built]:
    common.setup()
    images, test, labels, test_labels = (torch.from_numpy(part) for part in digits())
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 10)),
    )
    common.train(model, images, labels, epochs=15)
    source, prepared = folder / "float.onnx", folder / "prepared.onnx"
    logging.disable(logging.WARNING)
    torch.onnx.export(model, (test[:1],), str(source), dynamo=False)
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    built = []
    for weights in (QuantType.QInt8, QuantType.QUInt8):
        for per_channel in (False, True):
            kind = f"{weights.name}, {'per channel' if per_channel else 'per tensor'}"
            place = folder / kind.replace(", ", "-").replace(" ", "-")
            place.mkdir(exist_ok=True)
            dynamic = place / "dynamic.onnx"
            quantize_dynamic(str(prepared), str(dynamic), weight_type=weights, per_channel=per_channel)
            made = calibrate(dynamic, images[:200].numpy(), place)
            found = [outputs(file, test.numpy()).argmax(1) == test_labels.numpy() for file in (source, made.file)]
            options = {"output_range": made.output_range}
            tool = f"onnxruntime quantize_dynamic, {kind}, scales fixed by --quantize"
            built.append(Built(6, tool, made.file, options, (float(found[0].mean()), float(found[1].mean()))))
    logging.disable(logging.NOTSET)
    return built
