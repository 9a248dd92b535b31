"""Hostile and damaged torch.save files: one IntactError each, nothing runs, time and memory bounded. Needs no torch."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, readers
from pyexport.errors import IntactError
from pyexport.readers import fx_source, inert
from pyexport.readers.calls import Ref, Step
from tests.refusals import Evil

LINEAR = "torch.ao.nn.quantized.modules.linear"
FORWARD = """


def forward(self, x):
    scale_0 = self.scale_0
    quantize = torch.quantize_per_tensor(x, scale_0, 3, torch.quint8);  x = scale_0 = None
    fc = getattr(self.net, "0")(quantize);  quantize = None
    dequantize = fc.dequantize();  fc = None
    return dequantize
"""


PICKLER: Any = vars(pickle)["_Pickler"]  # the one in Python, whose way of writing a class can be said


class Writer(PICKLER):
    """Writes records as torch would: names that are not imported, storages by number."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, 2)

    def persistent_id(self, obj: Any) -> Any:
        return obj.value if isinstance(obj, inert.Persistent) else None

    def save_global_name(self, obj: inert.Global) -> None:
        module, _, name = obj.name.rpartition(".")
        self.write(f"c{module}\n{name}\n".encode())

    def save_call(self, obj: inert.Call) -> None:
        self.save_global_name(inert.Global(obj.name))
        self.save(obj.args)
        self.write(pickle.REDUCE)

    def save_instance(self, obj: inert.Instance) -> None:
        self.save_global_name(inert.Global(obj.name))
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.save(obj.state)
        self.write(pickle.BUILD)

    dispatch = {
        **PICKLER.dispatch,
        inert.Global: save_global_name,
        inert.Call: save_call,
        inert.Instance: save_instance,
    }


def dumps(value: Any) -> bytes:
    file = io.BytesIO()
    Writer(file).dump(value)
    return file.getvalue()


def tensor(kind: str, number: str, count: int, shape: tuple[int, ...], *quantizer: Any) -> inert.Call:
    storage = inert.Persistent(("storage", inert.Global(f"torch.{kind}"), number, "cpu", count), "data")
    strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    name = "_rebuild_qtensor" if quantizer else "_rebuild_tensor_v2"
    return inert.Call(f"torch._utils.{name}", (storage, 0, shape, strides, *quantizer, False, {}))


WEIGHT = tensor("QInt8Storage", "0", 6, (2, 3), (inert.Global("torch.per_tensor_affine"), 0.25, 0))
BIAS = tensor("FloatStorage", "1", 2, (2,))


def packed() -> inert.Instance:
    state = ((WEIGHT, BIAS), "__torch__.torch.classes.quantized.LinearPackedParamsBase")
    return inert.Instance(
        f"{LINEAR}.LinearPackedParams", {"_packed_params": inert.Instance("torch.ScriptObject", state)}
    )


def linear() -> inert.Instance:
    return inert.Instance(f"{LINEAR}.Linear", {"_modules": {"_packed_params": packed()}, "scale": 0.5, "zero_point": 7})


def sequential(children: dict[str, Any]) -> inert.Instance:
    return inert.Instance("torch.nn.modules.container.Sequential", {"_modules": children})


def fx_module(code: str = FORWARD) -> inert.Call:
    body = {"_code": code, "_modules": {"net": sequential({"0": linear()})}, "_buffers": {"scale_0": 0.125}}
    return inert.Call("torch.fx.graph_module.reduce_graph_module", (body, "import os\nos.system('false')"))


def state_dict() -> dict[str, Any]:
    known = {"quant.scale": 0.125, "quant.zero_point": 3, "fc.scale": 0.5, "fc.zero_point": 7}
    return {
        **known,
        "fc._packed_params.dtype": inert.Global("torch.qint8"),
        "fc._packed_params._packed_params": (WEIGHT, BIAS),
    }


