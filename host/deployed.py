"""An exported network as a host sees it: what to load, how inputs become frames, and what output frames mean.

Everything comes from the export's folder: manifest.json and the memory images beside it (docs/formats.md). The model's
file and its framework are not needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from host.client import memory_image
from pyexport import runtimes
from pyexport.errors import IntactError
from pyexport.hwconfig import PROGRAM_BITS, HwConfig
from pyexport.inputs import Array, with_batch
from pyexport.ir import Port, Quant
from pyexport.isa import HEADER, MAGIC
from pyexport.patches import Patches
from pyexport.qlayers import QTensor
from pyexport.quantise import input_codes

VERSION = 1  # of the manifest's layout


@dataclass(frozen=True)
class Frame:
    """How a tensor lies in a frame: lines of `row_words` words, a pixel every `pixel_words`, words of `rows` bytes.

    patches: the windows that take the place of the pixels.
    """

    port: Port
    tensor: QTensor
    words: int
    row_words: int
    pixel_words: int
    rows: int
    patches: Patches | None

    @property
    def size(self) -> int:
        """Bytes of a frame."""
        return self.words * self.rows

    @property
    def _map(self) -> tuple[int, int, int]:
        return self.patches.shape if self.patches else self.tensor.shape

    def pack(self, codes: npt.NDArray[np.int64]) -> list[bytes]:
        """Source codes (N, *source shape) -> N frames; what is no code is zero."""
        chip = (self.port.to_hwc(codes) + self.tensor.shift).astype(np.int8)
        if self.patches:
            chip = self.patches.gather(chip)
        height, width, channels = self._map
        frames = np.zeros((len(chip), height, self.row_words * self.rows), np.int8)
        step = self.pixel_words * self.rows
        for x in range(width):
            frames[:, :, x * step : x * step + channels] = chip[:, :, x]
        return [frame.tobytes() for frame in frames]

    def unpack(self, frames: list[bytes]) -> Array:
        """N frames -> source codes (N, *source shape) in the source's own type."""
        height, width, channels = self._map
        lines = np.frombuffer(b"".join(frames), np.int8).reshape(len(frames), height, self.row_words * self.rows)
        step = self.pixel_words * self.rows
        pixels = [lines[:, :, x * step : x * step + channels] for x in range(width)]
        chip = np.stack(pixels, axis=2).astype(np.int16)
        return self.port.from_hwc((chip - self.tensor.shift).astype(self.tensor.quant.dtype))


@dataclass(frozen=True)
class Tail:
    """A softmax that the host computes from the output's codes. target: of the codes that it gives."""

    beta: float
    target: Quant


@dataclass(frozen=True)
class Layer:
    """A layer's name and the cycles that it takes."""

    name: str
    cycles: int


@dataclass(frozen=True)
class Deployed:
    """The network of a manifest.

    used: words in use of each memory, by the names of client.LOAD_TARGETS; files: their images.  empty: those that its
    board's bitstream cannot fill.  told: whether the manifest says which board it is for, and so what that cannot fill.
    real_values: the rule by which real inputs become codes.  cycles: of one inference.
    """

    path: Path
    hardware: HwConfig
    match: str
    source: Frame
    target: Frame
    real_values: str
    tail: Tail | None
    layers: tuple[Layer, ...]
    used: dict[str, int]
    files: dict[str, str]
    empty: tuple[str, ...]
    told: bool
    act_words: int
    jobs: int

    @property
    def cycles(self) -> int:
        """Predicted cycles of one inference."""
        return sum(layer.cycles for layer in self.layers)

    def encode(self, values: Array, path: str) -> list[bytes]:
        """Codes (integers) or real values (floats) of file `path`, [N, *source shape] -> N input frames.

        Raises IntactError on a wrong shape or dtype, on codes out of range and on NaN.
        """
        given = with_batch(values, self.source.port.shape, path)
        return self.source.pack(input_codes(self.source.tensor, given, self.real_values, path))

    def decode(self, frames: list[bytes]) -> Array:
        """N output frames -> the model's output codes [N, *source shape]; a softmax at the end is computed here."""
        codes = self.target.unpack(frames)
        if self.tail is None:
            return codes
        quant, tail = self.target.tensor.quant, self.tail
        found = runtimes.softmax_codes(codes, quant, tail.target, tail.beta, self.match)
        return found.astype(tail.target.dtype)

    def real(self, codes: Array) -> npt.NDArray[np.float32]:
        """Output codes -> real values: scale * (code - zero point), in float32."""
        quant = self.tail.target if self.tail else self.target.tensor.quant
        return (codes.astype(np.int32) - quant.zero_point).astype(np.float32) * quant.scale

    def labels(self, codes: Array) -> npt.NDArray[np.int64]:
        """Output codes [N, classes] -> class numbers [N], the first of equal scores.

        Raises IntactError where the output is no list of scores.
        """
        shape = codes.shape[1:]
        if sum(size > 1 for size in shape) > 1:
            raise IntactError(f"labels: the model's output {list(shape)} is no list of scores; leave --labels out")
        return np.asarray(codes.reshape(len(codes), -1).argmax(axis=1), np.int64)

    def to_load(self, targets: Collection[str]) -> list[str]:
        """Those of `targets` that the network has, the program always and last: without its header nothing runs."""
        return [target for target in self.used if target in targets and target != "PROGRAM"] + ["PROGRAM"]

    def image(self, target: str) -> tuple[list[int], int]:
        """The words in use of a memory, and their width on the link in bits. Raises IntactError."""
        path = self.path.parent / self.files[target]
        try:
            words = memory_image(path)[: self.used[target]]
        except OSError as error:
            raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise IntactError(f"{path}: is not a memory image ({error})") from error
        hardware = self.hardware
        stored = {"PROGRAM": PROGRAM_BITS, "WEIGHTS": hardware.wgt_bits, "PARAMS": hardware.prm_bits, "TABLES": 8}[
            target
        ]
        if len(words) < self.used[target] or any(word >> stored for word in words):
            raise IntactError(f"{path}: is not the image that {self.path.name} describes; export again")
        if target == "PROGRAM":
            self._check_program(words, path)
        return words, max(32, stored)

    def _check_program(self, words: list[int], path: Path) -> None:
        """The program's header says what the manifest says: both are of one export."""
        fields = {f.name: words[f.word] >> f.lsb & ((1 << f.bits) - 1) for f in HEADER}
        hardware = self.hardware
        wanted = {
            "magic": MAGIC, "rows": hardware.rows, "cols": hardware.cols, "lanes": hardware.lanes, "jobs": self.jobs,
            "in_words": self.source.words, "out_words": self.target.words, "layers": len(self.layers),
            "act_words": self.act_words, "wgt_words": self.used["WEIGHTS"], "prm_words": self.used["PARAMS"],
            "tables": self.used.get("TABLES", 0) // 256, "packed": hardware.packed, "prm_serial": hardware.prm_serial,
        }  # fmt: skip
        for name, value in wanted.items():
            if fields[name] != value:
                message = f"{path}: {name} is {fields[name]}, {self.path.name} says {value}; export again"
                raise IntactError(message)


