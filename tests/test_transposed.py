"""Transposed convolution from the graph to the RTL: phases by hand, torch's own codes, the Verilog, the throughput."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyexport import explain, golden, ir, manifest, quantise
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig
from pyexport.lower_layer import folded_bias
from pyexport.phases import phases
from sim.runner import simulator_missing
from tests.rtl_network import assert_equal, prepare, simulated

f32 = np.float32
Pair = tuple[int, int]
ARRAYS = {"icarus": HwConfig(4, 8, 4), "verilator": HwConfig(8, 8, 8, 2048, 2048, 256, 1024, 16)}


def graph(
    shape: tuple[int, int, int] = (5, 4, 6),
    out: int = 5,
    kernel: Pair = (3, 3),
    stride: Pair = (2, 2),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    weight_zero: int = 0,
    after: bool = False,
) -> ir.Graph:
    """One transposed convolution with random weights. after: and a 3x3 depthwise convolution that reads it."""
    rng = np.random.default_rng(3)
    codes = rng.integers(-128, 128, (out, *kernel, shape[2] // groups)).astype(np.int16)
    scale, zero = rng.uniform(0.005, 0.02, out).astype(f32), np.full(out, weight_zero, np.int32)
    weights = ir.Weights(codes, scale, zero, rng.normal(size=out).astype(f32).astype(np.float64))
    height, width = ir.transposed_shape(shape, kernel, stride, padding, dilation)
    result = float(0.03 * np.sqrt(kernel[0] * kernel[1] * shape[2] / groups))
    tensors = {
        "x": ir.Tensor("x", shape, ir.Quant(f32(0.03), 77, "uint8")),
        "y": ir.Tensor("y", (height, width, out), ir.Quant(f32(result), -20, "int8")),
    }
    nodes: list[ir.AnyNode] = [
        ir.ConvTranspose2d("up", ("x",), "y", weights, stride, padding, dilation, groups, (-128, 127))
    ]
    if after:
        own = rng.integers(-128, 128, (out, 3, 3, 1)).astype(np.int16)
        tensors["z"] = ir.Tensor("z", tensors["y"].shape, ir.Quant(f32(result * 2), 3, "int8"))
        depthwise = ir.Weights(own, scale, np.zeros(out, np.int32), None)
        nodes.append(ir.Conv2d("after", ("y",), "z", depthwise, padding=(1, 1, 1, 1), groups=out, clamp=(-128, 127)))
    ends = [ir.Port(name, tensors[name].shape, (0, 1, 2)) for name in ("x", nodes[-1].output)]
    return ir.check(ir.Graph("up", "test", "fbgemm", tensors, tuple(nodes), ends[0], ends[1]), "up")


SHAPES: dict[str, dict[str, Any]] = {
    "3x3": {"padding": (1, 0, 1, 0)},
    "4x4": {"kernel": (4, 4), "padding": (1, 1, 1, 1), "out": 16, "shape": (4, 4, 16)},
    "2x2": {"kernel": (2, 2), "out": 8, "shape": (3, 5, 8), "after": True},
    "kernel below stride": {"kernel": (1, 2), "stride": (2, 3), "padding": (0, -1, 0, 0)},
    "output padding": {"stride": (3, 2), "padding": (1, -1, 0, -1)},
    "dilation that shares a factor": {"stride": (4, 2), "dilation": (2, 3), "shape": (3, 4, 3)},
    "groups": {"groups": 3, "out": 12, "kernel": (4, 2)},
    "depthwise": {"groups": 8, "shape": (4, 3, 8), "out": 8, "padding": (1, 1, 1, 1)},
    "wide weights": {"weight_zero": 90, "padding": (0, 0, 2, 1)},
    "stride 1": {"stride": (1, 1), "padding": (2, 1, 0, 1)},
    "more cut than a kernel": {"padding": (5, 1, 4, 2)},
    "channels of several tiles": {"out": 19, "shape": (2, 3, 13)},
}


ON_ICARUS = ("3x3", "kernel below stride", "output padding", "dilation that shares a factor", "groups", "wide weights")


@pytest.mark.parametrize(("sim", "name"), [("verilator", n) for n in SHAPES] + [("icarus", n) for n in ON_ICARUS])
def test_on_the_verilog(sim: str, name: str) -> None:
    """Every code and cycle; the Verilator build is one for all shapes."""
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    prepared = prepare(graph(**SHAPES[name]), ARRAYS[sim], 3, fixed_depths=sim == "verilator")
    assert prepared.network.layers[0].op == "conv_transpose2d"
    compared = assert_equal(prepared, simulated(sim, prepared, f"transposed_{name.replace(' ', '_')}"))
    print(f"{sim} {name}: {compared} codes, {sum(prepared.cycles)} cycles")


@pytest.mark.parametrize("kernel", [3, 4])
def test_throughput(kernel: int) -> None:
    """Stride 2 on an 8x8 array, 32 channels to 32, 8x8 to 16x16: no cycle goes to a tap that is not there."""
    if reason := simulator_missing("verilator"):
        pytest.skip(reason)
    whole = graph((8, 8, 32), 32, (kernel, kernel), (2, 2), (1, kernel - 3, 1, kernel - 3))
    prepared = prepare(whole, ARRAYS["verilator"], 1, fixed_depths=True)
    result = simulated("verilator", prepared, f"transposed_throughput_{kernel}")
    assert_equal(prepared, result)
    macs = prepared.network.macs
    assert macs == (16 // 2 * kernel) ** 2 * 32 * 32
    print(f"{kernel}x{kernel}: {macs} MACs in {result.cycles[0]} cycles: {macs / 64 / result.cycles[0]:.4f}")
    assert result.cycles[0] == macs // 64 + 4 * 25  # four phases, each with the pipeline's depth


def test_phases_by_hand() -> None:
    """A row of 5 taps, stride 2, the first output cut: output Y sees taps k with Y + 1 - k even."""
    whole = graph((1, 3, 1), 1, (1, 5), (1, 2), (0, 0, 1, 0))
    layer = quantise.quantise(whole).layers[0]
    assert layer.weights is not None and whole.tensors["y"].shape == (1, 8, 1)
    codes = layer.weights.reshape(-1).tolist()
    found = list(phases(layer, (1, 8, 1)))
    # output 0 stands at 1 of the full result: taps 3 and 1 meet inputs -1 and 0; output 1 at 2: 4, 2, 0 and -1, 0, 1
    assert [part.weights.reshape(-1).tolist() for part, _ in found if part.weights is not None] == [
        [codes[3], codes[1]],
        [codes[4], codes[2], codes[0]],
    ]
    assert [(part.padding[2], part.stride, part.dilation) for part, _ in found] == [(1, (1, 1), (1, 1))] * 2
    assert [(pixels.x, pixels.width, pixels.step) for _, pixels in found] == [(0, 4, (1, 2)), (1, 4, (1, 2))]


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 8), st.integers(0, 4), st.integers(0, 4))
def test_phases_cover_the_output_once(sizes: tuple[int, ...], top: int, left: int) -> None:
    """Every pixel in one phase; every tap in as many phases as its distance and the stride let it."""
    height, width, kh, kw, sy, sx, dy, dx = sizes
    full = ir.transposed_shape((height, width, 1), (kh, kw), (sy, sx), (0, 0, 0, 0), (dy, dx))
    padding = (min(top, full[0] - 1), 1 - sy, min(left, full[1] - 1), 1 - sx)
    one = graph((height, width, 1), 1, (kh, kw), (sy, sx), padding, (dy, dx))
    shape = one.tensors["y"].shape
    seen = np.zeros(shape[:2], int)
    macs = 0
    layer = quantise.quantise(one).layers[0]
    for part, pixels in phases(layer, shape):
        seen[pixels.y :: pixels.step[0], pixels.x :: pixels.step[1]] += 1
        assert (
            len(range(pixels.y, shape[0], sy)) == pixels.height and len(range(pixels.x, shape[1], sx)) == pixels.width
        )
        assert part.weights is not None
        macs += pixels.height * pixels.width * part.weights[..., 0].size * bool(part.weights.any())
    assert (seen == 1).all() and macs == layer.macs


def test_explained_as_it_is_computed() -> None:
    network = quantise.quantise(graph(**SHAPES["dilation that shares a factor"]))
    text = explain.explain(network, "up", None)
    place = re.search(r"Output \(h, w, c\) = \((\d+), (\d+), (\d+)\)", text)
    code = re.search(r"code (-?\d+) in the model", text)
    held = re.search(r"sum of w of the taps that meet here \((-?\d+)\) = (-?\d+) is what", text)
    assert place and code and held
    x = np.random.default_rng(0).integers(-128, 128, (1, 3, 4, 3)).astype(np.int8)  # what explain draws
    y, column, channel = map(int, place.groups())
    assert golden.run(network, x)["y"][0, y, column, channel] == int(code[1])
    layer, shape = network.layers[0], network.tensors["y"].shape
    (part,) = (p for p, at in phases(layer, shape) if (y - at.y) % at.step[0] == (column - at.x) % at.step[1] == 0)
    assert folded_bias(part, (network.tensors["x"].zero_point, 0))[channel] == int(held[2])


def test_manifest_has_what_the_parameter_memory_holds() -> None:
    prepared = prepare(graph(**SHAPES["3x3"]), ARRAYS["icarus"], 1)
    data = manifest.manifest(graph(**SHAPES["3x3"]), prepared.network, prepared.lowered, prepared.cycles, "x", "0")
    layer = data["layers"][0]
    assert layer["op"] == "conv_transpose2d" and "bias_folded" not in layer
    assert [phase["kernel"] for phase in layer["phases"]] == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert sum(phase["height"] * phase["width"] for phase in layer["phases"]) == 10 * 8
    stored = [param & 0xFFFFFFFF for param in prepared.lowered.params]
    wanted = [bias & 0xFFFFFFFF for phase in layer["phases"] for bias in [*phase["bias_folded"], 0, 0, 0]]
    assert stored == wanted


def test_bounds_are_those_of_the_taps_that_meet() -> None:
    """Kernel 2x2 at stride 2: one tap a pixel, so a quarter of the sum of all taps at most."""
    layer = quantise.quantise(graph((3, 3, 4), 3, (2, 2))).layers[0]
    assert layer.weights is not None
    low, high = -77, 255 - 77
    sums = layer.weights.astype(np.int64).reshape(3, 4, 4)
    highest = (np.maximum(sums, 0) * high + np.minimum(sums, 0) * low).sum(2).max(1)
    assert np.asarray(layer.facts["acc_hi"]).tolist() == highest.tolist()


def test_too_many_phases_are_refused() -> None:
    weights = ir.Weights(np.ones((1, 65, 65, 1), np.int16), np.ones(1, f32), np.zeros(1, np.int32), None)
    tensors = {
        "x": ir.Tensor("x", (1, 1, 1), ir.Quant(f32(1), 0, "int8")),
        "y": ir.Tensor("y", (65, 65, 1), ir.Quant(f32(1), 0, "int8")),
    }
    node = ir.ConvTranspose2d("up", ("x",), "y", weights, (65, 65), clamp=(-128, 127))
    ends = [ir.Port(name, tensors[name].shape, (0, 1, 2)) for name in ("x", "y")]
    large = ir.check(ir.Graph("large", "test", "exact", tensors, (node,), ends[0], ends[1]), "large")
    with pytest.raises(IntactError, match=r"layer 'up': stride \(65, 65\) makes more than 4096 jobs"):
        quantise.quantise(large)


# --- torch -----------------------------------------------------------------------------------------------------------

TORCH: dict[str, dict[str, Any]] = {
    "3x3": {},
    "ties": {"powers": True},
    "many channels, ties": {"powers": True, "inputs": 64, "outputs": 16},
    "no bias": {"bias": False, "powers": True},
    "groups": {"groups": 2},
    "depthwise": {"groups": 8, "kernel": (4, 4)},
    "kernel below stride": {"kernel": (2, 2), "stride": (3, 3), "padding": (0, 0)},
    "one tap": {"kernel": (1, 1), "padding": (0, 0)},
    "dilation": {"dilation": (2, 3), "stride": (4, 2)},
    "uneven": {"kernel": (5, 3), "padding": (3, 1), "stride": (3, 1), "extra": (2, 0)},
    "no output padding": {"kernel": (4, 4), "extra": (0, 0)},
    "2x2": {"kernel": (2, 2), "padding": (0, 0), "extra": (0, 0), "inputs": 12},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn"])
@pytest.mark.parametrize("name", list(TORCH))
def test_torch_gives_the_same_codes(name: str, engine: str) -> None:
    """Full-range random codes through torch's quantised module.

    Left out is what torch 2.13 itself gets wrong, by many codes: with fbgemm kernels of 2 rows of up to 6 taps, stride
    up to 2, no padding, dilation or groups, channels in eights; with oneDNN more or fewer outputs than inputs.
    """
    torch = pytest.importorskip("torch", reason="torch is what the codes are compared with")
    from tests.torch_nets import VNNI

    if not VNNI:
        pytest.skip("without VNNI torch's own int8 kernels saturate")
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"torch has no {engine} here")
    kind = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "extra": (1, 1), "dilation": (1, 1), "groups": 1}
    kind |= {"inputs": 8, "outputs": 8, "bias": True, "powers": False} | TORCH[name]
    if engine == "onednn":
        kind |= {"extra": (0, 0), "outputs": kind["inputs"]}  # it takes no other output padding
    compared = inside = 0
    before = torch.backends.quantized.engine
    try:
        torch.backends.quantized.engine = engine
        for seed in range(3):
            given, expected, proved = _torch_codes(torch, engine, seed, **kind)
            assert proved or engine == "onednn", "oneDNN alone adds the zero point before it rounds"
            assert np.array_equal(given, expected), f"{int((given != expected).sum())} of {given.size} codes differ"
            compared, inside = compared + given.size, inside + int(((given > 0) & (given < 255)).sum())
    finally:
        torch.backends.quantized.engine = before
    assert inside > compared // 4
    print(f"{engine} {name}: {compared} codes")


def _torch_codes(torch: Any, engine: str, seed: int, **kind: Any) -> tuple[Any, Any, bool]:
    """The golden model's and torch's codes (N, C, H, W) of one module with random weights, and whether they are proved
    equal on every accumulator. powers: scales are powers of two.
    """
    rng, groups, inputs, outputs = np.random.default_rng(seed), kind["groups"], kind["inputs"], kind["outputs"]
    stride, (top, left), (down, right) = kind["stride"], kind["padding"], kind["extra"]
    module = torch.ao.nn.quantized.ConvTranspose2d(
        inputs, outputs, kind["kernel"], stride, kind["padding"], kind["extra"], groups, kind["bias"], kind["dilation"]
    )
    codes = rng.integers(-127, 128, (inputs, outputs // groups, *kind["kernel"])).astype(np.int8)
    sx, sw, sy = f32(rng.uniform(0.01, 0.05)), f32(rng.uniform(0.005, 0.01)), f32(rng.uniform(0.3, 0.6))
    bias = rng.normal(size=outputs).astype(f32) * f32(kind["bias"])
    if kind["powers"]:
        sx, sw, sy = f32(2**-5), f32(2**-7), f32(2**-2 * max(1, inputs // 8))
        bias = (rng.integers(-2000, 2000, outputs) * sx * sw / 2).astype(f32)
    packed = torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), float(sw), 0)
    module.set_weight_bias(packed, torch.from_numpy(bias) if kind["bias"] else None)
    zx, zy = int(rng.integers(256)), int(rng.integers(64, 192))
    module.scale, module.zero_point = float(sy), zy
    x = rng.integers(0, 256, (8, inputs, 5, 6)).astype(np.uint8)
    expected = module(torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), float(sx), zx)).int_repr().numpy()

    grouped = codes.reshape(groups, inputs // groups, outputs // groups, *kind["kernel"]).transpose(0, 2, 3, 4, 1)
    weights = ir.Weights(
        grouped.reshape(outputs, *kind["kernel"], -1).astype(np.int16),
        np.full(outputs, sw),
        np.zeros(outputs, np.int32),
        bias.astype(np.float64) if kind["bias"] else None,
        False,
        False,
    )
    padding = (top, top - down, left, left - right)
    node = ir.ConvTranspose2d("up", ("x",), "y", weights, stride, padding, kind["dilation"], groups, (0, 255))
    tensors = {
        "x": ir.Tensor("x", (5, 6, inputs), ir.Quant(sx, zx, "uint8")),
        "y": ir.Tensor("y", (*expected.shape[2:], outputs), ir.Quant(sy, zy, "uint8")),
    }
    ends = [ir.Port(n, a.shape[1:], (1, 2, 0)) for n, a in (("x", x), ("y", expected))]
    whole = ir.check(ir.Graph("up", "test", engine, tensors, (node,), ends[0], ends[1]), "up")
    network = quantise.quantise(whole)
    proved = not any(values.size for values in network.layers[0].differing)
    got = golden.run(network, (whole.input.to_hwc(x.astype(np.int64)) - 128).astype(np.int8))["y"]
    return whole.output.from_hwc(got.astype(np.int64) + 128), expected, proved