def archive(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/byteorder", "little")
        file.writestr("m/data/0", bytes(range(250, 256)))
        file.writestr("m/data/1", np.asarray([0.5, -0.5], "<f4").tobytes())
    return path


def outcome(path: Path, **said: Any) -> ir.Graph | str:
    """The graph, or the message of the one error; any other exception is a failure of the test."""
    try:
        return readers.read(path, (3,), **said)
    except IntactError as error:
        text = str(error)
        assert str(path) in text and "\n" not in text and len(text) < 700
        return text


def check(graph: ir.Graph | str) -> None:
    assert isinstance(graph, ir.Graph), graph
    (node,) = graph.nodes
    assert isinstance(node, ir.Linear)
    assert node.weights.codes.reshape(2, 3).tolist() == [[-6, -5, -4], [-3, -2, -1]]
    assert graph.tensors["input"].quant.zero_point == 3 and graph.tensors[node.output].quant.zero_point == 7


def test_the_files_of_these_tests_are_read(tmp_path: Path) -> None:
    check(outcome(archive(tmp_path / "fx.pt", dumps(fx_module()))))
    check(outcome(archive(tmp_path / "state.pt", dumps(state_dict())), relu=()))
    quantize = inert.Instance("torch.ao.nn.quantized.modules.Quantize", {"scale": 0.125, "zero_point": 3})
    quantize.state["dtype"] = inert.Global("torch.quint8")
    check(outcome(archive(tmp_path / "chain.pt", dumps(sequential({"0": quantize, "1": linear()})))))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_command_does_not_run(protocol: int, legacy: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    data = pickle.dumps({"state_dict": [Evil(marker)]}, protocol)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    if legacy:
        path.write_bytes(magic + data)
    else:
        archive(path, data)
    text = outcome(path)
    assert isinstance(text, str) and not marker.exists()
    assert "torch.save's old format" in text if legacy else "system" in text or protocol != 2


@pytest.mark.parametrize("where", ["attribute", "module", "code", "storage", "weight"])
def test_a_command_anywhere_does_not_run(where: str, tmp_path: Path) -> None:
    command = inert.Call("posix.system", (f"touch {tmp_path / 'ran'}",))
    module = fx_module()
    body = module.args[0]
    if where == "attribute":
        body["anything"] = command
    elif where == "module":
        body["_modules"]["net"].state["_modules"]["0"] = command
    elif where == "code":
        body["_code"] = command
    elif where == "storage":
        body["_buffers"]["scale_0"] = inert.Call("torch._utils._rebuild_tensor_v2", (command, 0, (), (), False, {}))
    else:
        body["_modules"]["net"].state["_modules"]["0"].state["_modules"]["_packed_params"] = command
    text = outcome(archive(tmp_path / "evil.pt", dumps(module)))
    assert isinstance(text, str) and "'posix.system' to be called" in text and "nothing was run" in text
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "__import__('os').system('touch {}')",
        "y = os.system('touch {}')",
        "y = self.__class__.__init__.__globals__['os']",
        "y = eval('1')",
        "y = (lambda: x)()",
        "y = [z for z in x]",
        "y = f'{{x}}'",
        "y = torch.ops.load_library('{}')",
        "y = torch.load('{}')",
        "y = getattr(x, input())",
        "y = x.__reduce__()",
        "y = self.net(*x)",
        "y = self.net(**x)",
        "self.net = x",
        "x.y = 1",
        "x[0] = 1",
        "y, z = x",
        "while True: pass",
        "if x: x = 1",
        "del x",
        "global x",
        "y = x ** 99999999",
        "y = 9 ** 9 ** 9",
        "y = x @ x",
        "y = self()",
        "y = 'a'.join(x)",
        "y = {}.__class__()",
        "y = nowhere(x)",
        "y = self.nowhere(x)",
        "y = self.nowhere + 1",
        "y = torch.relu(x, 1, 2, 3)",
        "y = x.view()",
        "y = torch.nn.functional.max_pool2d(x, 2, return_indices=True)",
        "y = torch.nn.functional.relu(x, 1, 2, 3, 4)",
        "y = " + "(" * 3000 + "x" + ")" * 3000,
        "y = x" + ".a" * 100_000,
        "y = " + "-" * 100_000 + "1",
        "y = 1" + " + 1" * 100_000,
        "return",
        "return self",
        "return 1",
        "return [x]",
    ],
)  # fmt: skip
def test_hostile_source_text(line: str, tmp_path: Path) -> None:
    """Nothing of the text is run; whatever torch.fx never writes, or no operation reads, is one error."""
    marker = tmp_path / "ran"
    text = FORWARD.replace("def forward(self, x):", f"def forward(self, x):\n    {line.format(marker)}")
    assert isinstance(outcome(archive(tmp_path / "code.pt", dumps(fx_module(text)))), str)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "x = 1", "def f(self, x): return x", "@torch.jit.ignore\ndef forward(self, x): return x",
        "def forward(self, x, y): return x", "def forward(self): return self", "def forward(self, *x): return x",
        "def forward(self, x, **y): return x", "def forward(self, x, *, y): return x", "def forward(self, x): pass",
        "import os\ndef forward(self, x): return x", "def forward(self, x=os.system('true')): return x", "\x00", "é (",
        "async def forward(self, x): return x",
    ],
)  # fmt: skip
def test_text_that_is_no_forward(text: str, tmp_path: Path) -> None:
    assert isinstance(outcome(archive(tmp_path / "code.pt", dumps(fx_module(text)))), str)


