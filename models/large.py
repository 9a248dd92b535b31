"""Large networks with random weights, statically quantised by torch: do they export, and does the golden model match?

    python -m models.large [folder] [--engine fbgemm|qnnpack] [--images N]

MobileNetV2, ResNet-18 and ResNet-50 in the shapes of their papers, eager and FX, on 64x64 inputs. Batch normalisation
gets running statistics of the data, so that activations keep to a sensible range as in a trained network. Prints, for
each: codes compared, codes that differ, and channels whose rounding is proved.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from pyexport import quantise, readers, verify

SIZE, CLASSES = 64, 1000


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = False) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Inverted(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow; with a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inputs * widen
        parts = [conv_bn(inputs, wide, 1, relu=True)] if widen != 1 else []
        parts += [conv_bn(wide, wide, 3, stride, wide, True), conv_bn(wide, outputs, 1)]
        self.body = nn.Sequential(*parts)
        self.skip = stride == 1 and inputs == outputs
        self.sum = nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum.add(x, self.body(x)) if self.skip else self.body(x)


class Residual(nn.Module):
    """ResNet's block: `kernels` convolutions, and a skip that is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, widths: list[int], kernels: list[int], stride: int) -> None:
        super().__init__()
        sizes, parts = [inputs, *widths], []
        at = kernels.index(3)  # the stride stands at the first 3x3
        for i, kernel in enumerate(kernels):
            last = i == len(kernels) - 1
            parts.append(conv_bn(sizes[i], sizes[i + 1], kernel, stride if i == at else 1, relu=not last))
        self.body = nn.Sequential(*parts)
        same = stride == 1 and inputs == widths[-1]
        self.skip: nn.Module = nn.Identity() if same else conv_bn(inputs, widths[-1], 1, stride)
        self.sum = nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum.add_relu(self.body(x), self.skip(x))


class Net(nn.Module):
    def __init__(self, body: nn.Sequential, features: int) -> None:
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.body, self.pool, self.drop = body, nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2)
        self.classifier = nn.Linear(features, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.body(self.quant(x)))
        return self.dequant(self.classifier(self.drop(torch.flatten(x, 1))))


def mobilenet_v2() -> Net:
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, relu=True)]
    inputs = 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for widen, outputs, count, stride in stages:
        for i in range(count):
            layers.append(Inverted(inputs, outputs, stride if i == 0 else 1, widen))
            inputs = outputs
    return Net(nn.Sequential(*layers, conv_bn(320, 1280, 1, relu=True)), 1280)


def resnet(counts: list[int], bottleneck: bool) -> Net:
    layers: list[nn.Module] = [conv_bn(3, 64, 7, 2, relu=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(counts):
        width = 64 << stage
        widths, kernels = ([width, width, 4 * width], [1, 3, 1]) if bottleneck else ([width, width], [3, 3])
        for i in range(count):
            layers.append(Residual(inputs, widths, kernels, 2 if i == 0 and stage else 1))
            inputs = widths[-1]
    return Net(nn.Sequential(*layers), inputs)


NETS = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": lambda: resnet([2, 2, 2, 2], False),
    "resnet50": lambda: resnet([3, 4, 6, 3], True),
}


def calibrated(build: Any) -> tuple[Net, torch.Tensor]:
    """A net whose batch normalisations hold the data's statistics, and that data."""
    torch.manual_seed(0)
    net, data = build(), torch.randn(16, 3, SIZE, SIZE)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(data)
    return net.eval(), data


def config(engine: str, bits: int) -> tq.QConfig:
    """The engine's default observers; 7-bit activations where its kernels saturate on this CPU (depthwise)."""
    default = tq.get_default_qconfig(engine)
    if bits == 8:
        return default
    activation = tq.HistogramObserver.with_args(quant_min=0, quant_max=(1 << bits) - 1, reduce_range=False)
    return tq.QConfig(activation, default.weight)


def fused(net: nn.Module) -> nn.Module:
    """Every convolution with its batch normalisation and ReLU."""
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) in (2, 3) and isinstance(module[1], nn.BatchNorm2d):
            tq.fuse_modules(module, [[str(i) for i in range(len(module))]], inplace=True)
    return net


def eager(net: Net, data: torch.Tensor, qconfig: tq.QConfig) -> nn.Module:
    net = copy.deepcopy(net)
    fused(net)
    net.qconfig = qconfig
    tq.prepare(net, inplace=True)
    with torch.no_grad():
        net(data)
    return tq.convert(net)


def fx(net: Net, data: torch.Tensor, qconfig: tq.QConfig) -> nn.Module:
    net = copy.deepcopy(net)
    net.quant, net.dequant = nn.Identity(), nn.Identity()
    prepared = prepare_fx(net, tq.QConfigMapping().set_global(qconfig), (data[:1],))
    with torch.no_grad():
        prepared(data)
    return convert_fx(prepared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--engine", default="fbgemm", choices=["fbgemm", "qnnpack"])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--net", choices=sorted(NETS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.backends.quantized.engine = args.engine
    folder = args.folder or Path(tempfile.mkdtemp())
    for name in [args.net] if args.net else NETS:
        net, data = calibrated(NETS[name])
        bits = 7 if name == "mobilenet_v2" and args.engine == "fbgemm" else 8
        for how, quantised in (("eager", eager), ("fx", fx)):
            path = folder / f"{name}_{how}_{args.engine}.pt"
            model = quantised(net, data, config(args.engine, bits))
            torch.jit.save(torch.jit.trace(model, data[:1], check_trace=False), str(path))
            report(path, args.engine, data[: args.images].numpy())


def report(path: Path, engine: str, images: Any) -> None:
    start = time.monotonic()
    network = quantise.quantise(readers.read(path), engine)
    took = time.monotonic() - start
    quant = network.tensors[network.input.tensor]
    codes = quantise.input_codes(quant, images, network.float_input)
    output = verify.verify(path, "torchscript", network, codes).output
    channels = sum(len(layer.differing) for layer in network.layers)
    bad = {layer.name: sum(len(v) > 0 for v in layer.differing) for layer in network.layers}
    differ = {name: count for name, count in bad.items() if count}
    print(
        f"{path.stem}: {len(network.layers)} layers, {network.macs / 1e6:.0f} M MACs, quantised in {took:.0f} s; "
        f"{output.compared:,} outputs, {output.differing:,} differ ({len(np.unique(codes))} input codes in use); "
        f"{channels:,} channels, not proved: {differ or 'none'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
