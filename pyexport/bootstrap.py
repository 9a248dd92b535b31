"""Lets the commands start under any Python: one clear line for an old one, the checkout's .venv where packages miss.

Only the standard library, and only syntax that old Pythons read.
"""

import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)


def ready(packages):  # type: (tuple[str, ...]) -> None
    """Returns if this Python can run the command; else re-runs it in .venv, or exits with one line."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit("error: Python 3.11 or later is needed, this is " + found + "; run `make setup PYTHON=python3.11`")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    python = os.path.join(ROOT, ".venv", "bin", "python")
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(ROOT, ".venv")):
        os.execv(python, [python, *sys.argv])
    sys.exit("error: the package " + missing[0] + " is missing; run `make setup` in " + ROOT)
