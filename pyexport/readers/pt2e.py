"""PT2E archives (.pt2: torch.export.save of a torchao prepare_pt2e / convert_pt2e model), read without torch.

Comes in: models/model.json (the graph of aten and quantized_decomposed operations) and raw weights. Goes out: an
ir.Graph.
"""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import pt2e_code_ops, pt2e_shape_ops
from pyexport.readers.archive import Archive
from pyexport.readers.builder import Builder
from pyexport.readers.options import Options
from pyexport.readers.pt2e_ops import ACCEPTED, TABLE, Context
from pyexport.readers.real import Real
from pyexport.readers.tensors import Array, TensorError, strided

assert pt2e_code_ops and pt2e_shape_ops  # register their operations

MAX_JSON_BYTES = 64 << 20

# torch.export's numbers of the element types.
DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?"}


class Model:
    """The parts of an opened archive."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        module = self._json("models/model.json")["graph_module"]
        self.graph: dict[str, Any] = module["graph"]
        self.configs = {
            folder: self._json(f"data/{folder}/model_{folder}_config.json").get("config", {})
            for folder in ("weights", "constants")
            if f"data/{folder}/model_{folder}_config.json" in archive
        }
        self.inputs: list[str] = []
        self.sources: dict[str, str] = {}
        for spec in module["signature"]["input_specs"]:
            ((kind, content),) = spec.items()
            if kind == "user_input":
                self.inputs.append(content["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                names = [content[key] for key in (f"{kind}_name", "tensor_constant_name") if key in content]
                self.sources[content["arg"]["name"]] = names[0]
        if len(self.inputs) != 1 or len(self.graph["outputs"]) != 1:
            raise IntactError(
                f"{archive.file}: the model has {len(self.inputs)} inputs and {len(self.graph['outputs'])} outputs; "
                "one of each is accepted"
            )

    def _json(self, member: str) -> Any:
        data = self.archive.read(member)
        if len(data) > MAX_JSON_BYTES:
            raise IntactError(f"{self.archive.file}: {member} is larger than the {MAX_JSON_BYTES} bytes accepted")
        try:
            return json.loads(data)
        except ValueError as error:
            where = f"{self.archive.file}: {member}"
            raise IntactError(
                f"{where}: is no JSON ({str(error)[:100]}); the file is damaged, save it again"
            ) from error

    def input_shape(self) -> tuple[int | None, tuple[int, ...]]:
        """The batch (None if it is free) and the input's shape without it."""
        sizes = self.graph["tensor_values"][self.inputs[0]]["sizes"]
        shape = [size.get("as_int") for size in sizes]
        if len(shape) < 2 or None in shape[1:]:
            raise IntactError(f"{self.archive.file}: the input's sizes are not fixed; export it with a fixed shape")
        return shape[0], tuple(int(n) for n in shape[1:])

    def tensor(self, argument: str) -> Array:
        """The values of a parameter, buffer or constant, by the graph's name for it."""
        name = self.sources[argument]
        entries = [(folder, config[name]) for folder, config in self.configs.items() if name in config]
        if not entries:
            raise TensorError(f"tensor {name[:60]!r} has no values in the archive; save the model again")
        folder, entry = entries[0]
        meta = entry["tensor_meta"]
        if entry.get("use_pickle") or meta["dtype"] not in DTYPES or not str(entry["path_name"]).isidentifier():
            raise TensorError(f"tensor {name[:60]!r} has an element type or a storage that is not supported")
        data = self.archive.read(f"data/{folder}/{entry['path_name']}")
        dtype = np.dtype(DTYPES[meta["dtype"]])
        sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
        flat = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        return strided(flat, meta["storage_offset"]["as_int"], tuple(sizes), tuple(strides))


def read(
    path: Path,
    archive: Archive,
    options: Options,
) -> ir.Graph:
    """The graph of a PT2E archive. The input shape must be the file's own, if given."""
    model = Model(archive)
    batch, shape = model.input_shape()
    if options.input_shape not in (None, shape):
        raise IntactError(f"{archive.file}: was exported for input shape {shape}, not {options.input_shape}")
    builder = Builder(archive.file, shape, "pt2e")
    context = Context(builder, batch)
    values: dict[str, Any] = {model.inputs[0]: Real.of_input(builder.input)}
    for node in model.graph["nodes"]:
        _run(model, context, node, values)
    result = values[model.graph["outputs"][0]["as_tensor"]["name"]]
    if isinstance(result, Real) and result.source is None:
        result = context.quantised_output(result, options.output_range)
    elif isinstance(result, Real):
        result = context.codes(result)
    return builder.finish(result, path.stem, "pt2e", "fbgemm")


def _run(model: Model, context: Context, node: dict[str, Any], values: dict[str, Any]) -> None:
    """Reads one node of the graph."""
    target = str(node["target"]).removeprefix("torch.ops.")
    output = str(node["outputs"][0]["as_tensor"]["name"])
    # The module that the operation stands in: the path in the stack's last entry "key,path,class", if it has one.
    stack = str(node["metadata"].get("nn_module_stack", "")).rpartition(";")[2].split(",")
    context.layer = stack[1] if len(stack) == 3 and stack[1] else output
    function = TABLE.get(target)
    if function is None:
        context.fail(f"operation {target[:80]} is not supported; {ACCEPTED}")
    arguments: dict[str, Any] = {}
    try:
        for item in node["inputs"]:
            name = str(item["name"])
            arguments["source" if name in ("self", "input") else name] = _argument(model, item["arg"], values)
        bound = inspect.signature(function).bind(context, **arguments)
    except TypeError as error:
        raise IntactError(f"{model.archive.file}: layer {context.layer!r}: {target}: {error}") from error
    try:
        result = function(*bound.args, **bound.kwargs)
    except TensorError as error:
        context.fail(str(error))
    values[output] = result


def _argument(model: Model, argument: dict[str, Any], values: dict[str, Any]) -> Any:
    """The value of a serialised argument: {"as_int": 3}, {"as_tensor": {"name": ...}}, ..."""
    ((kind, content),) = argument.items()
    if kind == "as_tensor":
        name = content["name"]
        if name not in values:
            values[name] = model.tensor(name)
        return values[name]
    if kind == "as_tensors":
        return [_argument(model, {"as_tensor": item}, values) for item in content]
    if kind in ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_scalar_type", "as_floats"):
        number = float(content) if kind == "as_float" else content
        if isinstance(number, float) and not math.isfinite(number):
            raise TensorError("an argument is not a finite number")
        return number
    if kind == "as_none":
        return None
    if kind == "as_sym_ints":
        return [item.get("as_int") for item in content]
    return argument
