"""Input files: .npy or .npz arrays of codes or real values, in the model's own layout."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyexport.errors import IntactError

KEY = "inputs"  # the array of an .npz that holds the inputs, where it has several
Array = npt.NDArray[np.generic]


def load_arrays(path: str | Path) -> dict[str, Array]:
    """Every array of an .npz by name; an .npy is one named `inputs`. Pickled objects are refused, never opened."""
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {KEY: loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it is a zip file of something else")
    except OSError as error:
        raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        ValueError, EOFError, KeyError, TypeError, SyntaxError, RuntimeError, MemoryError, OverflowError,
        tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise IntactError(f"{path}: is not a .npy or .npz file of plain numbers ({error})") from error
    return arrays


def pick(arrays: dict[str, Array], path: str | Path) -> Array:
    """The inputs among an .npz's arrays: the one named `inputs`, or the only one."""
    if KEY in arrays:
        return arrays[KEY]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise IntactError(f"{path}: holds arrays {', '.join(sorted(arrays))}; name the one with the inputs {KEY!r}")


def with_batch(values: Array, shape: tuple[int, ...], path: str | Path) -> Array:
    """Checks that values are (N, *shape) with N >= 1; a single input without the batch axis gets one."""
    if values.shape == shape:
        values = values[np.newaxis]
    if values.shape[1:] != shape or not len(values):
        wanted = ", ".join(["N", *map(str, shape)])
        raise IntactError(f"{path}: inputs have shape {values.shape}; the model takes [{wanted}]")
    return values
