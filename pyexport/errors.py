"""The one exception that a user is meant to see."""

from __future__ import annotations


class IntactError(Exception):
    """A model, an option or an input that cannot be used.

    The message says what is wrong, where (file, layer, attribute) and what to do about it. The commands print it on
    one line and exit with status 1; nothing else is caught, so any other exception is a bug.
    """
