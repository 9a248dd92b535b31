"""torch's kernels on codes, as tables: every code and pair against torch itself, vectors and single codes apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="torch is what the tables are compared with")

from pyexport import ir, runtimes  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.ir import Add, Lookup, Quant  # noqa: E402
from tests import torch_nets as nets  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
Q = torch.ops.quantized
Codes = npt.NDArray[np.int64]
CODES = np.arange(256)
ENGINES = ["fbgemm", "qnnpack", "onednn"]
needs_avx512 = pytest.mark.skipif(not nets.AVX512, reason="torch's vectors are as long as AVX-512's")


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    """Leaves torch's engine as it was."""
    nets.setup()
    yield
    torch.backends.quantized.engine = "fbgemm"


def quants(count: int, seed: int = 0) -> Iterator[tuple[Quant, Quant, Quant]]:
    """Random scales and zero points; every other time powers of two, which put many sums onto ties."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        scales = 2.0 ** -rng.integers(3, 8, 3) if i % 2 else rng.uniform(0.002, 0.2, 3)
        a, b, c = (Quant(np.float32(s), int(z), "uint8") for s, z in zip(scales, rng.integers(1, 255, 3), strict=True))
        yield a, b, c


def tensor(codes: npt.NDArray[Any], quant: Quant) -> Any:
    real = torch.from_numpy((codes - quant.zero_point).astype(np.float32) * quant.scale)
    return torch.quantize_per_tensor(real, float(quant.scale), quant.zero_point, torch.quint8)


def codes_of(result: Any) -> Codes:
    return np.asarray(result.int_repr(), np.int64)


def in_pieces(function: Callable[..., Any], size: int, tensors: tuple[Any, ...], *rest: Any) -> Codes:
    """The function's codes for `size` elements at a time."""
    pieces = zip(*(each.split(size) for each in tensors), strict=True)
    return np.concatenate([codes_of(function(*piece, *rest)) for piece in pieces])


@needs_avx512
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("relu", [False, True])
def test_sums_of_all_pairs(engine: str, relu: bool) -> None:
    """Sixteen sets of scales, 65,536 pairs each: 0 of a million differ, in vectors of 64 and in pieces shorter."""
    torch.backends.quantized.engine = engine
    function = Q.add_relu if relu else Q.add
    first, second = np.repeat(CODES, 256), np.tile(CODES, 256)
    compared = 0
    for qa, qb, out in quants(16):
        a, b, to = tensor(first, qa), tensor(second, qb), (float(out.scale), out.zero_point)
        limits = (out.zero_point, 255) if relu else None
        table = runtimes.add_table(qa, qb, out, engine, limits).reshape(-1)
        assert np.array_equal(table, codes_of(function(a, b, *to)))
        compared += table.size
        if engine != "qnnpack":  # qnnpack has one kernel for all
            table = runtimes.add_table(qa, qb, out, engine + "-scalar", limits).reshape(-1)
        pieces = in_pieces(function, 63, (a[:6300], b[:6300]), *to)
        assert np.array_equal(table[:6300], pieces)
    assert compared == 1 << 20


def test_products_of_all_pairs() -> None:
    first, second = np.repeat(CODES, 256), np.tile(CODES, 256)
    for qa, qb, out in quants(8):
        result = Q.mul(tensor(first, qa), tensor(second, qb), float(out.scale), out.zero_point)
        assert np.array_equal(runtimes.multiply_table(qa, qb, out, "fbgemm").reshape(-1), codes_of(result))


def test_a_sum_by_hand() -> None:
    """Codes 1 and 0 with scales 1/4, the sum's 1/2: half a step. Vectors round it before the zero point 61, to 61; a
    single code goes to 61.5 first, and to the even 62; qnnpack rounds half away from zero."""
    quarter, half = Quant(np.float32(0.25), 0, "uint8"), Quant(np.float32(0.5), 61, "uint8")
    assert runtimes.add_table(quarter, quarter, half, "fbgemm")[1, 0] == 61
    assert runtimes.add_table(quarter, quarter, half, "fbgemm-scalar")[1, 0] == 62
    assert runtimes.add_table(quarter, quarter, half, "qnnpack")[1, 0] == 62
    shifted = Quant(np.float32(0.25), 9, "uint8")
    assert runtimes.add_table(shifted, shifted, half, "qnnpack")[8, 9] == 60
    assert runtimes.add_table(quarter, quarter, half, "fbgemm", (70, 80))[1, 0] == 70


