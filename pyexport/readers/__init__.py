"""Model files -> ir.Graph. The format is told by a file's content, never by its name.

Each format registers one reader: a function (path, archive, options) -> ir.Graph; `.tflite` files are
no archives, so their reader takes none. None of them needs torch or TensorFlow, or executes anything from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import pt2e, tflite, torchscript
from pyexport.readers.archive import ZIP_MAGIC, Archive
from pyexport.readers.damage import reading
from pyexport.readers.options import Options

Reader = Callable[[Path, Archive, Options], ir.Graph]

# A member that only this format has -> its reader.
FORMATS: dict[str, Reader] = {"constants.pkl": torchscript.read, "models/model.json": pt2e.read}

HOW = "save a statically quantised model with torch.jit.save, a PT2E one with torch.export.save, or convert to .tflite"


def read(
    path: str | Path,
    input_shape: tuple[int, ...] | None = None,
    output_range: tuple[float, float] | None = None,
    **more: Any,
) -> ir.Graph:
    """Reads a quantised model.

    input_shape: the model's input in the source's layout without the batch, e.g. (1, 8, 8); needed only where the file
    does not say it. output_range: lowest and highest real output, for files that leave the output unquantised. more:
    the other fields of `Options`. Raises IntactError for anything that cannot be read or is not supported.
    """
    path = Path(path)
    if input_shape is not None and not all(isinstance(n, int) and 0 < n <= 1 << 20 for n in input_shape):
        raise IntactError(f"input shape {input_shape} needs sizes of 1 or more, without the batch")
    with reading(path, HOW):
        return ir.check(_read(path, Options(input_shape, output_range, **more)), str(path))


def _read(path: Path, options: Options) -> ir.Graph:
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[4:] == tflite.MAGIC:
        return tflite.read(path, options)
    if start[:4] != ZIP_MAGIC:
        kind = "a bare pickle, which can run code when opened, and" if start[:1] == b"\x80" else "of an unknown format:"
        raise IntactError(f"{path}: is {kind} not a model archive; {HOW}")
    archive = Archive(path)
    for member, reader in FORMATS.items():
        if member in archive:
            return reader(path, archive, options)
    if "data.pkl" in archive:
        raise IntactError(f"{path}: was written by torch.save, which keeps no layer graph; {HOW}")
    raise IntactError(f"{path}: is a zip file but no model that INTACT reads; {HOW}")
