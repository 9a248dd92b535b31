"""micronet's two quantisers on a small network in network: DoReFa from 2 to 8 bits, and IAO in its variants.

Each checkpoint is what micronet's own scripts save, {"state_dict": ...}; the class that --arch names is in
classes/micronet_nin.py. The output's range is what the training images give.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from models import common
from models.quantizers.classes import micronet_nin
from models.quantizers.common import Built

CLASSES = Path(__file__).parent / "classes" / "micronet_nin.py"
EPOCHS = 6
REFINE = 2  # epochs with quantisers, from the float network on
NETS = {
    "whole_2": "DoReFa, 2 bits, every layer",
    "whole_4": "DoReFa, 4 bits, every layer",
    "whole_8": "DoReFa, 8 bits, every layer",
    "dorefa_4": "DoReFa, 4 bits, first layer real",
    "iao_symmetric": "IAO, per channel",
    "iao_asymmetric": "IAO, asymmetric, per layer",
    "iao_fused": "IAO, batch norm fused",
    "iao_four_bits": "IAO, asymmetric, 4 bits",
    "iao_residual": "IAO, residual add, leaky ReLU",
    "iao_upsampling": "IAO, transposed convolution",
    "iao_ptq": "IAO, post-training",
}
FLOAT = {"iao_residual": micronet_nin.Residual, "iao_upsampling": micronet_nin.upsampling}


def build(folder: Path) -> list[Built]:
    common.setup()
    return [_built(folder, name, _data(name)) for name in NETS]


def _data(name: str) -> common.Split:
    """Digits; 0 .. 10, the range that DoReFa quantises, where it quantises the images."""
    images, test, labels, test_labels = common.digits()
    scale = 10 if name.startswith("whole") else 1
    return images * scale, test * scale, labels, test_labels


def _built(folder: Path, name: str, data: common.Split) -> Built:
    images, test, labels, test_labels = data
    state, before = _float(FLOAT.get(name, micronet_nin.Nin), float(images.max()))
    torch.manual_seed(0)
    net: torch.nn.Module = getattr(micronet_nin, name)(state=state)
    if name == "iao_ptq":
        _calibrate(net, images)
    else:
        common.train(net, images, labels, REFINE)
    path = folder / f"micronet_{name}.pth"
    torch.save({"best_acc": 0.0, "state_dict": net.state_dict()}, path)
    with torch.no_grad():
        after = common.accuracy(net(test), test_labels)
    options = {
        "arch": f"{CLASSES}:{name}",
        "input_shape": tuple(images.shape[1:]),
        "output_range": _output_range(net, images),
    }
    return Built(8, f"micronet {NETS[name]}", path, options, (before, after))


@cache
def _float(make: Callable[[], torch.nn.Module], highest: float) -> tuple[dict[str, Any], float]:
    """The float network's state_dict and accuracy."""
    images, test, labels, test_labels = common.digits()
    torch.manual_seed(0)
    net = make()
    common.train(net, images * highest, labels, EPOCHS)
    with torch.no_grad():
        return net.state_dict(), common.accuracy(net(test * highest), test_labels)


def _calibrate(net: torch.nn.Module, images: torch.Tensor) -> None:
    """Post-training quantisation as micronet does it: forwards in train mode, learning nothing."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # the float network's statistics stay
    with torch.no_grad():
        for batch in images.split(200):
            net(batch)
    net.eval()


def _output_range(net: torch.nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """Of the real numbers that become output codes: in front of the last average pool, where that is not quantised."""
    found: list[torch.Tensor] = []
    for module in net.modules():
        if type(module) is torch.nn.AvgPool2d:
            module.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    with torch.no_grad():
        found.append(net(images))
    return float(found[0].min()), float(found[0].max())
