"""What the user says about a model besides its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """input_shape: the input's shape in the source's layout, without the batch. output_range: lowest and highest real
    output, for files that leave the output unquantised. quantizers: widths that a Keras file does not
    hold, by the QuantizeConfig's class: {"MyConfig": {"weights": {"num_bits": 4, "narrow_range": true}, "activations":
    {"num_bits": 8}}}.
    """

    input_shape: tuple[int, ...] | None = None
    output_range: tuple[float, float] | None = None
    quantizers: Mapping[str, Any] | None = None
