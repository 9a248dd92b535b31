"""One quantised model saved in every way that torch has: torch.jit.save, torch.save(module), torch.save(state_dict).

An FX CNN, an eager chain of convolutions, an eager MLP. The integers are the same in all files of a model; a module
saved by torch.save is never run, so it is compared with its TorchScript twin's runtime.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from models import common
from models.quantizers.classes import torch_saved_nets as nets
from models.quantizers.common import Built

SHAPE = (1, 8, 8)
EPOCHS = 8


def fx(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Post-training static quantisation by FX."""
    prepared = prepare_fx(copy.deepcopy(model), tq.get_default_qconfig_mapping("fbgemm"), (images[:1],))
    prepared(images)
    return convert_fx(prepared)


def eager(model: nn.Module, images: torch.Tensor, fused: list[list[str]]) -> nn.Module:
    """Post-training static quantisation in eager mode."""
    model = tq.fuse_modules(model, fused)
    model.qconfig = tq.get_default_qconfig("fbgemm")
    prepared = tq.prepare(model)
    prepared(images)
    return tq.convert(prepared)


def build(folder: Path) -> list[Built]:
    common.setup()
    images, test, labels, test_labels = common.digits()
    found = []
    chain = [["module.0", "module.1", "module.2"], ["module.4", "module.5"]]
    cases = (
        ("fx", nets.Cnn(), None, "Cnn"),
        ("chain", nets.chain(), chain, "chain"),
        ("mlp", nets.mlp(), [["module.1", "module.2"], ["module.3", "module.4"]], "mlp"),
    )
    for name, model, fused, cls in cases:
        common.train(model, images, labels, EPOCHS)
        with torch.no_grad():
            calibration = images[:512]
            quantised = fx(model, calibration) if fused is None else eager(model, calibration, fused)
            accuracy = common.accuracy(model(test), test_labels), common.accuracy(quantised(test), test_labels)
        twin, module, state = (folder / f"{name}_{way}.pt" for way in ("script", "module", "state"))
        torch.jit.save(torch.jit.script(quantised), str(twin))
        torch.save(quantised, module)
        torch.save(quantised.state_dict(), state)
        said = {"relu": ("module.1", "module.3")} if name == "mlp" else {"arch": f"{nets.__file__}:{cls}"}
        shape = {"input_shape": SHAPE}
        kind = "FX" if fused is None else "eager"
        option = "--relu" if name == "mlp" else "--arch"
        found += [
            Built(2, f"{kind} {name}: torch.jit.save", twin, shape, accuracy),
            Built(4, f"{kind} {name}: torch.save(module)", module, shape, accuracy, twin),
            Built(4, f"{kind} {name}: state_dict, {option}", state, {**shape, **said}, accuracy),
        ]
    return found
