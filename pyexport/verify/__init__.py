"""The golden model against the source's own runtime, on the same inputs, tensor by tensor.

A runtime is a module of this folder, imported only when it is asked for, because it needs the source's framework. It
has one function:

    run(model: Path, network: Network, codes: int64 (N, *input shape), real: float32, the same shape) -> Run

`codes` are input codes in the source's type and layout, `real` the values that they stand for. The runtime of a file
that does not say its model alone takes what the user said about it too, as `said`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import golden, runtimes
from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run

IntArray = npt.NDArray[np.int64]

Runtime = Callable[..., Run]


def _torchscript() -> Runtime:
    from pyexport.verify import torchscript

    return torchscript.run


def _onnx() -> Runtime:
    from pyexport.verify import onnx

    return onnx.run


def _pt2e() -> Runtime:
    from pyexport.verify import pt2e

    return pt2e.run


def _state_dict() -> Runtime:
    from pyexport.verify import state_dict

    return state_dict.run


def _qonnx() -> Runtime:
    from pyexport.verify import qonnx

    return qonnx.run


def _micronet() -> Runtime:
    from pyexport.verify import micronet

    return micronet.run


def _keras() -> Runtime:
    from pyexport.verify import keras

    return keras.run


def _tflite() -> Runtime:
    from pyexport.verify import tflite

    return tflite.run


# Kind of file -> its runtime, imported only when asked for.
RUNTIMES: dict[str, Callable[[], Runtime]] = {
    "torchscript": _torchscript,
    "pt2e": _pt2e,
    "onnx": _onnx,
    "qonnx": _qonnx,
    "state-dict": _state_dict,
    "micronet": _micronet,
    "keras": _keras,
    "tflite": _tflite,
}
SAYS_LITTLE = {"state-dict", "micronet"}  # the kinds whose runtime takes `said`
# Kinds of file that are not run, and why.
REFUSED = {
    "torch-module": "loading a module saved by torch.save runs code from the file, which INTACT never does; save it "
    "with torch.jit.save too and verify that file: its integers are the same"
}


@dataclass(frozen=True)
class Compared:
    """One tensor: outputs compared, how many differ, by how many codes at most; the first one's index, the golden
    model's code there and the runtime's.
    """

    layer: str
    tensor: str
    compared: int
    differing: int
    largest: int
    first: tuple[int, ...] | None
    codes: tuple[int, int] | None


@dataclass(frozen=True)
class Verification:
    """tensors: in the order of the layers, the output last. runtime, notes, doubts, promised: as the runtime says."""

    runtime: str
    inputs: int
    tensors: tuple[Compared, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    promised: bool = True

    @property
    def equal(self) -> bool:
        """Whether no tensor that was compared differs."""
        return not any(one.differing for one in self.tensors)

    @property
    def output(self) -> Compared:
        return self.tensors[-1]


def verify(
    model: Path, source: str, network: Network, codes: IntArray, said: Mapping[str, Any] | None = None
) -> Verification:
    """Runs both. source: the kind of file. codes: int64 (N, *input shape), in the source's type and layout. said: what
    the user said about the file: relu, arch and input_shape, as `export.export` takes them.

    Raises IntactError where the runtime is not installed or cannot run the file.
    """
    quant = network.tensors[network.input.tensor].quant
    real = (codes - quant.zero_point).astype(np.float32) * quant.scale
    # a QCDQ file runs in both; which one is meant, the arithmetic to match says
    kind = "qonnx" if (source, network.match) == ("onnx", "qonnx") else source
    run = _run(kind, model, network, codes, real, said or {})
    ours = golden_tensors(network, codes)
    found = []
    for layer in network.layers:
        if layer.output in run.tensors and (layer.output != network.output.tensor or network.tail):
            found.append(_compare(layer.name, layer.output, ours[layer.output], run.tensors[layer.output]))
    last, tail = network.output.tensor, network.tail
    if tail is None:
        found.append(_compare("output", last, ours[last], run.tensors[last]))
    else:
        shown = np.asarray(network.output.from_hwc(ours[last]), np.int64)
        result = runtimes.softmax_codes(shown, tail.source, tail.target, tail.beta, network.match)
        found.append(_compare("output", tail.name, result, run.tensors[tail.name]))
    return Verification(run.runtime, len(codes), tuple(found), run.notes, run.doubts, run.promised)


def golden_tensors(network: Network, codes: IntArray) -> dict[str, IntArray]:
    """Source codes (N, *input shape) -> every tensor's codes in the source's type, int64 (N, H, W, C)."""
    shift = network.tensors[network.input.tensor].shift
    tensors = golden.run(network, (network.input.to_hwc(codes) + shift).astype(np.int8))
    return {name: values.astype(np.int64) - network.tensors[name].shift for name, values in tensors.items()}


def driving_codes(network: Network, count: int, seed: int = 0) -> IntArray:
    """(count, *input shape): all lowest, all highest, the zero point alone, then random codes over the whole range."""
    quant = network.tensors[network.input.tensor].quant
    low, high = quant.range
    codes = np.random.default_rng(seed).integers(low, high + 1, (count, *network.input.shape))
    for row, value in zip(codes, (low, high, quant.zero_point), strict=False):
        row[...] = value
    return codes


def _run(
    source: str,
    model: Path,
    network: Network,
    codes: IntArray,
    real: npt.NDArray[np.float32],
    said: Mapping[str, Any],
) -> Run:
    if source in REFUSED:
        raise IntactError(f"--verify: {model}: {REFUSED[source]}")
    if source not in RUNTIMES:
        raise IntactError(f"--verify: there is no runtime to compare {source} models with")
    try:
        run = RUNTIMES[source]()
    except ModuleNotFoundError as error:
        where = "docs/quantizers.md says how"
        raise IntactError(f"--verify needs the package {error.name}; {where} to install it") from None
    return run(model, network, codes, real, said) if source in SAYS_LITTLE else run(model, network, codes, real)


def _compare(layer: str, tensor: str, ours: IntArray, theirs: IntArray) -> Compared:
    if ours.shape != theirs.shape:
        raise IntactError(f"layer {layer!r}: the runtime's result has shape {theirs.shape[1:]}, ours {ours.shape[1:]}")
    wrong = np.argwhere(ours != theirs)
    first = tuple(int(i) for i in wrong[0]) if len(wrong) else None
    codes = (int(ours[first]), int(theirs[first])) if first else None
    return Compared(layer, tensor, ours.size, len(wrong), int(np.abs(ours - theirs).max(initial=0)), first, codes)
