"""The runtimes' formulas against torch itself, ties driven; and against values worked out by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexport.errors import IntactError
from pyexport.runtimes import LAYERS, POOLS, Layer, layer_curve, pool_curve, quantise_input
from pyexport.runtimes.curve import fma32

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None

# deprecated in torch, and still what is compared
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per:UserWarning")
needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed; its kernels are what is compared")
f32 = np.float32


def tie_bias(layer: Layer, acc: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Float biases that put each channel's `acc` within three float32 steps of a tie."""
    scale = np.float64(layer.sx) * layer.sw
    code = rng.integers(-90, 90, acc.size) + 0.5
    bias = (code * np.float64(layer.sy) - acc * scale).astype(f32)
    for _ in range(3):
        step = rng.integers(-1, 2, acc.size)
        bias = np.where(step == 0, bias, np.nextafter(bias, np.where(step > 0, f32(np.inf), f32(-np.inf))))
    return bias.astype(np.float64)


def torch_linear(
    engine: str, x: Any, zx: int, codes: Any, zw: Any, layer: Layer, relu: bool, kernel: int = 0
) -> npt.NDArray[np.int64]:
    """Runs torch's own kernel: x (N, K) uint8, codes (C, K) int8; kernel > 0: a convolution of that size instead."""
    torch.backends.quantized.engine = engine
    real = torch.from_numpy(((codes - zw[:, None]) * layer.sw[:, None]).astype(f32))
    if layer.per_channel:
        weights = torch.quantize_per_channel(
            real, torch.from_numpy(layer.sw.astype(np.float64)), torch.from_numpy(zw.astype(np.int64)), 0, torch.qint8
        )
    else:
        weights = torch.quantize_per_tensor(real, float(layer.sw[0]), int(zw[0]), torch.qint8)
    assert np.array_equal(weights.int_repr().numpy(), codes)
    bias = None if layer.bias is None else torch.from_numpy(layer.bias.astype(f32))
    xq = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x.astype(np.uint8)), float(layer.sx), zx)
    quantized = torch.ops.quantized
    if kernel:
        channels = codes.shape[1] // kernel**2
        weights = weights.reshape(len(codes), channels, kernel, kernel)
        packed = quantized.conv2d_prepack(weights, bias, [1, 1], [0, 0], [1, 1], 1)
        run = quantized.conv2d_relu if relu else quantized.conv2d
        out = run(xq.reshape(len(x), channels, kernel, kernel), packed, float(layer.sy), layer.zy)
    else:
        packed = quantized.linear_prepack(weights, bias)
        run = quantized.linear_relu if relu else quantized.linear
        out = run(xq, packed, float(layer.sy), layer.zy)
    result: npt.NDArray[np.int64] = out.int_repr().numpy().reshape(len(x), -1).astype(np.int64)
    return result


CASES = list(itertools.product(("fbgemm", "qnnpack", "onednn"), ("linear", "conv"), (True, False), ("tie", "none")))


@needs_torch
@pytest.mark.parametrize(("runtime", "op", "per_channel", "bias"), CASES)
def test_layer_equals_torch(runtime: str, op: str, per_channel: bool, bias: str) -> None:
    """The first row of activations fixes each accumulator, so biases can aim at ties; the others are random."""
    if runtime not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no {runtime} engine")
    rng = np.random.default_rng([CASES.index((runtime, op, per_channel, bias))])
    for trial in range(8):
        kernel = 0 if op == "linear" else (2, 3, 3)[trial % 3]
        affine = runtime == "fbgemm" and trial % 2 == 1
        count, taps, rows, zx = 512, (8, 36, 144)[trial % 3], 24, int(rng.integers(0, 128))
        codes = rng.integers(-63, 64, (count, taps)).astype(np.int8)
        codes[:, 0] = 63
        zw = np.full(count, 0)
        if affine:
            zw = rng.integers(-20, 21, count) if per_channel else np.full(count, int(rng.integers(-20, 21)))
        sw = (rng.random(count) * 0.02 + 1e-4).astype(f32) if per_channel else np.full(count, f32(rng.random() * 0.01))
        if trial == 0:  # power-of-two scales: every tie is exact
            sw = np.exp2(np.rint(np.log2(sw))).astype(f32)
        sx, sy = f32(rng.random() * 0.05 + 1e-3), f32(rng.random() * 0.2 + 1e-3)
        if trial == 0:
            sx, sy = f32(2**-6), f32(2**-4)
        zy, relu = int(rng.integers(0, 256)), trial % 4 == 3
        x = rng.integers(0, 128, (rows, taps))  # 7 bits: kernels without VNNI saturate in int16 above
        acc = (x - zx) @ (codes.astype(np.int64) - zw[:, None]).T
        layer = Layer(sx, sw, sy, zy, zy if relu else 0, 255, None, False, per_channel, "conv" if kernel else "linear")
        if bias == "tie":
            layer = replace(layer, bias=tie_bias(layer, acc[0], rng))
        want = torch_linear(runtime, x, zx, codes, zw, layer, relu, kernel)
        got = layer_curve(runtime, layer)(acc, np.arange(count))
        assert np.array_equal(got, want), f"trial {trial}: {np.count_nonzero(got != want)} of {got.size} differ"


