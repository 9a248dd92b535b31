"""A plain float model and calibration data -> a statically quantised model, by the framework's own quantiser.

No quantiser is written here: a float ONNX model goes through onnxruntime's `quantize_static`, a float `.pt2` through
torchao's PT2E flow. What comes out is an ordinary quantised file, which is then read like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError
from pyexport.readers.archive import ZIP_MAGIC

F32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Calibrated:
    """file: the quantised model. tool: what made it. before, after: the outputs of the float and of the quantised model
    for the calibration data, float32 (N, ...), both run by the framework. was: what the model computed in before.
    """

    file: Path
    tool: str
    before: F32Array
    after: F32Array
    was: str = "in float"

    @property
    def output_range(self) -> tuple[float, float]:
        """Lowest and highest output of the float model."""
        return float(self.before.min()), float(self.before.max())


Tool = Callable[[Path, F32Array, Path], Calibrated]


def calibrate(model: Path, inputs: F32Array, folder: Path) -> Calibrated:
    """Quantises `model` with inputs float32 (N, *shape) and writes the result into `folder`.

    Raises IntactError where the framework is not installed, or cannot read or quantise the file.
    """
    try:
        with model.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise IntactError(f"{model}: cannot be read: {error.strerror or error}") from error
    if not len(inputs):
        raise IntactError("--quantize needs calibration inputs: --inputs data.npz with at least one")
    try:
        tool = _torch() if start == ZIP_MAGIC else _onnx()
    except ModuleNotFoundError as error:
        raise IntactError(
            f"--quantize needs the package {error.name}; docs/quantizers.md says how to install it"
        ) from None
    return tool(model, inputs, folder)


def _torch() -> Tool:
    from pyexport.calibrate import torch_program

    return torch_program.calibrate


def _onnx() -> Tool:
    from pyexport.calibrate import onnx_float

    return onnx_float.calibrate
