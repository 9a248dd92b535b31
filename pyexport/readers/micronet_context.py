"""What micronet's layers work on while they are read: real tensors on their way into codes.

micronet quantises at the input of each layer. So a layer's result is real until the layers that read it say into which
codes it goes: `Real` is such a result on its way, and it is written once for each grid of codes. Layers before the
first quantised one stay real (`Host`); the graph begins behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import micronet_codes as codes
from pyexport.readers.builder import Builder, Pair, Value
from pyexport.readers.calls import Module, Topology
from pyexport.readers.micronet_codes import Grid, QuantiserError, Sum

Array = npt.NDArray[Any]
State = Mapping[str, Array]
ACTIVATIONS, WEIGHTS = "activation_quantizer", "weight_quantizer"
FLOAT_BITS = 32  # micronet's way of saying that a quantiser does nothing


@dataclass(frozen=True, eq=False)
class Host:
    """A tensor before the first quantised layer. base: its shape before it was flattened; steps: the layers so far."""

    shape: tuple[int, ...]
    base: tuple[int, ...]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Real:
    """A real tensor behind a quantised layer.

    layer: its name. shape: no batch. write: writes it for codes of a grid. sum: its constants, where a batch norm may
    still change them, and what writes these. steps: what follows on the codes, which is the same because quantising is
    monotone. last: a step that only the output may follow: an average of real numbers, a softmax. written: by grid.
    """

    layer: str
    shape: tuple[int, ...]
    write: Callable[[Grid], Value]
    sum: tuple[Sum, Callable[[Sum, Grid], Value]] | None = None
    steps: tuple[Callable[[Value, Grid], Value], ...] = ()
    last: str | None = None
    mean: bool = False
    written: dict[Grid, Value] = field(default_factory=dict)

    def then(self, shape: tuple[int, ...], step: Callable[[Value, Grid], Value], average: str | None = None) -> Real:
        """average: the layer's name where the step averages real numbers."""
        return Real(
            self.layer,
            shape,
            self.write,
            None,
            (*self.steps, step),
            average or self.last,
            self.mean or average is not None,
        )

    @staticmethod
    def of_sum(layer: str, shape: tuple[int, ...], constants: Sum, writer: Callable[[Sum, Grid], Value]) -> Real:
        return Real(layer, shape, lambda grid: writer(constants, grid), (constants, writer))


def kind_of(topology: Topology, path: str) -> str | None:
    """Whose activation quantiser the layer has: "dorefa", "iao" or None."""
    quantiser = topology.modules.get(f"{path}.{ACTIVATIONS}")
    if quantiser is None:
        return None
    if "a_bits" in quantiser.attributes:
        return "dorefa"
    return "iao" if "bits" in quantiser.attributes and "scale" in quantiser.shapes else None


