"""Who may know whom in pyexport/: the golden model and the lowering share only the IR, the quantised layers and the
arithmetic, so that they cannot share a bug. The table below is the rule; a new part needs a line in it.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pyexport"

# A part is a file or a folder directly under pyexport/; inside a folder imports are free. Part -> what it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "ir": {"errors"},
    "arith": {"errors"},
    "hwconfig": {"errors"},
    "isa": {"hwconfig", "errors"},
    "devices": {"hwconfig", "errors"},
    "choice": {"devices", "hwconfig", "errors"},
    "readers": {"ir", "errors"},
    "arch": {"readers", "errors"},
    "runtimes": {"ir", "arith", "errors"},
    "patches": {"ir", "qlayers", "hwconfig"},
    "phases": {"qlayers"},
    "windows": {"qlayers", "fit_add", "hwconfig"},
    "memory": {"qlayers", "patches", "windows", "hwconfig", "errors"},
    "solve": {"arith", "errors"},
    "proof": {"arith", "errors"},
    "fit": {"arith", "runtimes", "solve", "proof", "errors"},
    "qlayers": {"ir", "arith", "errors"},
    "quantise": {"ir", "qlayers", "runtimes", "fit", "fit_add", "join", "overflow", "arith", "errors"},
    "join": {"ir", "qlayers", "arith", "fit", "fit_join", "errors"},
    "fit_join": {"arith", "runtimes", "fit", "proof", "errors"},
    "overflow": {"arith", "errors"},
    "fit_add": {"arith", "errors"},
    "lower": {
        "qlayers",
        "lower_concat",
        "lower_layer",
        "lower_window",
        "memory",
        "phases",
        "windows",
        "isa",
        "hwconfig",
        "errors",
    },
    "lower_concat": {"qlayers", "memory", "isa", "hwconfig", "arith"},
    "lower_layer": {"qlayers", "fit_add", "lower_concat", "memory", "patches", "phases", "isa", "hwconfig", "arith"},
    "lower_window": {"lower_layer", "windows", "isa"},
    "images": {"isa", "hwconfig", "lower", "errors"},
    "golden": {"ir", "qlayers", "arith", "hwconfig", "errors"},
    "inputs": {"errors"},
    "verify": {"golden", "qlayers", "readers", "runtimes", "arch", "torch_program", "errors"},
    "torch_program": {"readers", "errors"},
    "calibrate": {"readers", "torch_program", "errors"},
    "manifest": {"ir", "qlayers", "isa", "lower", "lower_layer", "phases", "fit_add"},
    "explain": {"ir", "qlayers", "arith", "fit_add", "golden", "errors"},
    "report": {"verify", "errors"},
    "bootstrap": set(),
}
# The command joins the parts: the only one that may import them all, and that none of them imports.
JOINS = "export"

# Packages from outside that a part may import; every part may import the standard library.
EVERYWHERE = {"numpy"}
ONLY_IN: dict[str, set[str]] = {
    "rich": {"export", "report"},
    "flatbuffers": {"readers"},
    "torch": {"arch", "verify", "torch_program", "calibrate"},
    "torchao": {"calibrate"},
    "onnx": {"readers", "verify", "calibrate"},
    "onnxruntime": {"verify", "calibrate"},
    "qonnx": {"verify"},
    "h5py": {"readers"},
    "tensorflow": {"verify"},
    "tensorflow_model_optimization": {"verify"},
    "tf_keras": {"verify"},
    "ai_edge_litert": {"verify"},
}

FILES = sorted(path for path in (ROOT / PACKAGE).rglob("*.py") if path != ROOT / PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    """The part that a file of pyexport/ belongs to."""
    first = path.relative_to(ROOT / PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, at its top or inside a function, literal dynamic imports
    included. `from pyexport import ir` counts as pyexport.ir.
    """
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            name = node.args[0] if node.args else None
            yield node.lineno, name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else "?"


def fault(part: str, name: str) -> str | None:
    """Why `part` may not import the dotted `name`, or None."""
    top, *rest = name.split(".")
    if top == PACKAGE:
        target = rest[0] if rest else ""
        if target == part or part == JOINS:
            return None
        if target == JOINS:
            return f"nothing imports {PACKAGE}.{JOINS}"
        if target not in MAY_IMPORT:
            return f"{PACKAGE}.{target} is not in this test's table MAY_IMPORT: add the part and what it may import"
        if target not in MAY_IMPORT[part]:
            return f"{part} may import only {', '.join(sorted(MAY_IMPORT[part])) or 'nothing of pyexport'}"
        return None
    if name == "?":
        return "an import by a computed name can't be checked"
    if top in sys.stdlib_module_names or top in EVERYWHERE or part in ONLY_IN.get(top, ()):
        return None
    if top in ONLY_IN:
        return f"{top} belongs to {', '.join(sorted(ONLY_IN[top]))}"
    return f"{PACKAGE} needs no {top}: NumPy and the standard library carry it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    part = part_of(path)
    assert part == JOINS or part in MAY_IMPORT, (
        f"{path.relative_to(ROOT)}: the part {part!r} is not in this test's table MAY_IMPORT: add what it may import"
    )
    faults = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}: {why}"
        for line, name in imported(path)
        if (why := fault(part, name)) is not None
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_the_table_has_no_cycle() -> None:
    assert set().union(*MAY_IMPORT.values()) <= set(MAY_IMPORT)
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_the_golden_model_and_the_lowering_are_apart() -> None:
    assert not MAY_IMPORT["golden"] & {"lower", "isa", "images", "fit", "runtimes", "quantise"}
    assert "golden" not in MAY_IMPORT["lower"] | MAY_IMPORT["images"] | MAY_IMPORT["isa"]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("golden", "pyexport.lower.Program"),
        ("lower", "pyexport.golden"),
        ("ir", "pyexport.export"),
        ("ir", "pyexport.new_part"),
        ("readers", "torch"),
        ("export", "torch.ao"),
        ("export", "sim.run"),
        ("fit", "rich.table"),
        ("readers", "?"),
    ],
)
def test_a_forbidden_import_is_found(part: str, name: str) -> None:
    assert fault(part, name) is not None


def test_imports_of_every_form_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import pyexport.a\nfrom pyexport import b\nfrom . import c\nfrom ..d import e\n"
        "def f():\n    import g.h\n    importlib.import_module('i')\n    __import__(j)\n"
    )
    path = tmp_path / PACKAGE / "part" / "file.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    names = [name for _, name in imported(path)]
    assert sorted(names) == sorted(["pyexport.a", "pyexport.b", "pyexport.part.c", "pyexport.d.e", "g.h", "i", "?"])
