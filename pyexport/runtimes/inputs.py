"""Real inputs to codes, as the runtimes round them (Eq. 31 to 33, 44, 60)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError
from pyexport.runtimes.curve import IntArray, fma32

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
RULES = ("torch", "ort", "pt2e", "tflite-ref", "qonnx")


def input_rule(rule: str, runtime: str) -> str:
    """The rule of the runtime to match, where a format's rule depends on it: XNNPACK's QUANTIZE is Eq. 33."""
    return "pt2e" if (rule, runtime) == ("tflite-ref", "tflite-xnnpack") else rule


def quantise_input(
    x: npt.NDArray[np.float32], scale: np.float32, zero_point: int, dtype: str, rule: str = "torch"
) -> IntArray:
    """float32 array of any shape -> int64 codes of the same shape, in dtype's range; infinities saturate.

    torch: RNE(fma(x, 1/s, z)) (Eq. 31).  ort: RNE(x / s) + z (Eq. 32).  pt2e: RNE(x * (1/s)) + z (Eq. 33).
    tflite-ref: x / s rounded half away from zero, + z (Eq. 44).  qonnx: RNE((x / s) + z) (Eq. 60).
    """
    if rule not in RULES or dtype not in RANGES:
        raise IntactError(f"input rule {rule!r} with {dtype!r} is not known; rules are {', '.join(RULES)}")
    values, step = np.asarray(x, np.float32), np.float32(scale)
    if not (np.isfinite(step) and step > 0):
        raise IntactError(f"input scale {scale} is not a positive finite number; re-calibrate the model")
    nan = np.argwhere(np.isnan(values))
    if nan.size:
        raise IntactError(f"input value at index {tuple(int(i) for i in nan[0])} is not a number")
    low, high = RANGES[dtype]
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
        else:
            rounded = np.rint(values * inverse).astype(np.float64) + zero_point
    return np.clip(rounded, low, high).astype(np.int64)
