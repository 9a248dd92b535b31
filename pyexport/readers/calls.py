"""A model's topology as plain data: which modules it has, and the calls that its forward makes, in order.

Found in the source text that an FX module carries, in the module tree of a chain, or by tracing the user's own class
(pyexport/arch.py). Nothing here knows how a layer is quantised, so a reader of any quantiser's modules can follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ref:
    """The result of the step with this name, or the model's input."""

    name: str


@dataclass(frozen=True)
class Step:
    """One call: `name = target(*args, **kwargs)`.

    kind "module": target is a module's path ("features.0"); "function": a function's dotted name as Python writes it
    ("torch.flatten", "torch.nn.functional.relu", "operator.add", "torch.ops.quantized.add"); "method": the name of a
    method of its first argument ("view"); "attribute": a tensor or number's path below the model, without arguments.
    Arguments are plain values, Refs, and lists, tuples and dictionaries of these; a dtype is its name ("torch.quint8").
    scope: the path of the module whose forward makes the call, "" for the model's own; known where a class was traced.
    """

    name: str
    kind: str
    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True)
class Module:
    """A module that is called. kinds: the dotted names of its class and that class's bases, most derived first.

    attributes: its plain attributes (numbers, strings, None, tuples), such as kernel_size. shapes: of its own
    parameters and buffers.
    """

    kinds: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Topology:
    """input: the name that Refs use for the model's one input. result: what forward returns, in terms of Refs.

    modules: by path, those that steps call, their parents ("features" of "features.0") and what they hold themselves.
    """

    input: str
    steps: tuple[Step, ...]
    result: Any
    modules: Mapping[str, Module] = field(default_factory=dict)

    def users(self, name: str) -> list[Step]:
        """The steps that take the result of step `name`."""
        return [step for step in self.steps if name in references((step.args, step.kwargs))]


def references(value: Any) -> set[str]:
    """The names of all Refs in an argument."""
    if isinstance(value, Ref):
        return {value.name}
    if isinstance(value, Mapping):
        value = list(value.values())
    return set().union(*map(references, value)) if isinstance(value, (list, tuple)) else set()
