"""The codes of a tensor, and saturation: what every runtime's tables share."""

from __future__ import annotations

import numpy as np

from pyexport.arith import clamp
from pyexport.ir import CODE_RANGE, Quant
from pyexport.runtimes.curve import IntArray


def codes(quant: Quant) -> IntArray:
    """All codes of a tensor's type, ascending, int64 (256,)."""
    low, high = CODE_RANGE[quant.dtype]
    return np.arange(low, high + 1, dtype=np.int64)


def saturate(x: IntArray, quant: Quant, limits: tuple[int, int] | None = None) -> IntArray:
    """Codes above the zero point -> codes in the tensor's range, or in `limits` of a fused activation."""
    low, high = limits or quant.range
    return clamp(x + quant.zero_point, low, high)