@needs_torch
@pytest.mark.parametrize("bias", [2.0, 100.0, 10_000.0, -10_000.0])
def test_all_zero_channel_equals_fbgemm(bias: float) -> None:
    """Weights equal to their zero point, scale float32 epsilon: the bias in accumulator units can leave int32."""
    sw = np.full(4, np.finfo(f32).eps)
    codes, zw = np.full((4, 8), -128, np.int8), np.full(4, -128)
    layer = Layer(f32(0.03), sw, f32(0.05), 3, 0, 255, np.full(4, bias))
    want = torch_linear("fbgemm", np.full((2, 8), 77), 5, codes, zw, layer, False)
    assert np.array_equal(layer_curve("fbgemm", layer)(np.zeros((2, 4), np.int64), np.arange(4)), want)


WINDOWS = [(1, 2), (2, 2), (3, 3), (2, 3), (4, 4), (2, 7), (5, 6), (6, 6), (7, 7), (8, 8), (3, 5), (10, 10), (12, 9)]


def torch_lanes() -> str:
    """torch's avg_pool2d on channels-last tensors has vector loops as wide as the CPU's registers."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "torch-channels-last" if wide else "torch-channels-last-avx2"


@needs_torch
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kernel", ["avg", "adaptive", "mean"])
@pytest.mark.parametrize("last", [False, True])
def test_pool_equals_torch(dtype: str, kernel: str, last: bool) -> None:
    """Windows of 2 to 108 taps, of which half the sums are made exact ties; 27 channels reach every loop."""
    if kernel == "mean" and last:
        pytest.skip("mean of a channels-last tensor adds floats in an order that is no function of the sum")
    torch.backends.quantized.engine = "fbgemm"
    rng = np.random.default_rng([7, dtype == "int8", last])
    name = "torch-contiguous"
    if kernel == "mean":
        name = "torch-mean"
    elif last:
        name = torch_lanes() if kernel == "avg" else "torch-adaptive-channels-last"
    elif kernel == "adaptive":
        name = "torch-adaptive-contiguous"
    low, high = (-128, 127) if dtype == "int8" else (0, 255)
    for (h, w), zero in itertools.product(WINDOWS, (low, low + 128, low + 133, high)):
        n, channels = h * w, 27
        codes = rng.integers(low, high + 1, (40, channels, h, w))
        flat = codes.reshape(40, channels, n)
        flat[:20, :, -1] -= (flat[:20].sum(2) - n // 2) % n  # the sum becomes n * k + n / 2: a tie where n is even
        codes = np.clip(codes, low, high)
        x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes.astype(dtype)), 0.037, zero)
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        if kernel == "avg":
            out = torch.nn.functional.avg_pool2d(x, (h, w))
        elif kernel == "adaptive":
            out = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        else:
            out = x.mean(dim=(2, 3))
        want = out.int_repr().numpy().reshape(40, channels).astype(np.int64)
        acc = (codes - zero).reshape(40, channels, n).sum(2)
        got = pool_curve(name, n, channels, zero, low, high)(acc, np.arange(channels))
        assert np.array_equal(got, want), f"{h}x{w} zero {zero}: {np.count_nonzero(got != want)} of {got.size} differ"


@needs_torch
@pytest.mark.parametrize("options", [{}, {"count_include_pad": False}, {"divisor_override": 5}, {"ceil_mode": True}])
def test_padded_pool_equals_torch(options: dict[str, Any]) -> None:
    """Pads add nothing to d. Each position's divisor is counted here; with {} and an override it never changes."""
    rng = np.random.default_rng(3)
    k, stride, pad, size, zero = 3, 2, 1, 10, 5
    codes = rng.integers(-128, 128, (32, 7, size, size))
    x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes.astype(np.int8)), 0.05, zero)
    out = torch.nn.functional.avg_pool2d(x, k, stride=stride, padding=pad, **options).int_repr().numpy()
    for i, j in np.ndindex(*out.shape[2:]):
        top, left = i * stride - pad, j * stride - pad
        rows, cols = range(max(top, 0), min(top + k, size)), range(max(left, 0), min(left + k, size))
        padded = (min(top + k, size + pad) - top) * (min(left + k, size + pad) - left)
        inside = len(rows) * len(cols)
        n = options.get("divisor_override") or (padded if options.get("count_include_pad", True) else inside)
        acc = (codes[:, :, rows.start : rows.stop, cols.start : cols.stop] - zero).sum((2, 3))
        got = pool_curve("torch-contiguous", n, 7, zero, -128, 127)(acc, np.arange(7))
        assert np.array_equal(got, out[:, :, i, j])


