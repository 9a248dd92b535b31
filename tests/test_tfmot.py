"""Models trained with tfmot: the integers are tfmot's own at every width, and whole networks equal their float64
evaluation to the integer. Needs TensorFlow and tfmot; the reader itself does not (test_readers_keras.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("h5py")

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from pyexport import ir, quantise, readers, runtimes, verify
from pyexport.readers import keras_quant
from pyexport.readers.keras_quant import Width
from tests import keras_reference as reference
from tests import keras_writer

qat: Any = tfmot.quantization.keras
layers = keras.layers
F32 = np.float32


# --- quantisers ----------------------------------------------------------------------------------------------------


def tensor(rng: np.random.Generator, scale: float) -> Any:
    """Weights (3, 3, 4, 6): normal, and multiples of a power of two, so that ranges and codes meet ties."""
    values = rng.normal(size=(3, 3, 4, 6)) * scale
    values[..., ::2] = np.rint(rng.normal(size=(3, 3, 4, 3)) * 40) / 64
    return values.astype(F32)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", [qat.quantizers.LastValueQuantizer, qat.quantizers.AllValuesQuantizer])
def test_weight_codes_are_tfmots(bits: int, kind: Any) -> None:
    """Ranges as the quantiser stores them in training; values at ties of the stored scale and around them too."""
    rng, compared = np.random.default_rng(bits), 0
    for symmetric in (False, True):
        for narrow in (False, True):
            for per_axis in (False, True) if kind is qat.quantizers.LastValueQuantizer else (False,):
                quantizer = kind(bits, per_axis, symmetric, narrow)
                for _ in range(4):
                    values = tensor(rng, 10.0 ** rng.uniform(-3, 2))
                    shape = (6,) if per_axis else ()
                    ranges = {key: tf.Variable(np.zeros(shape, F32)) for key in ("min_var", "max_var")}
                    quantizer(tf.constant(values), True, ranges)
                    low, high = (ranges[key].numpy() for key in ("min_var", "max_var"))
                    scale, zero = keras_quant.nudge(low, high, Width(bits, narrow))
                    steps = rng.integers(-2, (1 << bits) + 2, values.shape) - zero
                    ties = ((steps + F32(0.5)) * scale).astype(F32)
                    for given in (values, ties, np.nextafter(ties, F32(np.inf)), np.nextafter(ties, F32(-np.inf))):
                        codes, scale, zero = keras_quant.weight_codes(given, low, high, Width(bits, narrow))
                        theirs = np.asarray(quantizer(tf.constant(given), False, ranges))
                        assert np.array_equal((codes - zero).astype(F32) * scale, theirs)
                        assert codes.min() >= int(narrow) and codes.max() <= (1 << bits) - 1
                        compared += codes.size
    assert compared > 10_000


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("narrow", [False, True])
def test_real_inputs_become_tfmots_codes(bits: int, narrow: bool) -> None:
    rng = np.random.default_rng(bits)
    for _ in range(20):
        low, high = (F32(sign * 10.0 ** rng.uniform(-2, 2)) for sign in (-1, 1))
        quant = keras_quant.activation(np.asarray(low), np.asarray(high), Width(bits, narrow))
        ties = (np.arange(-3, (1 << bits) + 3) - quant.zero_point + F32(0.5)).astype(F32) * quant.scale
        x = np.concatenate([ties, np.nextafter(ties, F32(9e9)), np.nextafter(ties, F32(-9e9)), rng.normal(size=200)])
        x = x.astype(F32)
        codes = runtimes.quantise_input(x, quant.scale, quant.zero_point, quant.dtype, "tfmot", quant.range)
        theirs = tf.quantization.fake_quant_with_min_max_vars(x, low, high, bits, narrow).numpy()
        assert np.array_equal((codes - quant.zero_point).astype(F32) * quant.scale, theirs)


# --- networks ------------------------------------------------------------------------------------------------------


def everything() -> Any:
    """Convolutions of every kind with and without normalisation, pools, a sum, a concatenation, a table."""
    entry = layers.Input((9, 8, 3))
    x = layers.ZeroPadding2D(((1, 0), (2, 1)), name="pad")(entry)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="conv1")(x)
    x = layers.BatchNormalization(name="norm1")(x)
    x = kept = layers.ReLU(6.0, name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="norm2", scale=False)(x)
    x = layers.Activation("relu", name="relu2")(x)
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2, groups=2, name="groups")(x)
    x = layers.Add(name="add")([x, kept])
    y = layers.Conv2D(4, 1, activation="relu", name="left")(x)
    z = layers.Conv2D(6, (3, 2), padding="same", name="right")(x)
    x = layers.Concatenate(name="concat")([y, z])
    x = layers.LeakyReLU(0.25, name="leaky")(x)
    x = layers.MaxPooling2D((2, 3), strides=1, padding="same", name="pool")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same", name="average")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.Dense(5, activation="relu", name="each")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(12, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(name="norm3", center=False)(x)
    x = layers.ReLU(name="relu3")(x)
    return keras.Model(entry, layers.Dense(7, activation="softmax", name="fc")(x))


def tutorial() -> Any:
    return keras.Sequential(
        [
            layers.InputLayer((10, 10)),
            layers.Reshape((10, 10, 1), name="reshape"),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(5, 2, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(10, name="fc"),
        ]
    )


class Config(tfmot.quantization.keras.QuantizeConfig):
    """Quantisers of any width and flags; its get_config says so, as the reader understands it."""

    def __init__(self, weight_quantizer: Any, activation_quantizer: Any) -> None:
        self.weights, self.activations = (
            getattr(qat.quantizers, one["class_name"])(**one["config"]) if isinstance(one, dict) else one
            for one in (weight_quantizer, activation_quantizer)
        )

    def get_weights_and_quantizers(self, layer: Any) -> Any:
        return [(layer.kernel, self.weights)]

    def get_activations_and_quantizers(self, layer: Any) -> Any:
        return [(layer.activation, self.activations)]

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        (layer.kernel,) = quantize_weights

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        (layer.activation,) = quantize_activations

    def get_output_quantizers(self, layer: Any) -> Any:
        return []

    def get_config(self) -> dict[str, Any]:
        named = {"weight_quantizer": self.weights, "activation_quantizer": self.activations}
        return {
            key: {"class_name": type(one).__name__, "config": one.get_config()} for key, one in named.items()
        }  # fmt: skip


def n_bit(model: Any, bits: int) -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
        default_n_bit_quantize_scheme as scheme,
    )

    with qat.quantize_scope():
        chosen = scheme.DefaultNBitQuantizeScheme(num_bits_weight=bits, num_bits_activation=bits)
        return qat.quantize_apply(qat.quantize_annotate_model(model), chosen)


def own(model: Any, bits: int, symmetric: bool, narrow: bool, per_axis: bool) -> Any:
    config = Config(
        qat.quantizers.LastValueQuantizer(bits, per_axis, symmetric, narrow),
        qat.quantizers.MovingAverageQuantizer(bits, False, symmetric, narrow),
    )

    def annotate(layer: Any) -> Any:
        return qat.quantize_annotate_layer(layer, config if hasattr(layer, "kernel_initializer") else None)

    with qat.quantize_scope({"Config": Config}):
        return qat.quantize_apply(keras.models.clone_model(model, clone_function=annotate))


def fill(model: Any, rng: np.random.Generator, powers: bool) -> None:
    """Random weights, normalisations and ranges. powers: scales that are powers of two, which give exact ties."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if inner.__class__.__name__ == "BatchNormalization":
            drawn = {name: rng.normal(size=99) for name in ("gamma", "beta", "moving_mean")}
            for name, values in (drawn | {"moving_variance": rng.uniform(0.1, 2, 99)}).items():
                variable = getattr(inner, name)
                if variable is not None:
                    variable.assign(values[: variable.shape[0]])
        for variable, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            variable.assign(rng.normal(size=variable.shape) * 0.4)
            quantizer(tf.convert_to_tensor(variable), True, ranges)
            if powers:
                steps = 2**quantizer.num_bits - 1 - int(quantizer.narrow_range)
                ranges["min_var"].assign(-tf.ones_like(ranges["min_var"]) * ((steps + 1) // 2) / 2**quantizer.num_bits)
                ranges["max_var"].assign(ranges["min_var"] + steps / 2**quantizer.num_bits)
            if getattr(inner, "use_bias", False):
                bias = rng.normal(size=inner.bias.shape)
                inner.bias.assign(np.rint(bias * 64) / 64 if powers else bias)
        own = {variable.name.split("/")[-1].split(":")[0]: variable for variable in layer.weights}
        for name, variable in own.items():
            if name.endswith("_min") and "kernel" not in name:
                high = own[f"{name[:-4]}_max"]
                bits = layer.quantizer.num_bits if hasattr(layer, "quantizer") else _bits(layer)
                if powers:
                    step, zero = 2.0 ** rng.integers(-5, 0) * 2.0 ** (8 - bits), int(rng.integers(0, 2 ** (bits - 1)))
                    variable.assign(-zero * step)
                    high.assign((2**bits - 1 - _narrow(layer) - zero) * step)
                else:
                    variable.assign(-rng.uniform(0, 3))
                    high.assign(rng.uniform(1, 5))


def _activation_quantizer(layer: Any) -> Any:
    if hasattr(layer, "quantizer"):
        return layer.quantizer
    return [*(one.quantizer for one in layer._quantize_activations), *layer._output_quantizers][0]


def _bits(layer: Any) -> int:
    return int(_activation_quantizer(layer).num_bits)


def _narrow(layer: Any) -> int:
    return int(_activation_quantizer(layer).narrow_range)


def check(model: Any, folder: Path, seed: int, count: int = 24) -> tuple[int, int]:
    """Golden model = float64 evaluation in every tensor; returns outputs compared with TensorFlow and differing."""
    path = folder / "model.h5"
    model.save(str(path))
    graph = readers.read(path)
    network = quantise.quantise(graph)
    assert not any(len(values) for layer in network.layers for values in layer.differing)
    codes = verify.driving_codes(network, count, seed)
    quant = network.tensors["input"].quant
    real = (codes - quant.zero_point) * np.float64(quant.scale)
    theirs = reference.run(model, real.reshape(count, *model.input_shape[1:]))
    ours = verify.golden_tensors(network, codes)
    compared, operands = 0, {name for layer in network.layers for name in layer.operands}
    for layer in network.layers:
        if layer.output in operands:
            continue  # real in the source, where the quantiser stands behind the concatenation
        tensor = network.tensors[layer.output]
        expected = np.rint(theirs[layer.output] / np.float64(tensor.quant.scale)) + tensor.quant.zero_point
        assert np.array_equal(ours[layer.output].reshape(expected.shape), expected), layer.name
        compared += expected.size
    assert network.output.tensor in theirs and compared > 1000
    probe = keras.Model(model.inputs, [layer.output for layer in model.layers if layer.name.startswith("quant_")])
    floats = [np.asarray(one) for one in probe(real.reshape(count, *model.input_shape[1:]).astype(F32), training=False)]
    names = [layer.layer.name for layer in model.layers if layer.name.startswith("quant_")]
    total = differing = 0
    for name, values in zip(names, floats, strict=True):
        if name in ours and name != network.output.tensor:
            quant = network.tensors[name].quant
            found = np.rint(values.astype(np.float64) / np.float64(quant.scale)) + quant.zero_point
            total, differing = total + found.size, differing + int((found != ours[name].reshape(found.shape)).sum())
    return total, differing


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_networks_equal_their_float64_evaluation(bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = n_bit(everything(), bits) if bits < 8 else qat.quantize_model(everything())
    rows = []
    for seed, powers in enumerate((False, True)):
        fill(model, np.random.default_rng(10 * bits + seed), powers)
        rows.append(check(model, tmp_path, seed))
    with capsys.disabled():
        (compared, differing), (tied, apart) = rows
        print(f"\n{bits} bits, against float32: {differing} of {compared:,} differ; at exact ties {apart} of {tied:,}")


@pytest.mark.parametrize(
    ("bits", "symmetric", "narrow", "per_axis"),
    [
        (8, False, False, False),
        (4, False, True, True),
        (3, True, False, False),
        (5, True, True, True),
        (2, False, False, True),
    ],
)
def test_own_quantizers(bits: int, symmetric: bool, narrow: bool, per_axis: bool, tmp_path: Path) -> None:
    model = own(tutorial(), bits, symmetric, narrow, per_axis)
    for seed, powers in enumerate((False, True)):
        fill(model, np.random.default_rng(bits + seed), powers)
        check(model, tmp_path, seed)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel", "stride", "extra"),
    [
        ((3, 3), (2, 2), None),
        ((2, 2), (2, 2), None),
        ((1, 2), (2, 3), None),
        ((4, 3), (1, 2), None),
        ((3, 4), (2, 2), (1, 1)),
    ],
)
def test_transposed_convolutions_lie_where_keras_has_them(
    kernel: tuple[int, int], stride: tuple[int, int], extra: Any, padding: str, tmp_path: Path
) -> None:
    """The graph's node, evaluated as its docstring says, against Keras's own layer on the same small integers."""
    settings = {"kernel_size": list(kernel), "strides": list(stride), "padding": padding, "use_bias": False}
    rng = np.random.default_rng(1)
    weights = rng.integers(-3, 4, (*kernel, 4, 2)).astype(F32)
    weights[0, 0, 0, 0] = 3
    config = settings | {"output_padding": extra and list(extra), "activation": keras_writer.aware("linear")}
    ranges = {"kernel": (-127.0, 127.0), "post_activation": (-100.0, 155.0)}
    named: tuple[str, dict[str, Any]] = ("Default8BitConvTransposeQuantizeConfig", {})
    layer = keras_writer.Layer("Conv2DTranspose", "up", config, {"kernel": weights}, ranges, named)
    path = keras_writer.write_h5(tmp_path / "m.h5", keras_writer.Model((4, 5, 2), [layer]))
    graph = readers.read(path)
    (node,) = graph.nodes
    assert isinstance(node, ir.ConvTranspose2d)
    x = rng.integers(-3, 4, (1, 4, 5, 2)).astype(F32)
    theirs = layers.Conv2DTranspose(4, **settings, output_padding=extra)
    theirs.build(x.shape)
    theirs.kernel.assign(weights)
    expected = np.asarray(theirs(x))[0]
    height, width, _ = graph.tensors["up"].shape
    found = np.zeros((height, width, 4))
    steps = node.weights.codes - node.weights.zero_point.reshape(-1, 1, 1, 1)
    for y, column, ky, kx in np.ndindex(4, 5, *kernel):
        at = y * stride[0] + ky - node.padding[0], column * stride[1] + kx - node.padding[2]
        if 0 <= at[0] < height and 0 <= at[1] < width:
            found[at] += steps[:, ky, kx, :] @ x[0, y, column]
    assert found.shape == expected.shape and np.array_equal(found, expected)


# --- .tflite -------------------------------------------------------------------------------------------------------


def test_a_converted_model_equals_its_runtimes(tmp_path: Path) -> None:
    """The 8-bit path: a quantised model through TFLiteConverter, against ai-edge-litert's two sets of kernels."""
    pytest.importorskip("ai_edge_litert")
    from tests import tflite_reference

    model = qat.quantize_model(residual())
    fill(model, np.random.default_rng(3), False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    graph = readers.read(path)
    inputs = tflite_reference.stimuli(graph.input.shape, graph.tensors["input"].quant, 100, 5)
    for runtime in ("tflite-ref", "tflite-xnnpack"):
        network = quantise.quantise(graph, runtime)
        assert not any(len(values) for layer in network.layers for values in layer.differing)
        expected = tflite_reference.run_litert(path.read_bytes(), [inputs], runtime)
        given = verify.golden_tensors(network, inputs.astype(np.int64))[network.output.tensor]
        assert np.array_equal(network.output.from_hwc(given).reshape(expected.shape), expected), runtime
        assert len(np.unique(expected)) > 20


def residual() -> Any:
    entry = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(entry)
    x = layers.BatchNormalization(name="norm1")(x)
    x = kept = layers.ReLU(6.0, name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Conv2D(8, 1, name="conv2")(x)
    x = layers.Add(name="add")([x, kept])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(entry, layers.Dense(10, name="fc")(x))
