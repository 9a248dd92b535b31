"""Small `.tflite` models with random weights and quantisation, one for each kind of layer that the reader takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.tflite_writer import Model, Scalar, f32, i32

LOW = {"int8": -128, "uint8": 0}
SAME, VALID = 0, 1


def byte(value: int) -> Scalar:
    return Scalar("b", value)


class Net(Model):
    """A model of one layer or a few with random quantisation."""

    def __init__(self, seed: int, dtype: str = "int8") -> None:
        super().__init__()
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def zero(self) -> int:
        return int(self.rng.integers(0, 256)) + LOW[self.dtype]

    def act(self, *shape: int, scale: float | None = None, zero: int | None = None) -> int:
        scale = float(np.exp(self.rng.uniform(-5, -2))) if scale is None else scale
        return self.tensor((1, *shape), self.dtype, scale, self.zero() if zero is None else zero)

    def weights(self, shape: tuple[int, ...], per_channel: bool, axis: int = 0) -> int:
        count = shape[axis] if per_channel else 1
        data = self.rng.integers(-127, 128, shape) + (128 if self.dtype == "uint8" else 0)
        zero = int(self.rng.integers(100, 156)) if self.dtype == "uint8" else 0
        scales = np.exp(self.rng.uniform(-6, -4, count))
        return self.tensor(shape, self.dtype, scales, zero, data, axis)

    def bias(self, source: int, weights: int, out: int, size: int = 3000) -> int:
        """int32 at the scale of input times weights, which XNNPACK checks."""
        scale = self.tensors[source][4][2] * self.tensors[weights][4][2]
        return self.tensor((out,), "int32", scale, 0, self.rng.integers(-size, size, out))

    def ends(self, source: int, output: int) -> Net:
        self.inputs, self.outputs = [source], [output]
        return self


def conv(seed: int, dtype: str, **kind: Any) -> Net:
    """CONV_2D with the given map, kernel, stride, dilation, padding, activation and groups."""
    net = Net(seed, dtype)
    height, width, channels, out = kind.get("shape", (7, 6, 4, 8))
    (kh, kw), (sh, sw), (dh, dw) = kind.get("kernel", (3, 3)), kind.get("stride", (1, 1)), kind.get("dilation", (1, 1))
    same, groups = kind.get("same", True), kind.get("groups", 1)
    spans = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    out_h, out_w = (
        (-(-height // sh), -(-width // sw)) if same else ((height - spans[0]) // sh + 1, (width - spans[1]) // sw + 1)
    )
    source = net.act(height, width, channels)
    per_channel = dtype == "int8" and kind.get("per_channel", True)
    window = {0: byte(SAME if same else VALID), 1: i32(sw), 2: i32(sh)}
    if kind.get("depthwise"):
        weights, axis = net.weights((1, kh, kw, out), per_channel, 3), 3
        options = (2, {**window, 3: i32(out // channels), 4: byte(kind.get("act", 0)), 5: i32(dw), 6: i32(dh)})
    else:
        weights, axis = net.weights((out, kh, kw, channels // groups), per_channel), 0
        options = (1, {**window, 3: byte(kind.get("act", 0)), 4: i32(dw), 5: i32(dh)})
    del axis
    scale = 0.02 * np.sqrt(kh * kw * channels)
    result = net.act(out_h, out_w, out, scale=float(scale))
    code = 4 if kind.get("depthwise") else 3
    return net.ends(source, net.op(code, [source, weights, net.bias(source, weights, out)], result, options))


CONVS: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"same": False},
    "stride": {"stride": (2, 3)},
    "dilation": {"dilation": (2, 1), "same": False},
    "even kernel": {"kernel": (2, 4), "stride": (2, 1)},
    "row": {"shape": (1, 16, 3, 5), "kernel": (1, 5)},
    "groups": {"shape": (5, 5, 8, 8), "groups": 2},
    "pointwise": {"kernel": (1, 1), "per_channel": False},
    "relu": {"act": 1},
    "relu n1 to 1": {"act": 2},
    "relu6": {"act": 3},
    "depthwise": {"shape": (7, 6, 8, 8), "depthwise": True},
    "depthwise stride": {"shape": (7, 6, 8, 8), "depthwise": True, "stride": (2, 2), "act": 3},
    "depth multiplier": {"shape": (6, 6, 3, 12), "depthwise": True, "same": False},
    "depthwise dilation": {"shape": (9, 9, 4, 4), "depthwise": True, "dilation": (2, 2)},
}


def transposed(seed: int, dtype: str, **kind: Any) -> Net:
    """TRANSPOSE_CONV with the given map, kernel, stride, padding, activation; output: rows and columns if not usual."""
    net = Net(seed, dtype)
    height, width, channels, out = kind.get("shape", (5, 4, 6, 5))
    (kh, kw), (sh, sw), same = kind.get("kernel", (3, 3)), kind.get("stride", (2, 2)), kind.get("same", True)
    usual = (height * sh, width * sw) if same else ((height - 1) * sh + kh, (width - 1) * sw + kw)
    out_h, out_w = kind.get("output", usual)
    source = net.act(height, width, channels)
    weights = net.weights((out, kh, kw, channels), dtype == "int8" and kind.get("per_channel", True))
    shape = net.tensor((4,), "int32", data=np.array([1, out_h, out_w, out]))
    if kind.get("open_batch"):  # the batch from SHAPE and STRIDED_SLICE, the rest constants
        zero, one, *sizes = (net.tensor(s, "int32", data=np.array(n)) for s, n in [((1,), 0), ((1,), 1)]
                             + [((), n) for n in (out_h, out_w, out)])  # fmt: skip
        batch = net.op(77, [source], net.tensor((4,), "int32"), (55, {0: byte(2)}))
        first = net.op(45, [batch, zero, one, one], net.tensor((), "int32"), (32, {4: i32(1)}))
        shape = net.op(83, [first, *sizes], net.tensor((4,), "int32"), (59, {0: i32(4)}))
    options = (49, {0: byte(SAME if same else VALID), 1: i32(sw), 2: i32(sh), 3: byte(kind.get("act", 0))})
    result = net.act(out_h, out_w, out, scale=float(0.02 * np.sqrt(kh * kw * channels / sh / sw)))
    inputs = [shape, weights, source]
    if kind.get("bias", True):
        inputs.append(net.bias(source, weights, out))
    return net.ends(source, net.op(67, inputs, result, options))


TRANSPOSED: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"same": False},
    "even kernel": {"kernel": (4, 2), "per_channel": False},
    "strides": {"stride": (3, 1), "kernel": (4, 2), "bias": False},
    "kernel below stride": {"stride": (3, 2), "kernel": (1, 1), "same": False, "output": (13, 8)},
    "odd output": {"output": (9, 7), "kernel": (4, 3)},
    "output padding": {"same": False, "output": (12, 10)},
    "stride 1": {"stride": (1, 1), "act": 1},
    "open batch": {"open_batch": True},
    "same, kernel below stride": {"stride": (3, 2), "kernel": (2, 1)},
    "same, one side below stride": {"stride": (3, 1), "kernel": (2, 4)},
    "relu6": {"kernel": (5, 3), "act": 3, "shape": (3, 3, 9, 8)},
}


# which XNNPACK leaves to a kernel that rounds uint8 codes by their place
NOT_UINT8 = ("open batch", "same, kernel below stride", "same, one side below stride")


def linear(seed: int, dtype: str, per_channel: bool = False, flatten: bool = False, act: int = 0) -> Net:
    net = Net(seed, dtype)
    source = net.act(3, 4, 5) if flatten else net.act(60)
    hidden = source
    if flatten:
        info = net.tensors[source]
        hidden = len(net.tensors)
        net.tensors.append({**info, 0: np.asarray((1, 60), np.int32), 3: "flat"})
        net.op(22, [source, net.tensor((2,), "int32", data=np.array([1, 60]))], hidden)
    weights = net.weights((7, 60), per_channel and dtype == "int8")
    result = net.act(7, scale=0.2)
    return net.ends(source, net.op(9, [hidden, weights, net.bias(source, weights, 7)], result, (8, {0: byte(act)})))


def pool(seed: int, dtype: str, code: int, kernel: tuple[int, int], stride: int, same: bool, act: int = 0) -> Net:
    net = Net(seed, dtype)
    scale, zero, height, width = 0.05, net.zero(), 9, 8
    source = net.act(height, width, 5, scale=scale, zero=zero)
    size = [(-(-n // stride) if same else (n - k) // stride + 1) for n, k in zip((height, width), kernel, strict=True)]
    result = net.act(*size, 5, scale=scale, zero=zero)
    options = {0: byte(SAME if same else VALID), 1: i32(stride), 2: i32(stride), 3: i32(kernel[1]), 4: i32(kernel[0])}
    return net.ends(source, net.op(code, [source], result, (5, {**options, 5: byte(act)})))


def mean(seed: int, dtype: str, keep: bool, same_scale: bool) -> Net:
    net = Net(seed, dtype)
    scale, zero = float(np.float32(0.05)), net.zero()
    source = net.act(7, 5, 6, scale=scale, zero=zero)
    shape = (1, 1, 6) if keep else (6,)
    result = net.act(*shape, scale=scale if same_scale else 0.031, zero=zero if same_scale else net.zero())
    axes = net.tensor((2,), "int32", data=np.array([1, 2]))
    return net.ends(source, net.op(40, [source, axes], result, (27, {0: Scalar("?", keep)})))


def unary(seed: int, dtype: str, code: int) -> Net:
    """All 256 codes through one function; logistic, tanh and softmax have the output scale that TFLite demands."""
    net = Net(seed, dtype)
    source = net.act(1, 16, 16)
    fixed = {14: (1 / 256, LOW[dtype]), 28: (1 / 128, LOW[dtype] + 128), 25: (1 / 256, LOW[dtype])}.get(code)
    result = net.act(1, 16, 16) if fixed is None else net.act(1, 16, 16, scale=fixed[0], zero=fixed[1])
    options = {98: (75, {0: f32(float(net.rng.uniform(-0.5, 1.5)))})}.get(code)
    return net.ends(source, net.op(code, [source], result, options))


def with_constant(seed: int, dtype: str, code: int, first: bool) -> Net:
    net = Net(seed, dtype)
    source = net.act(1, 16, 16)
    constant = net.tensor((1,), dtype, 0.03, net.zero(), np.array([net.zero()]))
    result = net.act(1, 16, 16, scale=0.2)
    pair = [constant, source] if first else [source, constant]
    return net.ends(source, net.op(code, pair, result, ({0: 11, 41: 28, 18: 21}[code], {})))


def residual(seed: int, dtype: str, code: int = 0, act: int = 0) -> Net:
    """x + LEAKY_RELU(x) of different scales; then a concatenation with itself and a RELU."""
    net = Net(seed, dtype)
    source = net.act(4, 16, 16)
    other = net.op(98, [source], net.act(4, 16, 16), (75, {0: f32(-0.3)}))
    scale, zero = 0.11, net.zero()
    total = net.act(4, 16, 16, scale=scale, zero=zero)
    net.op(code, [source, other], total, ({0: 11, 41: 28}[code], {0: byte(act)}))
    joined = net.op(2, [total, total], net.act(4, 16, 32, scale=scale, zero=zero), (10, {0: i32(3)}))
    return net.ends(source, net.op(19, [joined], net.act(4, 16, 32, scale=scale, zero=zero)))


def branches(seed: int, dtype: str, axis: int = 3) -> Net:
    """Three convolutions of one input and the first of them again, joined, then a convolution over it all."""
    net = Net(seed, dtype)
    scale, zero = 0.3, net.zero()
    source = net.act(5, 4, 6)
    options = (1, {0: byte(SAME), 1: i32(1), 2: i32(1), 4: i32(1), 5: i32(1)})
    parts = []
    for out in (3, 7, 5) if axis == 3 else (6, 6, 6):
        weights = net.weights((out, 1, 3, 6), dtype == "int8")
        part = net.act(5, 4, out, scale=scale, zero=zero)
        parts.append(net.op(3, [source, weights, net.bias(source, weights, out)], part, options))
    parts.append(parts[0])
    shape = [5, 4, 18 if axis == 3 else 6]
    shape[axis - 1] *= 1 if axis == 3 else 4
    joined = net.act(*shape, scale=scale, zero=zero)
    net.op(2, parts, joined, (10, {0: i32(axis)}))
    weights = net.weights((4, 2, 2, shape[2]), dtype == "int8")
    result = net.act(shape[0], shape[1], 4, scale=0.9)
    return net.ends(source, net.op(3, [joined, weights, net.bias(joined, weights, 4)], result, options))


def activations(seed: int, dtype: str) -> Net:
    """Convolutions with HARD_SWISH, LEAKY_RELU, TANH behind them; LOGISTIC and MUL of one tensor, joined."""
    net = Net(seed, dtype)
    source = net.act(6, 5, 3, scale=0.05)
    options = (1, {0: byte(SAME), 1: i32(1), 2: i32(1), 4: i32(1), 5: i32(1)})
    low = LOW[dtype]

    def conv(inner: int, channels: int, out: int, scale: float) -> int:
        weights = net.weights((out, 3, 3, channels), dtype == "int8")
        return net.op(3, [inner, weights, net.bias(inner, weights, out)], net.act(6, 5, out, scale=scale), options)

    swish = net.op(117, [conv(source, 3, 6, 0.1)], net.act(6, 5, 6, scale=0.06))
    leaky = net.op(98, [conv(swish, 6, 5, 0.2)], net.act(6, 5, 5, scale=0.1), (75, {0: f32(0.1)}))
    scaled = net.op(18, [leaky, net.tensor((1,), dtype, 0.03, net.zero(), np.array([low + 77]))],
                    net.act(6, 5, 5, scale=1 / 256, zero=low), (21, {}))  # fmt: skip
    gate = net.op(14, [leaky], net.act(6, 5, 5, scale=1 / 256, zero=low))
    joined = net.op(2, [gate, scaled], net.act(6, 5, 10, scale=1 / 256, zero=low), (10, {0: i32(3)}))
    return net.ends(source, net.op(28, [conv(joined, 10, 4, 0.02)], net.act(6, 5, 4, scale=1 / 128, zero=low + 128)))


def softmax(seed: int, dtype: str, classes: int, beta: float = 1.0) -> Net:
    net = linear(seed, dtype)
    scale = float(np.exp(net.rng.uniform(-5, -1)))
    hidden, weights = net.outputs[0], net.weights((classes, 7), False)
    bias = net.bias(hidden, weights, classes, 2)
    last = net.op(9, [hidden, weights, bias], net.act(classes, scale=scale), (8, {}))
    result = net.act(classes, scale=1 / 256, zero=LOW[dtype])
    return net.ends(net.inputs[0], net.op(25, [last], result, (9, {0: f32(beta)})))


def padded(seed: int) -> Net:
    """NCHW input, TRANSPOSE, PAD, VALID convolution."""
    net = Net(seed)
    scale, zero = 0.04, net.zero()
    source = net.act(3, 6, 7, scale=scale, zero=zero)
    turned = net.act(6, 7, 3, scale=scale, zero=zero)
    net.op(39, [source, net.tensor((4,), "int32", data=np.array([0, 2, 3, 1]))], turned)
    wide = net.act(8, 10, 3, scale=scale, zero=zero)
    net.op(34, [turned, net.tensor((4, 2), "int32", data=np.array([[0, 0], [1, 1], [2, 1], [0, 0]]))], wide)
    weights = net.weights((4, 3, 3, 3), True)
    result = net.act(6, 8, 4, scale=0.15)
    options = (1, {0: byte(VALID), 1: i32(1), 2: i32(1), 4: i32(1), 5: i32(1)})
    return net.ends(source, net.op(3, [wide, weights, net.bias(source, weights, 4)], result, options))


def sequence(seed: int) -> Net:
    """A 1-D convolution as TFLite writes it: (L, C) is expanded to (1, L, C) and squeezed again."""
    net = Net(seed)
    zero, out = net.zero(), net.zero()
    source, wide = net.act(12, 3, scale=0.04, zero=zero), net.act(1, 12, 3, scale=0.04, zero=zero)
    net.op(70, [source, net.tensor((1,), "int32", data=np.array([1]))], wide)
    options = (1, {0: byte(SAME), 1: i32(2), 2: i32(1), 4: i32(1), 5: i32(1)})
    weights = net.weights((4, 1, 3, 3), True)
    result = net.op(3, [wide, weights, net.bias(source, weights, 4)], net.act(1, 6, 4, scale=0.1, zero=out), options)
    return net.ends(
        source, net.op(43, [result], net.act(6, 4, scale=0.1, zero=out), (30, {0: np.array([1], np.int32)}))
    )


UNARY = {"logistic": 14, "tanh": 28, "leaky": 98, "hard swish": 117, "requantise": 114, "relu": 19, "relu6": 21}


def cases() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for dtype in ("int8", "uint8"):
        for name, kind in CONVS.items():
            found[f"{dtype} conv {name}"] = lambda seed, d=dtype, k=kind: conv(seed, d, **k)
        for name, kind in TRANSPOSED.items():
            if dtype == "int8" or name not in NOT_UINT8:
                found[f"{dtype} transposed {name}"] = lambda seed, d=dtype, k=kind: transposed(seed, d, **k)
        found |= {
            f"{dtype} linear": lambda seed, d=dtype: linear(seed, d, act=seed % 4),
            f"{dtype} linear flatten": lambda seed, d=dtype: linear(seed, d, True, True),
            f"{dtype} max pool": lambda seed, d=dtype: pool(seed, d, 17, (3, 2), 2, True),
            f"{dtype} max pool valid": lambda seed, d=dtype: pool(seed, d, 17, (2, 2), 2, False, 1),
            f"{dtype} average pool": lambda seed, d=dtype: pool(seed, d, 1, (4, 3), 2, False),
            f"{dtype} average pool same": lambda seed, d=dtype: pool(seed, d, 1, (3, 3), 2, True, 3),
            f"{dtype} mean": lambda seed, d=dtype: mean(seed, d, True, False),
            f"{dtype} mean, one scale": lambda seed, d=dtype: mean(seed, d, False, True),
            f"{dtype} add": lambda seed, d=dtype: residual(seed, d, 0, seed % 4),
            f"{dtype} sub": lambda seed, d=dtype: residual(seed, d, 41),
            f"{dtype} activations": lambda seed, d=dtype: activations(seed, d),
            f"{dtype} concatenation": lambda seed, d=dtype: branches(seed, d),
            f"{dtype} concatenation of rows": lambda seed, d=dtype: branches(seed, d, 1),
            f"{dtype} concatenation of columns": lambda seed, d=dtype: branches(seed, d, 2),
            f"{dtype} softmax": lambda seed, d=dtype: softmax(seed, d, 2 + 5 * seed, 1.0 + seed % 2),
        }
        functions = {
            "logistic": 14,
            "tanh": 28,
            "leaky": 98,
            "hard swish": 117,
            "requantise": 114,
            "relu": 19,
            "relu6": 21,
        }
        for name, code in functions.items():
            found[f"{dtype} {name}"] = lambda seed, d=dtype, c=code: unary(seed, d, c)
        for name, code in {"add": 0, "sub": 41, "mul": 18}.items():
            found[f"{dtype} {name} constant"] = lambda seed, d=dtype, c=code: with_constant(seed, d, c, seed % 2 == 1)
    return found | {"pad, transpose": padded, "sequence": sequence}


CASES = cases()