FUNCTIONS: dict[str, tuple[str, Callable[[Any, float, int], Any]]] = {
    "sigmoid": ("logistic", lambda x, scale, zero: torch.sigmoid(x)),
    "sigmoid with a scale": ("logistic", Q.sigmoid),
    "tanh": ("tanh", lambda x, scale, zero: torch.tanh(x)),
    "hardsigmoid": ("hard_sigmoid", lambda x, scale, zero: torch.nn.functional.hardsigmoid(x)),
    "hardswish": ("hard_swish", Q.hardswish),
    "leaky relu": ("leaky_relu", lambda x, scale, zero: Q.leaky_relu(x, 0.1, False, scale, zero)),
    "elu": ("elu", lambda x, scale, zero: Q.elu(x, scale, zero, 0.1)),
    "requantise": (
        "requantise",
        lambda x, scale, zero: torch.quantize_per_tensor(x.dequantize(), scale, zero, torch.quint8),
    ),
}


@needs_avx512
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_every_code(name: str, engine: str) -> None:
    """All 256 codes at 100 scales, in vectors and in pieces of 32."""
    if (name, engine) == ("sigmoid with a scale", "qnnpack"):
        pytest.skip("qnnpack itself refuses any scale but 1/256")
    torch.backends.quantized.engine = engine
    function, call = FUNCTIONS[name]
    for source, _, target in quants(100, 7):
        to, whole = (float(target.scale), target.zero_point), tensor(CODES, source)
        result = call(whole, *to)
        out = Quant(np.float32(result.q_scale()), result.q_zero_point(), "uint8")
        node = Lookup("f", ("x",), "f", function, alpha=float(np.float32(0.1)), arithmetic="torch-contiguous")
        for shape, theirs in (
            ((16, 16, 1), codes_of(result)),
            ((32, 1, 1), in_pieces(call, 32, (whole,), *to)),
        ):
            (part,) = runtimes.parts(node, engine, shape)
            ours = runtimes.lookup_table(node, source, out, part.kernel)
            assert np.array_equal(ours, theirs), f"{part.kernel}: {source} to {out}"


def test_functions_by_hand() -> None:
    def table(function: str, source: Quant, out: Quant, runtime: str = "fbgemm", alpha: float = 0.0) -> Codes:
        return runtimes.lookup_table(Lookup("f", ("x",), "f", function, alpha=alpha), source, out, runtime)

    one, byte = Quant(np.float32(1), 100, "uint8"), Quant(np.float32(2**-8), 0, "uint8")
    assert table("logistic", one, byte)[[0, 99, 100, 101, 255]].tolist() == [0, 69, 128, 187, 255]
    assert table("hard_sigmoid", one, byte)[[96, 97, 100, 103]].tolist() == [0, 0, 128, 255]
    half = Quant(np.float32(0.5), 10, "uint8")
    assert table("hard_swish", one, half)[[97, 98, 100, 101, 103]].tolist() == [10, 9, 10, 11, 16]
    assert table("leaky_relu", one, half, alpha=0.25)[[98, 100, 101]].tolist() == [9, 10, 12]
    assert table("requantise", one, half)[[94, 95, 100, 222, 255]].tolist() == [0, 0, 10, 254, 255]
    # -1/2 step from the zero point 61: 60.5 is even at 60 for codes that torch's quantiser takes with one rounding
    coarse = Quant(np.float32(2), 61, "uint8")
    assert table("requantise", one, coarse)[[99, 101]].tolist() == [60, 62]
    with pytest.raises(IntactError, match="no quantised function 'cosine'"):
        table("cosine", one, half)
    with pytest.raises(IntactError, match="qnnpack itself refuses a sigmoid"):
        table("logistic", one, half, "qnnpack")


