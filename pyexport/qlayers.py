"""Quantised layers: the network in integers, as hardware and golden model compute it.

Codes are int8 on chip: a uint8 tensor's codes are shifted by -128, its zero point with them. Every layer is one
windowed accumulation followed by one requantise (docs/arithmetic.md, Eq. 1 to 9).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyexport.arith import Requant
from pyexport.ir import Port, Quant, Softmax


@dataclass(frozen=True)
class QTensor:
    """Activation codes, int8, shape (H, W, C).

    zero_point: on chip.  shift: what was added to the source's codes (0 for int8, -128 for uint8).
    """

    name: str
    shape: tuple[int, int, int]
    zero_point: int
    shift: int
    quant: Quant


@dataclass(frozen=True)
class Area:
    """Part of an output map from pixel (y, x) on, with constants of its own. divisor: taps of a window on the map."""

    y: int
    x: int
    height: int
    width: int
    divisor: int
    requant: Requant


@dataclass(frozen=True)
class QLayer:
    """One layer.

    op: "conv_transpose2d": weights, stride, padding and dilation are those of an ir.ConvTranspose2d (`transposed`).
    weights: int16 (out, kh, kw, in / groups), w - zero point, |value| <= 255, or int32 of up to three digits where
    another tensor joins the sum (pyexport/fit_join.py); None: every tap has weight 1 and each channel is a group of its
    own.
    maximum: keep the largest code of the window instead of the sum of (x - zx) * w; taps in the padding never win.
    macs: multiply-accumulates of the source's layer, 0 for pooling.
    second, factors: residual add: the other operand, and what each is multiplied by (pyexport/fit_add.py).
    table: on-chip codes int8 (256,), which take the place of the requantiser's -128 .. 127; None: these are the output.
    rounded: the tensor whose codes the requantiser gives, where they are not stored but go through the table at once.
    areas: average pooling whose divisor is smaller along the edges: the whole map in parts; `requant` is the largest
    divisor's.
    operands, axis: concatenation: all operands, side by side along axis 0, 1 or 2 (H, W, C); `input` is the first.
    wraps: sums may leave int32, and wrap modulo 2^32 (pyexport/overflow.py).
    differing: per channel, the accumulators whose code is not the runtime's (all empty: proved equal).
    facts: what the manifest and the table show besides (plain data).
    """

    name: str
    op: str
    input: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    weights: npt.NDArray[np.int16] | npt.NDArray[np.int32] | None
    maximum: bool
    requant: Requant
    macs: int
    differing: tuple[npt.NDArray[np.int64], ...] = ()
    second: str | None = None
    factors: tuple[int, int] = (1, 0)
    operands: tuple[str, ...] = ()
    axis: int = 2
    table: npt.NDArray[np.int8] | None = None
    rounded: str | None = None
    areas: tuple[Area, ...] = ()
    wraps: bool = False
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return self.operands or ((self.input,) if self.second is None else (self.input, self.second))

    @property
    def transposed(self) -> bool:
        """Whether an input pixel is spread over the output, instead of an output pixel's window being gathered."""
        return self.op == "conv_transpose2d"

    @property
    def wide(self) -> bool:
        """Whether some w - zero point is no int8, so that the weights take two passes, the second subtracted."""
        beyond = self.weights is not None and bool((self.weights < -128).any() or (self.weights > 127).any())
        return beyond and self.digits == 1

    @property
    def digits(self) -> int:
        """int8 digits to base 256 of a weight beyond 255, a pass each, highest first; 1: no such weight."""
        largest = 0 if self.weights is None else int(np.abs(self.weights.astype(np.int64)).max())
        return 1 if largest <= 255 else 2 if largest <= 127 * 257 else 3


@dataclass(frozen=True)
class Network:
    """Layers in execution order over named tensors; input and output as the source shows them.

    tail: what the host computes from the output tensor's codes, if anything.
    """

    name: str
    match: str
    tensors: dict[str, QTensor]
    layers: tuple[QLayer, ...]
    input: Port
    output: Port
    float_input: str
    tail: Softmax | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)
