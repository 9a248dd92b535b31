"""A Keras model trained with tfmot, evaluated in float64 with NumPy: what its layers say, layer by layer.

Written from Keras's and TensorFlow's documentation, on TensorFlow's own model objects; shares no code with pyexport.
Only the nudging of ranges is float32, as it is in TensorFlow, because the scale is what it gives.

    python -m tests.keras_reference FOLDER [INPUTS]      compares every .h5 file of models.quantizers.tfmot there
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
F32 = np.float32
BATCH = 200


def nudged(low: Any, high: Any, bits: int, narrow: bool) -> tuple[F64, F64, int, int]:
    """Scale and zero point, float64, and lowest and highest code."""
    bottom, top = int(narrow), 2**bits - 1
    low, high = np.asarray(low, F32), np.asarray(high, F32)
    scale = (high - low) / F32(top - bottom)
    zero = F32(bottom) - low / scale
    zero = np.where(zero < bottom, bottom, np.where(zero > top, top, np.floor(zero.astype(np.float64) + 0.5)))
    return scale.astype(np.float64), zero.astype(np.float64), bottom, top


def fake_quant(x: F64, quantizer: Any, low: Any, high: Any) -> F64:
    """The real values that a quantiser leaves of activations."""
    scale, zero, bottom, top = nudged(low, high, quantizer.num_bits, quantizer.narrow_range)
    return np.asarray((np.clip(np.floor(x / scale + 0.5) + zero, bottom, top) - zero) * scale)


def fake_weights(values: Any, quantizer: Any, variables: Mapping[str, Any], transposed: bool = False) -> F64:
    """Weights as TensorFlow's own operation rounds them, but with the product of code and scale in float64."""
    import tensorflow as tf

    low, high = (np.asarray(variables[key]) for key in ("min_var", "max_var"))
    given = np.asarray(
        quantizer(
            tf.constant(np.asarray(values)),
            False,
            {k: tf.constant(v) for k, v in (("min_var", low), ("max_var", high))},
        )
    )
    scale, _, _, _ = nudged(low, high, quantizer.num_bits, quantizer.narrow_range)
    scale = np.where((low == 0) & (high == 0), 1.0, scale)
    steps = np.rint(given.astype(np.float64) / scale)
    assert np.array_equal((steps.astype(F32) * scale.astype(F32)).astype(F32), given)
    return np.asarray(steps * scale)


