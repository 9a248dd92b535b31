"""A model of onnxruntime's `quantize_dynamic` with every activation scale fixed to the range that the data has.

Weights, integer products and the float steps around them stay as they are in the file; only the operation that chooses
a scale from each input (DynamicQuantizeLinear) becomes a quantisation with constants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pyexport.calibrate import Calibrated, F32Array
from pyexport.calibrate.onnx_session import outputs, values

DYNAMIC = "DynamicQuantizeLinear"


def is_dynamic(model: Path) -> bool:
    """Whether the file quantises activations while it runs."""
    return any(node.op_type == DYNAMIC for node in onnx.load(str(model), load_external_data=False).graph.node)


def calibrate(model: Path, inputs: F32Array, folder: Path) -> Calibrated:
    """Writes static.onnx."""
    proto, path = onnx.load(str(model)), folder / "static.onnx"
    graph = proto.graph
    nodes = [node for node in graph.node if node.op_type == DYNAMIC]
    ranges = values(model, [node.input[0] for node in nodes], inputs, folder)
    for node in nodes:
        low, high = ranges[node.input[0]]
        scale, zero = _quantisation(low, high)
        graph.initializer.append(numpy_helper.from_array(scale, node.output[1]))
        graph.initializer.append(numpy_helper.from_array(zero, node.output[2]))
        place = list(graph.node).index(node)
        fixed = helper.make_node("QuantizeLinear", [node.input[0], *node.output[1:]], [node.output[0]], node.name)
        graph.node.remove(node)
        graph.node.insert(place, fixed)
    onnx.save(proto, str(path))
    note = f"onnxruntime quantize_dynamic, {len(nodes)} activation scales fixed"
    return Calibrated(path, note, outputs(model, inputs), outputs(path, inputs), "with scales chosen for each input")


def _quantisation(low: float, high: float) -> tuple[Any, Any]:
    """As DynamicQuantizeLinear itself defines them: the range includes 0, the zero point is round(-low / scale)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    if not scale > 0:
        scale = np.float32(1)
    return np.asarray(scale), np.asarray(np.clip(np.rint(np.float32(-low) / scale), 0, 255), np.uint8)
