"""The one exception that a user is meant to see."""

from __future__ import annotations

LONGEST = 850  # characters of a message


class IntactError(Exception):
    """A model, an option or an input that cannot be used.

    The message says what is wrong, where (file, layer, attribute) and what to do about it. The commands print it on
    one line and exit with status 1; nothing else is caught, so any other exception is a bug. Names from a damaged file
    may hold anything: what does not print is shown as Python writes it, and of a long message the middle is left out.
    """

    def __init__(self, text: str) -> None:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 20 * LONGEST])
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}")
