"""A state_dict in torch itself: the user's class, converted by torch and loaded with the file, or the chain of --relu.

The file is loaded as tensors only (`weights_only`). torch prepares and converts the class as for a model of its own; no
calibration is needed, because every scale comes from the file.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic import quantized as nniq
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from pyexport import arch
from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run
from pyexport.verify.torchscript import run_module

INSIDE = ("state_dict", "model_state_dict", "model")  # a state_dict in a checkpoint
PACKED = "._packed_params._packed_params"


def run(
    model: Path,
    network: Network,
    codes: npt.NDArray[np.int64],
    real: npt.NDArray[np.float32],
    said: Mapping[str, Any],
) -> Run:
    """The output only. said: relu and arch, as the export was given them."""
    example = torch.from_numpy(real[:1])

    def make() -> Any:
        state = tensors(model)
        if not said.get("arch"):
            return chain(state, said.get("relu") or ())
        built = arch.build(str(said["arch"]))
        return loaded(eager(built, state) if has_stub(built) else fx(built, example), state, model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_module(make, model, network, real)


def tensors(file: Path) -> Mapping[str, Any]:
    """The state_dict in a file, of which torch loads tensors only."""
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise IntactError(f"--verify: {file}: torch does not load it with weights_only ({reason})") from error
    return next((state[key] for key in INSIDE if isinstance(state.get(key), dict)), state)


def has_stub(model: nn.Module) -> bool:
    return any(isinstance(module, tq.QuantStub) for module in model.modules())


def eager(model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
    """The class converted module by module; a batch norm that left nothing in the file is part of its convolution."""
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and not any(
            key.startswith(f"{path}.") for key in state
        ):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, nn.Identity())
    biased(model, state)
    model.qconfig = tq.get_default_qconfig(torch.backends.quantized.engine)
    return tq.convert(tq.prepare(model))


def biased(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Gives a bias to convolutions whose folded batch norm has brought one."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is None and state.get(f"{path}.bias") is not None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))


def fx(model: nn.Module, example: torch.Tensor) -> nn.Module:
    mapping = tq.get_default_qconfig_mapping(torch.backends.quantized.engine)
    return convert_fx(prepare_fx(model, mapping, (example,)))


def loaded(model: nn.Module, state: Mapping[str, Any], file: Path) -> nn.Module:
    """The converted class with the file's tensors. Raises IntactError if torch converts it to other names."""
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IntactError(
            f"--verify: {file}: torch converts the class of --arch to other names than the file's ({reason}); save the "
            "model with torch.jit.save too and verify that file"
        ) from error
    return model


def chain(state: Mapping[str, Any], relu: tuple[str, ...]) -> nn.Module:
    """torch's quantised linear layers in the file's order."""
    scale, zero_point = (
        next(float(value) for key, value in state.items() if key.endswith((f"quant.{name}", f"_input_{name}_0")))
        for name in ("scale", "zero_point")
    )
    layers: list[nn.Module] = [nnq.Quantize(scale, int(zero_point), torch.quint8), nn.Flatten()]
    for path in [key.removesuffix(PACKED) for key in state if key.endswith(PACKED)]:
        weight, bias = state[f"{path}{PACKED}"]
        layer = (nniq.LinearReLU if path in relu else nnq.Linear)(weight.shape[1], weight.shape[0])
        layer.set_weight_bias(weight, bias)
        layer.scale, layer.zero_point = float(state[f"{path}.scale"]), int(state[f"{path}.zero_point"])
        layers.append(layer)
    return nn.Sequential(*layers, nnq.DeQuantize())
