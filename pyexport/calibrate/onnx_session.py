"""Running an ONNX file with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from pyexport.calibrate import F32Array
from pyexport.errors import IntactError


def session(model: Path) -> onnxruntime.InferenceSession:
    """A session of a model with one input and one output. Raises IntactError for others."""
    opened = _open(model)
    counts = len(opened.get_inputs()), len(opened.get_outputs())
    if counts != (1, 1):
        raise IntactError(f"{model}: has {counts[0]} inputs and {counts[1]} outputs; one of each is accepted")
    return opened


def _open(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def outputs(model: Path, inputs: F32Array) -> F32Array:
    """The model's outputs for inputs float32 (N, *shape), one at a time."""
    opened = session(model)
    name = opened.get_inputs()[0].name
    return np.concatenate([opened.run(None, {name: one[None]})[0] for one in inputs])


def values(model: Path, names: list[str], inputs: F32Array, folder: Path) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each float tensor in `names` over all inputs."""
    proto = onnx.load(str(model))
    known = {info.name for info in proto.graph.output}
    feed = session(model).get_inputs()[0].name
    ranges = {feed: (float(inputs.min()), float(inputs.max()))}
    inner = sorted({name for name in names if name != feed})
    for name in inner:
        if name not in known:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    watched = folder / "watched.onnx"
    onnx.save(proto, str(watched))
    opened = _open(watched)
    for one in inputs:
        for name, found in zip(inner, opened.run(inner, {feed: one[None]}) if inner else (), strict=True):
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = min(low, float(found.min())), max(high, float(found.max()))
    watched.unlink()
    return ranges
