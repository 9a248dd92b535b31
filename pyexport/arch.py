"""FILE.py:Class, the user's own model class -> the calls that its forward makes (readers/calls.py).

A state_dict holds tensors by name and no topology, so the user names the code that has it. That file is imported, and
`Class()` is built and traced symbolically by torch.fx, here and nowhere else: only because the user named it. What the
class computes with is never used, only which modules it calls and their sizes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from pyexport.errors import IntactError
from pyexport.readers.calls import Module, Ref, Step, Topology

# torch's modules that only hold others: followed into, never steps of their own.
CONTAINERS = {"Module", "Sequential", "ModuleList", "ModuleDict", "QuantWrapper"}
PLAIN = (bool, int, float, str, type(None))
HOW = "write --arch FILE.py:Class, where Class() builds the float model"


def trace(spec: str, leaf: Callable[[Any], bool] | None = None) -> Topology:
    """The topology of the class that `spec`, "FILE.py:Class", names.

    leaf: whether a module is one step; by default those of torch and those derived from torch's, such as the user's
    own convolution. Raises IntactError if there is no torch, file or class, or if the class cannot be built or traced.
    """
    model = build(spec)
    try:
        from torch import fx
    except ModuleNotFoundError as error:
        raise no_torch(error) from None
    is_leaf = leaf or _is_torch_layer

    class Tracer(fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, module: Any, path: str) -> bool:
            return is_leaf(module)

    try:
        graph = Tracer().trace(model)
    except Exception as error:  # the user's forward may raise anything
        fail(spec, "forward cannot be traced", error, "accepted is a forward without branches that depend on the data")
    return _topology(spec, model, graph)


def build(spec: str) -> Any:
    """Class() of "FILE.py:Class", in eval mode; a function that returns a module does as well."""
    name, colon, attribute = spec.rpartition(":")
    path = Path(name)
    if not colon or not attribute.isidentifier() or path.suffix != ".py":
        raise IntactError(f"--arch {spec}: is no FILE.py:Class; {HOW}")
    if not path.is_file():
        raise IntactError(f"--arch {spec}: there is no file {path}; {HOW}")
    try:
        from torch import nn
    except ModuleNotFoundError as error:
        raise no_torch(error) from None
    make = getattr(_load(spec, path), attribute, None)
    if make is None:
        raise IntactError(f"--arch {spec}: {path} has no class {attribute!r}; {HOW}")
    if not callable(make):
        raise IntactError(f"--arch {spec}: {attribute!r} is a {type(make).__name__}, not a class; {HOW}")
    try:
        with _folder_first(path):
            model = make()
    except TypeError as error:
        fail(spec, f"{attribute}() cannot be built without arguments", error, "add a class or function that needs none")
    except (Exception, SystemExit) as error:
        fail(spec, f"{attribute}() fails", error, HOW)
    if not isinstance(model, nn.Module):
        raise IntactError(f"--arch {spec}: {attribute}() is no torch.nn.Module; {HOW}")
    return model.eval()


def fail(spec: str, what: str, error: BaseException, hint: str) -> NoReturn:
    """Raises what the user's own code raised, in one line."""
    text = " ".join(str(error).split())[:200]
    raise IntactError(f"--arch {spec}: {what} ({type(error).__name__}: {text}); {hint}") from error


def no_torch(error: ModuleNotFoundError) -> IntactError:
    return IntactError(f"--arch needs the package {error.name}, to trace the class; install torch")


def _load(spec: str, path: Path) -> ModuleType:
    """The user's file, imported under a name of its own."""
    found = importlib.util.spec_from_file_location(f"intact_arch_{path.stem}", path.resolve())
    if found is None or found.loader is None:
        raise IntactError(f"--arch {spec}: {path} is no Python file; {HOW}")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses and typing look their module up
    try:
        with _folder_first(path):
            found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        fail(spec, f"{path} cannot be imported", error, "it must be importable by itself")
    finally:
        del sys.modules[found.name]
    return module


@contextmanager
def _folder_first(path: Path) -> Iterator[None]:
    """The file's own folder first on the import path, as when Python runs the file."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _is_torch_layer(module: Any) -> bool:
    if hasattr(module, "activation_quantizer"):  # micronet's own layers, such as an add
        return True
    return any(cls.__module__.startswith("torch.") and cls.__name__ not in CONTAINERS for cls in type(module).__mro__)


def _topology(spec: str, model: Any, graph: Any) -> Topology:
    inputs: list[str] = []
    defaults: dict[str, Any] = {}
    steps: list[Step] = []
    result: Any = None

    def plain(value: Any) -> Any:
        return _plain(spec, value, defaults)

    for node in graph.nodes:
        if node.op == "placeholder":
            if node.args:
                defaults[node.name] = node.args[0]
            else:
                inputs.append(node.name)
        elif node.op == "output":
            result = plain(node.args[0])
        else:
            kind = {"call_module": "module", "call_function": "function", "call_method": "method"}
            target = _function(node.target) if node.op == "call_function" else str(node.target)
            kwargs = {str(key): plain(value) for key, value in node.kwargs.items()}
            steps.append(
                Step(node.name, kind.get(node.op, "attribute"), target, plain(node.args), kwargs, _scope(node))
            )
    if len(inputs) != 1:
        raise IntactError(f"--arch {spec}: forward takes {len(inputs)} inputs; accepted is one")
    called = {step.target for step in steps if step.kind == "module"}
    paths = {path[:end] for path in called for end in range(len(path) + 1) if end == len(path) or path[end] == "."}
    inside = tuple(f"{path}." for path in called)
    found = {path: module for path, module in model.named_modules() if path in paths or path.startswith(inside)}
    modules = {path: _module(module) for path, module in found.items()}
    return Topology(inputs[0], tuple(steps), result, modules)


def _plain(spec: str, value: Any, defaults: dict[str, Any]) -> Any:
    """An argument in a traced graph as plain data."""
    kind = type(value)
    if kind.__name__ == "Node" and kind.__module__ == "torch.fx.node":
        return defaults[value.name] if value.name in defaults else Ref(value.name)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(spec, item, defaults) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {str(key): _plain(spec, item, defaults) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_plain(spec, item, defaults) for item in (value.start, value.stop, value.step)))
    if (kind.__module__ == "torch" and kind.__name__ in ("dtype", "memory_format", "device")) or value is ...:
        return str(value)
    raise IntactError(f"--arch {spec}: forward passes a {kind.__name__} to a call; accepted are tensors and numbers")


def _scope(node: Any) -> str:
    """The path of the module whose forward makes the call."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if node.op == "call_module":
        stack = [entry for entry in stack if entry[0] != node.target]
    return str(stack[-1][0]) if stack else ""


def _function(target: Any) -> str:
    """A function's dotted name as Python writes it."""
    from torch.fx.node import _get_qualified_name

    return str(_get_qualified_name(target)).replace("_operator.", "operator.")


def _module(module: Any) -> Module:
    kinds = tuple(f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__ if cls is not object)
    own = {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
    attributes = {name: tuple(v) if isinstance(v, list) else v for name, v in own.items() if _is_plain(v)}
    tensors = {**module._parameters, **module._buffers}
    return Module(kinds, attributes, {name: tuple(t.shape) for name, t in tensors.items() if t is not None})


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, (list, tuple)) and all(map(_is_plain, value)))
