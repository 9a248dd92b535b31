"""The user's float class and the names in a state_dict -> the quantised model that torch converted the class to.

torch keeps the names: a convolution and the batch norm and ReLU behind it become one quantised layer under the
convolution's name, and what has no scale of its own in the file works on codes. So the names that are left decide. A
ReLU right behind a layer is taken as part of it: a ReLU on its own gives the same codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pyexport.errors import IntactError
from pyexport.readers import modules, state_dict
from pyexport.readers.calls import Module, Ref, Step, Topology, references
from pyexport.readers.inert import Call
from pyexport.readers.state_dict import State

IDENTITY = Module(("torch.nn.modules.linear.Identity",))
SIZES = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding")
# Float classes whose quantised class of the same name has the same attributes and a scale of its own.
SCALED = {"Hardswish", "LeakyReLU", "ELU", "Softmax"}
NORMS = {"BatchNorm2d", "BatchNorm1d"}
RELUS = {"torch.relu", "torch.relu_", "torch.nn.functional.relu", "torch.nn.functional.relu_", "relu", "relu_"}
ADDS = {"torch.add", "operator.add", "operator.iadd"}
# Functions of torch.nn.functional that FX gives a scale.
WITH_SCALE = {"dropout", "hardswish", "leaky_relu", "elu"}
OBSERVED = ".activation_post_process"
# torch's functional modules' operations, by the function that tracing one shows.
FUNCTIONS = {"torch.add": "add", "torch.mul": "mul", "torch.cat": "cat"}


def topology(state: State, float_model: Topology) -> Topology:
    """The quantised model's topology. Raises IntactError where the class and the file do not belong together."""
    return _Converter(state, float_model).run()


