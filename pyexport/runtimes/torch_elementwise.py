"""torch's layers on single codes and on pairs of them, uint8, as tables (Eq. 70 to 74).

torch dequantises, computes in float32 and quantises again. Most kernels have two forms whose roundings differ: vectors
of 64 codes, and one code at a time for what is left over ("fbgemm-scalar": the engine's name and "-scalar"). `parts`
says which channels of a tensor meet which form. qnnpack adds in integers and has tables of its own for some functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyexport.errors import IntactError
from pyexport.ir import Add, Lookup, Quant
from pyexport.runtimes.codes import codes, saturate
from pyexport.runtimes.curve import F32Array, F64Array, IntArray, fma32

ENGINES = ("fbgemm", "onednn", "qnnpack")
SCALAR = "-scalar"
PROGRAM = "pt2e"  # float32 operations of an exported graph between its dequantise and quantise
RUNTIMES = (*ENGINES, *(name + SCALAR for name in ENGINES), PROGRAM)
LANES = 64  # codes in a vector on a CPU with AVX-512; what is left of 64 is all that is left of AVX2's 32, and more
CONCAT_LANES = 8  # channels of a pixel that a concatenation's kernel takes at once
OWN_TABLES = ("logistic", "tanh", "hard_sigmoid", "hard_swish")  # that qnnpack computes itself
ONE = np.float32(1)


@dataclass(frozen=True)
class Part:
    """A runtime's kernel (a name that the tables take) and the channels that hold codes which it rounds."""

    kernel: str
    channels: IntArray


def parts(node: Add | Lookup, runtime: str, shape: tuple[int, int, int]) -> list[Part]:
    """The kernels that round a layer's output of `shape` (H, W, C), the one with the most codes first.

    node.arithmetic: "torch-channels-last" or "torch-contiguous", the memory order of all operands;
    "torch-mixed", operands of both orders, which torch takes one code at a time; "torch-concat", an operand of a
    channels-last concatenation; "pt2e", an exported graph's operations (Eq. 75); "", one kernel for every code.
    """
    height, width, channels = shape
    everything = np.arange(channels)
    if node.arithmetic == PROGRAM and runtime in ENGINES:
        return [Part(PROGRAM, everything)]
    whole = [Part(runtime, everything)]
    own = runtime == "qnnpack" and (isinstance(node, Add) or node.function in OWN_TABLES)
    if runtime not in ENGINES or own or not node.arithmetic.startswith("torch-"):
        return whole
    if node.arithmetic == "torch-mixed":
        return [Part(runtime + SCALAR, everything)]
    if node.arithmetic == "torch-concat":
        leading = channels - channels % CONCAT_LANES
        split = [Part(runtime, everything[:leading]), Part(runtime + SCALAR, everything[leading:])]
        return sorted((part for part in split if part.channels.size), key=lambda part: -part.channels.size)
    order = np.arange(height * width * channels)
    channel = order % channels if node.arithmetic == "torch-channels-last" else order // (height * width)
    left = order.size % LANES
    if not left:
        return whole
    rest = Part(runtime + SCALAR, np.unique(channel[order.size - left :]))
    if left == order.size:
        return [rest]
    return [Part(runtime, np.unique(channel[: order.size - left])), rest]


# --- real numbers and codes ------------------------------------------------------------------------------------------


def _real(quant: Quant, fused: bool) -> F32Array:
    """Codes -> float32 (256,): fma(q, s, -(s * z)), or (q - z) * s."""
    whole, zero = codes(quant).astype(np.float32), np.float32(quant.zero_point)
    if not fused:
        return np.asarray((whole - zero) * quant.scale, np.float32)
    return fma32(whole, np.asarray(quant.scale), np.asarray(quant.scale * -zero))


