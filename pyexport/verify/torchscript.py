"""torch's own interpreter on a TorchScript archive, one input at a time: some kernels depend on the batch's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run

ENGINES = ("fbgemm", "qnnpack", "onednn")


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """The output only: the interpreter shows no other tensor."""
    engine = network.match if network.match in ENGINES else "fbgemm"
    if engine not in torch.backends.quantized.supported_engines:
        raise IntactError(f"--verify: this torch has no engine {engine}")
    before, threads = torch.backends.quantized.engine, torch.get_num_threads()
    torch.backends.quantized.engine = engine
    torch.set_num_threads(1)  # a large tensor cut among threads has more elements left over of its vectors
    try:
        module = torch.jit.load(str(model))
        with torch.no_grad():
            results = [_codes(module(torch.from_numpy(one[None])), network) for one in real]
    except RuntimeError as error:
        raise IntactError(f"{model}: torch cannot run it: {str(error).strip().splitlines()[-1][:200]}") from error
    finally:
        torch.backends.quantized.engine = before
        torch.set_num_threads(threads)
    output = network.output.to_hwc(np.concatenate(results).reshape(-1, *network.output.shape))
    return Run(
        f"torch {torch.__version__} {engine}", {network.output.tensor: output.astype(np.int64)}, _notes(engine, network)
    )


def _notes(engine: str, network: Network) -> tuple[str, ...]:
    """Where torch itself may be wrong."""
    notes = []
    if not torch.cpu._is_vnni_supported():
        notes.append("this CPU has no VNNI: torch's int8 kernels saturate in int16")
    for layer in network.layers:
        weights = layer.facts.get("weight_codes")
        if engine == "fbgemm" and layer.groups > 1 and weights is not None and np.abs(np.asarray(weights)).max() > 64:
            notes.append(f"layer {layer.name!r}: fbgemm's kernel for groups saturates where activations exceed 7 bits")
    if engine == "qnnpack":
        notes.append("qnnpack's own relu6, hardtanh and clamp mix up the axes of a convolution's output")
    return tuple(notes)


def _codes(result: torch.Tensor, network: Network) -> npt.NDArray[np.int64]:
    if result.is_quantized:
        return np.asarray(result.int_repr(), np.int64)
    quant = network.tensors[network.output.tensor].quant
    return np.asarray(np.rint(result.numpy() / quant.scale) + quant.zero_point, np.int64)
