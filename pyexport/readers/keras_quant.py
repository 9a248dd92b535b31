"""The quantisers of TensorFlow's Model Optimization Toolkit (tfmot): stored ranges -> scales, zero points, codes.

A quantiser leaves two variables, min and max; the fake-quant operation nudges them so that 0 is a code (float32
throughout, symmetric or not: what is symmetric was made so when the range was stored):

    s = (max - min) / (qmax - qmin),  z = clamp(round(qmin - min / s)),  qmin = 1 if narrow else 0,  qmax = 2^bits - 1
    q = floor((clamp(x, (qmin - z) s, (qmax - z) s) - (qmin - z) s) / s - (z - qmin) + 1/2) + z

With ranges per channel the division is a multiplication by (qmax - qmin) / (max - min), which moves ties.

The file holds min and max; width and narrow range are the quantiser's own, and stand in the file only where the
QuantizeConfig's get_config names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.tensors import Array, TensorError

F32 = np.float32
HALF = F32(0.5)
QUANTIZERS = ("LastValueQuantizer", "MovingAverageQuantizer", "AllValuesQuantizer")
ROLES = ("weights", "activations")


@dataclass(frozen=True)
class Width:
    """What the stored range does not say: bits (2 to 8), and whether the lowest code is left out."""

    bits: int
    narrow: bool

    @property
    def limits(self) -> tuple[int, int]:
        return int(self.narrow), (1 << self.bits) - 1


def width(config: Any) -> Width:
    """Of {"num_bits": 4, "narrow_range": false}. Raises TensorError."""
    bits, narrow = config.get("num_bits"), config.get("narrow_range", False)
    if type(bits) is not int or not 2 <= bits <= 8 or type(narrow) is not bool:
        raise TensorError(f"a quantizer of {bits!r} bits, narrow_range {narrow!r}; num_bits 2 to 8 is accepted")
    return Width(bits, narrow)


def widths(name: str, config: Any, told: Mapping[str, Any]) -> dict[str, Width]:
    """The widths of a QuantizeConfig's quantisers, by role; a role is missing where nothing says it.

    name, config: its class and what its get_config gave. told: what the user says, {class: {role: {"num_bits": ...}}}.
    """
    name = name.rpartition(">")[2]  # without the package that it may be registered under
    if name in told:
        return {role: width(one) for role, one in told[name].items() if role in ROLES}
    if name.startswith("Default8Bit"):
        return {"weights": Width(8, True), "activations": Width(8, False)}
    if name.startswith("DefaultNBit"):
        return {
            "weights": width({"num_bits": config.get("num_bits_weight", 8), "narrow_range": True}),
            "activations": width({"num_bits": config.get("num_bits_activation", 8)}),
        }
    if name == "OutputOnlyConfig":
        inner = config["quantize_config"]
        return widths(str(inner["class_name"]), inner["config"], told)
    found: dict[str, Width] = {}
    for key, quantizer in _quantizers(config):
        role = "weights" if any(part in key for part in ("weight", "kernel")) else "activations"
        one = width(quantizer["config"])
        if found.setdefault(role, one) != one:
            raise TensorError(f"{name} has quantizers of different widths for {role}; one each is accepted")
    return found


def _quantizers(config: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """The quantisers in what a get_config gave, each with the last name that leads to it."""
    if isinstance(config, dict) and config.get("class_name") in QUANTIZERS:
        yield key, config
    elif depth < 8 and isinstance(config, (dict, list)):
        items = config.items() if isinstance(config, dict) else ((key, item) for item in config)
        for name, item in items:
            yield from _quantizers(item, str(name).lower(), depth + 1)


def nudge(low: Array, high: Array, size: Width) -> tuple[Array, Array]:
    """Stored ranges, float32 of any shape -> scales float32 and zero points int64. Raises TensorError.

    Where min and max are both 0 the quantiser gives 0 for everything; the scale is then 1.
    """
    if low.dtype != F32 or high.dtype != F32 or low.shape != high.shape:
        raise TensorError(f"a range of {low.dtype} {low.shape} and {high.dtype} {high.shape}; float32 is accepted")
    empty = (low == 0) & (high == 0)
    if not (np.isfinite(low) & np.isfinite(high) & ((low < high) | empty)).all():
        raise TensorError(f"the stored range {low.min()}..{high.max()} is none; train or calibrate the model first")
    qmin, qmax = map(F32, size.limits)
    scale = np.where(empty, F32(1), (high - low) / (qmax - qmin)).astype(F32)
    if not (np.isfinite(scale) & (scale > 1e-37)).all():
        raise TensorError(f"the stored range {low.min()}..{high.max()} is too small or too large; calibrate again")
    # half away from zero; what is below 0 is clamped, so half up does, in float64 lest the sum rounds
    zero = np.floor((qmin - low / scale).astype(np.float64) + 0.5)
    return scale, np.clip(np.where(empty, qmin, zero), qmin, qmax).astype(np.int64)


def weight_codes(values: Array, low: Array, high: Array, size: Width) -> tuple[Array, Array, Array]:
    """Codes (int16) of float32 weights, scales, zero points. low, high: one range, or one for each of the last axis."""
    if values.dtype != F32 or not np.isfinite(values).all():
        raise TensorError("weights that are not finite float32 numbers; train the model again")
    if low.shape not in ((), values.shape[-1:]):
        raise TensorError(f"ranges of shape {low.shape} for weights of shape {values.shape}; one, or one per channel")
    scale, zero = nudge(low, high, size)
    qmin, qmax = size.limits
    bottom, top = ((F32(edge) - zero.astype(F32)) * scale for edge in (qmin, qmax))
    shifted, empty = np.clip(values, bottom, top) - bottom, (low == 0) & (high == 0)
    if low.ndim:  # the operation for ranges per channel multiplies by an inverse of its own, the other one divides
        shifted = shifted * (F32(qmax - qmin) / np.where(empty, F32(1), high - low))
    else:
        shifted = shifted / scale
    steps = np.floor(shifted - (zero - qmin).astype(F32) + HALF)
    codes = np.where(empty, 0, steps).astype(np.int64) + zero
    return codes.astype(np.int16), scale, zero


def activation(low: Array, high: Array, size: Width) -> ir.Quant:
    """The quantisation of an activation: unsigned codes between qmin and qmax."""
    if low.shape != ():
        raise TensorError(f"activations have a range of shape {low.shape}; per_axis=False is accepted")
    scale, zero = nudge(low, high, size)
    if low == high:
        raise TensorError("the activations' stored range is 0..0: the quantizer saw no data; train or calibrate first")
    limits = None if size.limits == ir.CODE_RANGE["uint8"] else size.limits
    return ir.Quant(F32(scale), int(zero), "uint8", limits)


def fixed(config: Mapping[str, Any]) -> ir.Quant:
    """tfmot's FixedQuantizer: a range without variables. It passes num_bits on to nothing: there are always 8."""
    low, high = (np.asarray(config[key], F32) for key in ("init_min", "init_max"))
    return activation(low, high, width({"num_bits": 8, "narrow_range": config.get("narrow_range", False)}))
