"""The 256 codes of a table layer (ir.Lookup), by function and runtime."""

from __future__ import annotations

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import CODE_RANGE, Lookup, Quant
from pyexport.runtimes import tflite, tflite_unary
from pyexport.runtimes.curve import IntArray


def lookup_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Output codes of the layer's codes in ascending order, int64 (256,), in out's range and node.clamp.

    Raises IntactError for a function or a runtime that is not known.
    """
    return clamp(_table(node, source, out, runtime), *node.clamp)


def _table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    if node.constant is not None:
        return _with_constant(node, source, out, runtime)
    if node.function == "leaky_relu":
        return tflite.leaky_relu_table(source, out, runtime, node.alpha)
    functions = {
        "logistic": tflite_unary.logistic_table,
        "tanh": tflite_unary.tanh_table,
        "hard_swish": tflite_unary.hard_swish_table,
        "relu": tflite.relu_table,
        "requantise": tflite.requantise_table,
    }
    if node.function not in functions:
        raise IntactError(f"function {node.function!r} is not known")
    return functions[node.function](source, out, runtime)


def _with_constant(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """One row or column of the table over pairs."""
    assert node.constant is not None
    code, quant = node.constant
    a, b = (quant, source) if node.constant_first else (source, quant)
    if node.function == "multiply":
        pairs = tflite.multiply_table(a, b, out, runtime, node.clamp)
    elif node.function in ("add", "subtract"):
        pairs = tflite.add_table(a, b, out, runtime, node.clamp, 1 if node.function == "add" else -1)
    else:
        raise IntactError(f"function {node.function!r} takes no constant")
    index = code - CODE_RANGE[quant.dtype][0]
    return np.ascontiguousarray(pairs[index] if node.constant_first else pairs[:, index])
