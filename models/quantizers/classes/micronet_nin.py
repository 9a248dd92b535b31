"""micronet's network in network, small: the class that `--arch` names for each of micronet.py's checkpoints.

As in micronet's own scripts, `prepare` puts the quantised layers in. DoReFa's leaves the first convolution real; the
nets called `whole` quantise it too, for which images must span 0 .. 10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from micronet.base_module.op import Add
from micronet.compression.quantization.wqaq.dorefa import quantize as dorefa
from micronet.compression.quantization.wqaq.iao import quantize as iao
from torch import nn

State = dict[str, Any]


class ConvBNReLU(nn.Module):
    """As in micronet's nin.py: convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=padding)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))


class Nin(nn.Module):
    """(N, 1, 8, 8) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            ConvBNReLU(1, 24, kernel_size=5, padding=2),
            ConvBNReLU(24, 24, kernel_size=1),
            ConvBNReLU(24, 16, kernel_size=1),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            ConvBNReLU(16, 32, kernel_size=3, padding=1),
            ConvBNReLU(32, 10, kernel_size=1),
            nn.AvgPool2d(kernel_size=4, stride=1, padding=0),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.model(x)
        return x.view(x.size(0), -1)


class Residual(nn.Module):
    """micronet's Add, leaky ReLU, adaptive pooling and a linear layer; (N, 1, 8, 8) -> (N, 10).

    upsampling: with a transposed convolution before the pooling.
    """

    def __init__(self, upsampling: bool = False) -> None:
        super().__init__()
        self.first = ConvBNReLU(1, 16, kernel_size=3, padding=1)
        self.second = nn.Conv2d(16, 16, kernel_size=3, padding=1, groups=4)
        self.leaky = nn.LeakyReLU(0.1)
        self.add = Add()
        self.up = nn.ConvTranspose2d(16, 16, kernel_size=2, stride=2) if upsampling else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.add(self.leaky(self.second(x)), x)
        return self.fc(torch.flatten(self.pool(self.up(x)), 1))


def loaded(net: nn.Module, state: State | None) -> nn.Module:
    """The net with a float checkpoint's tensors, where there is one (micronet's --refine)."""
    if state is not None:
        net.load_state_dict(state)
    return net


def dorefa_net(bits: int, state: State | None = None) -> nn.Module:
    """As micronet's dorefa/main.py prepares it: the first layer real."""
    return dorefa.prepare(loaded(Nin(), state), inplace=True, a_bits=bits, w_bits=bits)


def whole_net(bits: int, state: State | None = None) -> nn.Module:
    """Every layer quantised by DoReFa."""
    net = dorefa_net(bits, state)
    first = net.model[0].conv
    net.model[0].conv = dorefa.QuantConv2d(1, first.out_channels, 5, padding=2, a_bits=bits, w_bits=bits)
    net.model[0].conv.load_state_dict(first.state_dict())
    return net


def iao_net(make: Callable[[], nn.Module], state: State | None = None, **options: int | bool) -> nn.Module:
    """As micronet's iao/main.py prepares it."""
    return iao.prepare(loaded(make(), state), inplace=True, pretrained_model=state is not None, **options)


def transposed_net(bits: int) -> nn.Module:
    """DoReFa's transposed convolution, up from (N, 4, 5, 5) to (N, 6, 11, 11)."""
    conv = dorefa.QuantConv2d(4, 8, 3, padding=1, a_bits=bits, w_bits=bits)
    up = dorefa.QuantConvTranspose2d(8, 6, 3, stride=2, a_bits=bits, w_bits=bits)
    up.dilation = (1, 1)  # micronet 1.12.0 hands its arguments on in another order: (True, True), which torch refuses
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), up)


dorefa_2, dorefa_3, dorefa_4, dorefa_5, dorefa_6, dorefa_7, dorefa_8 = (partial(dorefa_net, n) for n in range(2, 9))
whole_2, whole_3, whole_4, whole_5, whole_6, whole_7, whole_8 = (partial(whole_net, n) for n in range(2, 9))
transposed_2, transposed_4, transposed_8 = (partial(transposed_net, n) for n in (2, 4, 8))
upsampling = partial(Residual, upsampling=True)
iao_symmetric = partial(iao_net, Nin)
iao_asymmetric = partial(iao_net, Nin, q_type=1, q_level=1)
iao_fused = partial(iao_net, Nin, bn_fuse=True, weight_observer=1)
iao_four_bits = partial(iao_net, Nin, a_bits=4, w_bits=4, q_type=1)
iao_ptq = partial(iao_net, Nin, ptq=True)
iao_residual = partial(iao_net, Residual)
iao_upsampling = partial(iao_net, upsampling)