@needs_torch
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_input_equals_torch(dtype: str) -> None:
    """Two million reals, most within two float32 steps of a tie, and lengths that end in a scalar loop."""
    rng = np.random.default_rng(dtype == "int8")
    low, high = (-128, 127) if dtype == "int8" else (0, 255)
    for trial in range(60):
        scale = f32(2.0 ** -rng.integers(0, 12)) if trial % 3 == 0 else f32(rng.random() * 0.1 + 1e-4)
        zero = int(rng.integers(low, high + 1))
        count = 35_000 if trial % 2 else int(rng.integers(1, 99))
        code = rng.integers(low - 20, high + 20, count) - zero + 0.5 * rng.integers(0, 2, count)
        x = (code * np.float64(scale)).astype(f32)
        for _ in range(2):
            step = rng.integers(-1, 2, count)
            x = np.where(step == 0, x, np.nextafter(x, np.where(step > 0, f32(np.inf), f32(-np.inf))))
        x[: min(count, 4)] = np.array([3e38, -3e38, np.inf, -np.inf], f32)[: min(count, 4)]
        kind = torch.qint8 if dtype == "int8" else torch.quint8
        want = torch.quantize_per_tensor(torch.from_numpy(x), float(scale), zero, kind).int_repr().numpy()
        assert np.array_equal(quantise_input(x, scale, zero, dtype), want)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60).filter(
    lambda x: x == 0 or abs(x) > 2.0**-60
)


