"""Networks quantised by onnxruntime and by torchao, as ONNX files: what the tests of the ONNX reader share.

python -m tests.onnx_nets [NAME...]     the larger topologies, golden model against onnxruntime
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pyexport import quantise, readers, verify

torch.set_num_threads(1)

# (activations, weights) that quantize_static allows.
TYPES = (("QUInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt8", "QInt8"))
FORMATS = ("QDQ", "QOperator")


def prepare(net: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    """Exports `net` and writes what quantize_static should be given to `path`."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        floats = f"{folder}/float.onnx"
        torch.onnx.export(net.eval(), (torch.zeros(1, *shape),), floats, dynamo=False, dynamic_axes=axes, **names)
        quant_pre_process(floats, str(path))
    return path


def quantize_static(
    prepared: Path, shape: tuple[int, ...], path: Path, form: str = "QDQ", types: tuple[str, str] = TYPES[2],
    per_channel: bool = True, **extra: Any,
) -> Path:  # fmt: skip
    """Quantises on random data and writes `path`. extra: quantize_static's extra_options."""
    from onnxruntime import quantization

    images = np.random.default_rng(0).standard_normal((8, *shape), np.float32)
    logging.disable(logging.WARNING)
    quantization.quantize_static(
        prepared,
        path,
        Images(images),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[types[0]],
        weight_type=quantization.QuantType[types[1]],
        per_channel=per_channel,
        extra_options=extra,
    )
    logging.disable(logging.NOTSET)
    return path


class Images:
    """What quantize_static calibrates on, one image at a time."""

    def __init__(self, images: Any) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self.left, None)
        return None if image is None else {"x": image[None]}


def verified(path: Path, inputs: int = 24, seed: int = 0) -> verify.Verification:
    """The golden model against onnxruntime, every tensor that it shows; a batch of inputs over the whole range."""
    network = quantise.quantise(readers.read(path, output_range=(-1.0, 1.0)))
    return verify.verify(path, "onnx", network, verify.driving_codes(network, inputs, seed))


