"""Parsing a damaged file: whatever structure is missing or wrong, the user can only save it again."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pyexport.errors import IntactError


@contextmanager
def reading(path: Path, how: str) -> Iterator[None]:
    """Turns what parsing can raise into one IntactError that names the file. how: the way to save it."""
    try:
        # What Python or NumPy would warn of in a damaged file ends in an error here.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        ArithmeticError, LookupError, TypeError, ValueError, AttributeError, EOFError, RecursionError, MemoryError,
        NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        kind = type(error).__name__
        raise IntactError(f"{path}: is damaged or truncated ({kind}: {str(error)[:100]}); {how}") from error
