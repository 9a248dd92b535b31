"""Average pooling formulas: d = sum of (code - zero point) over a window, n = the divisor (Eq. 26 to 30, 35, 36).

Input and output share scale and zero point. Taps in the padding add 0 to d. A formula holds for one n: where the
divisor changes along an edge (count_include_pad=False, ceil_mode), those positions have another n.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyexport.arith import clamp
from pyexport.errors import IntactError
from pyexport.runtimes.curve import Curve, IntArray, finish, fma32

AVX512_LANES = 16  # torch's vector width in float32 lanes; 8 on a CPU with AVX2 only
FUSED_LANES = 8  # adaptive pooling's compiled inner loop, whatever the CPU
ANY_SCALE = np.float32(1)  # only one kernel looks at it

POOLS: dict[str, tuple[str, int]] = {
    # name: (rule of the leading channels, how many channels one vector takes; the rest follow the "inside" rule)
    "torch-contiguous": ("inside", 1),
    "torch-adaptive-contiguous": ("codes", 1),
    "torch-channels-last": ("outside", AVX512_LANES),
    "torch-channels-last-avx2": ("outside", AVX512_LANES // 2),
    "torch-adaptive-channels-last": ("fused", FUSED_LANES),
    "torch-mean": ("divided", 1),
    "qnnpack": ("outside", 1),
    "tflite": ("away", 1),
    "exact": ("exact", 1),
    "exact-up": ("exact-up", 1),
    "exact-away": ("exact-away", 1),
}


def pool_rule(native: str, runtime: str) -> str:
    """The kernel that rounds an average pool under `runtime`: `native`, the source's own, unless it has one itself."""
    if runtime in ("exact", "exact-up", "exact-away") or (runtime == "qnnpack" and native.startswith("torch")):
        return runtime
    return "tflite" if runtime.startswith("tflite") else native


def pool_curve(name: str, n: int, channels: int, z: int, lo: int, hi: int, scale: np.float32 = ANY_SCALE) -> Curve:
    """The formula of runtime kernel `name` for windows with divisor n over `channels` channels (C,).

    torch-contiguous, torch-channels-last: avg_pool2d by memory format (-avx2: on a CPU without AVX-512).
    torch-adaptive-*: adaptive_avg_pool2d. torch-mean: mean over H and W of a contiguous tensor. qnnpack: all these on
    torch's engine qnnpack, Eq. 74, s / (s * n) for 1/n. tflite: AVERAGE_POOL_2D of every TFLite
    runtime. exact: RNE(d / n) + z; exact-up, exact-away: half up, half away from zero.
    z, lo, hi: zero point and clamp in the source's code type.
    """
    if name not in POOLS:
        raise IntactError(f"pooling arithmetic {name!r} is not known; choose one of {', '.join(POOLS)}")
    if not 1 <= n <= 1 << 16:
        raise IntactError(f"pooling divisor {n} lies outside 1..65536")
    rule, lanes = POOLS[name]
    leading = channels - channels % lanes
    inverse, zero = np.float32(1) / np.float32(n), np.float32(z)
    if name == "qnnpack":
        inverse = scale / (scale * np.float32(n))

    def inside(acc: IntArray) -> IntArray:
        """Eq. 26: RNE(z + d * (1/n)), the sum rounded to float32."""
        return finish(np.rint(zero + acc.astype(np.float32) * inverse), 0, lo, hi)

    def outside(acc: IntArray) -> IntArray:
        """Eq. 27: RNE(d * (1/n)) + z."""
        return finish(np.rint(acc.astype(np.float32) * inverse), z, lo, hi)

    def fused(acc: IntArray) -> IntArray:
        """Eq. 28: RNE(fma(d, 1/n, z)); the compiler contracts Eq. 26."""
        return finish(np.rint(fma32(acc.astype(np.float32), np.asarray(inverse), np.asarray(zero))), 0, lo, hi)

    def divided(acc: IntArray) -> IntArray:
        """Eq. 29: RNE(z + d / n) in float32."""
        return finish(np.rint(zero + acc.astype(np.float32) / np.float32(n)), 0, lo, hi)

    def codes(acc: IntArray) -> IntArray:
        """Eq. 30: RNE(sum of codes * (1/n)); exact ties hang on 1/n's own error, z plays no part."""
        return finish(np.rint((acc + n * z).astype(np.float32) * inverse), 0, lo, hi)

    def away(acc: IntArray) -> IntArray:
        """Eq. 35: sum of codes / n, half away from code zero; z plays no part."""
        total = acc + n * z
        return clamp(np.sign(total) * ((np.abs(total) + n // 2) // n), lo, hi)

    def exact(acc: IntArray) -> IntArray:
        """Eq. 36: RNE(d / n) + z on integers."""
        twice = 2 * acc + n
        code = twice // (2 * n)
        return clamp(code - ((twice % (2 * n) == 0) & (code & 1 == 1)) + z, lo, hi)

    def exact_up(acc: IntArray) -> IntArray:
        """floor(d / n + 1/2) + z on integers."""
        return clamp((2 * acc + n) // (2 * n) + z, lo, hi)

    def exact_away(acc: IntArray) -> IntArray:
        """d / n, half away from zero, + z."""
        return clamp(np.sign(acc) * ((2 * np.abs(acc) + n) // (2 * n)) + z, lo, hi)

    rules: dict[str, Callable[[IntArray], IntArray]] = {
        "inside": inside, "outside": outside, "fused": fused, "divided": divided, "codes": codes,
        "exact": exact, "exact-up": exact_up, "exact-away": exact_away, "away": away,
    }  # fmt: skip
    vector = rules[rule]

    def evaluate(acc: IntArray, ch: IntArray) -> IntArray:
        if leading == channels:
            return vector(acc)
        return np.where(ch < leading, vector(acc), inside(acc))

    # ties count as even from 0 where z goes in before rounding, from z where it goes in after
    frame = z if ((rule == "outside" or rule.startswith("exact")) and leading) else 0
    offset = float((z - frame) * n)
    return Curve(
        name,
        evaluate,
        np.full(channels, 1 / n),
        np.full(channels, offset),
        frame,
        lo,
        hi,
        not rule.endswith(("away", "up")),
    )
