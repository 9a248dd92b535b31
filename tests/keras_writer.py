"""Writes Keras model files as tf_keras does, from a description: .h5, .keras and SavedModel, with h5py alone."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CONV8, PLAIN8 = "Default8BitConvQuantizeConfig", "Default8BitQuantizeConfig"


@dataclass
class Layer:
    """A wrapped layer. inner: the wrapped layer's variables by name; ranges: {"kernel": (min, max), ...}."""

    kind: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Array] = field(default_factory=dict)
    ranges: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    quantize_config: tuple[str, dict[str, Any]] = (PLAIN8, {})
    inputs: tuple[str, ...] = ()

    @property
    def wrapper(self) -> str:
        return f"quant_{self.name}"

    def stored(self) -> dict[str, Any]:
        inner = {"class_name": self.kind, "config": {"name": self.name, **self.config}}
        name, config = self.quantize_config
        quantize = {"class_name": name, "config": config}
        return {
            "class_name": "QuantizeWrapperV2",
            "config": {"name": self.wrapper, "layer": inner, "quantize_config": quantize},
        }

    def variables(self) -> list[tuple[str, Array]]:
        """In tfmot's order, by full name."""
        found = [(f"{self.name}/{name}", values) for name, values in self.inner.items()]
        found.append((f"{self.wrapper}/optimizer_step", np.array(3, np.int32)))
        for name, (low, high) in self.ranges.items():
            found.append((f"{self.wrapper}/{name}_min", np.asarray(low, np.float32)))
            found.append((f"{self.wrapper}/{name}_max", np.asarray(high, np.float32)))
        return found


def aware(activation: Any) -> dict[str, Any]:
    """A quantised activation in a layer's configuration."""
    return {"class_name": "QuantizeAwareActivation", "config": {"activation": activation}}


@dataclass
class Model:
    """input_range: of the quantiser behind the input; bits: its width."""

    shape: tuple[int, ...]
    layers: list[Layer]
    input_range: tuple[float, float] | None = (0.0, 1.0)
    bits: int = 8
    functional: bool = False

    def config(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, *self.shape], "name": "in"},
        }
        settings = {"num_bits": self.bits, "per_axis": False, "symmetric": False, "narrow_range": False}
        quantizer = {"class_name": "AllValuesQuantizer", "config": settings} if self.input_range else None
        first: dict[str, Any] = {
            "class_name": "QuantizeLayer",
            "config": {"name": "quantize_layer", "quantizer": quantizer},
        }
        stored = [entry, first, *(layer.stored() for layer in self.layers)]
        if not self.functional:
            return {"class_name": "Sequential", "config": {"name": "model", "layers": stored}}
        before = "quantize_layer"
        entry["inbound_nodes"], first["inbound_nodes"] = [], [[["in", 0, 0, {}]]]
        for layer, one in zip(self.layers, stored[2:], strict=True):
            names = [f"quant_{name}" for name in layer.inputs] or [before]
            one["inbound_nodes"] = [[[name, 0, 0, {}] for name in names]]
            before = layer.wrapper
        ends = {"input_layers": [["in", 0, 0]], "output_layers": [[before, 0, 0]]}
        return {"class_name": "Functional", "config": {"name": "model", "layers": stored, **ends}}

    def input_variables(self) -> list[tuple[str, Array]]:
        low, high = self.input_range or (0, 0)
        names = (
            [("quantize_layer_min", np.float32(low)), ("quantize_layer_max", np.float32(high))]
            if self.input_range
            else []
        )
        names.append(("optimizer_step", np.int32(3)))  # type: ignore[arg-type]
        return [(f"quantize_layer/{name}", np.asarray(value)) for name, value in names]

    def groups(self) -> dict[str, list[tuple[str, Array]]]:
        return {"quantize_layer": self.input_variables()} | {layer.wrapper: layer.variables() for layer in self.layers}


def write_h5(path: Path, model: Model) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model.config())
        for name, variables in model.groups().items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{full}:0".encode() for full, _ in variables]
            for full, values in variables:
                group[f"{full}:0"] = values
    return path


def write_keras(path: Path, model: Model) -> Path:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for i, (full, values) in enumerate(model.input_variables()):
            del full
            file[f"layers/quantize_layer/vars/{i}"] = values
        for number, layer in enumerate(model.layers):
            group = "layers/quantize_wrapper_v2" + (f"_{number}" if number else "")
            moved = ("moving_mean", "moving_variance")
            trained = [values for name, values in layer.inner.items() if name not in moved]
            again = [layer.inner[name] for name in layer.inner if name in layer.ranges]
            rest = [values for full, values in layer.variables() if full.startswith("quant_")]
            for i, values in enumerate([*trained, *again, *rest]):
                file[f"{group}/vars/{i}"] = values
            inner = list(layer.inner.values()) if layer.kind == "BatchNormalization" else []
            for i, values in enumerate(inner):
                file[f"{group}/layer/vars/{i}"] = values
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(model.config()))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return path


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def message(*parts: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of integers and bytes."""
    found = b""
    for number, value in parts:
        if isinstance(value, int):
            found += varint(number << 3) + varint(value)
        else:
            found += varint(number << 3 | 2) + varint(len(value)) + value
    return found


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of LevelDB's table format, keys with shared prefixes, and its trailer."""
    found, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return found + struct.pack("<II", 0, 1) + b"\0" + b"\0\0\0\0"


def write_saved_model(folder: Path, model: Model) -> Path:
    types = {"float32": 1, "int32": 3}
    (folder / "variables").mkdir(parents=True)
    node = message((3, b"root"), (5, json.dumps(model.config()).encode()))
    (folder / "keras_metadata.pb").write_bytes(message((1, node)))
    (folder / "saved_model.pb").write_bytes(b"")
    data, entries, attributes = b"", [], []
    for variables in model.groups().values():
        for full, values in variables:
            key = f"{full}/.ATTRIBUTES/VARIABLE_VALUE".encode()
            shape = b"".join(message((2, message((1, n)))) for n in values.shape)
            raw = values.tobytes()
            entries.append((key, message((1, types[values.dtype.name]), (2, shape), (4, len(data)), (5, len(raw)))))
            attributes.append(message((1, b"VARIABLE_VALUE"), (2, full.encode()), (3, key)))
            data += raw
    graph = message(*((1, message((2, one))) for one in attributes))
    text = varint(len(graph)) + b"\0\0\0\0" + graph
    entries.append((b"_CHECKPOINTABLE_OBJECT_GRAPH", message((1, 7), (4, len(data)), (5, len(text)))))
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(data + text)
    first = block(sorted(entries))
    handle = varint(0) + varint(len(first) - 5)
    index = block([(b"~", handle)])
    footer = (varint(0) * 2 + varint(len(first)) + varint(len(index) - 5)).ljust(40, b"\0")
    (folder / "variables" / "variables.index").write_bytes(first + index + footer + bytes.fromhex("57fb808b247547db"))
    return folder
