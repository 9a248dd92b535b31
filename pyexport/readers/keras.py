"""Keras models trained with tfmot (quantization-aware), read from what model.save wrote, without TensorFlow.

Comes in: a .h5, a .keras or a SavedModel (keras_file.py). Goes out: an ir.Graph. tfmot wraps each layer with quantisers
of its weights, its activation and its output (QuantizeWrapperV2) and puts one behind the input (QuantizeLayer). This
file walks the layers and unwraps them; keras_weighted.py and keras_layers.py know what each computes, keras_quant.py
what a quantiser does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import keras_quant
from pyexport.readers.archive import Archive
from pyexport.readers.keras_file import (
    HDF5_MAGIC,
    KERAS_CONFIG,
    KERAS_WEIGHTS,
    METADATA,
    Saved,
    Variables,
    read_h5,
    read_keras,
    read_saved_model,
)
from pyexport.readers.keras_graph import Context, Value
from pyexport.readers.keras_layers import activate
from pyexport.readers.keras_quant import Width
from pyexport.readers.keras_table import TABLE, Layer
from pyexport.readers.keras_weighted import width
from pyexport.readers.options import Options
from pyexport.readers.tensors import TensorError

__all__ = ["HDF5_MAGIC", "KERAS_CONFIG", "KERAS_WEIGHTS", "METADATA", "read", "read_archive"]

MAX_LAYERS = 10_000
QUANTISE = (
    "quantise it: tfmot.quantization.keras.quantize_model(model), train, model.save('model.h5'); or convert to .tflite"
)


def read_archive(path: Path, archive: Archive, options: Options) -> ir.Graph:
    """The graph of a .keras archive."""
    return _read(path, read_keras(path, archive), options)


def read(path: Path, options: Options) -> ir.Graph:
    """The graph of a .h5 file or of a SavedModel's folder."""
    return _read(path, read_saved_model(path) if path.is_dir() else read_h5(path), options)


def _read(path: Path, saved: Saved, options: Options) -> ir.Graph:
    file, kind = str(path), saved.config.get("class_name")
    if kind not in ("Sequential", "Functional", "Model"):
        raise IntactError(f"{file}: is a {kind!r} model, which has no list of layers; use Sequential or Functional")
    layers = saved.config["config"]["layers"]
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise IntactError(f"{file}: has no list of at most {MAX_LAYERS} layers")
    if not any(_class(layer).startswith("Quantize") for layer in layers):
        raise IntactError(f"{file}: the model is not quantised; {QUANTISE}")
    walk = _functional if kind != "Sequential" else _sequential
    context, value = walk(file, saved, layers, options)
    return context.finish(value, path.stem, "keras", "exact-up")


def _class(layer: dict[str, Any]) -> str:
    """A layer's class, without the package that some versions register it under."""
    return str(layer["class_name"]).rpartition(">")[2]


# --- order of the layers -------------------------------------------------------------------------------------------


def _context(file: str, config: dict[str, Any], options: Options) -> Context:
    """config: the input layer's."""
    stored = config.get("batch_input_shape") or config.get("batch_shape")
    shape = list(stored[1:]) if isinstance(stored, list) else []
    if options.input_shape is not None:
        if len(options.input_shape) != len(shape) or any(
            n is not None and n != m for n, m in zip(shape, options.input_shape, strict=True)
        ):
            raise IntactError(f"{file}: was made for input shape {tuple(shape)}, not {options.input_shape}")
        shape = list(options.input_shape)
    if not shape or not all(type(n) is int and 0 < n <= 1 << 20 for n in shape):
        raise IntactError(f"{file}: the input's shape {tuple(shape)} is not fixed; give it with --input-shape")
    return Context(file, tuple(shape), options)


def _sequential(
    file: str, saved: Saved, layers: list[dict[str, Any]], options: Options
) -> tuple[Context, Value]:  # fmt: skip
    context = _context(file, layers[0]["config"], options)
    value = context.input
    for layer in layers:
        if _class(layer) != "InputLayer":
            value = _layer(context, saved, layer, [value])
    return context, value


def _functional(
    file: str, saved: Saved, layers: list[dict[str, Any]], options: Options
) -> tuple[Context, Value]:  # fmt: skip
    config = saved.config["config"]
    (source,), (result,) = (_ends(file, config[key], key) for key in ("input_layers", "output_layers"))
    entries = [layer for layer in layers if _class(layer) == "InputLayer"]
    if len(entries) != 1:
        raise IntactError(f"{file}: has {len(entries)} inputs; one is accepted")
    context = _context(file, entries[0]["config"], options)
    values: dict[tuple[str, int], Value] = {(source[0], source[1]): context.input}
    # (layer, which of its calls, what it reads), until all that can be computed is
    calls = [
        (layer, number, [(str(name), int(node)) for name, node, *_ in _inputs(file, inputs)])
        for layer in layers
        if _class(layer) != "InputLayer"
        for number, inputs in enumerate(layer["inbound_nodes"])
    ]
    if len(calls) > MAX_LAYERS:
        raise IntactError(f"{file}: calls its layers more than {MAX_LAYERS} times")
    while calls:
        later = []
        for layer, number, inputs in calls:
            if all(name in values for name in inputs):
                output = _layer(context, saved, layer, [values[name] for name in inputs])
                values[str(layer["config"]["name"]), number] = output
            else:
                later.append((layer, number, inputs))
        if len(later) == len(calls):
            raise IntactError(f"{file}: layer {later[0][0]['config']['name']!r}: reads what no layer before it gives")
        calls = later
    return context, values[result[0], result[1]]


