"""What a saved Keras model holds: its configuration (JSON) and its variables by layer. Three containers:

    .h5         HDF5: attribute model_config, group model_weights with a name for each variable
    .keras      zip: config.json, and model.weights.h5 whose variables have numbers instead of names
    SavedModel  folder: keras_metadata.pb, and variables/ (keras_bundle.py)

HDF5 is read with h5py, and only what is stored plainly: no links, no filters, nothing in other files.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pyexport.errors import IntactError
from pyexport.readers import keras_bundle
from pyexport.readers.archive import Archive
from pyexport.readers.tensors import Array, TensorError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_JSON_BYTES = 64 << 20
MAX_FILE_BYTES = 2 << 30
MAX_NAMES = 64
HEAP = b"GCOL\1\0\0\0"
KERAS_CONFIG, KERAS_WEIGHTS = "config.json", "model.weights.h5"
METADATA = "keras_metadata.pb"
HOW = "save the whole model with model.save('model.h5')"

Variables = dict[str, Array]


@dataclass(frozen=True)
class Saved:
    """config: {"class_name": "Sequential" or "Functional", "config": ...}. variables: of a layer's configuration, by
    their short names such as kernel, kernel_min, post_activation_max; raises IntactError.
    """

    config: dict[str, Any]
    variables: Callable[[dict[str, Any]], Variables]


def parse(file: str, text: str | bytes) -> dict[str, Any]:
    """The JSON of a model's configuration."""
    if len(text) > MAX_JSON_BYTES:
        raise IntactError(f"{file}: the model's configuration is larger than the {MAX_JSON_BYTES} bytes accepted")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntactError(f"{file}: the model's configuration is no JSON ({str(error)[:80]}); {HOW}") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise IntactError(f"{file}: the model's configuration is not Keras's; {HOW}")
    return config


# --- HDF5 ----------------------------------------------------------------------------------------------------------


class Hdf5:
    """An HDF5 file, opened."""

    def __init__(self, file: str, source: Path | BinaryIO) -> None:
        try:
            import h5py
        except ImportError:
            raise IntactError(f"{file}: is HDF5, which needs the package h5py: pip install h5py") from None
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        _check_heaps(file, data)
        self.file, self.h5py = file, h5py
        self.root = h5py.File(io.BytesIO(data), "r")

    def item(self, path: str) -> Any:
        """The group or dataset at `path`; each step must be a plain link inside the file."""
        here = self.root
        for step in path.split("/"):
            link = here.get(step, getlink=True) if isinstance(here, self.h5py.Group) else None
            if not isinstance(link, self.h5py.HardLink):
                raise TensorError(f"{path[:120]!r} is not in the file, or a link to elsewhere; {HOW}")
            here = here[step]
        return here

    def array(self, path: str) -> Array:
        """The values of a dataset."""
        data = self.item(path)
        if not isinstance(data, self.h5py.Dataset) or data.dtype.kind not in "iuf" or data.shape is None:
            raise TensorError(f"{path[:120]!r} is no array of numbers; {HOW}")
        size = math.prod(data.shape) * data.dtype.itemsize
        plain = data.chunks is None and not data.is_virtual and not data.external
        if not plain or (data.ndim and data.id.get_storage_size() != size) or size > MAX_FILE_BYTES:
            raise TensorError(f"{path[:120]!r} is not stored plainly, as Keras does; {HOW}")
        values = np.asarray(data[()])
        return values.astype(values.dtype.newbyteorder("="))

    def attribute(self, group: Any, name: str) -> Any:
        """An attribute's value. Of varying length are strings only: a damaged type can crash the library."""
        dtype = group.attrs.get_id(name).dtype
        if dtype.kind == "O" and self.h5py.check_string_dtype(dtype) is None:
            raise TensorError(f"the attribute {name} is no text; {HOW}")
        return group.attrs[name]

    def names(self, group: Any, attribute: str) -> list[str]:
        """An attribute that lists names; Keras splits long ones into name0, name1, ..."""
        split = itertools.takewhile(lambda part: part in group.attrs, (f"{attribute}{i}" for i in itertools.count()))
        parts = [attribute] if attribute in group.attrs else list(split)
        if not parts:
            raise TensorError(f"the attribute {attribute} is missing; {HOW}")
        found: list[Any] = []
        for part in parts:
            if math.prod(group.attrs.get_id(part).shape) > MAX_NAMES:
                raise TensorError(f"the attribute {part} is too long")
            found += list(self.attribute(group, part))
        return [name.decode() if isinstance(name, bytes) else str(name) for name in found]


