"""What the user says about a model besides its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """input_shape: the input's shape in the source's layout, without the batch. output_range: lowest and highest real
    output, for files that leave the output unquantised.
    """

    input_shape: tuple[int, ...] | None = None
    output_range: tuple[float, float] | None = None
