"""TensorFlow's own float32 run of a model trained with tfmot, layer by layer.

Fake-quantised layers compute real numbers in float32 that are rounded to codes. Where the exact real number lies within
float32's error of a tie the two codes differ by one; later layers then see another input.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.experimental.default_n_bit import (
    default_n_bit_quantize_registry as n_bit,
)

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run

BATCH = 64


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """Every tensor that is some layer's output, the network's output at least."""
    loaded = _load(model)
    layers = {_inner(layer).name: layer for layer in loaded.layers}
    wanted = [name for name in network.tensors if name in layers and name != network.input.tensor]
    if network.output.tensor not in wanted:
        raise IntactError(f"{model}: no layer of the model has the output {network.output.tensor!r}; it has two calls?")
    for layer in layers.values():
        _without_activation(layer)
    probe = keras.Model(loaded.inputs, [layers[name].output for name in wanted])
    values = real.reshape(-1, *loaded.input_shape[1:])
    found: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in wanted}
    for at in range(0, len(values), BATCH):
        outputs = probe(values[at : at + BATCH], training=False)
        for name, output in zip(wanted, outputs if len(wanted) > 1 else [outputs], strict=True):
            found[name].append(_codes(network, name, np.asarray(output)))
    note = "TensorFlow computes its layers in float32: a sum at a tie may fall to either side, and what follows differs"
    tensors = {name: np.concatenate(parts) for name, parts in found.items()}
    return Run(f"TensorFlow {tf.__version__} float32", tensors, (note,), promised=False)


def _load(model: Path) -> Any:
    try:
        with tfmot.quantization.keras.quantize_scope(n_bit._types_dict()):
            return keras.models.load_model(str(model), compile=False)
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        advice = "compare its .h5 instead: tfmot's layers do not load back from every format"
        if "nknown" in lines[0]:
            advice = (
                "a QuantizeConfig of one's own must be registered with keras.utils.register_keras_serializable and "
                "imported, for it stands in no file"
            )
        raise IntactError(f"{model}: TensorFlow cannot load it ({lines[0][:200]}); {advice}") from error


def _inner(layer: Any) -> Any:
    """The layer in a wrapper."""
    return layer.layer if hasattr(layer, "quantize_config") else layer


def _without_activation(layer: Any) -> None:
    """Leaves out the functions that the hardware leaves to the host, behind their quantisers."""
    for one in getattr(layer, "_quantize_activations", ()):
        name = getattr(one.activation, "__name__", "")
        if name in LEFT_OUT:
            one.activation = LEFT_OUT[name]


def _identity(name: str) -> Callable[[Any], Any]:
    """A function that tfmot takes for `name`, by which it knows where the quantiser stands."""

    def function(x: Any) -> Any:
        return x

    function.__name__ = name
    return function


LEFT_OUT = {name: _identity(name) for name in ("softmax", "sigmoid", "tanh")}


def _codes(network: Network, name: str, output: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Codes of a layer's real output, (N, H, W, C)."""
    tensor = network.tensors[name]
    quant = tensor.quant
    codes = np.floor(output.astype(np.float64) / np.float64(quant.scale) + 0.5).astype(np.int64) + quant.zero_point
    return np.clip(codes, *quant.range).reshape(len(output), *tensor.shape)