def _check_heaps(file: str, data: bytes) -> None:
    """A heap whose objects do not fill it exactly keeps the HDF5 library busy for ever: it must not see one.

    A global heap collection is GCOL, version 1, its size, then objects: index, references, length, contents padded to 8
    bytes; object 0 is the space that is left (HDF5 file format specification, III.E).
    """
    at = data.find(HEAP)
    while at >= 0:
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        here, whole = at + 16, end <= len(data)
        while whole and here + 16 <= end:
            index, length = (int.from_bytes(data[here + i : here + i + n], "little") for i, n in ((0, 2), (8, 8)))
            if index == 0:
                whole = length == end - here
                break
            here += 16 + -(-length // 8) * 8
            whole = here <= end
        if not whole:
            raise IntactError(f"{file}: its HDF5 is damaged or truncated; {HOW}")
        at = data.find(HEAP, at + 8)


def read_h5(path: Path) -> Saved:
    """A whole model saved as .h5."""
    file = Hdf5(str(path), path)
    if "model_config" not in file.root.attrs:
        raise IntactError(f"{path}: holds variables but no layers (save_weights); {HOW}")
    config = parse(str(path), file.attribute(file.root, "model_config"))

    def variables(layer: dict[str, Any]) -> Variables:
        name = str(layer["config"]["name"])
        group = file.item(f"model_weights/{name}")
        found: Variables = {}
        for variable in file.names(group, "weight_names"):
            short = variable.split("/")[-1].split(":")[0]
            if short in found:
                raise TensorError(f"has two variables {short[:60]!r}")
            found[short] = file.array(f"model_weights/{name}/{variable}")
        return found

    return Saved(config, variables)


# --- .keras --------------------------------------------------------------------------------------------------------


def read_keras(path: Path, archive: Archive) -> Saved:
    """A .keras archive, as tf_keras writes it."""
    config = parse(str(path), archive.read(KERAS_CONFIG))
    file = Hdf5(str(path), io.BytesIO(archive.read(KERAS_WEIGHTS)))
    # groups have the class's name in snake case and a number, in the order of the layers
    groups: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in config["config"]["layers"]:
        kind = snake_case(str(layer["class_name"]))
        counts[kind] = number = counts.get(kind, -1) + 1
        groups[layer["config"]["name"]] = f"layers/{kind}" + (f"_{number}" if number else "")

    def variables(layer: dict[str, Any]) -> Variables:
        group = groups[layer["config"]["name"]]
        return named(layer, _numbered(file, f"{group}/vars"), _numbered(file, f"{group}/layer/vars"))

    return Saved(config, variables)


def snake_case(name: str) -> str:
    """Conv2DTranspose -> conv2d_transpose, as Keras names groups."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _numbered(file: Hdf5, path: str) -> list[Array]:
    try:
        group = file.item(path)
    except TensorError:
        return []
    if not 0 <= len(group) <= MAX_NAMES:
        raise TensorError(f"{path!r} has too many variables")
    return [file.array(f"{path}/{i}") for i in range(len(group))]


INNER = {"Dense": ("kernel",), "Conv2D": ("kernel",), "Conv2DTranspose": ("kernel",)}
INNER["DepthwiseConv2D"] = ("depthwise_kernel",)
PRE, POST = ("softmax", "sigmoid", "tanh"), ("linear", "relu", "swish")


def named(layer: dict[str, Any], own: list[Array], inner: list[Array]) -> Variables:
    """Names for numbered variables, in the order in which tfmot makes them.

    A wrapper holds the wrapped layer's trainable variables, again those that have a quantiser, a step count (the only
    integer), then min and max of each quantiser: weights, activation, output. inner: what the wrapped layer holds
    itself. Raises TensorError where the order leaves a doubt.
    """
    config, kind = layer["config"], layer["class_name"]
    if kind == "QuantizeLayer":
        if len(own) == 1:
            return {}
        if len(own) != 3:
            raise TensorError(f"has {len(own)} variables where 3 are expected; {HOW}")
        return {f"{config['name']}_min": own[0], f"{config['name']}_max": own[1]}
    wrapped = config["layer"] if kind.startswith("QuantizeWrapper") else layer
    settings = wrapped["config"]
    if wrapped["class_name"] == "BatchNormalization":
        names = [name for name, has in (("gamma", settings["scale"]), ("beta", settings["center"])) if has]
        names += ["moving_mean", "moving_variance"]
        found = _zip(names, inner if wrapped is not layer else own)
    else:
        names = [*INNER.get(wrapped["class_name"], ()), *(["bias"] if settings.get("use_bias") else [])]
        found = {} if wrapped is not layer else _zip(names, own)
    if wrapped is layer:
        return found
    steps = [i for i, values in enumerate(own) if values.dtype.kind == "i"]
    if len(steps) != 1 or (len(own) - steps[0]) % 2 != 1:
        raise TensorError(f"its variables are not in tfmot's order; {HOW}")
    before, ranges = own[: steps[0]], own[steps[0] + 1 :]
    if wrapped["class_name"] != "BatchNormalization":
        found |= _zip(names, before[: len(names)])
    quantised = _quantised(names, before, found, wrapped)
    activation, roles = settings.get("activation"), [*quantised]
    if isinstance(activation, dict) and activation.get("class_name") == "QuantizeAwareActivation":
        name = activation["config"]["activation"]
        roles += ["pre_activation"] * (name in PRE) + ["post_activation"] * (name in POST)
    if len(ranges) // 2 == len(roles) + 1:
        roles.append("output")
    return found | _zip([f"{role}_{end}" for role in roles for end in ("min", "max")], ranges)


def _quantised(names: list[str], before: list[Array], found: Variables, wrapped: dict[str, Any]) -> list[str]:
    """The names of the variables that a wrapper holds a second time."""
    if wrapped["class_name"] == "BatchNormalization":
        return []
    again = []
    for values in before[len(names) :]:
        same = [n for n in names if found[n].shape == values.shape and (found[n] == values).all()]
        if len(same) != 1:
            raise TensorError(f"which of its variables have a quantizer is not clear; {HOW}")
        again += same
    return again


def _zip(names: list[str], values: list[Array]) -> Variables:
    if len(names) != len(values):
        raise TensorError(f"has {len(values)} variables where {len(names)} are expected ({', '.join(names)}); {HOW}")
    return dict(zip(names, values, strict=True))


# --- SavedModel ----------------------------------------------------------------------------------------------------


def read_saved_model(folder: Path) -> Saved:
    """A SavedModel folder that tf_keras wrote."""
    if not (folder / METADATA).is_file():
        raise IntactError(f"{folder}: is no SavedModel of tf_keras ({METADATA} is missing); {HOW}")
    config = parse(str(folder), keras_bundle.root_metadata((folder / METADATA).read_bytes()))
    bundle = keras_bundle.Bundle(folder / "variables")

    def variables(layer: dict[str, Any]) -> Variables:
        config = layer["config"]
        owners = {config["name"], config["layer"]["config"]["name"] if "layer" in config else config["name"]}
        found: Variables = {}
        for name in bundle.names:
            owner, _, short = name.rpartition("/")
            if owner in owners:
                if short in found:
                    raise TensorError(f"has two variables {short[:60]!r}")
                found[short] = bundle.array(name)
        return found

    return Saved(_plain(config), variables)


def _plain(config: Any) -> Any:
    """A SavedModel's JSON marks tuples: {"class_name": "__tuple__", "items": [...]} -> a list."""
    if isinstance(config, dict):
        if config.get("class_name") == "__tuple__":
            return [_plain(item) for item in config["items"]]
        return {key: _plain(value) for key, value in config.items()}
    return [_plain(item) for item in config] if isinstance(config, list) else config