def _ends(file: str, ends: Any, key: str) -> list[tuple[str, int]]:
    if isinstance(ends, list) and len(ends) == 3 and isinstance(ends[0], str):
        ends = [ends]
    if not isinstance(ends, list) or len(ends) != 1:
        raise IntactError(f"{file}: has {len(ends)} {key.replace('_', ' ')}; one is accepted")
    return [(str(ends[0][0]), int(ends[0][1]))]


def _inputs(file: str, node: Any) -> list[list[Any]]:
    """One call's inputs: [[layer, call, tensor, arguments], ...]."""
    if isinstance(node, list) and node and isinstance(node[0], str):
        node = [node]
    if not isinstance(node, list) or not all(isinstance(one, list) and len(one) >= 3 for one in node):
        raise IntactError(
            f"{file}: its layers' inputs are not written as tf_keras does; save with TF_USE_LEGACY_KERAS=1"
        )
    return node


# --- one layer -----------------------------------------------------------------------------------------------------


def _layer(context: Context, saved: Saved, stored: dict[str, Any], inputs: list[Value]) -> Value:
    config, kind = stored["config"], _class(stored)
    wrapped = config["layer"] if kind.startswith("QuantizeWrapper") else stored
    context.layer = str(wrapped["config"]["name"])
    if kind == "QuantizeAnnotate":
        context.fail("is annotated but not quantised yet; call quantize_apply, train, and save that model")
    try:
        if kind == "QuantizeLayer":
            return _quantize_layer(context, config, saved.variables(stored), inputs)
        if _class(wrapped) not in TABLE:
            context.fail(f"class {_class(wrapped)[:60]!r} is not supported; accepted: {', '.join(sorted(TABLE))}")
        return _wrapped(context, wrapped, config.get("quantize_config"), saved.variables(stored), inputs)
    except TensorError as error:
        context.fail(str(error))


def _quantize_layer(context: Context, config: dict[str, Any], variables: Variables, inputs: list[Value]) -> Value:
    """The quantiser behind the input."""
    (value,) = inputs
    quantizer = config.get("quantizer")
    if quantizer is None or quantizer["class_name"] == "NoQuantizer":
        return value
    if quantizer["class_name"] == "FixedQuantizer":
        return context.quantise(value, keras_quant.fixed(quantizer["config"]))
    low, high = (variables[f"{config['name']}_{end}"] for end in ("min", "max"))
    return context.quantise(value, keras_quant.activation(low, high, keras_quant.width(quantizer["config"])))


def _wrapped(
    context: Context, stored: dict[str, Any], quantize_config: Any, variables: Variables, inputs: list[Value]
) -> Value:
    """A layer, then its activation between the quantisers before and after it, then its output's."""
    told: Mapping[str, Any] = context.options.quantizers or {}
    name, settings = "", dict[str, Any]()
    if isinstance(quantize_config, dict):
        name, settings = _class(quantize_config), quantize_config.get("config") or {}
    fixed: ir.Quant | None = None
    if name == "FixedQuantizeConfig":
        fixed = keras_quant.fixed(settings)
        name, settings = _class(settings["config"]), settings["config"]["config"]
    widths: dict[str, Width] = keras_quant.widths(name, settings, told)
    transposed = name in ("Default8BitConvTransposeQuantizeConfig", "DefaultNBitConvTransposeQuantizeConfig")
    layer = Layer(_class(stored), stored["config"], variables, widths, name, transposed)

    def quantised(value: Value, role: str) -> Value:
        if f"{role}_min" not in variables:
            return value
        low, high = (variables[f"{role}_{end}"] for end in ("min", "max"))
        return context.quantise(value, keras_quant.activation(low, high, width(context, layer, "activations")))

    value = TABLE[layer.kind](context, layer, inputs)
    if isinstance(layer.config.get("activation"), (str, dict)):
        function, aware = _activation(layer.config["activation"])
        value = quantised(value, "pre_activation")
        value = activate(context, value, function)
        value = quantised(value, "post_activation")
        if fixed is not None and aware:
            value = context.quantise(value, fixed)
    value = quantised(value, "output")
    if fixed is not None and settings.get("quantize_output"):
        value = context.quantise(value, fixed)
    return value


def _activation(stored: Any) -> tuple[str, bool]:
    """The name of an activation function, and whether it has a quantiser."""
    aware = False
    for _ in range(4):
        if isinstance(stored, str):
            return stored, aware and stored != "NoOpActivation"
        if stored.get("class_name") == "QuantizeAwareActivation":
            stored, aware = stored["config"]["activation"], True
        elif stored.get("class_name") == "function":
            stored = stored["config"]
        else:
            return str(stored.get("class_name")), False
    raise ValueError("an activation inside an activation")
