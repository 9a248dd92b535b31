"""Models of micronet (DoReFa and IAO): the traced class and its state_dict -> graph."""

from __future__ import annotations

import inspect
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import module_tree
from pyexport.readers.archive import Archive
from pyexport.readers.builder import Value
from pyexport.readers.calls import Module, Ref, Step, Topology
from pyexport.readers.inert import Call, Instance
from pyexport.readers.micronet_codes import Grid, QuantiserError
from pyexport.readers.micronet_context import ACTIVATIONS, WEIGHTS, Context, Host, Real, State, kind_of
from pyexport.readers.micronet_layers import ACCEPTED, PLAIN, QUANTISED
from pyexport.readers.micronet_steps import FUNCTIONS
from pyexport.readers.options import Options
from pyexport.readers.tensors import TensorError, Tensors

# DoReFa's codes and symmetric ones are rounded half away from 0; asymmetric ones from their lowest code, which is up.
MATCH = {"DoReFa": "exact-away", "IAO symmetric": "exact-away", "IAO asymmetric": "exact-up"}

INSIDE = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put it
TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")


def is_micronet(topology: Topology) -> bool:
    """Whether some layer has micronet's activation quantiser, DoReFa's (a_bits) or IAO's (bits, scale)."""
    return any(kind_of(topology, path) is not None for path in topology.modules)


def read(name: str, archive: Archive, top: Any, topology: Topology, options: Options) -> ir.Graph:
    """top: what a file of torch.save holds, a state_dict, a checkpoint with one inside, or a whole module.

    Raises IntactError naming the layer.
    """
    return graph_of(name, archive.file, topology, _tensors(archive, top), options)


def graph_of(name: str, file: str, topology: Topology, state: State, options: Options) -> ir.Graph:
    """topology: the traced class, quantised layers as single calls. state: float32 arrays by name."""
    if options.input_shape is None:
        raise IntactError(f"{file}: the checkpoint does not say the input's shape; give --input-shape, as in 1,8,8")
    graph = _Reader(Context(file, topology, state), options).read(options.input_shape)
    return replace(graph, name=name)


def refuse_unnamed(archive: Archive, top: Any) -> None:
    """Raises IntactError for IAO's checkpoints without a class of micronet's layers; DoReFa's hold plain floats."""
    if isinstance(top, dict) and any(f"{ACTIVATIONS}.scale" in name for name in _records(archive, top)):
        raise IntactError(
            f"{archive.file}: is a checkpoint of micronet's; name the code that builds the network and calls "
            "prepare, with --arch FILE.py:Class"
        )


def _records(archive: Archive, top: Any) -> dict[str, Any]:
    """What the file holds by name, below a checkpoint's other entries."""
    inside = (top[key] for key in INSIDE if key in top) if isinstance(top, dict) else ()
    top = next((value for value in inside if isinstance(value, (dict, Instance))), top)
    if isinstance(top, Instance):
        modules = module_tree.modules_of(top.state, archive.file)
        return {f"{path}.{name}": record for path, one in modules.items() for name, record in one.attributes.items()}
    if not isinstance(top, dict):
        raise IntactError(f"{archive.file}: holds a {type(top).__name__}; accepted are a state_dict and a module")
    return {name: record for name, record in top.items() if isinstance(name, str)}


def _tensors(archive: Archive, top: Any) -> State:
    """The tensors by name, without DataParallel's prefix."""
    records = _records(archive, top)
    names = [name for name, record in records.items() if isinstance(record, Call) and record.name in TENSORS]
    prefix = "module." if names and all(name.startswith("module.") for name in names) else ""
    decoder = Tensors(archive)
    try:
        return {name.removeprefix(prefix): np.asarray(decoder.decode(records[name])) for name in names}
    except TensorError as error:
        raise IntactError(f"{archive.file}: {error}") from None


class _Reader:
    """Follows the calls of a forward."""

    def __init__(self, context: Context, options: Options) -> None:
        self.context, self.options = context, options
        self.values: dict[str, Any] = {}

    def read(self, shape: tuple[int, ...]) -> ir.Graph:
        self.values[self.context.topology.input] = Host(shape, shape)
        for step in self.context.topology.steps:
            self.context.layer = step.target if step.kind == "module" else step.name
            try:
                self.values[step.name] = self.call(step)
            except QuantiserError as error:
                self.context.fail(str(error))
        result = self.resolve(self.context.topology.result)
        if not isinstance(result, Real):
            raise IntactError(f"{self.context.file}: no quantised layer leads to the model's one output")
        if len(self.context.kinds) > 1:
            kinds = ", ".join(sorted(self.context.kinds))
            raise IntactError(f"{self.context.file}: mixes quantisers that round differently ({kinds}); use one kind")
        kind = self.context.kinds.pop()
        graph = self.context.builder.finish(self.output(result), "micronet", "micronet", MATCH[kind])
        return replace(graph, notes=(*self.context.notes, *graph.notes))

    def output(self, result: Real) -> Value:
        """The model's result, which micronet leaves real, in uint8 over the range that the user gives."""
        self.context.layer = "output"
        if self.options.output_range is None:
            raise IntactError(
                f"{self.context.file}: micronet leaves the last layer's output real; give its range with "
                "--output-range=LOW,HIGH (the least and the greatest output on your data)"
            )
        low, high = min(0.0, self.options.output_range[0]), max(0.0, self.options.output_range[1])
        scale = (high - low) / 255
        quant = self.context.builder.quant(self.context.layer, scale, round(-low / scale) if scale > 0 else 0, "uint8")
        step = Fraction(float(quant.scale))
        self.context.notes.append(f"the output is quantised to uint8 over {low:g}..{high:g}; in the source it is real")
        if result.mean:
            self.context.notes.append("the average pool before it averages these codes; in the source, real numbers")
        return self.context.write(result, Grid(quant, step, step))

    def call(self, step: Step) -> Any:
        args, kwargs = self.resolve(step.args), self.resolve(dict(step.kwargs))
        if step.kind == "module":
            return self.module(self.context.topology.modules[step.target], *args)
        function = FUNCTIONS.get(step.target.rsplit(".", 1)[-1])
        if function is None or step.kind == "attribute":
            self.context.fail(f"{step.target} is not supported; accepted: {ACCEPTED}")
        try:
            inspect.signature(function).bind(self.context, *args, **kwargs)
        except TypeError:
            self.context.fail(f"calls {step.target} with arguments that are not supported")
        return function(self.context, *args, **kwargs)

    def module(self, module: Module, *args: Any) -> Any:
        names = [kind.rsplit(".", 1)[-1] for kind in module.kinds]
        kind = kind_of(self.context.topology, self.context.layer)
        if kind is None and f"{self.context.layer}.{WEIGHTS}" in self.context.topology.modules:
            self.context.fail("quantises its weights in another way than DoReFa and IAO, which are accepted")
        quantised = kind is not None and not self.context.is_float()
        table = QUANTISED if quantised else PLAIN
        for name in names:
            if name in table:
                return table[name](self.context, module, *args)
        self.context.fail(f"{names[0]} is not supported; accepted: {ACCEPTED}")

    def resolve(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.values[value.name]
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(item) for item in value)
        return {key: self.resolve(item) for key, item in value.items()} if isinstance(value, dict) else value
