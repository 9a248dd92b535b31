"""TensorFlow Lite's unary functions of an 8-bit code, as tables of 256 codes (see runtimes.tflite for the runtimes)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.ir import Lookup, Quant
from pyexport.runtimes.codes import codes, saturate
from pyexport.runtimes.curve import F32Array, IntArray
from pyexport.runtimes.tflite import (
    XNNPACK,
    check_runtime,
    high_multiply,
    leaky_relu_table,
    quantise_multiplier,
    relu_table,
    requantise_table,
    rounding_shift,
)

ONE = np.float32(1)
F64Array = npt.NDArray[np.float64]


def away(x: F32Array) -> IntArray:
    """Round half away from zero."""
    return np.trunc(x.astype(np.float64) + np.copysign(0.5, x)).astype(np.int64)


def logistic_table(source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of 1 / (1 + e^-x), int64 (256,)."""
    return _from_real(source, out, runtime, lambda x: ONE / (ONE + _f32(np.exp, -x)), 1 / 256)


def tanh_table(source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of tanh x, int64 (256,)."""
    return _from_real(source, out, runtime, lambda x: _f32(np.tanh, x), 1 / 128)


def _f32(function: Callable[[F64Array], F64Array], x: F32Array) -> F32Array:
    """A float32 function of libm, correctly rounded."""
    with np.errstate(over="ignore"):
        return function(x.astype(np.float64)).astype(np.float32)


def _from_real(
    source: Quant, out: Quant, runtime: str, function: Callable[[F32Array], F32Array], step: float
) -> IntArray:
    check_runtime(runtime)
    x = np.float32(source.scale) * (codes(source) - source.zero_point).astype(np.float32)
    inverse = ONE / np.float32(out.scale)
    if runtime == XNNPACK and float(out.scale) == step:
        return saturate(np.rint(function(x) * inverse).astype(np.int64), out)
    return saturate(away(function(x) * inverse), out)


def hard_swish_table(source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of x * relu6(x + 3) / 6, int64 (256,), in the 16-bit fixed point of TFLite's kernel."""
    check_runtime(runtime)
    fine = np.float32(1 / 128) * np.float32(source.scale)  # scale of the input with 7 more bits
    q_out, e_out = _sixteen_bits(float(fine / np.float32(out.scale)))
    q_relu, e_relu = _sixteen_bits(float(fine / np.float32(3.0 / 32768.0)))
    x = (codes(source) - source.zero_point) << 7
    scaled = _saturate16(high_multiply(x, q_out, 16))
    relu = x
    if e_relu > 0:
        relu = _saturate16(relu << (e_relu - 1))
    relu = _saturate16(high_multiply(relu, q_relu, 16))
    if e_relu > 0:
        relu = _saturate16(relu << 1)
    if e_relu < 0:
        relu = rounding_shift(relu, -e_relu)
    relu = (relu + (1 << 15)) >> 1
    product = relu * scaled
    high = np.sign(product) * (np.abs(product) >> 15)  # truncates towards zero
    return saturate(rounding_shift(high, -e_out) if e_out <= 0 else _saturate16(high << e_out), out)


def _saturate16(x: IntArray) -> IntArray:
    return clamp(x, -(1 << 15), (1 << 15) - 1)


def _sixteen_bits(real: float) -> tuple[int, int]:
    q, shift = quantise_multiplier(real)
    return min((q + (1 << 15)) >> 16, (1 << 15) - 1), shift


def unary_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of a layer's function, int64 (256,). Raises IntactError for one that TFLite doesn't have."""
    if node.function == "leaky_relu":
        return leaky_relu_table(source, out, runtime, node.alpha)
    functions = {
        "logistic": logistic_table,
        "tanh": tanh_table,
        "hard_swish": hard_swish_table,
        "relu": relu_table,
        "requantise": requantise_table,
    }
    if node.function not in functions:
        raise IntactError(f"function {node.function!r} is not known")
    return functions[node.function](source, out, runtime)
