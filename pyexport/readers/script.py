"""Follows TorchScript source text without executing it.

TorchScript's text is close to Python, so Python's `ast` parses it; this file walks the tree. Values are numbers,
strings, lists, tensors (arrays), pickled objects (`Instance`) and whatever the operations return. Operations are
run by a function that the caller gives; a statement that inference code never uses is refused. Work and depth are
bounded, so hostile text cannot run away.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pyexport.errors import IntactError
from pyexport.readers.archive import Archive
from pyexport.readers.inert import Instance

MAX_SOURCE_BYTES = 8 << 20
MAX_DEPTH = 150
MAX_STEPS = 200_000
MAX_NESTING = 60

Operation = Callable[[str, list[Any], dict[str, Any]], Any]


@dataclass(frozen=True)
class Name:
    """A dotted name that is no local variable: a function, a type or a constant's place."""

    text: str


@dataclass
class Frame:
    """One function being followed. target: the variable that the current statement assigns."""

    variables: dict[str, Any]
    module: Instance | None
    target: str = ""


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@dataclass
class Sources:
    """The archive's code, parsed one file at a time when a name in it is first needed."""

    archive: Archive
    files: dict[str, dict[str, ast.stmt]] = field(default_factory=dict)
    bytes_parsed: int = 0

    def find(self, dotted: str) -> ast.stmt | None:
        """The class or function with this name ("__torch__.torch.nn.functional.relu"), or None."""
        folder, _, name = dotted.rpartition(".")
        path = f"code/{folder.replace('.', '/')}.py"
        if path not in self.files:
            self.files[path] = self._parse(path) if path in self.archive else {}
        return self.files[path].get(name)

    def method(self, cls: str, name: str) -> ast.FunctionDef | None:
        found = self.find(cls)
        body = found.body if isinstance(found, ast.ClassDef) else []
        return next((item for item in body if isinstance(item, ast.FunctionDef) and item.name == name), None)

    def _parse(self, path: str) -> dict[str, ast.stmt]:
        where = f"{self.archive.file}: {path}"
        data = self.archive.read(path)
        self.bytes_parsed += len(data)
        if self.bytes_parsed > MAX_SOURCE_BYTES:
            raise IntactError(f"{where}: more than {MAX_SOURCE_BYTES} bytes of code; use torch.jit.freeze first")
        tree = parse(data, where, "TorchScript")
        return {item.name: item for item in tree.body if isinstance(item, (ast.ClassDef, ast.FunctionDef))}


