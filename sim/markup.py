"""HTML and SVG as text: whatever is not markup already is escaped."""

from __future__ import annotations

import html


class Markup(str):
    """Text that is markup and stays as it is."""


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """`<name ...>children</name>`; `class_` is class, `stroke_width` stroke-width. None leaves an attribute out."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = join(*children)
    return Markup(f"<{name}{text}>" if name in ("meta", "br") else f"<{name}{text}>{inner}</{name}>")


def join(*parts: str) -> Markup:
    """Parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
