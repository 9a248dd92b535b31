"""Rounding formulas of the runtimes whose quantised models are exported, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.errors import IntactError
from pyexport.runtimes import layers
from pyexport.runtimes.curve import Curve
from pyexport.runtimes.elementwise import add_table, lookup_table, multiply_table
from pyexport.runtimes.exactly import curve as exact_curve
from pyexport.runtimes.inputs import RULES, input_rule, quantise_input
from pyexport.runtimes.layers import Layer
from pyexport.runtimes.means import average_curve, mean_curve
from pyexport.runtimes.pools import POOLS, pool_curve, pool_rule
from pyexport.runtimes.softmax import softmax_codes
from pyexport.runtimes.tflite import check_runtime
from pyexport.runtimes.torch_elementwise import Part, parts

LAYERS: dict[str, Callable[[Layer], Curve]] = {
    "fbgemm": layers.fbgemm,
    "qnnpack": layers.qnnpack,
    "onednn": layers.onednn,
    "ort": layers.onnxruntime,
    "ort-dynamic": layers.onnxruntime_dynamic,
    "tflite-ref": layers.tflite_reference,
    "tflite-xnnpack": layers.xnnpack,
    "tflite-ruy": layers.tflite_ruy,
    "exact": layers.exact,
    "exact-up": layers.exact_up,
    "exact-away": layers.exact_away,
    "qonnx": layers.qonnx,
}


def layer_curve(name: str, layer: Layer) -> Curve:
    """The formula of runtime `name` for one convolution or linear layer."""
    if name not in LAYERS:
        raise IntactError(f"runtime {name!r} is not known; choose one of {', '.join(LAYERS)}")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # unusable scales are refused by name
        return LAYERS[name](layer)


__all__ = [
    "LAYERS",
    "POOLS",
    "RULES",
    "Curve",
    "Layer",
    "Part",
    "add_table",
    "average_curve",
    "check_runtime",
    "exact_curve",
    "input_rule",
    "layer_curve",
    "lookup_table",
    "mean_curve",
    "multiply_table",
    "parts",
    "pool_curve",
    "pool_rule",
    "quantise_input",
    "softmax_codes",
]
