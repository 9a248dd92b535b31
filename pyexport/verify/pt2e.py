"""A .pt2 program run eagerly. Its layers compute in float32, so codes may differ by one where a sum lies at a tie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.torch_program import Program
from pyexport.verify.run import Run


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """The output only, in the scale that the network gives it."""
    try:
        result = Program(model).outputs(real)
    except RuntimeError as error:
        raise IntactError(f"{model}: torch cannot run it: {str(error).strip().splitlines()[-1][:200]}") from error
    quant = network.tensors[network.output.tensor].quant
    found = np.clip(np.rint(result / quant.scale).astype(np.int64) + quant.zero_point, *quant.range)
    output = network.output.to_hwc(found.reshape(-1, *network.output.shape)).astype(np.int64)
    note = "the program computes its layers in float32: a sum at a tie may fall to either side"
    return Run(f"torch {torch.__version__} eager program", {network.output.tensor: output}, (), (note,), promised=False)
