"""micronet's forward in NumPy float64, written from its source, and networks of its layers without torch.

Shares nothing with the reader: a `Net` collects the traced calls and the checkpoint that the reader takes, and
evaluates the same layers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport.readers.calls import Module, Ref, Step, Topology

Array = npt.NDArray[Any]


def rounded(x: Array) -> Array:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def dorefa_activation(x: Array, bits: int) -> Array:
    """Real values; their codes are value * (2^bits - 1)."""
    scale = 1 / float(2**bits - 1)
    return rounded(np.clip(x * 0.1, 0, 1) / scale) * scale


def dorefa_weight(w: Array, bits: int) -> Array:
    bent = np.tanh(w.astype(np.float64))
    scale = 1 / float(2**bits - 1)
    return 2 * (rounded((bent / 2 / np.abs(bent).max() + 0.5) / scale) * scale) - 1


def iao(x: Array, scale: Any, zero: Any, low: float, high: float) -> Array:
    return (np.clip(rounded(x / scale - zero), low, high) + zero) * scale


def conv(x: Array, w: Array, b: Array | None, stride: int, padding: int, groups: int) -> Array:
    """x (N, C, H, W), w (O, C / groups, kh, kw)."""
    out, per_group, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    views = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (2, 3))[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,ocij->nohw", views[:, g * per_group : (g + 1) * per_group], part)
        for g, part in enumerate(np.split(w, groups))
    ]
    y = np.concatenate(parts, axis=1)
    return y if b is None else y + b.astype(np.float64).reshape(1, out, 1, 1)


def conv_transposed(x: Array, w: Array, b: Array, stride: int, padding: int, extra: int, groups: int) -> Array:
    """x (N, C, H, W), w (C, O / groups, kh, kw), square kernels."""
    n, channels, height, width = x.shape
    _, per_out, kh, kw = w.shape
    full = np.zeros((n, per_out * groups, (height - 1) * stride + kh + extra, (width - 1) * stride + kw + extra))
    per_in = channels // groups
    for c in range(channels):
        outs = slice(c // per_in * per_out, (c // per_in + 1) * per_out)
        for i in range(kh):
            for j in range(kw):
                rows, columns = slice(i, i + height * stride, stride), slice(j, j + width * stride, stride)
                full[:, outs, rows, columns] += x[:, c : c + 1] * w[c, :, i, j].reshape(1, -1, 1, 1)
    end = full.shape[2] - padding, full.shape[3] - padding
    return full[:, :, padding : end[0], padding : end[1]] + b.astype(np.float64).reshape(1, -1, 1, 1)


def pooled(x: Array, kernel: int, stride: int, padding: int, reduce: Callable[..., Array], fill: float) -> Array:
    pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    views = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads, constant_values=fill), (kernel, kernel), (2, 3))
    return reduce(views[:, :, ::stride, ::stride], axis=(4, 5))


@dataclass
class Net:
    """Layers in a chain; `tap` and `add` make a branch. seen: by layer, the codes that its quantiser gave in `run`."""

    rng: np.random.Generator
    steps: list[Step] = field(default_factory=list)
    modules: dict[str, Module] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)
    layers: list[Callable[[Array], Array]] = field(default_factory=list)
    seen: dict[str, Array] = field(default_factory=dict)
    at: str = "x"
    kept: Array | None = None

    @property
    def topology(self) -> Topology:
        return Topology("x", tuple(self.steps), Ref(self.at), self.modules)

    def run(self, x: Array) -> Array:
        """x: real inputs (N, C, H, W) in float64 -> real outputs."""
        for layer in self.layers:
            x = layer(x)
        return x

    def f32(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Array:
        return (self.rng.normal(size=shape) * scale + shift).astype(np.float32)

    def call(self, kind: str, layer: Callable[[Array], Array], tensors: dict[str, Array], **attributes: Any) -> str:
        """Adds a module of class `kind` behind the last layer."""
        path = f"layer{len(self.steps)}"
        self.modules[path] = Module((kind,), attributes, {name: value.shape for name, value in tensors.items()})
        self.state |= {f"{path}.{name}": value for name, value in tensors.items()}
        self.steps.append(Step(f"s{len(self.steps)}", "module", path, (Ref(self.at),)))
        self.at = self.steps[-1].name
        self.layers.append(layer)
        return path

    # --- quantisers ------------------------------------------------------------------------------------------------

    def dorefa(self, path: str, a_bits: int, w_bits: int | None = None) -> Callable[[Array], Array]:
        self.modules[f"{path}.activation_quantizer"] = Module(("quantize.ActivationQuantizer",), {"a_bits": a_bits})
        if w_bits is not None:
            self.modules[f"{path}.weight_quantizer"] = Module(("quantize.WeightQuantizer",), {"w_bits": w_bits})

        def quantise(x: Array) -> Array:
            value = dorefa_activation(x, a_bits)
            self.seen[path] = np.rint(value * (2**a_bits - 1)).astype(np.int64)
            return value

        return quantise

    def iao(self, path: str, asymmetric: bool, bits: int = 8, spread: float = 4.0) -> Callable[[Array], Array]:
        """The activation quantiser, calibrated to about -spread / 3 .. spread, or to -spread .. spread."""
        low, high = (0.0, 2.0**bits - 1) if asymmetric else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
        scale = np.float32((4 / 3 * spread if asymmetric else 2 * spread) / (high - low))
        zero = np.float32(rounded(np.asarray(-spread / 3 / scale)) if asymmetric else 0)
        self.quantiser(f"{path}.activation_quantizer", asymmetric, bits, np.array([scale]), np.array([zero]), low, high)

        def quantise(x: Array) -> Array:
            value = iao(x, np.float64(scale), np.float64(zero), low, high)
            self.seen[path] = np.rint(value / np.float64(scale) - (zero if asymmetric else 0)).astype(np.int64)
            return value

        return quantise

    def quantiser(
        self, path: str, asymmetric: bool, bits: int, scale: Array, zero: Array, low: float, high: float
    ) -> None:
        names = ("scale", "zero_point", "quant_min_val", "quant_max_val")
        values = [scale, zero, np.array(low, np.float32), np.array(high, np.float32)]
        shapes = {name: value.shape for name, value in zip(names, values, strict=True)}
        kind = "quantize.AsymmetricQuantizer" if asymmetric else "quantize.SymmetricQuantizer"
        self.modules[path] = Module((kind,), {"bits": bits}, shapes)
        self.state |= {
            f"{path}.{name}": np.asarray(value, np.float32) for name, value in zip(names, values, strict=True)
        }

    def iao_weight(self, path: str, w: Array, asymmetric: bool, bits: int, per_channel: bool) -> Array:
        """Calibrates the weights' quantiser and returns the quantised values."""
        flat = w.reshape(len(w), -1) if per_channel else w.reshape(1, -1)
        shape = (-1, *[1] * (w.ndim - 1)) if per_channel else (1,)
        small, large = np.minimum(flat.min(1), 0), np.maximum(flat.max(1), 0)
        if asymmetric:
            low, high = 0.0, 2.0**bits - 2
            scale = ((large - small) / (high - low)).astype(np.float32)
            zero = rounded(small / scale).astype(np.float32)
        else:
            high = 2.0 ** (bits - 1) - 1
            low = -high
            scale = (np.maximum(-small, large) / high).astype(np.float32)
            zero = np.zeros_like(scale)
        scale, zero = scale.reshape(shape), zero.reshape(shape)
        self.quantiser(f"{path}.weight_quantizer", asymmetric, bits, scale, zero, low, high)
        return iao(w.astype(np.float64), scale.astype(np.float64), zero.astype(np.float64), low, high)

    # --- layers ----------------------------------------------------------------------------------------------------

    def conv(
        self, inputs: int, out: int, kernel: int, quant: dict[str, Any], bias: bool = True, stride: int = 1,
        padding: int = 0, groups: int = 1,
    ) -> None:  # fmt: skip
        """quant: {"bits": n} for DoReFa, {"asymmetric": ..., "bits": ..., "per_channel": ...} for IAO."""
        w = self.f32(out, inputs // groups, kernel, kernel, scale=0.5)
        b = self.f32(out, scale=0.3) if bias else None
        tensors = {"weight": w} | ({"bias": b} if b is not None else {})
        attributes = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": groups}
        path = self.call("torch.nn.modules.conv.Conv2d", self.later(), tensors, **attributes)
        activate, weights = self.pair(path, w, quant)
        self.layers[-1] = lambda x: conv(activate(x), weights, b, stride, padding, groups)

    def transposed(self, inputs: int, out: int, kernel: int, bits: int, stride: int, padding: int, groups: int) -> None:
        w, b = self.f32(inputs, out // groups, kernel, kernel, scale=0.5), self.f32(out)
        attributes = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (True, True), "groups": groups}
        attributes["output_padding"] = (stride - 1,) * 2
        path = self.call("torch.nn.ConvTranspose2d", self.later(), {"weight": w, "bias": b}, **attributes)
        activate, weights = self.pair(path, w, {"bits": bits})
        self.layers[-1] = lambda x: conv_transposed(activate(x), weights, b, stride, padding, stride - 1, groups)

    def linear(self, inputs: int, out: int, quant: dict[str, Any], bias: bool = True) -> None:
        w = self.f32(out, inputs, scale=0.5)
        b = self.f32(out, scale=0.3) if bias else None
        tensors = {"weight": w} | ({"bias": b} if b is not None else {})
        path = self.call("torch.nn.modules.linear.Linear", self.later(), tensors)
        activate, weights = self.pair(path, w, quant)
        self.layers[-1] = lambda x: activate(x) @ weights.T + (0 if b is None else b.astype(np.float64))

    def pair(self, path: str, w: Array, quant: dict[str, Any]) -> tuple[Callable[[Array], Array], Array]:
        """The layer's activation quantiser, and its quantised weights."""
        if "asymmetric" not in quant:
            bits = quant["bits"]
            return self.dorefa(path, bits, bits), dorefa_weight(w, bits)
        weights = self.iao_weight(path, w, quant["asymmetric"], quant["bits"], quant.get("per_channel", True))
        return self.iao(path, quant["asymmetric"], quant["bits"]), weights

    def norm(self, channels: int, spread: float = 1.0) -> None:
        gamma, beta = self.f32(channels, scale=spread), self.f32(channels, scale=spread, shift=spread / 2)
        mean = self.f32(channels, scale=0.2)
        var = np.abs(self.f32(channels)) + np.float32(0.2)
        tensors = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
        g, b, m, v = (value.astype(np.float64).reshape(1, -1, 1, 1) for value in tensors.values())
        self.call("torch.nn.BatchNorm2d", lambda x: (x - m) / np.sqrt(v + 1e-5) * g + b, tensors, eps=1e-5)

    def relu(self) -> None:
        self.call("torch.nn.modules.activation.ReLU", lambda x: np.maximum(x, 0), {})

    def max_pool(self, kernel: int, stride: int, padding: int = 0, asymmetric: bool | None = None) -> None:
        """asymmetric: of IAO's quantiser in front; None: without one."""
        sizes = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": 1, "ceil_mode": False}
        path = self.call("torch.nn.modules.pooling.MaxPool2d", self.later(), {}, **sizes)
        activate = self.same if asymmetric is None else self.iao(path, asymmetric)
        self.layers[-1] = lambda x: pooled(activate(x), kernel, stride, padding, np.max, -np.inf)

    def avg_pool(self, kernel: int, asymmetric: bool | None = None) -> None:
        sizes: dict[str, Any] = {"kernel_size": kernel, "stride": kernel, "padding": 0, "ceil_mode": False}
        sizes |= {"count_include_pad": True, "divisor_override": None}
        path = self.call("torch.nn.modules.pooling.AvgPool2d", self.later(), {}, **sizes)
        activate = self.same if asymmetric is None else self.iao(path, asymmetric)
        self.layers[-1] = lambda x: pooled(activate(x), kernel, kernel, 0, np.mean, 0)

    def curve(self, kind: str, function: Callable[[Array], Array], asymmetric: bool, **attributes: float) -> None:
        """IAO's leaky ReLU, sigmoid or ReLU, which quantise their input."""
        path = self.call(f"torch.nn.modules.activation.{kind}", self.later(), {}, **attributes)
        activate = self.iao(path, asymmetric)
        self.layers[-1] = lambda x: function(activate(x))

    def flatten(self) -> None:
        self.steps.append(Step(f"s{len(self.steps)}", "function", "torch.flatten", (Ref(self.at), 1)))
        self.at = self.steps[-1].name
        self.layers.append(lambda x: x.reshape(len(x), -1))

    def shuffle(self, channels: int, height: int, width: int, groups: int) -> None:
        """As micronet's nin_gc.py writes it."""

        def step(kind: str, target: str, *args: Any) -> Ref:
            self.steps.append(Step(f"s{len(self.steps)}", kind, target, args))
            return Ref(self.steps[-1].name)

        x = Ref(self.at)
        size = step("method", "size", x)
        batch, whole = (step("function", "operator.getitem", size, i) for i in (0, 1))
        each = step("function", "operator.floordiv", whole, groups)
        x = step("method", "view", x, batch, groups, each, height, width)
        x = step("method", "contiguous", step("method", "transpose", x, 1, 2))
        self.at = step("method", "view", x, batch, whole, height, width).name
        self.layers.append(
            lambda x: (
                x.reshape(len(x), groups, -1, height, width).swapaxes(1, 2).reshape(len(x), channels, height, width)
            )
        )

    def tap(self) -> str:
        """Keeps the tensor for `add`; its name."""
        at = len(self.layers)

        def keep(x: Array) -> Array:
            self.kept = x
            return x

        self.layers.insert(at, keep)
        return self.at

    def add(self, other: str, asymmetric: bool) -> None:
        path = self.call("quantize.QuantAdd", self.later(), {})
        self.steps[-1] = Step(self.at, "module", path, (*self.steps[-1].args, Ref(other)))
        activate = self.iao(path, asymmetric)

        def layer(x: Array) -> Array:
            assert self.kept is not None
            second = activate(self.kept)
            return activate(x) + second

        self.layers[-1] = layer

    @staticmethod
    def later() -> Callable[[Array], Array]:
        return Net.same

    @staticmethod
    def same(x: Array) -> Array:
        return x
