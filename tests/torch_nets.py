"""What the tests against torch share: small statically quantised models, and both sides' codes for the same inputs.

Inputs are codes, so that every code of the range is driven; torch gets the real values (code - zero point) * scale,
which its own quantiser takes back to these codes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.ao import quantization as tq

from pyexport import ir, quantise, readers, verify
from pyexport.qlayers import Network

Codes = npt.NDArray[np.int64]
# Without VNNI fbgemm multiplies uint8 by int8 into saturating int16 pairs, and the runtime itself is wrong.
VNNI = bool(torch.cpu._is_vnni_supported())
# torch's pooling kernels handle as many channels at once as a vector register holds, the rest by another rule.
AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


def setup(seed: int = 0, engine: str = "fbgemm") -> None:
    """One thread, a fixed seed, the engine; and no warnings, of which torch.ao.quantization has many."""
    warnings.simplefilter("ignore")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.backends.quantized.engine = engine


def load(path: Path, match: str | None = None) -> Network:
    """A model file as the golden model sees it."""
    return quantise.quantise(readers.read(path), match)


def driving_codes(network: Network, count: int, seed: int = 0, bits: int = 8) -> Codes:
    """(count, *shape): all lowest, all highest, the zero point alone, then random codes over the whole range.

    bits: fewer leave the highest codes out, for kernels that are exact on those only.
    """
    quant = network.tensors[network.input.tensor].quant
    low, high = ir.CODE_RANGE[quant.dtype]
    high = min(high, low + (1 << bits) - 1)
    codes = np.random.default_rng(seed).integers(low, high + 1, (count, *network.input.shape))
    codes[0], codes[1], codes[2] = low, high, quant.zero_point
    return codes


def golden_codes(network: Network, codes: Codes) -> Codes:
    """Source codes (N, *shape) -> output codes in the model's own layout."""
    return np.asarray(network.output.from_hwc(verify.golden_tensors(network, codes)[network.output.tensor]), np.int64)


def real_inputs(network: Network, codes: Codes) -> torch.Tensor:
    """Codes -> the real values that stand for them, float32."""
    quant = network.tensors[network.input.tensor].quant
    return torch.from_numpy((codes - quant.zero_point).astype(np.float32) * quant.scale)


def torch_codes(model: Any, network: Network, images: torch.Tensor, batch: int) -> Codes:
    """torch's output codes for real inputs, `batch` at a time."""
    quant = network.tensors[network.output.tensor].quant
    with torch.no_grad():
        real = torch.cat([model(part.contiguous()) for part in images.split(batch)])
    return np.rint(real.numpy() / quant.scale).astype(np.int64) + quant.zero_point


def layer_codes(model: Any, network: Network, images: torch.Tensor) -> Iterator[tuple[str, Codes]]:
    """Runs the model's own layers one after another: each one's name, and its output codes as (N, H, W, C)."""
    quant = network.tensors[network.input.tensor].quant
    x = torch.quantize_per_tensor(images, float(quant.scale), quant.zero_point, torch.quint8)
    with torch.no_grad():
        for name, layer in model.named_children():
            kind = layer.original_name
            if kind in ("Quantize", "DeQuantize"):
                continue
            x = layer(torch.flatten(x, 1) if kind == "Linear" else x)
            codes = x.int_repr().numpy().astype(np.int64)
            yield name, codes.transpose(0, 2, 3, 1) if codes.ndim == 4 else codes[:, None, None]


def config(per_channel: bool, affine: bool, weight_bits: int = 8, activation_bits: int = 8) -> tq.QConfig:
    """Observers for static quantisation; fewer bits keep torch's saturating kernels exact."""
    scheme = f"per_{'channel' if per_channel else 'tensor'}_{'affine' if affine else 'symmetric'}"
    observer = tq.PerChannelMinMaxObserver if per_channel else tq.MinMaxObserver
    limit = 1 << (weight_bits - 1)
    weight = observer.with_args(
        dtype=torch.qint8, qscheme=getattr(torch, scheme), quant_min=-limit, quant_max=limit - 1
    )
    activation = tq.MinMaxObserver.with_args(
        dtype=torch.quint8, quant_min=0, quant_max=(1 << activation_bits) - 1, reduce_range=False
    )
    return tq.QConfig(activation, weight)


def quantised(layers: list[nn.Module], example: torch.Tensor, qconfig: tq.QConfig) -> nn.Module:
    """Eager static quantisation of a chain of layers; a ReLU is fused into the layer before it."""
    model = nn.Sequential(*layers).eval()
    pairs = [
        [str(i), str(i + 1)]
        for i in range(len(layers) - 1)
        if isinstance(layers[i], (nn.Conv2d, nn.Linear)) and type(layers[i + 1]) is nn.ReLU
    ]
    if pairs:
        tq.fuse_modules(model, pairs, inplace=True)
    wrapped = tq.QuantWrapper(model)
    wrapped.qconfig = qconfig
    tq.prepare(wrapped, inplace=True)
    wrapped(example)
    result: nn.Module = tq.convert(wrapped)
    return result


def save(model: nn.Module, example: torch.Tensor, path: Path) -> Path:
    """Scripts and saves a model together with its input shape."""
    torch.jit.save(torch.jit.script(model), str(path), _extra_files={"input_shape": str([1, *example.shape[1:]])})
    return path