class _Converter:
    """Rewrites the float model's calls. modules: the quantised model's. used: the names in the file that a layer took.

    fused: the names of the steps that became part of the layer before them.
    """

    def __init__(self, state: State, model: Topology) -> None:
        self.state, self.model = state, model
        self.used: set[str] = set()
        self.fused: set[str] = set()
        self.modules: dict[str, Module] = {"": IDENTITY}

    def run(self) -> Topology:
        called = {step.target: step for step in self.model.steps if step.kind == "module"}
        stubs = any(modules.kind_of(self.model.modules[path].kinds[0]) == "QuantStub" for path in called)
        for path in called:
            self.modules[path] = self.module(path, self.model.modules[path])
        if stubs:
            self.add_functionals(called)
        steps = list(self.model.steps) if stubs else self.with_scales()
        steps = [Step(s.name, "module", "", s.args[:1]) if s.name in self.fused else s for s in steps]
        converted = Topology(self.model.input, tuple(steps), self.model.result, self.modules)
        converted = with_functionals(converted) if stubs else self.between_codes(converted)
        if left := [name for name in self.state.entries if name not in self.used]:
            raise IntactError(
                f"{self.state.file}: {left[0][:80]!r} belongs to no layer that the class calls; is it the state_dict "
                "of this class? Of a model that --arch cannot follow, use torch.jit.save"
            )
        return converted

    def fail(self, path: str, text: str) -> IntactError:
        return IntactError(f"{self.state.file}: layer {path!r}: {text}")

    def add_functionals(self, called: Iterable[str]) -> None:
        """torch's functional modules have a scale each; only their observer is seen being called."""
        for path in [path.removesuffix(OBSERVED) for path in called if path.endswith(OBSERVED)]:
            values = self.take(path, ("scale", "zero_point"))
            self.modules[path] = Module((f"{state_dict.QUANTIZED}.QFunctional",), values)

    def take(self, path: str, names: tuple[str, ...]) -> dict[str, Any]:
        taken = {name: f"{path}.{name}" for name in names}
        self.used |= set(taken.values())
        return self.state.take(taken)

    def has(self, path: str) -> bool:
        """Whether the file holds anything of this module's."""
        return any(name.startswith(f"{path}.") for name in self.state.entries)

    # --- modules -------------------------------------------------------------------------------------------------

    def module(self, path: str, module: Module) -> Module:
        """The quantised module that a float one became."""
        kind = modules.kind_of(module.kinds[0])
        if kind in ("Conv2d", "ConvTranspose2d", "Linear"):
            return self.weighted(path, module, kind)
        if kind == "QuantStub":
            values = self.take(path, ("scale", "zero_point"))
            return Module((f"{state_dict.QUANTIZED}.Quantize",), {**values, "dtype": "torch.quint8"})
        if kind == "DeQuantStub":
            return Module((f"{state_dict.QUANTIZED}.DeQuantize",))
        if kind in SCALED and self.has(path):
            values = self.take(path, ("scale", "zero_point"))
            return Module((f"{state_dict.QUANTIZED}.{kind}",), {**module.attributes, **values})
        if kind in NORMS:
            if self.has(path):
                raise self.fail(path, "is a batch norm of its own; fuse it into the convolution before quantising")
            return IDENTITY
        return replace(module, attributes={**module.attributes, "training": False})

    def weighted(self, path: str, module: Module, kind: str) -> Module:
        """A convolution or linear layer, with the ReLU behind it."""
        endings = ("weight", "bias") if kind != "Linear" else ("_packed_params.dtype", "_packed_params._packed_params")
        if not self.has(path):
            raise self.fail(path, f"the file has no {path}.{endings[-1]}; is it the state_dict of this class?")
        if f"{path}.scale" not in self.state.entries:
            raise self.fail(path, "has weights in the file but no scale: it was not quantised; give it a qconfig")
        self.used |= {f"{path}.{name}" for name in (*endings, "scale", "zero_point")}
        calls = [other for other in self.model.steps if other.kind == "module" and other.target == path]
        follows = [self.relu_behind(call) for call in calls]
        relu = None not in follows and kind != "ConvTranspose2d"  # which torch fuses nothing into
        self.fused |= {follow.name for follow in follows if relu and follow is not None}
        if kind == "Linear":
            made = state_dict.linear(self.state, path, relu)
            packed = made.attributes["_packed_params"]
            weight = packed[0] if isinstance(packed, tuple) and packed else None
        else:
            made = state_dict.conv(
                self.state, path, "ConvReLU2d" if relu else kind, {name: module.attributes.get(name) for name in SIZES}
            )
            weight = made.attributes["weight"]
        self.check_shape(path, weight, module.shapes.get("weight"))
        return made

    def check_shape(self, path: str, weight: Any, wanted: tuple[int, ...] | None) -> None:
        shape = (
            weight.args[2]
            if isinstance(weight, Call) and state_dict.is_quantised(weight) and len(weight.args) > 2
            else None
        )
        if shape is None:
            raise self.fail(path, f"its weights in the file are not quantised; save {state_dict.SAVED}")
        shape = weight.args[2]
        if wanted is not None and shape != wanted:
            raise self.fail(path, f"weights of shape {shape} in the file, {wanted} in the class; is it the same class?")

    def relu_behind(self, step: Step) -> Step | None:
        """The ReLU behind a layer and its batch norm, if nothing else takes what lies between."""
        while True:
            users = self.model.users(step.name)
            if len(users) != 1 or step.name in references(self.model.result):
                return None
            step = users[0]
            module = self.model.modules.get(step.target) if step.kind == "module" else None
            kind = modules.kind_of(module.kinds[0]) if module else ""
            if kind == "ReLU" or (step.kind != "module" and step.target in RELUS):
                return step
            if kind not in NORMS and kind != "Identity":
                return None

    # --- calls of a model that FX quantised, which has no stubs ----------------------------------------------------

    def between_codes(self, model: Topology) -> Topology:
        """The input becomes codes where it comes in, and the result real numbers."""
        scale, zero_point = self.state.input
        self.used |= {scale, zero_point}
        self.modules["input"] = state_dict.quantize(self.state, scale, zero_point)
        names = {model.input: "input codes"}
        steps = [replace(s, args=_renamed(s.args, names), kwargs=_renamed(s.kwargs, names)) for s in model.steps]
        first = Step("input codes", "module", "input", (Ref(model.input),))
        last = Step("real output", "method", "dequantize", (_renamed(model.result, names),))
        return Topology(model.input, (first, *steps, last), Ref(last.name), self.modules)

    def with_scales(self) -> list[Step]:
        """FX names the scales of functions PLACE_scale_0, PLACE_scale_1, ... in the order of the calls. PLACE is the
        module whose forward calls the function, or the ReLU module behind a sum.
        """
        steps = self.model.steps
        changed: dict[int, list[Step]] = {}
        places: dict[str, list[tuple[int, Step | None]]] = {}
        for index, step in enumerate(steps):
            if quantised_name(step) is not None:
                relu = self.relu_behind(step) if step.target in ADDS else None
                place = relu.target if relu is not None and relu.kind == "module" else step.scope
                places.setdefault(place, []).append((index, relu))
        for place, calls in places.items():
            prefix = place.replace(".", "_") + "_" if place else "_"
            found = [re.fullmatch(rf"{re.escape(prefix)}scale_(\d+)", name) for name in self.state.entries]
            numbers = sorted(int(match[1]) for match in found if match)
            if len(numbers) != len(calls):
                raise IntactError(
                    f"{self.state.file}: {place or 'the model'} calls {len(calls)} functions with a scale of their "
                    f"own, and the file has {len(numbers)} ({prefix}scale_0, ...), so it is not clear whose they are; "
                    "save the model with torch.jit.save"
                )
            for number, (index, relu) in zip(numbers, calls, strict=True):
                names = {"scale": f"{prefix}scale_{number}", "zero_point": f"{prefix}zero_point_{number}"}
                self.used |= set(names.values())
                self.fused |= {relu.name} if relu else set()
                changed[index] = quantised_calls(steps[index], relu is not None, **self.state.take(names))
        return [new for index, step in enumerate(steps) for new in changed.get(index, [step])]