def load(path: Path) -> Deployed:
    """Reads a manifest. Raises IntactError where it cannot be read, is none, or lacks what the host needs."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise IntactError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise IntactError(f"{path}: is not JSON ({error})") from error
    try:
        if data["version"] != VERSION:
            raise IntactError(f"{path}: layout version {data['version']!r}; this client reads version {VERSION}")
        return _deployed(path, data)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise IntactError(f"{path}: is not a manifest of this version's export.py ({error!r}); export again") from error


def _deployed(path: Path, data: dict[str, Any]) -> Deployed:
    hardware = HwConfig(**{name.lower(): int(value) for name, value in data["hardware"].items()})
    memory, names = data["memory"], data["memory"]["files"]
    used = {
        "PROGRAM": int(memory["program_words"]),
        "WEIGHTS": int(memory["weight_words"]),
        "PARAMS": int(memory["parameter_words"]),
    }
    files = {"PROGRAM": str(names["program"]), "WEIGHTS": str(names["weights"]), "PARAMS": str(names["parameters"])}
    if memory["tables"]:
        used["TABLES"], files["TABLES"] = 256 * int(memory["tables"]), str(names["tables"])
    low, high = data["input"]["code_range"]
    tail = data["host_tail"]
    if tail is not None and tail["op"] != "softmax":
        raise ValueError(f"host_tail {tail['op']!r}")
    return Deployed(
        path=path,
        hardware=hardware,
        match=str(data["match"]),
        source=_frame(data["input"], hardware.rows, (int(low), int(high))),
        target=_frame(data["output"], hardware.rows, None),
        real_values=str(data["input"]["real_values"]),
        tail=None if tail is None else Tail(float(tail["beta"]), _quant(tail, None)),
        layers=tuple(Layer(str(layer["name"]), int(layer["predicted_cycles"])) for layer in data["layers"]),
        used=used,
        files=files,
        empty=tuple(name for name in used if name.lower() in data.get("fit", {}).get("load", ())),
        told="fit" in data,
        act_words=int(memory["activation_words"]),
        jobs=len(data["program"]),
    )


def _quant(data: dict[str, Any], limits: tuple[int, int] | None) -> Quant:
    if data["dtype"] not in ("int8", "uint8"):
        raise ValueError(f"dtype {data['dtype']!r}")
    return Quant(np.float32(data["scale"]), int(data["zero_point"]), data["dtype"], limits)


def _frame(data: dict[str, Any], rows: int, limits: tuple[int, int] | None) -> Frame:
    quant = _quant(data, limits)
    height, width, channels = map(int, data["shape_hwc"])
    shift = int(data["code_shift_on_chip"])
    tensor = QTensor(str(data["tensor"]), (height, width, channels), quant.zero_point + shift, shift, quant)
    first, second, third = data["source_axes_of_hwc"]
    port = Port(tensor.name, tuple(map(int, data["source_shape"])), (first, second, third))
    patches = None
    if (given := data["patches"]) is not None:
        out_h, out_w, taps = map(int, given["shape"])
        (kernel_h, kernel_w), (stride_h, stride_w) = given["kernel"], given["stride"]
        top, bottom, left, right = given["padding_top_bottom_left_right"]
        down, across = given["dilation"]
        patches = Patches(
            (out_h, out_w, taps), (kernel_h, kernel_w), (stride_h, stride_w), (top, bottom, left, right),
            (down, across), tensor.zero_point,
        )  # fmt: skip
    frame = Frame(port, tensor, int(data["words"]), int(data["row_words"]), int(data["pixel_words"]), rows, patches)
    if frame.words != (patches.shape if patches else tensor.shape)[0] * frame.row_words:
        raise ValueError(f"{frame.words} words of tensor {tensor.name!r}")
    return frame
