"""What the tests of bad input share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def message(capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int], arguments: list[str]) -> str:
    """What the command says on its one line of stderr; it must fail."""
    try:
        status = command(arguments)
    except SystemExit as stop:  # how an option is refused
        assert isinstance(stop.code, int)
        status = stop.code
    text = capsys.readouterr().err
    assert status == 1 and text.startswith("error: ") and text.count("\n") == 1 and len(text) < 900, text
    return text


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)