def quantised_name(step: Step) -> str | None:
    """The quantised operation, with a scale of its own, that FX makes of a function; None for any other step."""
    name = step.target.rpartition(".")[2]
    if step.kind == "method" and step.target == "flatten":
        return "flatten"
    if step.kind != "function":
        return None
    if step.target in ADDS:
        return "add" if not step.kwargs and all(isinstance(arg, Ref) for arg in step.args) else None
    return name if step.target.startswith("torch.nn.functional.") and name in WITH_SCALE else None


def quantised_calls(step: Step, relu: bool, scale: Any, zero_point: Any) -> list[Step]:
    """The calls that FX makes of a function. relu: with the ReLU behind a sum."""
    if step.kind == "method":  # x.flatten(1), unlike torch.flatten(x, 1), works on real numbers
        real = Step(f"{step.name} real", "method", "dequantize", step.args[:1])
        flat = replace(step, name=f"{step.name} flat", args=(Ref(real.name), *step.args[1:]))
        codes = (Ref(flat.name), scale, zero_point, "torch.quint8")
        return [real, flat, Step(step.name, "function", "torch.quantize_per_tensor", codes)]
    name = f"{quantised_name(step)}{'_relu' if relu else ''}"
    if step.target in ADDS:
        return [replace(step, target=f"torch.ops.quantized.{name}", args=(*step.args, scale, zero_point), kwargs={})]
    kwargs = {key: value for key, value in step.kwargs.items() if key != "inplace" or name == "leaky_relu"}
    kwargs |= {"output_scale": scale, "output_zero_point": zero_point}
    return [replace(step, target=f"torch.ops.quantized.{name}", kwargs=kwargs)]


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """An argument with other names in its Refs."""
    if isinstance(value, Ref):
        return Ref(names.get(value.name, value.name))
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_renamed(item, names) for item in value)
    return value


def with_functionals(model: Topology) -> Topology:
    """FloatFunctional's methods are traced as a function, then its observer: one call of QFunctional's method."""
    steps = {step.name: step for step in model.steps}
    for observed in [step for step in model.steps if step.kind == "module" and step.target.endswith(OBSERVED)]:
        path = observed.target.removesuffix(OBSERVED)
        names: list[str] = []
        suffix = ""
        source = steps.get(next(iter(references(observed.args)), ""))
        if source is not None and source.target in RELUS:
            names, suffix = [source.name], "_relu"
            source = steps.get(next(iter(references(source.args)), ""))
        if source is None or source.target not in FUNCTIONS or path not in model.modules:
            continue
        method = FUNCTIONS[source.target] + suffix
        steps[observed.name] = Step(observed.name, "module", f"{path}.{method}", source.args, source.kwargs)
        for name in (*names, source.name):
            if not any(name in references((step.args, step.kwargs)) for step in steps.values()):
                del steps[name]
    return replace(model, steps=tuple(steps.values()))