class Context:
    """layer: the one being read. kinds: the quantisers met so far. start: the tensor that the network begins with."""

    def __init__(self, file: str, topology: Topology, state: State) -> None:
        self.file, self.topology, self.state, self.layer = file, topology, state, ""
        self.kinds: set[str] = set()
        self.start: Host | None = None
        self.built: Builder | None = None
        self.notes: list[str] = []

    @property
    def builder(self) -> Builder:
        assert self.built is not None  # there is a real tensor only behind a quantised layer
        return self.built

    def fail(self, text: str) -> NoReturn:
        raise IntactError(f"{self.file}: layer {self.layer!r}: {text}")

    # --- between real numbers and codes ----------------------------------------------------------------------------

    def tensor(self, name: str, like: tuple[int, ...] | None = None) -> Array:
        """A tensor of the checkpoint. like: the shape that it must have; by default as the class has it."""
        path, _, own = name.rpartition(".")
        shape = like or self.topology.modules[path].shapes.get(own)
        if name not in self.state:
            self.fail(f"the checkpoint has no tensor {name!r}; it was saved from another class than --arch names")
        found = np.asarray(self.state[name])
        if shape is not None and found.shape != shape:
            self.fail(f"tensor {name!r} has shape {found.shape}, the class {shape}; give the class that was trained")
        if found.dtype != np.float32 and found.dtype != np.float64:
            self.fail(f"tensor {name!r} has type {found.dtype}; train and save in float32")
        if not np.isfinite(found).all():
            self.fail(f"tensor {name!r} holds a value that is not finite; train it again")
        return found

    def bias(self, module: Module) -> Array | None:
        return self.tensor(f"{self.layer}.bias") if "bias" in module.shapes else None

    def is_float(self) -> bool:
        """Whether the layer's quantisers are both switched off; one alone is refused."""
        bits = [
            child.attributes.get(name)
            for path in (ACTIVATIONS, WEIGHTS)
            if (child := self.topology.modules.get(f"{self.layer}.{path}")) is not None
            for name in ("a_bits", "w_bits", "bits")
            if name in child.attributes
        ]
        if bits and FLOAT_BITS in bits and set(bits) != {FLOAT_BITS}:
            self.fail("quantises weights or activations only; INTACT needs both below 32 bits")
        return set(bits) == {FLOAT_BITS}

    def scalar(self, name: str) -> float:
        value = self.tensor(f"{self.layer}.{name}")
        if value.size != 1:
            self.fail(f"{name} has {value.size} values where one is expected")
        return float(value.reshape(()))

    def grid(self) -> Grid:
        """Of this layer's activation quantiser."""
        quantiser = self.topology.modules[f"{self.layer}.{ACTIVATIONS}"]
        if kind_of(self.topology, self.layer) == "dorefa":
            self.kinds.add("DoReFa")
            return codes.dorefa_grid(quantiser.attributes["a_bits"])
        asymmetric = any(kind.endswith("AsymmetricQuantizer") for kind in quantiser.kinds)
        self.kinds.add("IAO asymmetric" if asymmetric else "IAO symmetric")
        names = ("scale", "zero_point", "quant_min_val", "quant_max_val")
        scale, zero, low, high = (self.scalar(f"{ACTIVATIONS}.{name}") for name in names)
        if scale == 1 and not self.state.get(f"{self.layer}.{ACTIVATIONS}.observer.max_val", np.ones(1)).any():
            self.notes.append(f"layer {self.layer!r} has scale 1, as before calibration: was it run in train mode?")
        return codes.iao_grid(scale, zero, low, high, asymmetric)

    def take(self, value: Any) -> tuple[Value, Grid]:
        """The codes that this layer reads."""
        grid = self.grid()
        if isinstance(value, Real):
            if value.last is not None:
                self.fail(
                    f"quantises what {value.last!r} makes of real numbers, which is no function of codes; quantise its "
                    "input (IAO has QuantAvgPool2d and QuantAdaptiveAvgPool2d)"
                )
            return self.write(value, grid), grid
        if not isinstance(value, Host):
            self.fail("reads something that is no tensor")
        if self.start is None:
            self.start = replace(value, shape=value.base)
            self.built = Builder(self.file, value.base, kind_of(self.topology, self.layer) or "")
            if value.steps:
                self.notes.append(
                    f"the network's input is what layer {self.layer!r} quantises, shape {value.base}: before it "
                    f"{', '.join(value.steps)} run on real numbers, in the model itself"
                )
        elif self.start.base != value.base or self.start.steps != value.steps:
            self.fail("reads a second real tensor from before the first quantised layer; quantise that layer too")
        found = self.builder.quantize(self.layer, Value("", value.base), grid.quant)
        return (found if value.shape == value.base else self.builder.reshape(self.layer, found, value.shape)), grid

    def write(self, real: Real, grid: Grid) -> Value:
        """The codes of a real tensor: its layer is written, once for each grid, then what follows acts on the codes."""
        if grid not in real.written:
            before, self.layer = self.layer, real.layer
            try:
                value = real.write(grid)
            except QuantiserError as error:
                self.fail(str(error))
            self.layer = before
            for step in real.steps:
                value = step(value, grid)
            real.written[grid] = value
        return real.written[grid]

    def weights(self, module: Module, stored: Array, bias: Array | None, source: Grid) -> Sum:
        """Quantised weights and the real result's constants. stored: output channels first, in the IR's order."""
        quantiser = self.topology.modules[f"{self.layer}.{WEIGHTS}"]
        ready, channels = bool(module.attributes.get("quant_inference")), len(stored)
        if "w_bits" in quantiser.attributes:
            dorefa = codes.dorefa_stored if ready else codes.dorefa_codes
            return Sum.of(dorefa(stored, quantiser.attributes["w_bits"], channels), source, bias)
        wide = (-1, *[1] * (stored.ndim - 1))
        scale, zero = (self.tensor(f"{self.layer}.{WEIGHTS}.{name}").reshape(wide) for name in ("scale", "zero_point"))
        if len(scale) not in (1, channels):
            self.fail(f"has {len(scale)} weight scales for {channels} output channels")
        low, high = (self.scalar(f"{WEIGHTS}.{name}") for name in ("quant_min_val", "quant_max_val"))
        iao = codes.iao_stored if ready else codes.iao_codes
        return Sum.of(iao(stored.astype(np.float64), scale, zero, low, high, channels), source, bias)

    # --- sizes -------------------------------------------------------------------------------------------------------

    def pair(self, value: Any) -> Pair:
        items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if len(items) not in (1, 2) or not all(isinstance(n, int) and abs(n) < 1 << 30 for n in items):
            self.fail(f"size {value!r} is not supported; use one or two integers")
        return int(items[0]), int(items[-1])

    def sizes(self, module: Module) -> tuple[Pair, Pair, Pair]:
        """stride, padding, dilation"""
        stride, padding, dilation = (self.pair(module.attributes[name]) for name in ("stride", "padding", "dilation"))
        return stride, padding, dilation

    def window(self, shape: tuple[int, ...], kernel: Pair, sizes: tuple[Pair, Pair, Pair]) -> Pair:
        """Output (H, W) of a window on a (C, H, W) map."""
        (sy, sx), (py, px), dilation = sizes
        if len(shape) != 3:
            self.fail(f"needs a (channels, height, width) map but gets shape {shape}; check --input-shape")
        if min(*kernel, sy, sx, *dilation) < 1 or min(py, px) < 0:
            self.fail(f"kernel {kernel}, stride {(sy, sx)}, padding {(py, px)}, dilation {dilation} are impossible")
        found = ir.window_shape((shape[1], shape[2], shape[0]), kernel, (sy, sx), (py, py, px, px), dilation)
        if min(found) < 1:
            self.fail(f"kernel {kernel} does not fit a map of shape {shape}; check --input-shape")
        return found
