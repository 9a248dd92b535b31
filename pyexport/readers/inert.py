"""Pickle bytes -> plain data, without ever calling anything.

A pickle is a program for a small stack machine; Python's own machine imports names and calls them. This one walks the
same opcodes (decoded by `pickletools.genops`, which only splits bytes) and replaces every import and every call by a
record that says what was asked for. There is no import, no call and no attribute access on anything from the file, so
a hostile pickle can at most be refused.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

from pyexport.errors import IntactError

MAX_PICKLE_BYTES = 32 << 20

MAX_OPCODES = 1_000_000
ORDERED = "collections.OrderedDict"
SCRIPT_OBJECT = "torch.ScriptObject"  # whose state is (the state, the name of its class)


@dataclass(frozen=True)
class Dialect:
    """What one kind of archive may ask for. calls: their meaning is elsewhere, here they only become `Call` records.

    classes: the prefix of the names of its instances' classes. kind, hint: for the message that refuses anything else.
    """

    calls: frozenset[str]
    classes: str
    kind: str
    hint: str


TENSORS = {
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_parameter",
    ORDERED,
}
LISTS = {
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.restore_type_tag",
}
OBJECTS = {
    "torch.fx.graph_module.reduce_graph_module",
    "torch.Size",
    "torch.device",
    "__builtin__.set",
    "builtins.set",
}
TORCHSCRIPT = Dialect(
    frozenset(TENSORS | LISTS), "__torch__.", "a TorchScript archive", "write models with torch.jit.save"
)
TORCH_SAVE = Dialect(
    frozenset(TENSORS | OBJECTS), "", "a quantised model saved by torch.save", "or save yours with torch.jit.save"
)


@dataclass(frozen=True, eq=False)
class Global:
    """A name that the pickle would import, e.g. "torch.FloatStorage"."""

    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """A call that the pickle would make."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Persistent:
    """A persistent id: in torch's archives a reference to a storage, which lies in `folder`."""

    value: Any
    folder: str


@dataclass(eq=False)
class Instance:
    """An object of class `name` with the state the pickle would give it; until then, its constructor's arguments."""

    name: str
    state: Any = None


class _Mark:
    """The stack's MARK."""


def load(data: bytes, where: str, folder: str, dialect: Dialect = TORCHSCRIPT) -> Any:
    """Decodes one pickle, whose storages lie in `folder`.

    Raises IntactError, naming `where`, for anything that archives of this dialect do not hold.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise IntactError(f"{where}: a pickle of {len(data)} bytes is larger than the {MAX_PICKLE_BYTES} accepted")
    machine = _Machine(where, folder, dialect)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise IntactError(f"{where}: a pickle of more than {MAX_OPCODES} opcodes is no model's")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except ValueError as error:
        raise IntactError(f"{where}: is no pickle ({str(error)[:100]}); the file is damaged, save it again") from error
    raise IntactError(f"{where}: the pickle has no end; the file is damaged")


class _Machine:
    """The stack, the memo and one method per kind of opcode."""

    CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
    LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
    STORES = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
    TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

    def __init__(self, where: str, folder: str, dialect: Dialect) -> None:
        self.where, self.folder, self.dialect = where, folder, dialect
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise self.damaged()
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which must be of type `kind`."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise self.damaged()
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        items: list[Any] = []
        while self.stack:
            item = self.stack.pop()
            if isinstance(item, _Mark):
                return items[::-1]
            items.append(item)
        raise self.damaged()

    def damaged(self) -> IntactError:
        return IntactError(f"{self.where}: the pickle is inconsistent; the file is damaged, save the model again")

    def step(self, name: str, argument: Any) -> None:
        if name in ("PROTO", "FRAME"):
            return
        if name in self.CONSTANTS:
            self.stack.append(self.CONSTANTS[name])
        elif name in self.LITERALS:
            self.stack.append(argument)
        elif name in self.STORES:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.top(object)
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise self.damaged()
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.stack.append(_Mark())
        elif name == "POP":
            self.pop()
        elif not self.step_container(name) and not self.step_object(name, argument):
            raise IntactError(
                f"{self.where}: pickle opcode {name} is none that torch writes; the file is damaged or no model"
            )

    def step_container(self, name: str) -> bool:
        """Tuples, lists and dictionaries. Returns whether `name` was one of theirs."""
        if name == "EMPTY_TUPLE":
            self.stack.append(())
        elif name == "EMPTY_LIST":
            self.stack.append([])
        elif name == "EMPTY_DICT":
            self.stack.append({})
        elif name == "TUPLE":
            self.stack.append(tuple(self.pop_mark()))
        elif name in self.TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(self.TUPLES[name])][::-1]))
        elif name == "APPEND":
            item = self.pop()
            self.top(list).append(item)
        elif name == "APPENDS":
            items = self.pop_mark()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = self.pop_mark() if name == "SETITEMS" else [self.pop() for _ in range(2)][::-1]
            self.set_items(self.top(dict), pairs)
        else:
            return False
        return True

    def set_items(self, target: dict[Any, Any], pairs: list[Any]) -> None:
        if len(pairs) % 2 or not all(isinstance(key, (str, int)) for key in pairs[::2]):
            raise self.damaged()
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def step_object(self, name: str, argument: Any) -> bool:
        """Imports, calls and instances, all as records. Returns whether `name` was one of theirs."""
        if name == "GLOBAL":
            self.stack.append(Global(str(argument).replace(" ", ".")))
        elif name == "BINPERSID":
            self.stack.append(Persistent(self.pop(), self.folder))
        elif name == "REDUCE":
            args = self.pop()
            self.stack.append(self.call(self.pop(), args))
        elif name == "NEWOBJ":
            args, cls = self.pop(), self.pop()
            if (
                not isinstance(cls, Global)
                or not isinstance(args, tuple)
                or not cls.name.startswith(self.dialect.classes)
            ):
                raise self.refuse(cls)
            self.stack.append(Instance(cls.name, args or None))
        elif name == "BUILD":
            state = self.pop()
            if not isinstance(self.top(object), dict):  # an ordered dictionary's own attributes say nothing of a model
                self.build(self.top(Instance), state)
        else:
            return False
        return True

    @staticmethod
    def build(instance: Instance, state: Any) -> None:
        if (
            instance.name == SCRIPT_OBJECT
            and isinstance(state, tuple)
            and len(state) == 2
            and isinstance(state[1], str)
        ):
            state, instance.name = state
        instance.state = state

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Global) or function.name not in self.dialect.calls or not isinstance(args, tuple):
            raise self.refuse(function)
        if function.name == ORDERED:
            if args:
                raise self.damaged()
            return {}
        return Call(function.name, args)

    def refuse(self, function: Any) -> IntactError:
        name = function.name[:80] if isinstance(function, Global) else type(function).__name__
        return IntactError(
            f"{self.where}: asks for {name!r} to be called, which {self.dialect.kind} never does; nothing was run, "
            f"do not trust this file ({self.dialect.hint})"
        )