def parse(data: bytes, where: str, language: str) -> ast.Module:
    """The syntax tree of source text from a file, of bounded depth; nothing is run."""
    depth = 0
    for byte in data:
        depth += (byte in b"([{") - (byte in b")]}")
        if depth > MAX_NESTING:
            raise IntactError(f"{where}: expressions are nested deeper than {MAX_NESTING}; the file is damaged")
    try:
        return ast.parse(data.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise IntactError(f"{where}: is no {language} ({type(error).__name__}); the file is damaged") from error


class Interpreter:
    """Follows methods of pickled modules. `operation(name, args, keywords)` runs e.g. "torch.relu"."""

    def __init__(self, sources: Sources, operation: Operation, constants: list[Any]) -> None:
        self.sources, self.operation, self.constants = sources, operation, constants
        self.file = sources.archive.file
        self.frames: list[Frame] = []
        self.paths: dict[int, str] = {}
        self.depth = self.steps = 0

    # --- where we are, for names and messages --------------------------------------------------------------------

    def location(self) -> tuple[str, str, str]:
        """(module path, class, variable being assigned) of the innermost method."""
        for frame in reversed(self.frames):
            if frame.module is not None:
                return self.paths.get(id(frame.module), ""), frame.module.name, frame.target
        return "", "", ""

    def fail(self, text: str) -> NoReturn:
        path, _, target = self.location()
        raise IntactError(f"{self.file}: layer {path or target or 'forward'!r}: {text}")

    # --- functions and statements --------------------------------------------------------------------------------

    def call_method(self, instance: Instance, name: str, args: list[Any]) -> Any:
        function = self.sources.method(instance.name, name)
        if function is None:
            self.fail(f"class {instance.name[:80]} has no method {name!r} in the archive; the file is damaged")
        return self.call_function(function, [instance, *args], {}, instance)

    def call_function(
        self, function: ast.FunctionDef, args: list[Any], keywords: dict[str, Any], module: Instance | None = None
    ) -> Any:
        names = [a.arg for a in function.args.args]
        defaults = dict(zip(names[::-1], function.args.defaults[::-1], strict=False))
        if len(args) > len(names):
            self.fail(f"{function.name} gets {len(args)} arguments for {len(names)}; the file is damaged")
        frame = Frame({**dict(zip(names, args, strict=False)), **keywords}, module)
        self.frames.append(frame)
        self.enter()
        try:
            for name in names:
                if name not in frame.variables:
                    if name not in defaults:
                        self.fail(f"{function.name} lacks its argument {name!r}; the file is damaged")
                    frame.variables[name] = self.value(defaults[name])
            self.run(function.body)
        except _Return as result:
            return result.value
        finally:
            self.depth -= 1
            self.frames.pop()
        return None

    def enter(self) -> None:
        self.depth += 1
        self.steps += 1
        if self.depth > MAX_DEPTH or self.steps > MAX_STEPS:
            self.depth -= 1
            self.fail("the code is nested too deep or too long to be an inference graph")

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Return):
                raise _Return(None if statement.value is None else self.value(statement.value))
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self.assign(statement.targets[0], statement.value)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                self.assign(statement.target, statement.value)
            elif isinstance(statement, ast.Expr):
                self.value(statement.value)
            elif isinstance(statement, ast.If):
                self.run(statement.body if self.condition(statement.test) else statement.orelse)
            elif not isinstance(statement, ast.Pass):
                kind = type(statement).__name__.lower()
                self.fail(
                    f"a {kind!r} statement, as padding modes other than zeros have; accepted are straight-line models"
                )

    def condition(self, test: ast.expr) -> bool:
        value = self.value(test)
        if not isinstance(value, bool):
            self.fail("a branch that depends on the data; INTACT runs the same layers for every input")
        return value

    def assign(self, target: ast.expr, source: ast.expr) -> None:
        frame = self.frames[-1]
        frame.target = target.id if isinstance(target, ast.Name) else ""
        value = self.value(source)
        if isinstance(target, ast.Name):
            frame.variables[target.id] = value
        elif isinstance(target, ast.Attribute) and isinstance(owner := self.value(target.value), Instance):
            self.attributes(owner)[target.attr] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, (list, tuple)) and len(value) == len(target.elts):
            for element, item in zip(target.elts, value, strict=True):
                if not isinstance(element, ast.Name):
                    self.fail("an assignment that TorchScript never writes; the file is damaged")
                frame.variables[element.id] = item
        else:
            self.fail("an assignment that does not fit its value; the file is damaged")

    # --- expressions ---------------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        self.enter()
        try:
            if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None))):
                return node.value
            if isinstance(node, ast.Name):
                variables = self.frames[-1].variables
                return variables[node.id] if node.id in variables else self.global_name(node.id)
            if isinstance(node, ast.Attribute):
                return self.attribute(self.value(node.value), node.attr)
            if isinstance(node, (ast.List, ast.Tuple)):
                items = [self.value(item) for item in node.elts]
                return items if isinstance(node, ast.List) else tuple(items)
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                return self.negative(self.value(node.operand))
            if isinstance(node, ast.Subscript):
                return self.item(self.value(node.value), node.slice)
            if isinstance(node, ast.Call):
                return self.call(node)
            return self.fail(f"a {type(node).__name__} expression, which TorchScript's inference code never uses")
        finally:
            self.depth -= 1

    @staticmethod
    def global_name(name: str) -> Any:
        return {"inf": math.inf, "nan": math.nan}.get(name, Name(name))

    def negative(self, value: Any) -> Any:
        if not isinstance(value, (int, float)):
            self.fail("the negative of something that is no number")
        return -value

    def item(self, value: Any, index: ast.expr) -> Any:
        if isinstance(value, Name):
            return value  # a type such as List[int]
        position = self.value(index)
        if not isinstance(value, (list, tuple)) or not isinstance(position, int):
            self.fail("indexing; accepted are the operations listed in the documentation")
        if not -len(value) <= position < len(value):
            self.fail(f"index {position} outside a list of {len(value)}")
        return value[position]

    def attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Name):
            dotted = f"{owner.text}.{name}"
            if owner.text != "CONSTANTS":
                return Name(dotted)
            number = int(name[1:]) if name[1:].isdecimal() else -1
            if not 0 <= number < len(self.constants):
                self.fail(f"constant {name[:20]!r} is missing from constants.pkl; the file is damaged")
            return self.constants[number]
        if not isinstance(owner, Instance):
            self.fail(f"attribute {name[:60]!r} of something that is no module")
        attributes = self.attributes(owner)
        if name not in attributes:
            self.fail(f"attribute {name[:60]!r} is missing from data.pkl; the file is damaged")
        child = attributes[name]
        if isinstance(child, Instance):
            parent = self.paths.get(id(owner), "")
            self.paths.setdefault(id(child), f"{parent}.{name}" if parent else name)
        return child

    def attributes(self, instance: Instance) -> dict[str, Any]:
        """The attributes of a pickled object; a state that its class decodes itself is decoded by that code."""
        if not isinstance(instance.state, dict):
            state, instance.state = instance.state, {}
            self.call_method(instance, "__setstate__", [state])
        attributes: dict[str, Any] = instance.state
        return attributes

    def call(self, node: ast.Call) -> Any:
        if any(keyword.arg is None for keyword in node.keywords):
            self.fail("a call with ** arguments, which TorchScript never writes")
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            if isinstance(owner, Instance):
                return self.call_method(owner, node.func.attr, [self.value(arg) for arg in node.args])
            function = self.attribute(owner, node.func.attr)
        else:
            function = self.value(node.func)
        if not isinstance(function, Name):
            self.fail("calls something that is no function")
        args = [self.value(arg) for arg in node.args]
        keywords = {str(keyword.arg): self.value(keyword.value) for keyword in node.keywords}
        if function.text == "getattr" and len(args) == 2:
            return self.attribute(args[0], str(args[1]))
        if function.text.startswith("__torch__."):
            found = self.sources.find(function.text)
            if isinstance(found, ast.FunctionDef):
                return self.call_function(found, args, keywords)
        return self.operation(function.text, args, keywords)
