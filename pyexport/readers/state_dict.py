"""state_dict files."""

from __future__ import annotations

from typing import Any


def model_of(archive: Any, top: Any, options: Any) -> Any: ...
def with_functionals(t: Any) -> Any:
    return t