def test_the_steps_of_a_forward() -> None:
    name, steps, result = fx_source.steps_of(
        "def forward(self, x : torch.Tensor, k = 2):\n"
        "    scale = self.act_scale_0\n"
        "    a = self.a.b(x);  x = None\n"
        "    b = getattr(self.a, '0')(a, torch.quint8)\n"
        "    c = torch.nn.functional.max_pool2d(b, k, stride = None)\n"
        "    size = c.size(0)\n"
        "    d = c.view(size, -1)\n"
        "    e = d.shape\n"
        "    f = e[1]\n"
        "    g = torch.cat([a, b], dim = -1) + scale\n"
        "    return (g, f)\n",
        "file",
    )
    assert name == "x" and result == (Ref("g_9"), Ref("f"))
    assert steps == (
        Step("a", "module", "a.b", (Ref("x"),)),
        Step("b", "module", "a.0", (Ref("a"), "torch.quint8")),
        Step("c", "function", "torch.nn.functional.max_pool2d", (Ref("b"), 2), {"stride": None}),
        Step("size", "method", "size", (Ref("c"), 0)),
        Step("d", "method", "view", (Ref("c"), Ref("size"), -1)),
        Step("e", "function", "builtins.getattr", (Ref("d"), "shape")),
        Step("f", "function", "operator.getitem", (Ref("e"), 1)),
        Step("g", "function", "torch.cat", ([Ref("a"), Ref("b")],), {"dim": -1}),
        Step("act_scale_0", "attribute", "act_scale_0"),
        Step("g_9", "function", "operator.add", (Ref("g"), Ref("act_scale_0"))),
    )


def test_a_tree_that_contains_itself(tmp_path: Path) -> None:
    top = sequential({})
    top.state["_modules"]["a"] = top
    data = dumps(top)
    text = outcome(archive(tmp_path / "loop.pt", data))
    assert isinstance(text, str) and "nested too deep" in text


def test_modules_that_double(tmp_path: Path) -> None:
    """Fifty Sequentials that each hold the next one twice stop at a limit, wherever the tree is walked."""
    module = linear()
    for _ in range(50):
        module = sequential({"a": module, "b": module})
    for number, top in enumerate(
        (module, inert.Call(fx_module().name, ({"_code": FORWARD, "_modules": {"a": module}}, "")))
    ):
        text = outcome(archive(tmp_path / f"double{number}.pt", dumps(top)))
        assert isinstance(text, str) and ("too many" in text or "more than" in text)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list that contains itself
        b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.",  # a dictionary that contains itself
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02)" + b"\x85" * 100_000 + b".",  # a tuple 100,000 deep
        b"\x80\x02)" + b"q\x00h\x00\x86" * 1000 + b".",  # 2 to the 1000 empty tuples
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02" + b"N0" * 1_000_000 + b"N.",  # more opcodes than a model has
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x020.",
        b"\x80\x02NN}b.",
        b"\x80\x02cos\nsystem\n)\x81}b.",
        b"\x80\x02ctorch.nn.modules.container\nSequential\n)\x81Nb.",
        b"\x80\x02ccollections\nOrderedDict\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02ctorch.fx.graph_module\nreduce_graph_module\n)R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"",
        b"\x80\x02" + b"N" * 10,
    ],
)  # fmt: skip
def test_hostile_pickles(data: bytes, tmp_path: Path) -> None:
    assert isinstance(outcome(archive(tmp_path / "model.pt", data)), str)
    assert isinstance(outcome(archive(tmp_path / "model.pt", data), relu=()), str)


@pytest.mark.parametrize("value", [fx_module, state_dict, lambda: sequential({"0": linear()})])
def test_changed_bytes(value: Any, tmp_path: Path) -> None:
    """Damage under right checksums is one error, or lies where it changes nothing that must be refused."""
    data, rng = dumps(value()), random.Random(2)
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        outcome(archive(tmp_path / "changed.pt", bytes(damaged)), relu=() if value is state_dict else None)
        os.unlink(tmp_path / "changed.pt")


@pytest.mark.parametrize("key", ["fc.scale", "fc.zero_point", "quant.scale", "fc._packed_params._packed_params"])
def test_records_that_double(key: str, tmp_path: Path) -> None:
    """A list that holds the next one twice, sixty deep: two to the sixty values, of which none is computed."""
    data = dumps({**state_dict(), key: "HERE"}).replace(b"X\x04\x00\x00\x00HERE", doubled("packed" in key))
    text = outcome(archive(tmp_path / "double.pt", data), relu=())
    assert isinstance(text, str) and "nested without end" in text


def doubled(packed: bool) -> bytes:
    """Pickle opcodes of torch.Size((a, a)), where a is such a call itself, sixty deep."""
    data = b"ctorch\nSize\nr\x00\x00\x01\x000N"
    for level in range(60):
        memo = (0x10001 + level).to_bytes(4, "little")
        data += b"r" + memo + b"0j\x00\x00\x01\x00j" + memo + b"j" + memo + b"\x86\x85R"
    return data + (b"N\x86" if packed else b"")


def test_values_of_wrong_kinds(tmp_path: Path) -> None:
    """Every entry of a state_dict replaced by something else is an error that names the file."""
    dtype = inert.Global("torch.qint8")
    values: list[Any] = [None, [], "text", -1.0, 1 << 60, {}, WEIGHT, (1, 2), float("nan"), dtype]
    for key in state_dict():
        for value in values:
            if key.endswith("dtype") or (key.endswith("scale") and value == 1 << 60):
                continue
            text = outcome(archive(tmp_path / "state.pt", dumps({**state_dict(), key: value})), relu=())
            assert isinstance(text, str), (key, value)
