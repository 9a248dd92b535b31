"""onnxruntime's formulas beyond convolutions: every code and every pair of codes against onnxruntime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.runtimes import add_table, average_curve, lookup_table, multiply_table

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is what these formulas are compared with")
pytest.importorskip("onnx", reason="onnx writes the models")

from tests.onnx_writer import MS, Model  # noqa: E402

DTYPES: tuple[ir.Dtype, ...] = ("int8", "uint8")
SEEDS = range(9)


def session(model: Model, output: str, dtype: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.proto(output, dtype).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def quants(seed: int, dtype: ir.Dtype, count: int) -> list[ir.Quant]:
    """Every third seed has power-of-two scales, which drive exact ties."""
    rng = np.random.default_rng(seed)
    low, high = ir.CODE_RANGE[dtype]
    found = []
    for _ in range(count):
        scale = 2.0 ** rng.integers(-8, -3) if seed % 3 == 0 else np.exp(rng.uniform(-6, -2))
        zeros = (low, (low + high + 1) // 2, int(rng.integers(low, high + 1)))
        found.append(ir.Quant(np.float32(scale), zeros[rng.integers(3)], dtype))
    return found


def scaled(model: Model, name: str, quant: ir.Quant) -> str:
    return model.scale(name, float(quant.scale), quant.zero_point, quant.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul", "Add", "Sub"])
def test_every_pair_of_codes(kind: str, dtype: ir.Dtype) -> None:
    """The last count is no multiple of a vector: the tail follows the same formula."""
    low = ir.CODE_RANGE[dtype][0]
    codes = np.arange(low, low + 256)
    first, second = np.repeat(codes, 256).astype(dtype), np.tile(codes, 256).astype(dtype)
    for seed in SEEDS:
        a, b, y = quants(seed, dtype, 3)
        for count in (65536, 65536 - 37):
            model = Model((2, count), dtype)
            for name, index in (("a", 0), ("b", 1)):
                model.constant(f"i{name}", np.int64(index))
                model.op("Gather", f"x i{name}", name)
            sa, sb, sy = scaled(model, "a", a), scaled(model, "b", b), scaled(model, "y", y)
            if kind.startswith("QLinear"):
                model.op(kind, f"a {sa} b {sb} {sy}", "y", MS)
            else:
                model.op("DequantizeLinear", f"a {sa}", "ad")
                model.op("DequantizeLinear", f"b {sb}", "bd")
                model.op(kind, "ad bd", "yd")
                model.op("QuantizeLinear", f"yd {sy}", "y")
            given = session(model, "y", dtype).run(None, {"x": np.stack([first, second])[:, :count]})[0]
            if kind == "QLinearMul":
                expected = multiply_table(a, b, y, "ort")
            else:
                expected = add_table(a, b, y, "ort", sign=-1 if kind == "Sub" else 1)
            assert np.array_equal(given, expected.reshape(-1)[:count]), (seed, count)


FUNCTIONS = {"Sigmoid": "logistic", "LeakyRelu": "leaky_relu", "Relu": "relu", "Identity": "requantise"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "fused"),
    [
        ("Sigmoid", True),
        ("LeakyRelu", True),
        ("Sigmoid", False),
        ("LeakyRelu", False),
        ("Relu", False),
        ("Identity", False),
    ],
)
def test_every_code(kind: str, fused: bool, dtype: ir.Dtype) -> None:
    """fused: onnxruntime's operation on codes; else dequantise, operate, quantise."""
    low = ir.CODE_RANGE[dtype][0]
    codes = np.arange(low, low + 256).astype(dtype)
    for seed in range(60):
        a, y = quants(seed, dtype, 2)
        alpha = float(np.random.default_rng(seed).uniform(-0.3, 0.5))
        attributes: dict[str, Any] = {"alpha": alpha} if kind == "LeakyRelu" else {}
        model = Model((256,), dtype)
        sa, sy = scaled(model, "a", a), scaled(model, "y", y)
        if fused:
            model.op(f"QLinear{kind}", f"x {sa} {sy}", "y", MS, **attributes)
        else:
            model.op("DequantizeLinear", f"x {sa}", "xd")
            model.op(kind, "xd", "yd", **attributes)
            model.op("QuantizeLinear", f"yd {sy}", "y")
        given = session(model, "y", dtype).run(None, {"x": codes})[0]
        node = ir.Lookup("n", ("x",), "n", FUNCTIONS[kind], ir.CODE_RANGE[dtype], alpha)
        assert np.array_equal(given, lookup_table(node, a, y, "ort")), seed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(4, 4, 37), (7, 7, 16), (3, 5, 64), (1, 1, 3)])