@given(floats, floats, floats)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    """Against the exact rational: no float32 is nearer, and a tie goes to the even mantissa."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    got = fma32(np.array([a], f32), np.array([b], f32), np.array([c], f32))[0]
    error = abs(Fraction(float(got)) - exact)
    for neighbour in (np.nextafter(got, f32(np.inf)), np.nextafter(got, f32(-np.inf))):
        other = abs(Fraction(float(neighbour)) - exact)
        assert error < other or (error == other and got.view(np.int32) % 2 == 0)


def test_fma_double_rounding() -> None:
    """1 + 2^-24 + 2^-60: float64 drops the last term and would then tie to 1."""
    got = fma32(np.array([1 + 2.0**-23], f32), np.array([2.0**-24], f32), np.array([1], f32))
    assert got[0] == f32(1 + 2.0**-23)


def test_tflite_reference_by_hand() -> None:
    """M = 3/8: 0.375 acc, two roundings, ties away from zero; 4 gives 1.5 -> 2, -4 -> -2 (one rounding: -1).

    Rounded twice, acc = 1 gives 0.375 -> 0.5 -> 1.
    """
    layer = Layer(f32(0.75), np.array([1], f32), f32(2), 0, -128, 127)
    acc, zero = np.array([4, -4, 12, -12, 1, -1, 0, 3000]), np.zeros(1, np.int64)
    assert layer_curve("tflite-ref", layer)(acc, zero).tolist() == [2, -2, 5, -5, 1, -1, 0, 127]
    linear = Layer(layer.sx, layer.sw, layer.sy, 0, -128, 127, op="linear")
    assert layer_curve("tflite-ref", linear)(acc, zero).tolist() == [2, -1, 5, -4, 0, 0, 0, 127]


def test_exact_by_hand_and_by_fraction() -> None:
    """Ties to even with dyadic scales; elsewhere the rational itself, near ties too."""
    layer = Layer(f32(0.5), np.array([1], f32), f32(1), 10, 0, 255)
    assert layer_curve("exact", layer)(np.array([1, 3, -1, -3, 5, 1000]), np.zeros(1, np.int64)).tolist() == [
        10, 12, 10, 8, 12, 255,
    ]  # fmt: skip
    rng = np.random.default_rng(1)
    sw = (rng.random(40) * 0.01 + 1e-3).astype(f32)
    layer = Layer(f32(0.02), sw, f32(0.05), 0, -128, 127, rng.normal(size=40).astype(f32).astype(np.float64))
    acc = rng.integers(-20_000, 20_000, (200, 40))
    got = layer_curve("exact", layer)(acc, np.arange(40))
    assert layer.bias is not None
    for i, c in itertools.product(range(0, 200, 9), range(40)):
        slope = Fraction(float(layer.sx)) * Fraction(float(sw[c]))
        real = (slope * int(acc[i, c]) + Fraction(float(layer.bias[c]))) / Fraction(float(layer.sy))
        assert got[i, c] == max(-128, min(127, round(real)))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_curves_are_monotone(name: str) -> None:
    """What the fit relies on, near the bias and over a wide range."""
    rng = np.random.default_rng(2)
    sw = (rng.random(64) * 0.01 + 1e-4).astype(f32)
    bias = np.rint(rng.normal(size=64) * 500)
    curve = layer_curve(name, Layer(f32(0.02), sw, f32(0.1), -5, -128, 127, bias, bias_is_integer=True))
    acc = np.sort(rng.integers(-(2**20), 2**20, (3000, 64)), axis=0)
    acc[:1500] = np.arange(-750, 750)[:, None] - bias.astype(np.int64)
    acc.sort(axis=0)
    assert (np.diff(curve(acc, np.arange(64)), axis=0) >= 0).all()


@pytest.mark.parametrize("name", POOLS)
def test_pool_of_equal_codes_is_that_code(name: str) -> None:
    """A window that holds one code gives that code."""
    for n, z in itertools.product((1, 2, 6, 9, 49, 64, 100), (-128, 0, 9)):
        codes = np.arange(-128, 128)
        got = pool_curve(name, n, 20, z, -128, 127)((codes - z)[:, None] * n, np.arange(20))
        assert (got == codes[:, None]).all()


def test_refusals_name_the_cause() -> None:
    """Unknown names, NaN inputs and unusable scales."""
    layer = Layer(f32(1e-30), np.array([1e-30], f32), f32(1), 0, 0, 255)
    with pytest.raises(IntactError, match="not known"):
        layer_curve("cuda", layer)
    with pytest.raises(IntactError, match="channel 0"):
        layer_curve("fbgemm", layer)
    with pytest.raises(IntactError, match="not known"):
        pool_curve("torch", 4, 1, 0, 0, 255)
    with pytest.raises(IntactError, match="divisor"):
        pool_curve("exact", 0, 1, 0, 0, 255)
    with pytest.raises(IntactError, match=r"index \(0, 1\)"):
        quantise_input(np.array([[0, np.nan]], f32), f32(1), 0, "uint8")
    with pytest.raises(IntactError, match="scale"):
        quantise_input(np.zeros(1, f32), f32(0), 0, "uint8")
    with pytest.raises(IntactError, match="rule"):
        quantise_input(np.zeros(1, f32), f32(1), 0, "uint8", "tflite")


def test_other_input_rules_by_hand() -> None:
    """0.25 at scale 0.5 is a tie: to even before the zero point is added, or after."""
    x = np.array([0.25, -0.25, 0.75, 100], f32)
    assert quantise_input(x, f32(0.5), 3, "uint8", "ort").tolist() == [3, 3, 5, 203]
    assert quantise_input(x, f32(0.5), 3, "uint8", "pt2e").tolist() == [3, 3, 5, 203]
    assert quantise_input(x, f32(0.5), 3, "uint8", "torch").tolist() == [4, 2, 4, 203]
