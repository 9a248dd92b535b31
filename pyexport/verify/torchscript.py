"""torch's own interpreter on a TorchScript archive, one input at a time: some kernels depend on the batch's size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run, saturation

ENGINES = ("fbgemm", "qnnpack", "onednn")


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """The output only: the interpreter shows no other tensor."""
    return run_module(lambda: torch.jit.load(str(model)), model, network, real)


def run_module(make: Callable[[], Any], model: Path, network: Network, real: npt.NDArray[np.float32]) -> Run:
    """The output of the module that `make` gives, under the network's engine. model: the file, for messages."""
    engine = network.match if network.match in ENGINES else "fbgemm"
    if engine not in torch.backends.quantized.supported_engines:
        raise IntactError(f"--verify: this torch has no engine {engine}")
    before, threads = torch.backends.quantized.engine, torch.get_num_threads()
    torch.backends.quantized.engine = engine
    torch.set_num_threads(1)  # a large tensor cut among threads has more elements left over of its vectors
    try:
        with torch.no_grad():
            module = make()
            results = [_codes(module(torch.from_numpy(one[None])), network) for one in real]
    except RuntimeError as error:
        raise IntactError(f"{model}: torch cannot run it: {str(error).strip().splitlines()[-1][:200]}") from error
    finally:
        torch.backends.quantized.engine = before
        torch.set_num_threads(threads)
    output = network.output.to_hwc(np.concatenate(results).reshape(-1, *network.output.shape))
    name = f"torch {torch.__version__} {engine}"
    return Run(
        name, {network.output.tensor: output.astype(np.int64)}, (), saturation("torch") + _doubts(engine, network)
    )


def _doubts(engine: str, network: Network) -> tuple[str, ...]:
    """Where torch itself may be wrong."""
    doubts = []
    for layer in network.layers:
        weights = layer.facts.get("weight_codes")
        if engine == "fbgemm" and layer.groups > 1 and weights is not None and np.abs(np.asarray(weights)).max() > 64:
            doubts.append(f"layer {layer.name!r}: fbgemm's kernel for groups saturates where activations exceed 7 bits")
    if engine == "qnnpack":
        doubts.append("qnnpack's own relu6, hardtanh and clamp mix up the axes of a convolution's output")
    return tuple(doubts)


def _codes(result: torch.Tensor, network: Network) -> npt.NDArray[np.int64]:
    if result.is_quantized:
        return np.asarray(result.int_repr(), np.int64)
    quant = network.tensors[network.output.tensor].quant
    return np.asarray(np.rint(result.numpy() / quant.scale) + quant.zero_point, np.int64)