@pytest.mark.parametrize("channels_last", [0, 1])
def test_global_average(channels_last: int, size: tuple[int, int, int], dtype: ir.Dtype) -> None:
    height, width, channels = size
    low = ir.CODE_RANGE[dtype][0]
    for seed in SEEDS:
        a, y = quants(seed, dtype, 2)
        x = np.random.default_rng(seed).integers(low, low + 256, (64, height, width, channels)).astype(dtype)
        model = Model((64, *size) if channels_last else (64, channels, height, width), dtype)
        inputs = f"x {scaled(model, 'a', a)} {scaled(model, 'y', y)}"
        model.op("QLinearGlobalAveragePool", inputs, "y", MS, channels_last=channels_last)
        fed = x if channels_last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        given = session(model, "y", dtype).run(None, {"x": fed})[0].reshape(64, channels)
        total = (x.astype(np.int64) - a.zero_point).sum((1, 2))
        taps = height * width
        curve = average_curve("ort-global", "ort", taps, taps, channels, a, y, ir.CODE_RANGE[dtype])
        assert np.array_equal(given, curve(total, np.arange(channels)[None])), seed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [2, 3])
def test_average_over_windows(kernel: int, dtype: ir.Dtype) -> None:
    """Equal over 9, and over 4 with a power-of-two scale. Otherwise ties over 4 fall as the runtime's own float sums

    of the window's values do, which no function of the sum of codes can say: only those ties differ, by one code.
    """
    low = ir.CODE_RANGE[dtype][0]
    for seed in SEEDS:
        for a, y in (quants(seed, dtype, 2), quants(seed, dtype, 1) * 2):
            x = np.random.default_rng(seed).integers(low, low + 256, (4, 16, 9, 9)).astype(dtype)
            model = Model(x.shape, dtype)
            inputs = f"x {scaled(model, 'a', a)} {scaled(model, 'y', y)}"
            model.op("QLinearAveragePool", inputs, "y", MS, kernel_shape=[kernel, kernel])
            given = session(model, "y", dtype).run(None, {"x": x})[0]
            centred = x.astype(np.int64) - a.zero_point
            total = np.lib.stride_tricks.sliding_window_view(centred, (kernel, kernel), (2, 3)).sum((4, 5))
            taps = kernel * kernel
            curve = average_curve("ort-average", "ort", taps, taps, 16, a, y, ir.CODE_RANGE[dtype])
            differs = given != curve(total, np.zeros(1, np.int64))
            if kernel == 3 or seed % 3 == 0 or a != y:
                assert not differs.any(), seed
            else:
                tie = total % 4 == 2
                assert not (differs & ~tie).any() and np.abs(given - curve(total, np.zeros(1, np.int64))).max() <= 1


def test_hand_checked() -> None:
    """Scales 1/4: 1 + 2 quarters into halves is 1.5, a tie, to 2; its neighbours 0.5 and 2.5 go to 0 and 2."""
    quarter, half = ir.Quant(np.float32(0.25), 0, "int8"), ir.Quant(np.float32(0.5), 0, "int8")
    table = add_table(quarter, quarter, half, "ort")
    assert [table[128 + 1, 128 + k] for k in (0, 2, 4, 127)] == [0, 2, 2, 64]
    assert add_table(quarter, quarter, half, "ort", limits=(0, 127)).min() == 0
    assert multiply_table(quarter, quarter, half, "ort")[128 + 2, 128 + 6] == 2  # 0.5 * 1.5 = 1.5 halves
    with pytest.raises(IntactError, match="no formula in onnxruntime"):
        lookup_table(ir.Lookup("n", ("x",), "n", "hard_swish", (-128, 127)), quarter, half, "ort")
