"""What the user says about a model besides its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyexport.readers.calls import Topology


@dataclass(frozen=True)
class Options:
    """input_shape: the input's shape in the source's layout, without the batch. output_range: lowest and highest real
    output, for files that leave the output unquantised. relu: the layers of a state_dict that a ReLU follows, where no
    class says it. arch: the topology of the class that the user names for a file without one. quantizers: widths that a
    Keras file does not hold, by the QuantizeConfig's class: {"MyConfig": {"weights": {"num_bits": 4, "narrow_range":
    true}, "activations": {"num_bits": 8}}}.
    """

    input_shape: tuple[int, ...] | None = None
    output_range: tuple[float, float] | None = None
    relu: tuple[str, ...] | None = None
    arch: Topology | None = None
    quantizers: Mapping[str, Any] | None = None
