"""Whether a layer's sums can leave int32: the proof, or the channel and the inputs that do it.

Every runtime adds in int32 and wraps modulo 2^32 without a word, and so does the hardware: such a code has nothing to
do with the network. Checked is what the runtime adds up: the accumulator, and the bias where that is an integer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyexport.arith import INT32, IntArray
from pyexport.errors import IntactError

FLAG = "--allow-overflow"


class Domain(NamedTuple):
    """Accumulators lo .. hi (C,), int64, that a layer's constants must serve.

    wraps: sums may leave int32; constants then serve every int32 sum, to which sums modulo 2^32 belong.
    """

    lo: IntArray
    hi: IntArray
    wraps: bool


def domain(
    lo: IntArray, hi: IntArray, bias: npt.NDArray[np.float64] | None, codes: tuple[int, int], runtime: str, allow: bool
) -> Domain:
    """Proves that no sum leaves int32, or raises IntactError with one that does, or, with `allow`, lets it wrap.

    lo, hi: reachable accumulators (C,), Eq. 25.  bias: what `runtime` adds in int32 (C,), None where it adds it in
    float.  codes: lowest and highest input code, for the message.
    """
    added = np.zeros(lo.size) if bias is None else bias
    held = (added >= INT32[0]) & (added <= INT32[1])
    lost = np.flatnonzero(~held)
    if lost.size and not allow:
        raise IntactError(
            f"channel {lost[0]}: bias {added[lost[0]]:,.0f} at the scale of input times weights does not fit int32, in "
            f"which {runtime} holds it; re-calibrate, choose another --match, or {FLAG}: the sum then keeps its value"
        )
    whole = np.where(held, added, 0).astype(np.int64)
    # a bias that the runtime cannot hold keeps its value here: the code saturates, and only the accumulator can wrap
    out = (lo + whole < INT32[0]) | (hi + whole > INT32[1])
    bad = np.flatnonzero(out)
    if bad.size and not allow:
        raise IntactError(_example(int(bad[0]), int(lo[bad[0]]), int(hi[bad[0]]), int(whole[bad[0]]), codes, runtime))
    return Domain(np.where(out, INT32[0] - whole, lo), np.where(out, INT32[1] - whole, hi), bool(bad.size))


def _example(channel: int, lo: int, hi: int, bias: int, codes: tuple[int, int], runtime: str) -> str:
    """The sum furthest out, and the inputs that give it."""
    high = hi + bias - INT32[1] >= INT32[0] - (lo + bias)
    at_positive, at_negative = codes[::-1] if high else codes
    value = (hi if high else lo) + bias
    what = f"accumulator {value - bias:,} + bias {bias:,} = {value:,}" if bias else f"accumulator {value:,}"
    return (
        f"channel {channel}: input codes {at_positive} under positive weights and {at_negative} under negative ones "
        f"give {what}, outside int32 ({INT32[0]:,}..{INT32[1]:,}), where {runtime} itself wraps modulo 2^32; use fewer "
        f"inputs per sum or smaller weights, or {FLAG}: sums then wrap"
    )
