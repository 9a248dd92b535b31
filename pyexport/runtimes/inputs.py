"""Real inputs to codes, as the runtimes round them (Eq. 31 to 33, 44, 60)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError
from pyexport.runtimes.curve import IntArray, fma32

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
RULES = ("torch", "ort", "pt2e", "tflite-ref", "tfmot", "qonnx", "dorefa", "iao")


def input_rule(rule: str, runtime: str) -> str:
    """The rule of the runtime to match, where a format's rule depends on it: XNNPACK's QUANTIZE is Eq. 33."""
    return "pt2e" if (rule, runtime) == ("tflite-ref", "tflite-xnnpack") else rule


def quantise_input(
    x: npt.NDArray[np.float32],
    scale: np.float32,
    zero_point: int,
    dtype: str,
    rule: str = "torch",
    limits: tuple[int, int] | None = None,
) -> IntArray:
    """float32 array of any shape -> int64 codes of the same shape, in dtype's range or `limits`; infinities saturate.

    torch: RNE(fma(x, 1/s, z)) (Eq. 31).  ort: RNE(x / s) + z (Eq. 32).  pt2e: RNE(x * (1/s)) + z (Eq. 33).
    tflite-ref: x / s rounded half away from zero, + z (Eq. 44).  qonnx: RNE((x / s) + z) (Eq. 60).
    tfmot: fake_quant_with_min_max_vars, all in float32: with n = low - z, floor((clamp(x, n s, (high - z) s) - n s) / s
    + n + 1/2) + z.  dorefa, in float64: clamp(0.1 x, 0, 1) / (1 / A), half away, A the top code, 10 / s.
    iao, in float64: x / s + z, half away.
    """
    if rule not in RULES or dtype not in RANGES:
        raise IntactError(f"input rule {rule!r} with {dtype!r} is not known; rules are {', '.join(RULES)}")
    values, step = np.asarray(x, np.float32), np.float32(scale)
    if not (np.isfinite(step) and step > 0):
        raise IntactError(f"input scale {scale} is not a positive finite number; re-calibrate the model")
    nan = np.argwhere(np.isnan(values))
    if nan.size:
        raise IntactError(f"input value at index {tuple(int(i) for i in nan[0])} is not a number")
    low, high = limits or RANGES[dtype]
    with np.errstate(over="ignore"):
        inverse = np.float32(1) / step
        if not np.isfinite(inverse):
            raise IntactError(f"input scale {scale} is too small for float32; re-calibrate the model")
        if rule == "torch":
            rounded = np.rint(fma32(values, np.asarray(inverse), np.asarray(np.float32(zero_point)))).astype(np.float64)
        elif rule == "ort":
            rounded = np.rint(values / step).astype(np.float64) + zero_point
        elif rule == "qonnx":
            rounded = np.rint(values / step + np.float32(zero_point)).astype(np.float64)
        elif rule == "tflite-ref":
            quotient = (values / step).astype(np.float64)
            rounded = np.trunc(quotient + np.copysign(0.5, quotient)) + zero_point
        elif rule == "tfmot":
            below, above = np.float32(low - zero_point), np.float32(high - zero_point)
            shifted = np.clip(values, below * step, above * step) - below * step
            rounded = np.floor(shifted / step + below + np.float32(0.5)).astype(np.float64) + zero_point
        elif rule == "dorefa":
            top = round(10 / float(step))
            rounded = np.floor(np.clip(values.astype(np.float64) * 0.1, 0, 1) / (1 / float(top)) + 0.5)
        elif rule == "iao":
            wide = values.astype(np.float64) / np.float64(step) + zero_point
            rounded = np.sign(wide) * np.floor(np.abs(wide) + 0.5)
        else:
            rounded = np.rint(values * inverse).astype(np.float64) + zero_point
    return np.clip(rounded, low, high).astype(np.int64)
