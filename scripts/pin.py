"""Resolve the dependency groups of pyproject.toml and write one fully pinned requirements/<group>.txt for each.

All groups are resolved together, so that one set of versions serves every group, and each file then lists the
transitive closure of its own group. Run it with the oldest Python that is supported:

    .venv/bin/python scripts/pin.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def canonical(name: str) -> str:
    """The name of a distribution as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(requirements: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Ask pip what it would install: canonical name -> (version without local part, requirement strings)."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(subprocess.run([*command, *requirements], check=True, stdout=subprocess.PIPE).stdout)
    found = {}
    for item in report["install"]:
        meta = item["metadata"]
        found[canonical(meta["name"])] = (meta["version"].split("+")[0], meta.get("requires_dist", []))
    return found


def closure(roots: list[str], found: dict[str, tuple[str, list[str]]]) -> dict[str, set[str]]:
    """Every package that `roots` need, each with who asked for it. Packages that pip left out are not ours to pin."""
    via: dict[str, set[str]] = {}
    todo = [(root, "") for root in roots]
    while todo:
        requirement, parent = todo.pop()
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        name = canonical(match.group())
        if name not in found:
            continue
        if name not in via:
            via[name] = set()
            todo += [(child, name) for child in found[name][1]]
        if parent:
            via[name].add(parent)
    return via


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups: dict[str, list[str]] = project["project"]["optional-dependencies"]
    settings = project["tool"]["intact"]["pin"]
    found = resolve(sorted({r for group in groups.values() for r in group} | set(settings["constraints"])))
    for name in settings["omit"]:
        found.pop(name)
    for group, roots in groups.items():
        lines = ["# Written by scripts/pin.py from pyproject.toml; do not edit."]
        # torch's own needs are pinned with the group beside it: its file names the one package that needs an index.
        wanted = closure(roots if group != "model" else [*roots, *groups["torch"]], found)
        if group == "torch":
            wanted = {"torch": set()}
        elif group == "model":
            wanted.pop("torch")
        for name, parents in sorted(wanted.items()):
            note = f"  # via {', '.join(sorted(parents))}" if parents else ""
            lines.append(f"{name}=={found[name][0]}{note}")
        (ROOT / "requirements" / f"{group}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
