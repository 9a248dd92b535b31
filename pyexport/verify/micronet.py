"""micronet's own forward: the user's class with the checkpoint, in float64, and the codes of every quantiser's input.

A hook in front of the first quantised layer puts in the inputs, so that float layers before it do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyexport import arch as architecture
from pyexport.errors import IntactError
from pyexport.qlayers import Network, QLayer
from pyexport.verify.run import Run

IntArray = npt.NDArray[np.int64]
QUANTISER = "activation_quantizer"
INSIDE = ("state_dict", "model_state_dict", "model", "net")


def run(
    model: Path,
    network: Network,
    codes: IntArray,
    real: npt.NDArray[np.float32],
    said: Mapping[str, Any],
) -> Run:
    """Compared is the forward in float64; how often float32, micronet's default, gives other codes is in the notes.

    said: arch, and the shape of the class's own input where that is not the network's.
    """
    arch, shape = said.get("arch"), said.get("input_shape") or network.input.shape
    if arch is None:
        raise IntactError("--verify: micronet's forward needs the class; give --arch")
    module = _loaded(model, architecture.build(arch))
    tensors = forward(module.double(), network, codes, shape)
    single = forward(_loaded(model, architecture.build(arch)), network, codes, shape)
    different = sum(int((single[name] != values).sum()) for name, values in tensors.items())
    total = sum(values.size for values in tensors.values())
    notes = [f"in float32, micronet differs from itself in float64 in {different:,} of {total:,} codes"]
    bare = [layer.name for layer in network.layers if not np.asarray(layer.facts.get("bias", 1), np.float64).any()]
    if bare and network.float_input == "dorefa":
        notes.append(
            f"{', '.join(bare)}: no bias and no batch norm, so exact ties may occur; INTACT rounds them as micronet "
            "says, in micronet's own floats the errors of the sum decide them"
        )
    return Run(f"micronet, torch {torch.__version__}, float64", tensors, tuple(notes))


def _loaded(path: Path, module: torch.nn.Module) -> torch.nn.Module:
    """The user's class with the checkpoint's tensors. Only tensors are read: a pickled module is refused."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises anything
        raise IntactError(f"{path}: --verify reads state_dicts only; save model.state_dict()") from error
    found = next((found[key] for key in INSIDE if isinstance(found.get(key), dict)), found)
    prefix = "module."
    if all(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    try:
        module.load_state_dict(found)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:200]
        raise IntactError(f"{path}: is not the state_dict of the class that --arch names: {text}") from error
    return module.eval()


def forward(model: torch.nn.Module, network: Network, codes: IntArray, shape: tuple[int, ...]) -> dict[str, IntArray]:
    """Tensors that some quantiser reads, and the output: codes (N, H, W, C) by the network's names, as micronet rounds.

    model: in eval mode, in float32 or float64. codes: (N, *the network's input shape). shape: of the model's own input,
    without the batch.
    """
    watched = _Watched(network, codes)
    modules = dict(model.named_modules())
    dtype = next(model.parameters()).dtype
    hooks = []
    try:
        for layer in network.layers:
            module = modules.get(layer.name.split("+")[0])
            quantiser = getattr(module, QUANTISER, None)
            if quantiser is not None:
                hooks.append(quantiser.register_forward_hook(watched.reader(layer)))
            elif module is not None and layer.op == "avg_pool2d":
                hooks.append(module.register_forward_pre_hook(watched.averaged(layer)))
        start = modules[_first_quantised(network, modules)]
        hooks.append(start.register_forward_pre_hook(watched.start(dtype)))
        last = modules.get(network.layers[-1].name.split("+")[-1])
        if last is not None:  # what comes behind it is left to the host
            hooks.append(last.register_forward_hook(watched.result))
        with torch.no_grad():
            result = model(torch.zeros(len(codes), *shape, dtype=dtype))
    finally:
        for hook in hooks:
            hook.remove()
    given = result if watched.given is None else watched.given
    return watched.tensors | {network.output.tensor: watched.output(given)}


def _first_quantised(network: Network, modules: dict[str, Any]) -> str:
    names = (layer.name.split("+")[0] for layer in network.layers if network.input.tensor in layer.inputs)
    return next(name for name in names if hasattr(modules.get(name), QUANTISER))


class _Watched:
    """averages: whether the values on their way are codes already, put in front of an average of real numbers.

    given: what the last layer's module gave.
    """

    def __init__(self, network: Network, codes: IntArray) -> None:
        self.network, self.codes = network, codes
        self.tensors: dict[str, IntArray] = {}
        self.averages = False
        self.given: torch.Tensor | None = None

    def result(self, module: Any, args: Any, given: torch.Tensor) -> None:
        self.given = given.clone()

    def start(self, dtype: torch.dtype) -> Callable[..., Any]:
        quant = self.network.tensors[self.network.input.tensor].quant
        real = (self.codes - quant.zero_point) * np.float64(quant.scale)
        return lambda module, args: (torch.from_numpy(real).to(dtype), *args[1:])

    def reader(self, layer: QLayer) -> Callable[..., None]:
        """Takes what a quantiser gives, value by value of its layer's operands, as codes."""
        calls = iter(layer.inputs)  # a module that is called again is another layer of the network

        def hook(module: Any, args: Any, given: torch.Tensor) -> None:
            name = next(calls, None)
            if name is None:
                return
            quant = self.network.tensors[name].quant
            step = float(module.scale) if hasattr(module, "scale") else 1 / quant.range[1]
            self.tensors[name] = self.hwc(name, np.rint(given.double().numpy() / step) + quant.zero_point)

        return hook

    def averaged(self, layer: QLayer) -> Callable[..., Any]:
        """The output's codes take the real numbers' place in front of an average, as they do in the network."""

        def hook(module: Any, args: Any) -> Any:
            rounded = self.rounded(args[0])
            self.tensors[layer.input] = self.hwc(layer.input, rounded)
            self.averages = True
            quant = self.network.tensors[self.network.output.tensor].quant
            return (torch.from_numpy(rounded - quant.zero_point).double(),)

        return hook

    def rounded(self, real: torch.Tensor) -> npt.NDArray[np.float64]:
        """The output's codes of real numbers: half away from zero, or half up, before the zero point."""
        quant = self.network.tensors[self.network.output.tensor].quant
        value = real.double().numpy() / (1 if self.averages else float(quant.scale))
        up = np.floor(value + 0.5)
        if self.network.match == "exact-away":
            up = np.where(value < 0, -np.floor(0.5 - value), up)
        return np.asarray(np.clip(up + quant.zero_point, *quant.range), np.float64)

    def output(self, result: torch.Tensor) -> IntArray:
        codes = self.rounded(result).reshape(len(self.codes), *self.network.output.shape)
        return np.asarray(self.network.output.to_hwc(codes), np.int64)

    def hwc(self, name: str, values: npt.NDArray[np.float64]) -> IntArray:
        """(N, C, H, W), or (N, features) flattened from it -> (N, H, W, C)."""
        height, width, channels = self.network.tensors[name].shape
        ordered = values.reshape(len(values), channels, height, width).transpose(0, 2, 3, 1)
        return np.asarray(ordered, np.int64)
