"""Keras models trained with tfmot, TensorFlow's Model Optimization Toolkit, saved as .h5 (needs TensorFlow).

quantize_model with the default 8-bit scheme (also as .keras, as a SavedModel and converted to .tflite), the scheme of n
bits at every width, and QuantizeConfigs of one's own: asymmetric, per axis, narrow or not. The latter keep their widths
to themselves, as those in tfmot's guide do, so a JSON file says them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
    default_n_bit_quantize_scheme as n_bit,
)

from models.quantizers.common import Built, Images, Labels, digits

qat: Any = tfmot.quantization.keras
layers = keras.layers
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
WHOLE = (3, 6)  # of these the network with all layers, of the others the small one: TensorFlow takes its time
ROW = 7


def float_model() -> Any:
    """Convolutions with batch normalisation, one depthwise, a residual add, two poolings."""
    entry = layers.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv1")(entry)
    x = layers.BatchNormalization(momentum=0.9, name="norm1")(x)
    x = kept = layers.ReLU(6.0, name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Conv2D(16, 1, use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm2")(x)
    x = layers.Add(name="add")([x, kept])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv3")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(10, activation="softmax", name="fc")(x)
    return keras.Model(entry, x, name="digits")


def small_model() -> Any:
    """As tfmot's guide has it: an input without channels, reshaped."""
    return keras.Sequential(
        [
            layers.InputLayer((8, 8), name="image"),
            layers.Reshape((8, 8, 1), name="reshape"),
            layers.Conv2D(12, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(10, name="fc"),
        ],
        name="small",
    )


class OwnConfig(tfmot.quantization.keras.QuantizeConfig):
    """Weights and activations of the widths below, as users write it; get_config says nothing of them.

    Registered only so that TensorFlow can load the model again to compare with.
    """

    bits, symmetric, narrow, per_axis, activation_bits = 4, False, False, False, 8

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [
            (layer.kernel, qat.quantizers.LastValueQuantizer(self.bits, self.per_axis, self.symmetric, self.narrow))
        ]

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [(layer.activation, qat.quantizers.MovingAverageQuantizer(self.activation_bits, False, False, False))]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return []

    def get_config(self) -> dict[str, Any]:
        return {}


@keras.utils.register_keras_serializable("intact")
class Asymmetric4(OwnConfig):
    pass


@keras.utils.register_keras_serializable("intact")
class Asymmetric8(OwnConfig):
    bits = 8


@keras.utils.register_keras_serializable("intact")
class PerAxis3(OwnConfig):
    bits, symmetric, narrow, per_axis, activation_bits = 3, True, True, True, 5


@keras.utils.register_keras_serializable("intact")
class Symmetric5(OwnConfig):
    bits, symmetric, activation_bits = 5, True, 4


CONFIGS = (Asymmetric4, Asymmetric8, PerAxis3, Symmetric5)


def annotated(model: Any, config: type[OwnConfig]) -> Any:
    """The model with `config` on its weighted layers and the default elsewhere."""

    def annotate(layer: Any) -> Any:
        own = isinstance(layer, (layers.Conv2D, layers.Dense))
        return qat.quantize_annotate_layer(layer, config() if own else None)

    clone = keras.models.clone_model(model, clone_function=annotate)
    clone.set_weights(model.get_weights())
    return clone


def train(model: Any, images: Images, labels: Labels, epochs: int, rate: float) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=model.name == "small")
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    return model


def accuracy(model: Any, images: Images, labels: Labels) -> float:
    return float((np.asarray(model(images, training=False)).argmax(1) == labels).mean())


def to_tflite(model: Any, path: Path) -> None:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


def build(folder: Path) -> list[Built]:
    keras.utils.set_random_seed(0)
    train_images, test_images, train_labels, test_labels = digits()
    found: list[Built] = []
    data = {"digits": (train_images[:, 0, :, :, None], test_images[:, 0, :, :, None])}
    data["small"] = (train_images[:, 0], test_images[:, 0])
    plain = {
        name: train(make(), data[name][0], train_labels, 20, 4e-3)
        for name, make in (("digits", float_model), ("small", small_model))
    }
    before = {name: accuracy(model, data[name][1], test_labels) for name, model in plain.items()}

    def saved(kind: str, model: Any, path: Path, tool: str, **options: Any) -> Any:
        train(model, data[kind][0], train_labels, 3, 1e-3)
        model.save(str(path))
        after = accuracy(model, data[kind][1], test_labels)
        found.append(Built(ROW, tool, path, options, (before[kind], after)))
        return model

    model = saved(
        "digits", qat.quantize_model(plain["digits"]), folder / "tfmot_default.h5", "tfmot quantize_model, .h5"
    )
    for name in ("tfmot_default.keras", "tfmot_default"):
        model.save(str(folder / name))
        what = ".keras" if name.endswith("s") else "SavedModel"
        found.append(Built(ROW, f"tfmot quantize_model, {what}", folder / name, {}, found[0].accuracy))
    to_tflite(model, folder / "tfmot_default.tflite")
    found.append(Built(ROW, "tfmot quantize_model, .tflite", folder / "tfmot_default.tflite", {}, found[0].accuracy))
    for bits in WIDTHS:
        kind = "digits" if bits in WHOLE else "small"
        scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=bits, num_bits_activation=bits)
        with qat.quantize_scope():
            model = qat.quantize_apply(qat.quantize_annotate_model(plain[kind]), scheme)
        saved(kind, model, folder / f"tfmot_{bits}bit.h5", f"tfmot n-bit scheme, {bits} bits")
    for config in CONFIGS:
        with qat.quantize_scope():
            model = qat.quantize_apply(annotated(plain["small"], config))
        path = folder / f"tfmot_{config.__name__.lower()}.json"
        widths = {"num_bits": config.bits, "narrow_range": config.narrow}
        told = {"weights": widths, "activations": {"num_bits": config.activation_bits, "narrow_range": False}}
        path.write_text(json.dumps({config.__name__: told}))
        tool = f"tfmot QuantizeConfig {config.__name__}, .h5"
        saved("small", model, path.with_suffix(".h5"), tool, quantizers=str(path))
    return found
