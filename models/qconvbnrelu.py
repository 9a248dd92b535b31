"""A quantiser written from scratch, as teaching demos do it, and the way its integers reach INTACT.

    QConvBNReLU -> max-pool -> QConvBNReLU -> max-pool -> linear, on 8x8 digits

Formulas: activations uint8, s = (max - min) / 255, z = round(-min / s); weights int8, symmetric, s_w = max|w| / 127;
M = s_w * s_in / s_out; bias int32, round(b / (s_w * s_in)); codes clamp(round(M * acc) + z, low, 255), half to even.
Batch norm is folded into the convolution first. `forward` is that arithmetic in NumPy, with M in float64.

INTACT reads framework files, so the integers go into torch's quantised modules (weights by code, bias as bias * s_w *
s_in) and are saved as TorchScript. torch computes M, the product and the bias in float32, so a code may differ from
`forward`'s by one where M * acc lies within a few float32 steps of a tie (39.4999955 becomes 39 here and 40 in torch);
main() counts the outputs that this reaches. Writes qconvbnrelu.pt.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic.quantized import ConvReLU2d

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python models/qconvbnrelu.py`

from models.common import FOLDER, accuracy, codes, digits, save, setup, train

Array = npt.NDArray[np.int64]


@dataclass
class Layer:
    """Integer weights and bias of one layer, its scales and its output's zero point."""

    weight: Array
    bias: Array
    s_in: float
    z_in: int
    s_w: float
    s_out: float
    z_out: int

    def requantise(self, acc: Array, relu: bool) -> Array:
        m = self.s_w * self.s_in / self.s_out
        return np.clip(np.round(acc * m).astype(np.int64) + self.z_out, self.z_out if relu else 0, 255)


def float_model() -> nn.Sequential:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(1, 8), *block(8, 16), nn.Flatten(), nn.Linear(64, 10))


def scale_of(x: torch.Tensor) -> tuple[float, int]:
    """Scale and zero point of an activation; float32 values, as they are stored."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = float(np.float32((high - low) / 255))
    return scale, round(-low / scale)


def fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of the convolution that equals conv followed by batch norm."""
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return conv.weight * factor[:, None, None, None], (conv.bias - bn.running_mean) * factor + bn.bias


def quantise(weight: torch.Tensor, bias: torch.Tensor, source: tuple[float, int], out: torch.Tensor) -> Layer:
    s_w = float(np.float32(weight.abs().max() / 127))
    integers = torch.round(weight / s_w).long().numpy()
    return Layer(integers, torch.round(bias / (s_w * source[0])).long().numpy(), *source, s_w, *scale_of(out))


def layers_of(model: nn.Sequential, images: torch.Tensor) -> list[Layer]:
    """The three layers, calibrated on `images`."""
    layers, source, x = [], scale_of(images), images
    for start in (0, 4):
        out = model[start : start + 3](x)
        layers.append(quantise(*fold(model[start], model[start + 1]), source, out))
        source, x = (layers[-1].s_out, layers[-1].z_out), model[start + 3](out)
    x = torch.flatten(x, 1)
    layers.append(quantise(model[9].weight, model[9].bias, source, model[9](x)))
    return layers


def forward(layers: list[Layer], images: torch.Tensor) -> Array:
    """The from-scratch integer network: images (N, 1, 8, 8) to output codes (N, 10)."""
    first = layers[0]
    x = np.clip(np.round(images.numpy() / first.s_in).astype(np.int64) + first.z_in, 0, 255)
    for layer in layers[:2]:
        padded = np.pad(x - layer.z_in, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        acc = np.einsum("nchwij,ocij->nohw", windows, layer.weight) + layer.bias[:, None, None]
        x = layer.requantise(acc, relu=True)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
    last = layers[2]
    return last.requantise((x.reshape(len(x), -1) - last.z_in) @ last.weight.T + last.bias, relu=False)


def torch_model(layers: list[Layer]) -> nn.Sequential:
    """torch's quantised modules with exactly these integers."""
    modules: list[nn.Module] = [nnq.Quantize(layers[0].s_in, layers[0].z_in, torch.quint8)]
    for layer in layers:
        out, inputs = layer.weight.shape[:2]
        if layer.weight.ndim == 4:
            module = ConvReLU2d(inputs, out, 3, padding=1)
        else:
            module = nnq.Linear(inputs, out)
        integers = torch.from_numpy(layer.weight.astype(np.int8))
        bias = torch.from_numpy((layer.bias * layer.s_w * layer.s_in).astype(np.float32))
        module.set_weight_bias(torch._make_per_tensor_quantized_tensor(integers, layer.s_w, 0), bias)
        module.scale, module.zero_point = layer.s_out, layer.z_out
        modules += [module, nn.MaxPool2d(2)] if layer.weight.ndim == 4 else [module]
    modules.insert(5, nn.Flatten())
    return nn.Sequential(*modules, nnq.DeQuantize())


def main(folder: Path = FOLDER) -> None:
    setup()
    images, test, labels, test_labels = digits()
    model = float_model()
    train(model, images, labels, epochs=20)
    with torch.no_grad():
        layers = layers_of(model, images)
        quantised = torch_model(layers)
        outputs = quantised(test)
    save(quantised, test, folder / "qconvbnrelu.pt")
    own = forward(layers, test)
    theirs = codes(outputs, layers[2].s_out, layers[2].z_out)
    right = accuracy(torch.from_numpy(own), test_labels)
    print(f"qconvbnrelu: accuracy {accuracy(model(test), test_labels):.4f} in float, {right:.4f} in int8")
    print(f"qconvbnrelu: {int((own != theirs).sum())} of {own.size} output codes differ from torch's")


if __name__ == "__main__":
    main()
