"""What takes minutes and runs in `make test-gate` alone: INTACT_GATES names the families, separated by commas."""

from __future__ import annotations

import os

import pytest


def in_gate(family: str) -> pytest.MarkDecorator:
    """Skips a test unless `family` is asked for."""
    asked = os.environ.get("INTACT_GATES", "").split(",")
    return pytest.mark.skipif(family not in asked, reason="minutes: make test-gate")
