"""Layers on single codes and on pairs of them, as tables, by function and runtime.

Each family of runtimes has a file of its own with its formulas; here they are only found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import CODE_RANGE, Lookup, Quant
from pyexport.runtimes import exactly, ort_elementwise, qonnx, tflite, tflite_unary, torch_elementwise
from pyexport.runtimes.curve import IntArray

AddTable = Callable[[Quant, Quant, Quant, str, "tuple[int, int] | None", int], IntArray]
MultiplyTable = Callable[[Quant, Quant, Quant, str, "tuple[int, int] | None"], IntArray]


@dataclass(frozen=True)
class Family:
    """Runtimes that share their formulas' file.

    add: (a, b, out, runtime, limits, sign) -> codes for all pairs, (256, 256).  multiply: the same without sign.
    unary: (layer, source, out, runtime) -> codes, (256,).
    """

    runtimes: tuple[str, ...]
    add: AddTable
    unary: Callable[[Lookup, Quant, Quant, str], IntArray]
    multiply: MultiplyTable


FAMILIES = (
    Family(tflite.RUNTIMES, tflite.add_table, tflite_unary.unary_table, tflite.multiply_table),
    Family(
        ort_elementwise.RUNTIMES, ort_elementwise.add_table, ort_elementwise.unary_table, ort_elementwise.multiply_table
    ),
    Family(
        torch_elementwise.RUNTIMES,
        torch_elementwise.add_table,
        torch_elementwise.unary_table,
        torch_elementwise.multiply_table,
    ),
    Family(tuple(exactly.ROUNDINGS), exactly.add_table, exactly.unary_table, exactly.multiply_table),
    Family((qonnx.RUNTIME,), qonnx.add_table, qonnx.unary_table, qonnx.multiply_table),
)


def _family(runtime: str) -> Family:
    for family in FAMILIES:
        if runtime in family.runtimes:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.runtimes)
    raise IntactError(f"runtime {runtime!r} has no formula for this layer; choose one of {known}")


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b (sign 1) or a - b (sign -1) for all pairs, int64 (256, 256): [code of a, code of b].

    limits: lowest and highest code that a fused activation leaves. Raises IntactError for a runtime without a formula.
    """
    return _family(runtime).add(a, b, out, runtime, limits, sign)


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): [code of a, code of b]. Raises like `add_table`."""
    return _family(runtime).multiply(a, b, out, runtime, limits)


def lookup_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Output codes of the layer's codes in ascending order, int64 (256,), in out's range and node.clamp.

    Raises IntactError for a function or a runtime that is not known.
    """
    table = _with_constant if node.constant is not None else _family(runtime).unary
    return clamp(table(node, source, out, runtime), *node.clamp)


def _with_constant(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """One row or column of the table over pairs."""
    assert node.constant is not None
    code, quant = node.constant
    a, b = (quant, source) if node.constant_first else (source, quant)
    if node.function == "multiply":
        pairs = multiply_table(a, b, out, runtime, node.clamp)
    elif node.function in ("add", "subtract"):
        pairs = add_table(a, b, out, runtime, node.clamp, 1 if node.function == "add" else -1)
    else:
        raise IntactError(f"function {node.function!r} takes no constant")
    index = code - CODE_RANGE[quant.dtype][0]
    return np.ascontiguousarray(pairs[index] if node.constant_first else pairs[:, index])
