"""What a runtime gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Run:
    """runtime: its name and version, for the report. tensors: codes in the source's type, int64 (N, H, W, C), by the
    network's tensor names; the output at least. notes: what the reader of a difference should know, e.g. that the
    runtime's own kernels saturate on this CPU.
    """

    runtime: str
    tensors: dict[str, npt.NDArray[np.int64]]
    notes: tuple[str, ...] = ()
