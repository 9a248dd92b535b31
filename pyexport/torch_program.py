"""A .pt2's graph as a torch module, built from the inert reader's parts.

torch.export.load falls back to unpickling what a file holds, which can run code; here the graph's JSON and raw weights
are all that is read, and only listed operations become calls.
"""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed

from pyexport.errors import IntactError
from pyexport.readers.archive import Archive
from pyexport.readers.pt2e import Model
from pyexport.readers.pt2e_ops import TABLE

F32Array = npt.NDArray[np.float32]

# Accepted besides the operations of quantised programs: what a float one may have in their place.
FLOAT_OPERATIONS = {
    "aten.batch_norm.default",
    "aten._native_batch_norm_legit_no_training.default",
    "aten.add.Tensor",
    "aten.add_.Tensor",
    "aten.cat.default",
    "aten.sigmoid.default",
    "aten.tanh.default",
    "aten.hardswish.default",
    "aten.leaky_relu.default",
}
# torch.export's numbers of the element types that quantise and dequantise name.
SCALAR_TYPES = {1: torch.uint8, 2: torch.int8, 4: torch.int32, 5: torch.int64, 7: torch.float32}


class Program:
    """One input, one output. module: a torch.fx.GraphModule. shape: the input's, without the batch. batch: the size
    that the file was exported with, None where it is free.
    """

    def __init__(self, path: Path) -> None:
        model = Model(Archive(path))
        self.batch, self.shape = model.input_shape()
        root = torch.nn.Module()
        self.module = torch.fx.GraphModule(root, _graph(model, root))

    def outputs(self, real: F32Array) -> F32Array:
        """float32 (N, *shape) -> the program's outputs float32 (N, ...), as many at a time as the file has."""
        size = self.batch or 1
        if len(real) % size:
            raise IntactError(f"the program takes {size} inputs at a time: give a multiple of that, not {len(real)}")
        with torch.no_grad():
            parts = [self.module(torch.from_numpy(real[i : i + size])).numpy() for i in range(0, len(real), size)]
        return np.concatenate(parts)


def _graph(model: Model, root: torch.nn.Module) -> torch.fx.Graph:
    """The operations; the weights become parameters and buffers of `root`."""
    graph = torch.fx.Graph()
    values: dict[str, Any] = {model.inputs[0]: graph.placeholder("x")}

    def constant(name: str) -> Any:
        if name not in values:
            attribute, tensor = f"stored_{len(root.state_dict())}", torch.from_numpy(np.array(model.tensor(name)))
            if tensor.is_floating_point():  # what a quantiser folds batch norms into must be a parameter
                root.register_parameter(attribute, torch.nn.Parameter(tensor, requires_grad=False))
            else:
                root.register_buffer(attribute, tensor)
            values[name] = graph.get_attr(attribute)
        return values[name]

    for node in model.graph["nodes"]:
        name = str(node["target"]).removeprefix("torch.ops.")
        if name not in TABLE and name not in FLOAT_OPERATIONS:
            raise IntactError(f"{model.archive.file}: operation {name[:80]} is not supported")
        keywords = {str(item["name"]): _argument(item["arg"], constant) for item in node["inputs"]}
        function = reduce(getattr, name.split("."), torch.ops)
        result = graph.call_function(function, (), keywords)
        outputs = node["outputs"]
        if "as_tensor" in outputs[0]:
            values[str(outputs[0]["as_tensor"]["name"])] = result
            if len(outputs) > 1:
                for i, output in enumerate(outputs):
                    values[str(output["as_tensor"]["name"])] = graph.call_function(operator.getitem, (result, i))
    graph.output(values[model.graph["outputs"][0]["as_tensor"]["name"]])
    return graph


def _argument(argument: dict[str, Any], tensor: Any) -> Any:
    ((kind, content),) = argument.items()
    if kind == "as_tensor":
        return tensor(content["name"])
    if kind == "as_tensors":
        return [tensor(item["name"]) for item in content]
    if kind == "as_scalar_type":
        return SCALAR_TYPES[content]
    if kind == "as_sym_ints":
        return [item["as_int"] for item in content]
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats"):
        return float(content) if kind == "as_float" else content
    raise IntactError(f"an argument of kind {kind[:40]} is not supported; export the program with fixed sizes")
