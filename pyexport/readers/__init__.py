"""Model files -> ir.Graph. The format is told by a file's content, never by its name.

Each format registers one reader: a function (path, archive, options) -> ir.Graph; `.tflite` and ONNX files
are no archives, so their readers take none. None of them needs torch or TensorFlow, or executes anything from the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import (
    keras,
    onnx_brevitas,
    onnx_file,
    onnx_graph,
    onnx_integer,
    onnx_qoperator,
    onnx_shape_ops,
    pt2e,
    tflite,
    torch_save,
    torchscript,
)
from pyexport.readers.archive import ZIP_MAGIC, Archive
from pyexport.readers.damage import reading
from pyexport.readers.options import Options

assert onnx_brevitas and onnx_integer and onnx_qoperator and onnx_shape_ops  # register their operations

Reader = Callable[[Path, Archive, Options], ir.Graph]

# A member that only this format has, or only it and those before it -> its reader.
FORMATS: dict[str, Reader] = {
    "constants.pkl": torchscript.read,
    "models/model.json": pt2e.read,
    "data.pkl": torch_save.read,
    keras.KERAS_WEIGHTS: keras.read_archive,
}

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF"  # the first pickle of torch.save's format before torch 1.6
OWN = "says itself which layers it has; leave out --relu and --arch"
HOW = (
    "save a statically quantised model with torch.jit.save, a PT2E one with torch.export.save, a tfmot one with "
    "model.save, or convert to .tflite or quantised ONNX"
)


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
    if path.is_dir():
        return keras.read(path, options)
    with path.open("rb") as stream:
        start = stream.read(8)
    told = options.relu is not None or options.arch is not None
    if start == keras.HDF5_MAGIC:
        if told:
            raise IntactError(f"{path}: {OWN}")
        return keras.read(path, options)
    if start[4:] == tflite.MAGIC:
        if told:
            raise IntactError(f"{path}: {OWN}")
        return tflite.read(path, options)
    if onnx_file.is_onnx(start):
        return _onnx(path, options)
    if start[:4] != ZIP_MAGIC:
        kind = "a bare pickle, which can run code when opened, and" if start[:1] == b"\x80" else "of an unknown format:"
        if start == LEGACY:
            kind = "in torch.save's old format (_use_new_zipfile_serialization=False), a bare pickle and"
        raise IntactError(f"{path}: is {kind} not a model archive; {HOW}")
    archive = Archive(path)
    for member, reader in FORMATS.items():
        if member in archive:
            if told and reader is not torch_save.read:
                raise IntactError(f"{path}: {OWN}")
            return reader(path, archive, options)
    raise IntactError(f"{path}: is a zip file but no model that INTACT reads; {HOW}")


def _onnx(path: Path, options: Options) -> ir.Graph:
    """Only ONNX files need the package onnx."""
    try:
        return onnx_graph.read(path, options)
    except ModuleNotFoundError as error:
        raise IntactError(f"{path}: ONNX files need the package {error.name}; run `make setup`") from None