def pads(layer: Any, size: tuple[int, int], kernel: tuple[int, int]) -> list[tuple[int, int]]:
    if layer.padding == "valid":
        return [(0, 0), (0, 0)]
    found = []
    for n, k, s, d in zip(size, kernel, layer.strides, getattr(layer, "dilation_rate", (1, 1)), strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        found.append((total // 2, total - total // 2))
    return found


def windows(x: F64, kernel: tuple[int, int], layer: Any, fill: float) -> F64:
    """(N, H, W, C) -> (N, out H, out W, kh, kw, C)."""
    rows, columns = pads(layer, (x.shape[1], x.shape[2]), kernel)
    x = np.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=fill)
    dilation = getattr(layer, "dilation_rate", (1, 1))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    view = view[:, :: layer.strides[0], :: layer.strides[1], :, :: dilation[0], :: dilation[1]]
    return np.asarray(view.transpose(0, 1, 2, 4, 5, 3))


def conv(layer: Any, x: F64, kernel: F64) -> F64:
    taps = windows(x, kernel.shape[:2], layer, 0.0)
    if layer.__class__.__name__ == "DepthwiseConv2D":
        product = np.einsum("nhwijc,ijcm->nhwcm", taps, kernel)
        return product.reshape(*product.shape[:3], -1)
    groups = taps.shape[-1] // kernel.shape[2]
    each, out = kernel.shape[2], kernel.shape[3] // groups
    parts = [
        np.einsum("nhwijc,ijco->nhwo", taps[..., g * each : (g + 1) * each], kernel[..., g * out : (g + 1) * out])
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=-1)


def transposed_conv(layer: Any, x: F64, kernel: F64, size: tuple[int, int]) -> F64:
    """The gradient of the convolution that makes x of an output of `size`."""
    (n, height, width, _), (kh, kw), (sh, sw) = x.shape, kernel.shape[:2], layer.strides
    full = np.zeros((n, (height - 1) * sh + max(kh, sh), (width - 1) * sw + max(kw, sw), kernel.shape[2]))
    for i in range(kh):
        for j in range(kw):
            part = full[:, i : i + (height - 1) * sh + 1 : sh, j : j + (width - 1) * sw + 1 : sw]
            part += np.einsum("nhwc,oc->nhwo", x, kernel[i, j])
    first = [max((m - 1) * s + k - t, 0) // 2 if layer.padding == "same" else 0
             for m, s, k, t in zip((height, width), (sh, sw), (kh, kw), size, strict=True)]  # fmt: skip
    return full[:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


def average(layer: Any, x: F64) -> F64:
    taps = windows(x, layer.pool_size, layer, 0.0)
    counts = windows(np.ones_like(x), layer.pool_size, layer, 0.0)
    return np.asarray(taps.sum((3, 4)) / counts.sum((3, 4)))


def batch_norm(layer: Any, x: F64) -> F64:
    gamma, beta, mean, variance = (
        0.0 if v is None else np.asarray(v, np.float64)
        for v in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    factor = (1.0 if layer.gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
    return np.asarray((x - mean) * factor + beta)


def relu(layer: Any, x: F64) -> F64:
    slope, top = float(layer.negative_slope or 0), np.inf if layer.max_value is None else float(layer.max_value)
    return np.minimum(np.where(x < 0, slope * x, x), top)


FUNCTIONS: dict[str, Callable[[F64], F64]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softmax": lambda x: x,  # left to the host, behind its quantiser
}


def bare(layer: Any, inputs: list[F64], kernel: F64 | None) -> F64:
    """One layer without activation and quantisers."""
    kind, x = layer.__class__.__name__, inputs[0]
    if kernel is not None:
        if kind == "Dense":
            y = x @ kernel
        elif kind == "Conv2DTranspose":
            y = transposed_conv(layer, x, kernel, layer.output_shape[1:3])
        else:
            y = conv(layer, x, kernel)
        return y + np.asarray(layer.bias, np.float64) if layer.use_bias else y
    simple: dict[str, Callable[[], F64]] = {
        "Activation": lambda: x,
        "Dropout": lambda: x,
        "Flatten": lambda: x.reshape(len(x), -1),
        "Reshape": lambda: x.reshape(len(x), *layer.target_shape),
        "BatchNormalization": lambda: batch_norm(layer, x),
        "ReLU": lambda: relu(layer, x),
        "LeakyReLU": lambda: np.where(x < 0, float(layer.alpha) * x, x),
        "MaxPooling2D": lambda: windows(x, layer.pool_size, layer, -np.inf).max((3, 4)),
        "AveragePooling2D": lambda: average(layer, x),
        "GlobalAveragePooling2D": lambda: x.mean((1, 2), keepdims=layer.keepdims),
        "ZeroPadding2D": lambda: np.pad(x, [(0, 0), *layer.padding, (0, 0)]),
        "Add": lambda: x + inputs[1],
        "Subtract": lambda: x - inputs[1],
        "Concatenate": lambda: np.concatenate(inputs, axis=layer.axis),
    }
    return np.asarray(simple[kind]())


def run(model: Any, x: F64) -> dict[str, F64]:
    """Each layer's real output by the name of the layer that is wrapped, for real inputs (N, ...)."""
    found: dict[str, F64] = {}
    for layer in model.layers:
        if layer.__class__.__name__ == "InputLayer":
            found[layer.name] = x
            continue
        (node,) = layer.inbound_nodes
        before = node.inbound_layers if isinstance(node.inbound_layers, list) else [node.inbound_layers]
        inputs = [found.get(one.name, x) for one in before]  # a Sequential hides its input layer
        if layer.__class__.__name__ == "QuantizeLayer":
            variables = layer.quantizer_vars
            found[layer.name] = fake_quant(inputs[0], layer.quantizer, variables["min_var"], variables["max_var"])
            continue
        inner, kernel = layer.layer, None
        for values, quantizer, variables in layer._weight_vars:
            kernel = fake_weights(values, quantizer, variables)
        y = bare(inner, inputs, kernel)
        for one in layer._quantize_activations:
            name = getattr(one.activation, "__name__", type(one.activation).__name__)
            if hasattr(one, "_pre_activation_vars"):
                y = fake_quant(y, one.quantizer, *one._pre_activation_vars.values())
            y = y if name == "NoOpActivation" else FUNCTIONS[name](y)
            if hasattr(one, "_post_activation_vars"):
                y = fake_quant(y, one.quantizer, *one._post_activation_vars.values())
        if not layer._quantize_activations and isinstance(getattr(inner, "activation", None), Callable):  # type: ignore[arg-type]
            y = FUNCTIONS[inner.activation.__name__](y)
        if layer._output_quantizers:
            y = fake_quant(y, layer._output_quantizers[0], *layer._output_quantizer_vars.values())
        found[inner.name] = found[layer.name] = y
    return found


def main(folder: str, inputs: str = "1000") -> None:
    """Every layer's codes of each .h5 file in `folder` against its evaluation in float64, on `inputs` inputs."""
    from pathlib import Path

    import models.quantizers.tfmot  # registers its configurations  # noqa: F401
    from pyexport import export, verify
    from pyexport.verify.keras import _load

    total = wrong = 0
    for path in sorted(Path(folder).glob("*.h5")):
        told = path.with_suffix(".json")
        network = export.export(str(path), quantizers=str(told) if told.exists() else None).network
        model, quant = _load(path), network.tensors[network.input.tensor].quant
        operands = {name for layer in network.layers for name in layer.operands}
        compared = different = 0
        for seed in range(-(-int(inputs) // BATCH)):
            codes = verify.driving_codes(network, min(BATCH, int(inputs) - seed * BATCH), seed)
            real = (codes - quant.zero_point) * np.float64(quant.scale)
            theirs, ours = run(model, real.reshape(-1, *model.input_shape[1:])), verify.golden_tensors(network, codes)
            for name in {layer.output for layer in network.layers} & set(theirs) - operands:
                found = network.tensors[name].quant
                steps = np.rint(theirs[name] / np.float64(found.scale)) + found.zero_point
                expected = np.clip(steps, *found.range)
                compared += expected.size
                different += int((ours[name].reshape(expected.shape) != expected).sum())
        print(f"{path.name}: {compared:,} codes compared, {different:,} differ", flush=True)
        total, wrong = total + compared, wrong + different
    print(f"all: {total:,} codes compared, {wrong:,} differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
