"""TorchScript archives (torch.jit.save of a scripted or traced, frozen or plain, statically quantised model).

Comes in: constants.pkl and data.pkl with their storages, and the code text. Goes out: an ir.Graph. torch is not needed
and nothing in the file is executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import inert, torch_shape_ops
from pyexport.readers.archive import Archive
from pyexport.readers.builder import Builder, NeedsInput, Value
from pyexport.readers.options import Options
from pyexport.readers.packed import Unpacker
from pyexport.readers.script import Interpreter, Sources
from pyexport.readers.tensors import Tensors
from pyexport.readers.torch_ops import Context

assert torch_shape_ops  # registers its operations

LARGEST_SQUARE = 512
MAX_STEPS = 5_000_000  # of all attempts at finding the input's shape together


class Follows(Protocol):
    """An opened file whose layers can be followed for any input shape. steps: how many operations it took so far."""

    archive: Archive
    steps: int

    def follow(self, builder: Builder) -> Value: ...


class Model:
    """An opened archive: what does not depend on the input's shape."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.sources = Sources(archive)
        self.tensors = Tensors(archive)
        self.unpacker = Unpacker(self.tensors)
        constants = self.tensors.decode(self._load("constants.pkl", "constants"))
        top = self._load("data.pkl", "data")
        if not isinstance(top, inert.Instance) or not isinstance(constants, (list, tuple)):
            raise IntactError(f"{archive.file}: data.pkl holds no module; save the model with torch.jit.save")
        self.top, self.constants = top, list(constants)
        self.steps = 0
        if "byteorder" in archive and archive.text("byteorder").strip() != "little":
            raise IntactError(f"{archive.file}: was written on a big-endian machine; save it on a little-endian one")

    def _load(self, member: str, folder: str) -> Any:
        return inert.load(self.archive.read(member), f"{self.archive.file}: {member}", folder)

    def follow(self, builder: Builder) -> Value:
        """Follows forward() from the builder's input; the layers end up in the builder."""
        interpreter: Interpreter
        context = Context(builder, self.unpacker, lambda: interpreter.location())
        interpreter = Interpreter(self.sources, context.call, self.constants)
        try:
            result = interpreter.call_method(self.top, "forward", [builder.input])
        finally:
            self.steps += interpreter.steps
        if not isinstance(result, Value):
            raise IntactError(f"{builder.file}: forward gives no single tensor; accepted are one input and one output")
        return result

    def traced_shape(self) -> tuple[int, ...] | None:
        """The shape, without batch, that torch.jit.trace recorded."""
        if "traced_inputs.pkl" not in self.archive:
            return None
        calls = self.tensors.decode(self._load("traced_inputs.pkl", "traced_inputs"))
        inputs = calls.get("forward") if isinstance(calls, dict) else None
        items = inputs.args[0] if isinstance(inputs, inert.Call) and inputs.args else None
        shape = self.tensors.shape(items[0]) if isinstance(items, list) and len(items) == 1 else None
        return shape[1:] if shape else None

    def extra_shape(self) -> tuple[int, ...] | None:
        """The shape, without batch, in the extra file `input_shape`, a JSON list with the batch first."""
        if "extra/input_shape" not in self.archive:
            return None
        where = f"{self.archive.file}: extra file 'input_shape'"
        try:
            shape = json.loads(self.archive.text("extra/input_shape"))
        except (ValueError, RecursionError) as error:
            raise IntactError(f"{where}: is no JSON list of sizes such as [1, 1, 8, 8]") from error
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape[1:]) or len(shape) < 2:
            raise IntactError(f"{where}: is no list of sizes, batch first, such as [1, 1, 8, 8]")
        return tuple(shape[1:])


def read(
    path: Path,
    archive: Archive,
    options: Options,
) -> ir.Graph:
    """The graph of a TorchScript archive. input_shape: the source's, without batch; found in the file if None.

    output_range is not needed: the output is quantised in the file.
    """
    model = Model(archive)
    notes: list[str] = []
    shape = options.input_shape
    sources = (("the extra file input_shape", model.extra_shape), ("the traced example", model.traced_shape))
    for source, found in sources:
        if shape is None and (shape := found()) is not None:
            notes.append(f"input shape {shape} from {source}")
    if shape is None:
        shape = solve(model)
        notes.append(f"input shape {shape}: the only one that fits all layers")
    builder = Builder(archive.file, shape)
    builder.notes += notes
    result = model.follow(builder)
    if result.quantised:
        builder.notes.append("the model returns codes; their scale and zero point are the output tensor's")
    return builder.finish(result, path.stem, "torchscript", "fbgemm")


def solve(model: Follows) -> tuple[int, ...]:
    """The input's shape from the layers: the features of a first linear layer, or the only square map that chains."""
    file = model.archive.file
    try:
        model.follow(Builder(file, (0, 64, 64), probe=True))
    except NeedsInput as need:
        channels, spatial = need.channels, need.spatial
    else:
        raise IntactError(f"{file}: the model has no quantised convolution or linear layer; quantise it before saving")
    if not spatial:
        return (channels,)
    shapes = []
    for size in range(1, LARGEST_SQUARE + 1):
        try:
            model.follow(Builder(file, (channels, size, size)))
        except IntactError as error:
            problem = error
        else:
            shapes.append((channels, size, size))
        if len(shapes) > 1 or model.steps > MAX_STEPS:
            break
    if not shapes:
        raise problem
    if model.steps > MAX_STEPS:
        raise IntactError(f"{file}: does not say its input's shape and is too large to find it; give --input-shape")
    if len(shapes) > 1:
        raise IntactError(
            f"{file}: does not say its input's shape, and several fit ({shapes[0]}, {shapes[1]}, ...); give "
            f"--inputs FILE or --input-shape, e.g. --input-shape {channels},32,32"
        )
    return shapes[0]
