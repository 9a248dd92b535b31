"""What a runtime gives back, and what runtimes share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

CPU = Path("/proc/cpuinfo")
SATURATES = (
    "this CPU has no VNNI: {runtime}'s kernels add pairs of uint8 times int8 in 16 bits, which saturate, so that the "
    "runtime itself is wrong where codes and weights are large; compare on a CPU with VNNI"
)


@dataclass(frozen=True)
class Run:
    """runtime: its name and version, for the report. tensors: codes in the source's type, int64 (N, H, W, C), by the
    network's tensor names; the output at least, or what its tail makes of it, by the tail's name and in the source's
    layout. notes: what is always said. doubts: what the reader of a difference should know, e.g. that the runtime's own
    kernels saturate on this CPU. promised: whether the runtime gives these codes every time, as sums of floats do not.
    """

    runtime: str
    tensors: dict[str, npt.NDArray[np.int64]]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    promised: bool = True


def saturation(runtime: str, cpu: Path = CPU) -> tuple[str, ...]:
    """The doubt that a CPU without VNNI gives, nothing where it has VNNI or does not say."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpu.read_text(), re.MULTILINE)
    except OSError:
        return ()
    if flags is None or {"avx512_vnni", "avx_vnni"} & set(flags[1].split()):
        return ()
    return (SATURATES.format(runtime=runtime),)
