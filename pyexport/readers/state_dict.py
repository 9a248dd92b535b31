"""state_dict files: tensors by name, without the calls between them.

The calls come from the user: from a class (--arch, converted.py), or, for a chain of linear layers, from the names of
those that a ReLU follows (--relu). Strides, padding and pooling are in no state_dict, so anything with a convolution
needs the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyexport.errors import IntactError
from pyexport.readers.calls import Module, Ref, Step, Topology
from pyexport.readers.inert import Call, Instance

# A state_dict inside a training script's checkpoint.
INSIDE = ("state_dict", "model_state_dict", "model")
QTENSOR = "torch._utils._rebuild_qtensor"
PACKED = "._packed_params._packed_params"
PREPARED = ("activation_post_process", "fake_quant", "observer")
INPUT = "input"
QUANTIZED = "torch.ao.nn.quantized.modules"
SAVED = "the state_dict of a statically quantised model"
HOW = "name the class with --arch FILE.py:Class, or save the model with torch.jit.save"


@dataclass(frozen=True)
class State:
    """A quantised model's state_dict. file: for messages. entries: records of the file by name, in their order."""

    file: str
    entries: Mapping[str, Any]

    @property
    def weighted(self) -> list[str]:
        """The paths of the layers with quantised weights, in the file's order."""
        linear = [name.removesuffix(PACKED) for name in self.entries if name.endswith(PACKED)]
        conv = [name.removesuffix(".weight") for name, value in self.entries.items() if is_quantised(value)]
        return [path for path in dict.fromkeys(_path(name) for name in self.entries) if path in {*linear, *conv}]

    def take(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Entries under other names. Raises IntactError for one that is missing."""
        for name in names.values():
            if name not in self.entries:
                raise IntactError(f"{self.file}: {name[:80]!r} is missing; the file is damaged, or not {SAVED}")
        return {key: self.entries[name] for key, name in names.items()}

    @property
    def input(self) -> tuple[str, str]:
        """The names of the input's scale and zero point. Raises IntactError if there are none or several."""
        found = [name for name in self.entries if name.endswith("_input_scale_0")]
        pairs = [(name, name.replace("_input_scale_", "_input_zero_point_")) for name in found]
        if not found:
            paths = [name.removesuffix(".scale") for name in self.entries if name.endswith(".scale")]
            pairs = [(f"{p}.scale", f"{p}.zero_point") for p in paths if p.rsplit(".", 1)[-1] == "quant"]
        if len(pairs) != 1 or pairs[0][1] not in self.entries:
            raise IntactError(
                f"{self.file}: has {len(pairs)} scales for the input (quant.scale, or NAME_input_scale_0), and one is "
                f"needed; {HOW}"
            )
        return pairs[0]


def _path(name: str) -> str:
    return name.removesuffix(PACKED) if name.endswith(PACKED) else name.rpartition(".")[0]


def is_quantised(value: Any) -> bool:
    return isinstance(value, Call) and value.name == QTENSOR


def state_of(file: str, top: dict[Any, Any]) -> State:
    """The state_dict in a file. Raises IntactError unless it is a converted quantised model's."""
    for key in INSIDE:
        inside = top.get(key)
        if isinstance(inside, dict):
            top = inside
        elif isinstance(inside, (Instance, Call)) and not is_quantised(inside) and key == "model":
            raise IntactError(f"{file}: is a checkpoint that holds a whole module; save its state_dict, or the module")
    entries = {name: value for name, value in top.items() if isinstance(name, str)}
    prepared = next((name for name in entries if any(word in name for word in PREPARED)), None)
    if prepared is not None:
        raise IntactError(
            f"{file}: {prepared[:80]!r} is an observer's: the model is prepared; convert it before saving"
        )
    state = State(file, entries)
    if not state.weighted:
        raise IntactError(f"{file}: holds no quantised weights; save the state_dict of the quantised (converted) model")
    return state


def quantize(state: State, scale: str, zero_point: str) -> Module:
    """The step from real numbers to codes, whose scale and zero point have these names."""
    values = {"scale": state.entries[scale], "zero_point": state.entries[zero_point], "dtype": "torch.quint8"}
    return Module((f"{QUANTIZED}.Quantize",), values)


def linear(state: State, path: str, relu: bool) -> Module:
    """A quantised linear layer."""
    kind = f"{QUANTIZED}.{'LinearReLU' if relu else 'Linear'}"
    names = {"_packed_params": f"{path}{PACKED}", "scale": f"{path}.scale", "zero_point": f"{path}.zero_point"}
    return Module((kind,), state.take(names))


def conv(state: State, path: str, kind: str, sizes: Mapping[str, Any]) -> Module:
    """A quantised convolution. kind: torch's class. sizes: its stride, padding, dilation, groups and padding_mode."""
    names = {name: f"{path}.{name}" for name in ("weight", "bias", "scale", "zero_point")}
    return Module((f"{QUANTIZED}.{kind}",), {**sizes, **state.take(names)})


def chain(state: State, relu: tuple[str, ...] | None, flatten: bool) -> Topology:
    """Linear layers in the file's order, with a ReLU behind those that `relu` names. flatten: the input is a map."""
    paths = state.weighted
    names = ", ".join(paths)
    convs = [path for path in paths if f"{path}{PACKED}" not in state.entries]
    if convs:
        raise IntactError(
            f"{state.file}: layer {convs[0]!r} is a convolution, and a state_dict holds no stride, padding or pooling; "
            f"{HOW}"
        )
    scale, zero_point = state.input
    endings = (PACKED, "._packed_params.dtype", ".scale", ".zero_point")
    known = {scale, zero_point, *(f"{path}{ending}" for path in paths for ending in endings)}
    if more := [name for name in state.entries if name not in known]:
        raise IntactError(
            f"{state.file}: {more[0][:80]!r} is of no linear layer, so the model is no plain chain; {HOW}"
        )
    if relu is None:
        raise IntactError(
            f"{state.file}: a state_dict does not say which layers a ReLU follows; name them with --relu "
            f"(layers: {names}), or --relu none, or {HOW}"
        )
    unknown = [name for name in relu if name not in paths]
    if unknown:
        raise IntactError(f"{state.file}: --relu names {unknown[0]!r}, which is no layer of the file; layers: {names}")
    steps = [Step("quant", "module", "quant", (Ref(INPUT),))]
    if flatten:
        steps.append(Step("flatten", "function", "torch.flatten", (Ref("quant"), 1)))
    modules = {"quant": quantize(state, scale, zero_point)}
    for path in paths:
        steps.append(Step(f"layer_{len(steps)}", "module", path, (Ref(steps[-1].name),)))
        modules[path] = linear(state, path, path in relu)
    steps.append(Step("dequant", "method", "dequantize", (Ref(steps[-1].name),)))
    return Topology(INPUT, tuple(steps), Ref("dequant"), modules)
