"""Inert pickle records -> NumPy arrays: storages, tensors and quantised tensors of a torch archive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport.readers.archive import Archive
from pyexport.readers.inert import Call, Global, Persistent

Array = npt.NDArray[Any]


MAX_NESTED = 10_000


class TensorError(ValueError):
    """A tensor that cannot be read. Callers turn it into an IntactError that names the layer."""


STORAGES = {
    "torch.BoolStorage": "?",
    "torch.ByteStorage": "u1",
    "torch.CharStorage": "i1",
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.IntStorage": "<i4",
    "torch.LongStorage": "<i8",
    "torch.QInt8Storage": "i1",
    "torch.QInt32Storage": "<i4",
    "torch.QUInt8Storage": "u1",
    "torch.ShortStorage": "<i2",
}


@dataclass(frozen=True, eq=False)
class QTensor:
    """A quantised tensor: codes, and per output channel (or one) float64 scales and int64 zero points."""

    codes: Array
    scale: npt.NDArray[np.float64]
    zero_point: npt.NDArray[np.int64]
    per_channel: bool


def strided(flat: Array, offset: Any, shape: Any, strides: Any) -> Array:
    """A view of a flat storage; every index it can reach is inside, and it is no larger than the storage."""
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(n, int) and 0 <= n <= flat.size for n in numbers):
        raise TensorError(f"a tensor does not fit its storage of {flat.size} values; the file is damaged")
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if math.prod(shape) > flat.size or (0 not in shape and last >= flat.size):
        raise TensorError(f"a tensor of shape {tuple(shape)} reaches outside its storage; the file is damaged")
    if 0 in shape:
        return np.zeros(shape, flat.dtype)
    size = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * size for s in strides], writeable=False)


class Tensors:
    """Decodes the records of an archive's pickles."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def decode(self, record: Any) -> Any:
        """A tensor record becomes an array or a QTensor, a tagged list a list; anything else is returned as it is."""
        return self._decode(record, [MAX_NESTED])

    def _decode(self, record: Any, left: list[int]) -> Any:
        """left: how many records may still be decoded; a hostile file's lists can hold one any number of times."""
        if not isinstance(record, Call):
            return record
        left[0] -= 1
        if left[0] < 0:
            raise TensorError("records are nested without end; the file is damaged")
        name = record.name.rsplit(".", 1)[-1]
        if name == "_rebuild_tensor_v2":
            return self._tensor(*self._arguments(record, 4))
        if name == "_rebuild_qtensor":
            return self._qtensor(left, *self._arguments(record, 5))
        (first,) = self._arguments(record, 1)
        if isinstance(first, (list, tuple)):
            return [self._decode(item, left) for item in first]
        return self._decode(first, left)

    def shape(self, record: Any) -> tuple[int, ...] | None:
        """The shape of a tensor record, without its values; None if it is no tensor."""
        if not isinstance(record, Call) or not record.name.endswith("tensor_v2"):
            return None
        shape = self._arguments(record, 4)[2]
        return tuple(shape) if all(isinstance(n, int) for n in shape) else None

    def _arguments(self, record: Call, count: int) -> tuple[Any, ...]:
        if len(record.args) < count:
            raise TensorError(f"a {record.name} record is incomplete; the file is damaged")
        return record.args[:count]

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> Array:
        if not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise TensorError("a tensor without a shape; the file is damaged")
        return strided(self._storage(storage), offset, shape, strides)

    def _qtensor(self, left: list[int], storage: Any, offset: Any, shape: Any, strides: Any, quantizer: Any) -> QTensor:
        codes = self._tensor(storage, offset, shape, strides)
        kind = quantizer[0] if isinstance(quantizer, tuple) and len(quantizer) >= 3 else None
        scheme = kind.name if isinstance(kind, Global) else ""
        scale, zero_point = (
            (np.atleast_1d(self._decode(value, left)) for value in quantizer[1:3]) if scheme else ((), ())
        )
        if scheme == "torch.per_channel_affine" and quantizer[3:] == (0,):
            return QTensor(codes, np.asarray(scale, np.float64), np.asarray(zero_point, np.int64), True)
        if scheme == "torch.per_tensor_affine":
            return QTensor(codes, np.asarray(scale, np.float64), np.asarray(zero_point, np.int64), False)
        raise TensorError(
            f"weights quantised as {scheme[:60] or 'nothing known'} are not supported; "
            "use per-tensor or per-channel (axis 0) affine or symmetric weights"
        )

    def _storage(self, record: Any) -> Array:
        value = record.value if isinstance(record, Persistent) else None
        if not isinstance(value, tuple) or len(value) < 5 or not isinstance(value[1], Global):
            raise TensorError("a tensor without a storage; the file is damaged")
        dtype = STORAGES.get(value[1].name)
        if dtype is None:
            raise TensorError(f"storage type {value[1].name[:60]} is not supported")
        data = self.archive.read(f"{record.folder}/{value[2]}")
        if len(data) % np.dtype(dtype).itemsize:
            raise TensorError(f"storage {value[2]}: {len(data)} bytes is no whole number of {value[1].name} values")
        return np.frombuffer(data, dtype)
