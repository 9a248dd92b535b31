"""torch's own interpreter on a TorchScript archive, one input at a time: some kernels depend on the batch's size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyexport.errors import IntactError
from pyexport.qlayers import Network, QLayer
from pyexport.verify.run import Run, saturation

DEPTHWISE_EXACT = 64  # largest weight
ENGINES = ("fbgemm", "qnnpack", "onednn")


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """The output only: the interpreter shows no other tensor."""
    return run_module(lambda: torch.jit.load(str(model)), model, network, real)


def run_module(make: Callable[[], Any], model: Path, network: Network, real: npt.NDArray[np.float32]) -> Run:
    """The output of the module that `make` gives, under the network's engine. model: the file, for messages."""
    engine = network.match if network.match in ENGINES else "fbgemm"
    if engine not in torch.backends.quantized.supported_engines:
        raise IntactError(f"--verify: this torch has no engine {engine}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        with torch.no_grad():
            module = make()
            results = [_codes(module(torch.from_numpy(one[None])), network) for one in real]
    except RuntimeError as error:
        raise IntactError(f"{model}: torch cannot run it: {str(error).strip().splitlines()[-1][:200]}") from error
    finally:
        torch.backends.quantized.engine = before
    doubts = saturation("torch")
    if engine == "fbgemm" and any(_saturates(layer) for layer in network.layers):
        doubts += ("fbgemm's depthwise kernel saturates in 16 bits where weights leave -64..64, with VNNI too",)
    output = network.output.to_hwc(np.concatenate(results).reshape(-1, *network.output.shape))
    return Run(f"torch {torch.__version__} {engine}", {network.output.tensor: output.astype(np.int64)}, (), doubts)


def _saturates(layer: QLayer) -> bool:
    """Whether the layer is depthwise with weights that are too large for fbgemm's kernel."""
    if layer.weights is None or layer.groups == 1 or layer.weights.shape[3] > 1:
        return False
    return bool(np.abs(np.asarray(layer.facts["weight_codes"])).max() > DEPTHWISE_EXACT)


def _codes(result: torch.Tensor, network: Network) -> npt.NDArray[np.int64]:
    if result.is_quantized:
        return np.asarray(result.int_repr(), np.int64)
    quant = network.tensors[network.output.tensor].quant
    return np.asarray(np.rint(result.numpy() / quant.scale) + quant.zero_point, np.int64)