def _quantised(real: F32Array, out: Quant, scalar: bool, limits: tuple[int, int] | None = None) -> IntArray:
    """Vectors add the zero point after rounding (Eq. 70), single codes before (Eq. 71)."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.asarray(real * (ONE / out.scale), np.float32)
        zero = np.float32(out.zero_point)
        rounded = np.rint(steps + zero) - zero if scalar else np.rint(steps)
    return saturate(np.clip(rounded, -1e6, 1e6).astype(np.int64), out, limits)


# --- sums and products -----------------------------------------------------------------------------------------------


def add_table(
    a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None, sign: int = 1
) -> IntArray:
    """Codes of a + b for all pairs, int64 (256, 256): [code of a, code of b]. limits: of a fused ReLU."""
    if runtime == PROGRAM:
        total = _real(a, False)[:, None] + np.float32(sign) * _real(b, False)[None, :]
        return _quantised(np.asarray(total, np.float32), out, False, limits)
    if sign != 1:
        raise IntactError("torch has no quantised subtraction")
    if runtime == "qnnpack":
        return _qnnpack_add(a, b, out, limits)
    scalar = runtime.endswith(SCALAR)
    total = _real(a, not scalar)[:, None] + _real(b, not scalar)[None, :]
    return _quantised(np.asarray(total, np.float32), out, scalar, limits)


def _qnnpack_add(a: Quant, b: Quant, out: Quant, limits: tuple[int, int] | None) -> IntArray:
    """Eq. 73: both ratios to the sum's scale with 22 bits, half away from zero."""
    ratios = np.float32(a.scale) / np.float32(out.scale), np.float32(b.scale) / np.float32(out.scale)
    if not 2.0**-14 <= max(ratios) < 2.0**8:
        raise IntactError(f"qnnpack itself refuses operand scales {a.scale}, {b.scale} with sum scale {out.scale}")
    shift = 21 - int(np.floor(np.log2(max(ratios))))
    ma, mb = (int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios)
    v = (codes(a)[:, None] - a.zero_point) * ma + (codes(b)[None, :] - b.zero_point) * mb
    return saturate((v + (1 << (shift - 1)) - (v < 0)) >> shift, out, limits)


def multiply_table(a: Quant, b: Quant, out: Quant, runtime: str, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes of a * b for all pairs, int64 (256, 256): RNE(x * y * ((sa sb)(1/sy))) + zy in every kernel."""
    product = (codes(a)[:, None] - a.zero_point) * (codes(b)[None, :] - b.zero_point)
    factor = (a.scale * b.scale) * (ONE / out.scale)
    return saturate(np.rint(product.astype(np.float32) * factor).astype(np.int64), out, limits)


# --- functions of one code -------------------------------------------------------------------------------------------


def unary_table(node: Lookup, source: Quant, out: Quant, runtime: str) -> IntArray:
    """Codes of a function of each code, int64 (256,)."""
    if node.function == "requantise" and node.arithmetic != "torch-concat" and runtime != PROGRAM:
        # torch's own quantiser, Eq. 31, for every code alike
        wide = fma32(_real(source, False), np.asarray(ONE / out.scale), np.asarray(np.float32(out.zero_point)))
        return saturate(np.clip(np.rint(wide), -1e6, 1e6).astype(np.int64) - out.zero_point, out)
    if runtime == "qnnpack" and node.function in OWN_TABLES:
        return _qnnpack_table(node, source, out)
    scalar = runtime.endswith(SCALAR)
    function = _functions(np.float32(node.alpha), scalar).get(node.function)
    if function is None:
        raise IntactError(f"torch has no quantised function {node.function!r}")
    with np.errstate(over="ignore"):
        # the kernel of sigmoid alone dequantises in two steps
        real = function(_real(source, not scalar and node.function != "logistic" and runtime != PROGRAM))
    return _quantised(real, out, scalar)


def _functions(alpha: np.float32, scalar: bool) -> dict[str, Callable[[F32Array], F32Array]]:
    """exp, tanh and expm1 are taken from float64, rounded once; torch's own are within one float32 step of that."""
    three, six, zero = np.float32(3), np.float32(6), np.float32(0)

    def near(function: Callable[[F64Array], F64Array], x: F32Array) -> F32Array:
        return np.asarray(function(x.astype(np.float64)), np.float32)

    def logistic(x: F32Array) -> F32Array:
        power = near(np.exp, -x)
        if scalar:  # C++ promotes the sum to double
            return np.asarray(1 / (1 + power.astype(np.float64)), np.float32)
        return np.asarray(ONE / (ONE + power), np.float32)

    def hard(x: F32Array) -> F32Array:
        return np.asarray(np.minimum(np.maximum(x + three, zero), six), np.float32)

    return {
        "requantise": lambda x: x,
        "logistic": logistic,
        "tanh": lambda x: near(np.tanh, x),
        "leaky_relu": lambda x: np.where(x > 0, x, x * alpha),
        "hard_sigmoid": lambda x: hard(x) / six,
        "hard_swish": lambda x: x * hard(x) / six,
        "elu": lambda x: np.where(x > 0, x, near(np.expm1, x) * alpha),
    }


def _qnnpack_table(node: Lookup, source: Quant, out: Quant) -> IntArray:
    """qnnpack's own tables: sigmoid, tanh and hard sigmoid have fixed output scales, powers of two."""
    if node.function == "logistic" and (float(out.scale), out.zero_point) != (2.0**-8, 0):
        raise IntactError(f"qnnpack itself refuses a sigmoid of scale {out.scale}, zero point {out.zero_point}")
    x = _real(source, False)
    function = _functions(np.float32(node.alpha), False)[node.function]
    with np.errstate(over="ignore"):
        return _quantised(function(x), out, node.function == "hard_swish")
