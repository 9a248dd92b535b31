"""Follows a topology (calls.py) with the operations of torch_ops.TABLE: steps in, layers out in the builder.

Python and TorchScript write the same calls in different ways: functions of torch.nn.functional, methods of tensors and
operators become the operations that TorchScript's text names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyexport.errors import IntactError
from pyexport.readers import modules
from pyexport.readers.archive import Archive
from pyexport.readers.builder import Builder, Value
from pyexport.readers.calls import Ref, Step, Topology
from pyexport.readers.inert import Instance
from pyexport.readers.packed import Unpacker
from pyexport.readers.tensors import Tensors
from pyexport.readers.torch_ops import Context

# Parameters of torch.nn.functional's functions, in order, where they are not those of the operation itself.
PARAMETERS = {
    "relu": ("input", "inplace"),
    "relu6": ("input", "inplace"),
    "hardtanh": ("input", "min_val", "max_val", "inplace"),
    "hardswish": ("input", "inplace"),
    "hardsigmoid": ("input", "inplace"),
    "leaky_relu": ("input", "negative_slope", "inplace"),
    "elu": ("input", "alpha", "inplace"),
    "dropout": ("input", "p", "training", "inplace"),
    "dropout2d": ("input", "p", "training", "inplace"),
    "softmax": ("input", "dim", "_stacklevel", "dtype"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": (
        "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
    ),
}  # fmt: skip
SAY_NOTHING = {"inplace", "return_indices", "_stacklevel", "dtype"}
# Methods that take a list of sizes or axes as arguments one by one.
LISTS = {"view", "reshape", "permute"}
FOLDERS = ("torch.nn.functional.", "torch._C._nn.", "torch.functional.")
ARITHMETIC = {"add", "sub", "mul", "floordiv"}
MAX_INTEGER = 1 << 40


class Model:
    """A topology over an archive: what does not depend on the input's shape."""

    def __init__(self, archive: Archive, topology: Topology, state: Mapping[str, Any]) -> None:
        """state: the model's own tensors and numbers by path, for steps of kind "attribute"."""
        self.archive, self.topology, self.state = archive, topology, state
        self.unpacker = Unpacker(Tensors(archive))
        self.steps = 0

    def follow(self, builder: Builder) -> Value:
        """Follows forward from the builder's input; the layers end up in the builder."""
        run = _Run(self, builder)
        for step in self.topology.steps:
            self.steps += 1
            run.values[step.name] = run.step(step)
        result = run.argument(self.topology.result)
        if not isinstance(result, Value):
            raise IntactError(f"{builder.file}: forward gives no single tensor; accepted are one input and one output")
        return result


class _Run:
    """One pass over the steps. values: their results by name."""

    def __init__(self, model: Model, builder: Builder) -> None:
        self.model = model
        self.values: dict[str, Any] = {model.topology.input: builder.input}
        self.place = ("", "", "")
        self.context = Context(builder, model.unpacker, lambda: self.place)

    def argument(self, value: Any) -> Any:
        """An argument with the values that its Refs stand for, dtypes as numbers."""
        if isinstance(value, Ref):
            if value.name not in self.values:
                self.context.fail(f"uses {value.name[:60]!r} before it is computed; the file is damaged")
            return self.values[value.name]
        if isinstance(value, (list, tuple)):
            items = [self.argument(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, slice):
            return slice(*map(self.argument, (value.start, value.stop, value.step)))
        return modules.dtype_of(value)

    def step(self, step: Step) -> Any:
        self.place = ("", "", step.name)
        args = [self.argument(value) for value in step.args]
        keywords = {name: self.argument(value) for name, value in step.kwargs.items()}
        if step.kind == "module":
            return self.module(step.target, args, keywords)
        if step.kind == "attribute":
            return self.attribute(step.target)
        if step.kind == "method":
            return self.method(step.target, args, keywords)
        return self.function(step.target, args, keywords)

    def module(self, path: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        known = self.model.topology.modules
        self.place = (path, "__torch__.torch.nn", "")
        parent, _, name = path.rpartition(".")
        if path not in known and parent in known and modules.kind_of(known[parent].kinds[0]) in modules.FUNCTIONALS:
            self.place = (parent, "__torch__.torch.nn", "")
            return modules.method(self.context, known[parent], name, args, keywords)
        if path not in known:
            self.context.fail("is called but is no module of the file; the file is damaged")
        if len(args) + len(keywords) != 1:
            self.context.fail(f"is called with {len(args) + len(keywords)} arguments, and a layer takes one")
        return modules.call(self.context, path, known[path], [*args, *keywords.values()])

    def attribute(self, path: str) -> Any:
        if path not in self.model.state:
            self.context.fail(f"attribute {path[:60]!r} is missing; the file is damaged")
        value = self.model.state[path]
        return value if isinstance(value, Instance) else self.model.unpacker.tensors.decode(value)

    def method(self, name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        if name in LISTS and len(args) > 1 and not isinstance(args[1], (list, tuple)):
            args = [args[0], args[1:]]
        return self.operation(name, args, keywords)

    def function(self, dotted: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        module, _, name = dotted.rpartition(".")
        if dotted == "builtins.getattr" and args[1:] == ["shape"]:
            return self.operation("size", args[:1], {})
        if module == "operator":
            return self.operator(name, args)
        if dotted.startswith("torch.ops."):
            return self.context.call(dotted.removeprefix("torch."), args, keywords)
        if dotted.startswith("torch."):
            return self.operation(
                next((dotted.removeprefix(f) for f in FOLDERS if dotted.startswith(f)), name), args, keywords
            )
        return self.context.call(dotted, args, keywords)

    def operator(self, name: str, args: list[Any]) -> Any:
        if name == "getitem" and len(args) == 2 and isinstance(args[0], (list, tuple)) and isinstance(args[1], int):
            if not -len(args[0]) <= args[1] < len(args[0]):
                self.context.fail(f"index {args[1]} outside a list of {len(args[0])}")
            return args[0][args[1]]
        if name in ARITHMETIC and all(type(value) is int and abs(value) < MAX_INTEGER for value in args):
            first, second = args
            if name == "floordiv":
                return first // second if second else self.context.fail("division by zero")
            return {"add": first + second, "sub": first - second, "mul": first * second}[name]
        return self.operation(name, args, {})

    def operation(self, name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        """Operation `name` of torch, however Python wrote it."""
        if name in PARAMETERS:
            given = {**dict(zip(PARAMETERS[name], args, strict=False)), **keywords}
            if given.get("return_indices"):
                self.context.kind = name
                self.context.fail("return_indices gives two tensors; accepted is the maximum alone")
            if len(args) > len(PARAMETERS[name]) or given.get("dtype") is not None:
                self.context.kind = name
                self.context.fail(f"{name} is called with unknown arguments")
            keywords = {key: value for key, value in given.items() if key not in SAY_NOTHING}
            args = [keywords.pop("input")] if "input" in keywords else []
            if "stride" in keywords and keywords["stride"] is None:
                keywords["stride"] = ()
            if name.startswith("dropout"):
                name, args, keywords = "dropout", [*args, *keywords.values()], {}
        return self.context.call(f"torch.{name}", args, keywords)
