"""Real-valued layers between quantise and dequantise: what PT2E and QDQ graphs have in common.

A layer's result is real until the next quantise gives it a scale. Between the two only monotone steps are accepted
(ReLU, clips, max-pool, changes of shape): quantising is monotone, so they may as well act on the codes,
q(max(a, b)) = max(q(a), q(b)). `Real` is such a result on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers.builder import Builder, Value


@dataclass(frozen=True)
class Real:
    """A real tensor: what a layer writes once it is told its scale and whether a ReLU is fused, then monotone steps.

    shape: after the steps, no batch. source: the quantised tensor behind it, if it was dequantised. weighted: the layer
    is a convolution or a linear layer, to whose result a quantised tensor may be added before it is rounded.
    """

    emit: Callable[[ir.Quant, bool], Value]
    shape: tuple[int, ...]
    source: Value | None = None
    relu: bool = False
    steps: tuple[Callable[[Value], Value], ...] = ()
    exact: bool = True
    weighted: bool = False

    @staticmethod
    def of_input(value: Value) -> Real:
        return Real(lambda quant, relu: value, value.shape, value)


class RealContext:
    """The layer that is being read, and what its operations do with real tensors."""

    def __init__(self, builder: Builder) -> None:
        self.builder, self.layer = builder, ""

    def fail(self, text: str) -> NoReturn:
        self.builder.fail(self.layer, text)

    def real(self, value: Any) -> Real:
        if not isinstance(value, Real):
            self.fail("works on codes or constants where real numbers are expected; use the quantiser's own output")
        return value

    def quantise(self, real: Real, quant: ir.Quant) -> Value:
        """The codes of a real tensor: its layer is written now, then its steps act on the codes."""
        value = real.emit(quant, real.relu)
        if not value.quantised:
            value = self.builder.quantize(self.layer, value, quant)
        for step in real.steps:
            value = step(value)
        return value

    def codes(self, real: Any) -> Value:
        """The quantised tensor that a layer reads."""
        real = self.real(real)
        if real.source is None or not real.source.tensor:
            self.fail("reads real numbers that were never quantised; quantise the layer before it (see the quantizer)")
        if not real.exact:
            self.fail("reads a clip whose limits are no codes; quantise the clip's output")
        return self.quantise(real, self.builder.tensors[real.source.tensor].quant)

    def joined(self, a: Any, b: Any) -> Real | None:
        """The sum of a layer's result that was never quantised and a tensor that was; None where both were."""
        reals = [self.real(item) for item in (a, b)]
        left = [real for real in reals if real.source is None]
        if not left:
            return None
        if len(left) == 2:
            self.fail("adds two results of which neither was quantised; quantise one of them, or both")
        (layer,), (other,) = left, [self.codes(real) for real in reals if real.source is not None]
        if not layer.weighted or layer.relu or layer.steps:
            self.fail(
                "adds real numbers that were never quantised to a tensor; that is accepted right behind a convolution "
                "or a linear layer; quantise what is added"
            )
        if layer.shape != other.shape:
            self.fail(f"adds shapes {layer.shape} and {other.shape}; INTACT adds tensors of one shape")

        def emit(quant: ir.Quant, relu: bool) -> Value:
            return self.builder.joined(self.layer, layer.emit(quant, relu), other)

        return Real(emit, layer.shape)

    def quantised_output(self, real: Real, output_range: tuple[float, float] | None) -> Value:
        """The model's last layer, which the source leaves real, in uint8 over the range that the user gives."""
        self.layer = "output"
        if output_range is None:
            raise IntactError(
                f"{self.builder.file}: the last layer's output is not quantised; give its range with "
                "--output-range=LOW,HIGH, or quantise it (XNNPACKQuantizer does, X86InductorQuantizer doesn't)"
            )
        low, high = min(0.0, output_range[0]), max(0.0, output_range[1])
        scale = (high - low) / 255
        quant = self.builder.quant(self.layer, scale, round(-low / scale) if scale > 0 else 0, "uint8")
        self.builder.notes.append(f"the output is quantised to uint8 over {low}..{high}; in the source it is real")
        return self.quantise(real, quant)