class Residual(nn.Module):
    """Add, concatenation, depthwise, clip, sigmoid, leaky ReLU, max and global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = x + F.relu6(self.point(F.leaky_relu(self.depthwise(x))))
        x = F.max_pool2d(x, 2)
        x = torch.cat([x, torch.sigmoid(self.point(x))], 1)
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Windows(nn.Module):
    """Padding on two sides, strides, groups, dilation, an even kernel, ceil mode, average over 9, MatMul."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 8, 3, stride=2), nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=4)
        self.c, self.d, self.e = (
            nn.Conv2d(16, 6, (2, 3), padding="same"),
            nn.Linear(24, 12, bias=False),
            nn.Linear(12, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardtanh(self.b(F.relu6(self.a(F.pad(x, (0, 1, 0, 1))))), -0.5, 0.7)
        x = F.max_pool2d(self.c(F.avg_pool2d(x, 3, 2, 1)), 3, 2, ceil_mode=True)
        return self.e(F.relu(self.d(x.flatten(1))))


class ChannelsLast(nn.Module):
    """Input and flattening in N, H, W, C; a sum with a scaled operand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Linear(256, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x.permute(0, 3, 1, 2))
        x = F.max_pool2d(x + F.leaky_relu(self.b(x), 0.1) * 0.5, 2)
        return self.c(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1))


NETS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 8, 8)),
    "windows": (Windows, (4, 15, 15)),
    "channels last": (ChannelsLast, (8, 8, 3)),
}


def torchao(kind: str, path: Path) -> Path:
    """A network quantised by torchao's PT2E flow and exported to QDQ ONNX."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from models.quantizers.torchao_pt2e import quantizer

    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 64, 20), nn.ReLU(), nn.Linear(20, 6)),
    )
    images, batch = torch.randn(8, 3, 16, 16), ({0: torch.export.Dim("batch", min=1, max=64)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = prepare_pt2e(torch.export.export(net.eval(), (images,), dynamic_shapes=batch).module(), quantizer(kind))
        made(images)
        program = torch.export.export(convert_pt2e(made), (images,), dynamic_shapes=batch)
        torch.onnx.export(program, (images,), str(path), dynamo=True, external_data=False, verbose=False)
    logging.disable(logging.NOTSET)
    return path


# --- larger topologies ---------------------------------------------------------------------------------------------


def unit(
    inputs: int, out: int, kernel: int, stride: int = 1, groups: int = 1, relu: nn.Module | None = None
) -> nn.Module:
    """Convolution, batch normalisation, activation."""
    conv = nn.Conv2d(inputs, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), relu or nn.Identity())


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, inputs: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inputs * expand
        parts = [unit(inputs, wide, 1, relu=nn.ReLU6())] if expand > 1 else []
        parts += [unit(wide, wide, 3, stride, wide, nn.ReLU6()), unit(wide, out, 1)]
        self.parts, self.residual = nn.Sequential(*parts), stride == 1 and inputs == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.parts(x) if self.residual else self.parts(x)


class Block(nn.Module):
    """ResNet's block: two 3x3 convolutions, or a bottleneck of three."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = width * (4 if bottleneck else 1)
        if bottleneck:
            parts = [
                unit(inputs, width, 1, relu=nn.ReLU()),
                unit(width, width, 3, stride, relu=nn.ReLU()),
                unit(width, out, 1),
            ]
        else:
            parts = [unit(inputs, out, 3, stride, relu=nn.ReLU()), unit(out, out, 3)]
        self.parts = nn.Sequential(*parts)
        self.short = unit(inputs, out, 1, stride) if stride > 1 or inputs != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.parts(x) + self.short(x))


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [unit(3, 32, 3, 2, relu=nn.ReLU6())]
    inputs = 32
    settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expand, out, count, stride in settings:
        for i in range(count):
            layers.append(Inverted(inputs, out, stride if i == 0 else 1, expand))
            inputs = out
    layers += [unit(320, 1280, 1, relu=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


def resnet(counts: tuple[int, ...], bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [unit(3, 64, 7, 2, relu=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(counts):
        width = 64 << stage
        for i in range(count):
            layers.append(Block(inputs, width, 2 if stage and i == 0 else 1, bottleneck))
            inputs = width * (4 if bottleneck else 1)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)]
    return nn.Sequential(*layers)


LARGE: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": lambda: resnet((2, 2, 2, 2), False),
    "resnet50": lambda: resnet((3, 4, 6, 3), True),
}


def main(names: list[str]) -> None:
    for name in names or list(LARGE):
        for form, types in (("QDQ", TYPES[2]), ("QOperator", TYPES[0])):
            torch.manual_seed(0)
            net = LARGE[name]()
            net.train()
            with torch.no_grad():
                for _ in range(3):
                    net(torch.randn(8, 3, 64, 64))
            with tempfile.TemporaryDirectory() as folder:
                start = time.time()
                prepared = prepare(net, (3, 64, 64), Path(folder) / "prepared.onnx")
                path = quantize_static(prepared, (3, 64, 64), Path(folder) / f"{name}.onnx", form, types)
                network = quantise.quantise(readers.read(path))
                result = verify.verify(path, "onnx", network, verify.driving_codes(network, 6))
            channels = [values.size for layer in network.layers for values in layer.differing]
            compared, differing = (sum(getattr(t, key) for t in result.tensors) for key in ("compared", "differing"))
            print(
                f"{name} {form} {'/'.join(types)}: {len(network.layers)} layers, {np.count_nonzero(channels)} of "
                f"{len(channels)} channels not proved; {compared:,} codes of {len(result.tensors)} tensors compared, "
                f"{differing} differ, output {result.output.differing} of {result.output.compared:,} {result.notes} "
                f"({time.time() - start:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