@needs_avx512
@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 200, 1000])
def test_what_is_left_over_goes_code_by_code(size: int) -> None:
    """1/4 + 0 at scale 1/2 and zero point 61 is 61 in a vector and 62 by itself: that shows which codes are which."""
    quarter, half = Quant(np.float32(0.25), 0, "uint8"), Quant(np.float32(0.5), 61, "uint8")
    result = Q.add(tensor(np.ones(size), quarter), tensor(np.zeros(size), quarter), 0.5, 61)
    tail = size % 64
    assert codes_of(result).tolist() == [61] * (size - tail) + [62] * tail
    node, kernels = Add("a", ("x", "y"), "a", arithmetic="torch-contiguous"), np.full(size, "", object)
    for part in runtimes.parts(node, "fbgemm", (1, 1, size)):
        kernels[part.channels] = part.kernel
    assert [runtimes.add_table(quarter, quarter, half, name)[1, 0] for name in kernels] == codes_of(result).tolist()


@needs_avx512
@pytest.mark.parametrize("channels", [3, 16, 20])
@pytest.mark.parametrize("orders", ["both last", "both contiguous", "mixed"])
def test_memory_order_decides_the_kernel(orders: str, channels: int) -> None:
    """The channels that meet each kernel: 5x5 maps, so the last 64th part of them is left over."""
    quarter = Quant(np.float32(0.25), 0, "uint8")
    a, b = tensor(np.ones((1, channels, 5, 5)), quarter), tensor(np.zeros((1, channels, 5, 5)), quarter)
    a = a.contiguous(memory_format=torch.channels_last) if orders != "both contiguous" else a
    b = b.contiguous(memory_format=torch.channels_last) if orders == "both last" else b
    codes = codes_of(Q.add(a, b, 0.5, 61))[0].reshape(channels, -1)
    name = {"both last": "torch-channels-last", "both contiguous": "torch-contiguous", "mixed": "torch-mixed"}[orders]
    parts = runtimes.parts(Add("a", ("x", "y"), "a", arithmetic=name), "fbgemm", (5, 5, channels))
    meets = {part.kernel: set(part.channels.tolist()) for part in parts}
    assert meets.get("fbgemm", set()) == {c for c in range(channels) if (codes[c] == 61).any()}
    assert meets["fbgemm-scalar"] == {c for c in range(channels) if (codes[c] == 62).any()}


@pytest.mark.parametrize("channels", [1, 7, 8, 12, 16, 23, 40])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_concatenated_codes(channels: int, last: bool) -> None:
    """Both operands get the output's scale: eight channels at a time and the rest apart, or through real numbers."""
    order = torch.channels_last if last else torch.contiguous_format
    for qa, qb, out in quants(20, 3):
        codes = np.tile(CODES.reshape(1, 1, 16, 16), (1, channels, 1, 1))
        a, b = (tensor(codes, quant).contiguous(memory_format=order) for quant in (qa, qb))
        theirs = codes_of(Q.cat([a, b], 1, float(out.scale), out.zero_point))[0].reshape(2, channels, 256)
        node = Lookup("f", ("x",), "f", "requantise", arithmetic="torch-concat" if last else "")
        for quant, theirs_of_one in zip((qa, qb), theirs, strict=True):
            for part in runtimes.parts(node, "fbgemm", (16, 16, channels)):
                table = runtimes.lookup_table(node, quant, out, part.kernel)
                assert (theirs_of_one[part.channels] == table).all()


def test_parts_of_other_runtimes() -> None:
    """Only torch's engines have several kernels; qnnpack's own cover every code."""
    shape = (5, 5, 3)
    add = Add("a", ("x", "y"), "a", arithmetic="torch-mixed")
    for runtime in ("exact", "tflite-ref", "qnnpack"):
        (part,) = runtimes.parts(add, runtime, shape)
        assert (part.kernel, part.channels.tolist()) == (runtime, [0, 1, 2])
    leaky = Lookup("l", ("x",), "l", "leaky_relu", arithmetic="torch-mixed")
    assert [part.kernel for part in runtimes.parts(leaky, "qnnpack", shape)] == ["qnnpack-scalar"]
    assert isinstance(leaky, ir.Lookup)


def test_refused() -> None:
    quant = Quant(np.float32(0.25), 0, "uint8")
    with pytest.raises(IntactError, match="no quantised subtraction"):
        runtimes.add_table(quant, quant, quant, "fbgemm", sign=-1)
    tiny = Quant(np.float32(2**-12), 0, "uint8")
    with pytest.raises(IntactError, match="qnnpack itself refuses"):
        runtimes.add_table(quant, quant, tiny, "qnnpack")
