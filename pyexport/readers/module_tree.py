"""The pickled objects of a saved module -> its modules by path (calls.py), and the topology of plain chains."""

from __future__ import annotations

from typing import Any

from pyexport.errors import IntactError
from pyexport.readers.calls import Module, Ref, Step, Topology
from pyexport.readers.inert import Instance

MAX_MODULES = 20_000
MAX_DEPTH = 60
INPUT = "input"
SEQUENTIAL = "torch.nn.modules.container.Sequential"
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# What torch's quantised convolutions pickle, in this order.
CONV_STATE = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed", "output_padding",
    "groups", "padding_mode", "weight", "bias", "scale", "zero_point", "training",
)  # fmt: skip


def attributes_of(state: Any) -> dict[str, Any]:
    """A module's own attributes, parameters and buffers, from the state that was pickled."""
    if isinstance(state, tuple) and len(state) == len(CONV_STATE):
        return dict(zip(CONV_STATE, state, strict=True))
    if not isinstance(state, dict):
        return {}
    found = {str(key): value for key, value in state.items() if not str(key).startswith("_")}
    found |= {str(key): value for key, value in state.items() if str(key).startswith("_packed")}
    for group in ("_parameters", "_buffers", "_modules"):
        tensors = state.get(group)
        if isinstance(tensors, dict) and (group != "_modules" or "_packed_params" in tensors):
            found |= {str(key): value for key, value in tensors.items()}
    return found


def children_of(state: Any) -> dict[str, Any]:
    """A module's children by name."""
    children = state.get("_modules") if isinstance(state, dict) else None
    return {str(name): child for name, child in children.items()} if isinstance(children, dict) else {}


def modules_of(state: Any, where: str) -> dict[str, Module]:
    """Every module below the one with this state, by path."""
    found: dict[str, Module] = {}
    waiting = [("", state, 0)]
    while waiting:
        path, parent, depth = waiting.pop()
        if depth > MAX_DEPTH or len(found) > MAX_MODULES:
            raise IntactError(f"{where}: modules are nested too deep or are too many; the file is damaged")
        if isinstance(parent, dict) and any(parent.get(hooks) for hooks in HOOKS):
            raise IntactError(
                f"{where}: module {path or 'model'!r} has forward hooks, which may change what it gives; remove them"
            )
        for name, child in children_of(parent).items():
            if not isinstance(child, Instance):
                continue  # None, where a module was removed
            inner = f"{path}.{name}" if path else name
            found[inner] = Module((child.name,), attributes_of(child.state))
            waiting.append((inner, child.state, depth + 1))
    return found


def chain(top: Instance, where: str) -> Topology:
    """The topology of a Sequential, or of a QuantWrapper around one. Raises IntactError for any other class."""
    paths = list(_chain_paths(top, "", where, 0))
    names = [INPUT, *(path.replace(".", "_") for path in paths)]
    steps = [
        Step(name, "module", path, (Ref(before),)) for path, name, before in zip(paths, names[1:], names, strict=False)
    ]
    return Topology(INPUT, tuple(steps), Ref(names[-1]), modules_of(top.state, where))


def _chain_paths(module: Any, path: str, where: str, depth: int) -> list[str]:
    """The paths of a chain's layers, in order."""
    if not isinstance(module, Instance) or depth > MAX_DEPTH:
        raise IntactError(f"{where}: module {path!r} is no module or nested too deep; the file is damaged")
    children = children_of(module.state)
    if module.name.endswith(".QuantWrapper") and module.name.startswith("torch."):
        order = ["quant", "module", "dequant"]
        if not set(order) <= set(children):
            raise IntactError(f"{where}: the QuantWrapper lacks its quant, module or dequant; the file is damaged")
    elif module.name == SEQUENTIAL:
        order = list(children)
    elif path and module.name.startswith("torch."):
        return [path]
    else:
        at = f" at {path!r}" if path else ""
        raise IntactError(
            f"{where}: holds a {module.name[:80]}{at}, a class whose forward is not in the file; name its source with "
            "--arch FILE.py:Class, or save the model with torch.jit.save"
        )
    paths: list[str] = []
    for name in order:
        paths += _chain_paths(children[name], f"{path}.{name}" if path else name, where, depth + 1)
        if len(paths) > MAX_MODULES:
            raise IntactError(f"{where}: more than {MAX_MODULES} layers; the file is damaged")
    return paths
