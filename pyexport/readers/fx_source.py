"""The Python text of an FX module's forward -> its calls (calls.py), without executing it.

torch.fx writes one call on a line: `name = self.path(args)`, `name = torch.function(args)` or `name =
value.method(args)`. Anything that it never writes, such as a loop, a branch or an import, is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pyexport.errors import IntactError
from pyexport.readers.calls import Ref, Step
from pyexport.readers.script import parse

MAX_SOURCE_BYTES = 4 << 20
MAX_STEPS = 20_000
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.USub: "neg",
}  # fmt: skip


@dataclass(frozen=True)
class _Path:
    """`self`, or what lies below it."""

    text: str


@dataclass(frozen=True)
class _Name:
    """A dotted name that is no variable, such as torch.quint8 or torch.flatten."""

    text: str


def steps_of(text: str, where: str) -> tuple[str, tuple[Step, ...], Any]:
    """(the input's name, the calls, the result) of a forward's source text. Raises IntactError, naming `where`."""
    if len(text) > MAX_SOURCE_BYTES:
        raise IntactError(
            f"{where}: a forward of {len(text)} characters is larger than the {MAX_SOURCE_BYTES} accepted"
        )
    body = parse(text.encode(), where, "Python as torch.fx writes it").body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != "forward":
        raise IntactError(f"{where}: is no single function forward, as torch.fx writes; the file is damaged")
    return _Forward(where).follow(body[0])


class _Forward:
    """Turns the statements into steps; `variables` holds what each name stands for at this point of the text."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.variables: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.names: set[str] = set()
        self.target = "result"

    def fail(self, node: ast.AST, text: str) -> NoReturn:
        line = f"line {node.lineno}: " if hasattr(node, "lineno") else ""
        raise IntactError(f"{self.where}: {line}{text}; accepted are straight-line calls, as torch.fx writes them")

    def follow(self, function: ast.FunctionDef) -> tuple[str, tuple[Step, ...], Any]:
        given = function.args
        names = [argument.arg for argument in given.args]
        if given.vararg or given.kwarg or given.kwonlyargs or given.posonlyargs or function.decorator_list:
            self.fail(function, "arguments of another kind than plain ones")
        optional = names[len(names) - len(given.defaults) :]
        if len(names) - len(optional) != 2:
            self.fail(function, f"forward takes {len(names) - len(optional) - 1} inputs, and INTACT runs one")
        self.variables = {names[0]: _Path(""), names[1]: Ref(names[1])}
        self.names.add(names[1])
        for name, default in zip(optional, given.defaults, strict=True):
            self.variables[name] = self.value(default)
        for statement in function.body:
            if isinstance(statement, ast.Return):
                self.target = "result"
                result = None if statement.value is None else self.argument(statement.value)
                return names[1], tuple(self.steps), result
            self.statement(statement)
        self.fail(function, "forward returns nothing")

    def statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self.assign([statement.target], statement.value)
        elif isinstance(statement, ast.Assign):
            self.assign(statement.targets, statement.value)
        elif not isinstance(statement, ast.Pass):
            self.fail(statement, f"a {type(statement).__name__.lower()!r} statement")

    def assign(self, targets: Sequence[ast.expr], source: ast.expr) -> None:
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if len(names) != len(targets):
            self.fail(source, "an assignment to something that is no variable")
        self.target = names[0]
        value = self.value(source)
        for name in names:
            self.variables[name] = value

    # --- expressions ---------------------------------------------------------------------------------------------

    def argument(self, node: ast.expr) -> Any:
        """An expression's value as an argument: a name is its text, a path below `self` is read."""
        value = self.value(node)
        if isinstance(value, _Name):
            return value.text
        return self.step(node, "attribute", value.text) if isinstance(value, _Path) else value

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None))):
            return node.value
        if isinstance(node, ast.Name):
            known = {"inf": float("inf"), "nan": float("nan"), **self.variables}
            return known[node.id] if node.id in known else _Name(node.id)
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [self.argument(item) for item in node.elts]
            return items if isinstance(node, ast.List) else tuple(items)
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            keys = [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]
            return dict(zip(keys, map(self.argument, node.values), strict=True))
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(None if part is None else self.argument(part) for part in parts))
        if isinstance(node, ast.Attribute):
            return self.attribute(node, self.value(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            args = (self.argument(node.value), self.argument(node.slice))
            return self.step(node, "function", "operator.getitem", args)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self.argument(node.operand)
            return -value if isinstance(value, (int, float)) else self.step(node, "function", "operator.neg", (value,))
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            args = (self.argument(node.left), self.argument(node.right))
            return self.step(node, "function", f"operator.{OPERATORS[type(node.op)]}", args)
        if isinstance(node, ast.Call):
            return self.call(node)
        self.fail(node, f"a {type(node).__name__} expression")

    def attribute(self, node: ast.AST, owner: Any, name: str) -> Any:
        if isinstance(owner, (_Path, _Name)):
            return type(owner)(f"{owner.text}.{name}" if owner.text else name)
        if isinstance(owner, Ref):
            return self.step(node, "function", "builtins.getattr", (owner, name))
        self.fail(node, f"attribute {name[:60]!r} of something that has none")

    def call(self, node: ast.Call) -> Any:
        if any(keyword.arg is None for keyword in node.keywords) or any(isinstance(a, ast.Starred) for a in node.args):
            self.fail(node, "a call with * or ** arguments")
        function = node.func
        if isinstance(function, ast.Name) and function.id == "getattr" and len(node.args) == 2 and not node.keywords:
            name = node.args[1]
            if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                self.fail(node, "getattr with a computed name")
            return self.attribute(node, self.value(node.args[0]), name.value)
        owner = self.value(function.value) if isinstance(function, ast.Attribute) else None
        args: tuple[Any, ...] = ()
        if isinstance(function, ast.Attribute) and isinstance(owner, Ref):
            kind, target, args = "method", function.attr, (owner,)
        else:
            called = (
                self.attribute(node, owner, function.attr)
                if isinstance(function, ast.Attribute)
                else self.value(function)
            )
            if not isinstance(called, (_Path, _Name)) or not called.text:
                self.fail(node, "a call of something that is no function or module")
            kind, target = "module" if isinstance(called, _Path) else "function", called.text
        args = (*args, *(self.argument(item) for item in node.args))
        return self.step(node, kind, target, args, {str(k.arg): self.argument(k.value) for k in node.keywords})

    def step(
        self, node: ast.AST, kind: str, target: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Ref:
        if len(self.steps) >= MAX_STEPS:
            self.fail(node, f"more than {MAX_STEPS} calls")
        name = self.target if kind != "attribute" else target
        if name in self.names:
            name = f"{name}_{len(self.steps)}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        self.steps.append(Step(name, kind, target, args, kwargs or {}))
        return Ref(name)
