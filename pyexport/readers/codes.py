"""Real numbers to codes by the source's own rule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport import ir


def codes_of(rule: str, quant: ir.Quant, real: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """torch: RNE(fma(x, 1/s, z)); ort: RNE(x / s) + z; qonnx: RNE((x / s) + z); otherwise RNE(x * f32(1/s)) + z.

    Saturates.
    """
    low, high = quant.range
    with np.errstate(over="ignore"):
        inverse = np.float32(1) / quant.scale
        if rule == "torch":
            # the float64 product of two float32 is exact, and the sum rounds at a far lower bit than float32
            fused = (real.astype(np.float64) * np.float64(inverse) + quant.zero_point).astype(np.float32)
            rounded = np.rint(fused).astype(np.float64)
        elif rule == "qonnx":
            rounded = np.rint(real / quant.scale + np.float32(quant.zero_point)).astype(np.float64)
        elif rule == "ort":
            rounded = np.rint(real / quant.scale).astype(np.float64) + quant.zero_point
        else:
            rounded = np.rint(real * inverse).astype(np.float64) + quant.zero_point
    return np.clip(rounded, low, high).astype(np.int64)


def limit_of(quant: ir.Quant, real: float, rule: str = "pt2e") -> int:
    """The code of a clip's limit, saturating: by the rule "ort" or "qonnx", else RNE(x * f32(1/s)) + z."""
    return int(codes_of(rule if rule in ("ort", "qonnx") else "pt2e", quant, np.asarray([real], np.float32))[0])
