"""Files of torch.save: the same integers as the TorchScript file of the same model, and as torch itself."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch writes the models that these tests read")
pytest.importorskip("sklearn", reason="the demo models' script imports scikit-learn's digits")

from torch import nn  # noqa: E402
from torch.ao import quantization as tq  # noqa: E402
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx  # noqa: E402

from models.quantizers import torch_saved  # noqa: E402
from models.quantizers.classes import torch_saved_nets as classes  # noqa: E402
from pyexport import arch, export, images, ir, quantise, readers, verify  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from tests import torch_nets as nets  # noqa: E402
from tests.refusals import message  # noqa: E402
from tests.test_torch_layers import POOLED, WEIGHTED, needs_vnni  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SHAPE = (3, 10, 10)
CHAINS = {**WEIGHTED, **{name: layers for name, layers in POOLED.items() if "divisor" not in name}}


def save(model: nn.Module, folder: Path) -> tuple[Path, Path, Path]:
    """The model as TorchScript, as a module and as a state_dict."""
    script, module, state = (folder / f"{name}.pt" for name in ("script", "module", "state"))
    torch.jit.save(torch.jit.script(model), str(script))
    torch.save(model, module)
    torch.save(model.state_dict(), state)
    return script, module, state


def images_of(path: Path, shape: tuple[int, ...] | None, **said: Any) -> dict[str, str]:
    return images.memory_images(export.export(str(path), input_shape=shape, **said).lowered)


def plain(graph: ir.Graph) -> list[Any]:
    """Everything about a graph's layers, arrays as lists."""

    def value(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.dtype.str, item.tolist()
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return {field.name: value(getattr(item, field.name)) for field in dataclasses.fields(item)}
        return item

    return [*(type(node).__name__ for node in graph.nodes), *map(value, graph.nodes), graph.tensors, graph.output]


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_read_as_their_torchscript_is(name: str, tmp_path: Path) -> None:
    nets.setup()
    layers = copy.deepcopy(CHAINS[name])
    model = nets.quantised(layers, torch.randn(4, *SHAPE), nets.config(True, False))
    script, module, state = save(model, tmp_path)
    expected = plain(readers.read(script, SHAPE))
    assert plain(readers.read(module, SHAPE)) == expected
    written = ", ".join(repr(layer) for layer in CHAINS[name])
    (tmp_path / "net.py").write_text(
        "from torch.nn import *\nfrom torch.ao.quantization import QuantWrapper\n"
        f"def net(): return QuantWrapper(Sequential({written}))\n"
    )
    if any(hasattr(layer, "weight") for layer in CHAINS[name]):
        traced = arch.trace(f"{tmp_path / 'net.py'}:net")
        assert plain(readers.read(state, SHAPE, arch=traced)) == expected


def fx_model() -> nn.Module:
    nets.setup()
    model = classes.Cnn().eval()
    return torch_saved.fx(model, torch.randn(16, 1, 8, 8))


def check_codes(model: nn.Module, path: Path, count: int = 200, **said: Any) -> None:
    """The golden model against torch on codes of the whole range, one input at a time."""
    network = quantise.quantise(readers.read(path, (1, 8, 8), **said))
    codes = nets.driving_codes(network, count)
    theirs = nets.torch_codes(model, network, nets.real_inputs(network, codes), 1)
    assert np.array_equal(nets.golden_codes(network, codes), theirs.reshape(count, -1))


@needs_vnni
def test_fx_module_and_state_dict(tmp_path: Path) -> None:
    model = fx_model()
    script, module, state = save(model, tmp_path)
    said = {"arch": f"{classes.__file__}:Cnn"}
    expected = images_of(script, (1, 8, 8))
    assert images_of(module, (1, 8, 8)) == expected and images_of(state, (1, 8, 8), **said) == expected
    check_codes(model, module)
    names = [node.name for node in readers.read(module, (1, 8, 8)).nodes]
    assert names == [node.name for node in readers.read(script, (1, 8, 8)).nodes]


def test_fx_module_need_not_load_in_torch(tmp_path: Path) -> None:
    """torch itself cannot open such a file again; its text and tensors are there all the same."""
    module = save(fx_model(), tmp_path)[1]
    with pytest.raises(AttributeError):
        torch.load(module, weights_only=False)
    assert len(readers.read(module, (1, 8, 8)).nodes) == 7


@needs_vnni
def test_state_dict_of_linear_layers(tmp_path: Path) -> None:
    nets.setup()
    fused = [["module.1", "module.2"], ["module.3", "module.4"]]
    model = torch_saved.eager(classes.mlp().eval(), torch.randn(64, 1, 8, 8), fused)
    script, module, state = save(model, tmp_path)
    relu = ("module.1", "module.3")
    expected = images_of(script, (1, 8, 8))
    assert images_of(module, (1, 8, 8)) == expected and images_of(state, (1, 8, 8), relu=relu) == expected
    check_codes(model, state, relu=relu)
    # without a shape the input is the first layer's features, in the same order
    assert readers.read(state, relu=relu).input.shape == (64,)


@needs_vnni
def test_relu_matters_where_the_zero_point_is_not_zero(tmp_path: Path) -> None:
    """A ReLU on its own, quantised apart from its layer, cuts at the layer's zero point."""
    nets.setup()
    model = torch_saved.eager(classes.mlp().eval(), torch.randn(64, 1, 8, 8), [["module.1", "module.2"]])
    state = save(model, tmp_path)[2]
    check_codes(model, state, relu=("module.1", "module.3"))
    with pytest.raises(AssertionError):
        check_codes(model, state, relu=("module.1",))


RESIDUAL = """
    import torch
    from torch import nn
    from torch.ao import quantization as tq

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.relu(x + self.relu(self.conv(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Conv2d(1, 4, 3, padding=1), nn.Sequential(Block(), Block())

        def forward(self, x):
            x = self.blocks(nn.functional.hardswish(self.stem(x)))
            return torch.relu(x + x) + x
"""


def test_the_scales_of_functions_in_an_fx_state_dict(tmp_path: Path) -> None:
    """Every function gets the scale that torch's own code gives it: the steps are compared, not the layers."""
    from pyexport.readers import converted, state_dict
    from pyexport.readers.inert import Call

    nets.setup()
    (tmp_path / "net.py").write_text("\n".join(line[4:] for line in RESIDUAL.splitlines()))
    built, example = arch.build(f"{tmp_path / 'net.py'}:Net"), torch.randn(8, 1, 8, 8)
    prepared = prepare_fx(built, tq.get_default_qconfig_mapping("fbgemm"), (example,))
    prepared(example)
    model = convert_fx(prepared)
    values = dict(model.state_dict())
    # weights as the records of a file are, the rest as it is
    for name, value in values.items():
        if isinstance(value, torch.Tensor) and value.is_quantized:
            values[name] = Call(state_dict.QTENSOR, (None, 0, tuple(value.shape)))
    state = state_dict.state_of("file", values)
    topology = converted.topology(state, arch.trace(f"{tmp_path / 'net.py'}:Net"))
    ours = [
        (step.target, float([*step.args, *step.kwargs.values()][-2]), int([*step.args, *step.kwargs.values()][-1]))
        for step in topology.steps
        if step.target.startswith("torch.ops")
    ]
    theirs = []
    for node in model.graph.nodes:
        if node.op == "call_function" and "quantized" in str(node.target):
            scale, zero_point = (
                getattr(model, argument.target) for argument in [*node.args, *node.kwargs.values()][-2:]
            )
            theirs.append((f"torch.ops.quantized.{node.target.__name__}", float(scale), int(zero_point)))
    assert ours == theirs and len(ours) == 5


FLATTENED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(36, 5)

    def forward(self, x):
        return self.fc(nn.functional.max_pool2d(self.conv(x), 2).flatten(1))

class Doubled(Net):
    def forward(self, x):
        x = self.conv(x)
        return self.fc(torch.flatten(nn.functional.max_pool2d(torch.add(x, x, alpha=2), 2), 1))
"""


def test_a_flatten_between_scales_in_an_fx_state_dict(tmp_path: Path) -> None:
    """FX leaves x.flatten(1) on real numbers and quantises again behind it."""
    (tmp_path / "net.py").write_text(FLATTENED)
    nets.setup()
    example = torch.randn(16, 1, 8, 8)
    model = torch_saved.fx(arch.build(f"{tmp_path / 'net.py'}:Net"), example)
    script, module, state = save(model, tmp_path)
    expected = images_of(script, (1, 8, 8))
    assert images_of(module, (1, 8, 8)) == expected
    assert images_of(state, (1, 8, 8), arch=f"{tmp_path / 'net.py'}:Net") == expected


def test_a_sum_that_scales_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FLATTENED)
    nets.setup()
    state = save(torch_saved.fx(arch.build(f"{tmp_path / 'net.py'}:Doubled"), torch.randn(16, 1, 8, 8)), tmp_path)[2]
    with pytest.raises(IntactError, match="belongs to no layer that the class calls"):
        readers.read(state, (1, 8, 8), arch=arch.trace(f"{tmp_path / 'net.py'}:Doubled"))


def test_a_checkpoint_with_a_state_dict(tmp_path: Path) -> None:
    model = fx_model()
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "optimizer": {"lr": 0.1}}, path)
    said = {"arch": f"{classes.__file__}:Cnn"}
    assert images_of(path, (1, 8, 8), **said) == images_of(save(model, tmp_path)[0], (1, 8, 8))


def test_verify(tmp_path: Path) -> None:
    """A state_dict runs in torch, by its class or as a chain; a module is not run."""
    nets.setup()
    chain = [["module.0", "module.1", "module.2"], ["module.4", "module.5"]]
    mlp = [["module.1", "module.2"], ["module.3", "module.4"]]
    example = torch.randn(32, 1, 8, 8)
    cases: list[tuple[nn.Module, dict[str, Any]]] = [
        (fx_model(), {"arch": f"{classes.__file__}:Cnn"}),
        (torch_saved.eager(classes.chain().eval(), example, chain), {"arch": f"{classes.__file__}:chain"}),
        (torch_saved.eager(classes.mlp().eval(), example, mlp), {"relu": ("module.1", "module.3")}),
    ]
    for model, said in cases:
        _, module, state = save(model, tmp_path)
        exported = export.export(str(state), input_shape=(1, 8, 8), **said)
        checked = export.verified(exported, str(state), None, said)
        assert checked.output.compared == 1000
        assert checked.output.differing == 0 or not nets.VNNI
        exported = export.export(str(module), input_shape=(1, 8, 8))
        with pytest.raises(IntactError, match=r"runs code from the file.*torch\.jit\.save"):
            export.verified(exported, str(module), None)


def test_verify_refuses_a_class_that_torch_names_otherwise(tmp_path: Path) -> None:
    state = save(fx_model(), tmp_path)[2]
    exported = export.export(str(state), input_shape=(1, 8, 8), arch=f"{classes.__file__}:Cnn")
    codes = verify.driving_codes(exported.network, 3)
    with pytest.raises(IntactError, match="converts the class of --arch to other names"):
        verify.verify(state, "state-dict", exported.network, codes, {"arch": f"{classes.__file__}:chain"})


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by what they hold."""
    nets.setup()
    folder = tmp_path_factory.mktemp("saved")
    found: dict[str, Any] = {}
    example = torch.randn(16, 1, 8, 8)
    found["fx"] = fx_model()
    found["mlp"] = torch_saved.eager(classes.mlp().eval(), example, [["module.1", "module.2"]])
    found["chain"] = torch_saved.eager(classes.chain().eval(), example, [["module.0", "module.1", "module.2"]])
    unfused = torch_saved.eager(classes.chain().eval(), example, [["module.4", "module.5"]])
    found |= {f"{name} state": model.state_dict() for name, model in found.items()}
    found["unfused state"] = unfused.state_dict()
    prepared = classes.mlp().eval()
    prepared.qconfig = tq.get_default_qconfig("fbgemm")
    found["prepared state"] = tq.prepare(prepared).state_dict()
    found["float state"] = classes.mlp().state_dict()
    found["float"] = classes.mlp().eval()
    found["user's class"] = classes.Cnn().eval()
    hooked = copy.deepcopy(found["mlp"])
    hooked.module[1].register_forward_hook(print)
    found["hooked"] = hooked
    swapped = dict(found["mlp state"])
    found["swapped state"] = {**{k: v for k, v in swapped.items() if ".1." not in k}, **swapped}
    more = {**found["mlp state"], "extra.scale": torch.tensor(1.0)}
    found["more state"] = more
    found["two inputs"] = {**found["mlp state"], "other.quant.scale": torch.tensor(1.0)}
    found["list"] = [1, 2]
    for name, value in found.items():
        torch.save(value, folder / f"{name}.pt")
    torch.save(found["mlp state"], folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(found["mlp"]), str(folder / "script.pt"))
    return {path.stem: path for path in folder.glob("*.pt")}


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("mlp state", [], "name them with --relu (layers: module.1, module.3, module.5), or --relu none"),
        ("mlp state", ["--relu", "fc1"], "--relu names 'fc1', which is no layer of the file; layers: module.1, "),
        ("mlp state", ["--relu", "a,,b"], "write names separated by commas"),
        ("mlp state", ["--relu", "none", "--arch", "{}:mlp"], "--arch says where the ReLUs are; leave out --relu"),
        ("mlp state", ["--arch", "{}:chain"], "layer 'module.0': the file has no module.0"),
        ("mlp state", ["--arch", "{}:Cnn"], "the file has no"),
        ("mlp state", ["--arch", "{}:gone"], "has no class 'gone'"),
        ("more state", ["--relu", "none"], "'extra.scale' is of no linear layer, so the model is no plain chain"),
        ("more state", ["--arch", "{}:mlp"], "'extra.scale' belongs to no layer that the class calls"),
        ("two inputs", ["--relu", "none"], "has 2 scales for the input"),
        ("swapped state", ["--relu", "none"], "takes 32 features but gets shape (64,)"),
        ("chain state", ["--relu", "none"], "layer 'module.0' is a convolution"),
        ("fx state", [], "layer 'stem.0' is a convolution"),
        ("unfused state", ["--arch", "{}:chain"], "layer 'module.1': is a batch norm of its own"),
        ("prepared state", ["--relu", "none"], "the model is prepared; convert it before saving"),
        ("float state", ["--relu", "none"], "holds no quantised weights"),
        ("float", [], "QuantStub is not supported here: it is not quantised"),
        ("user's class", [], "a class whose forward is not in the file; name its source with --arch FILE.py:Class"),
        ("fx", ["--arch", "{}:Cnn"], "has its own forward; leave out --arch"),
        ("fx", ["--relu", "none"], "says where its ReLUs are; leave out --relu"),
        ("mlp", ["--relu", "none"], "says where its ReLUs are; leave out --relu"),
        ("script", ["--relu", "none"], "says itself which layers it has"),
        ("hooked", [], "module 'module.1' has forward hooks"),
        ("list", [], "holds a list; accepted are a module and a state_dict"),
        ("legacy", ["--relu", "none"], "in torch.save's old format"),
        ("mlp", ["--verify"], "runs code from the file"),
    ],
)
def test_refusals(
    saved: dict[str, Path], name: str, options: list[str], text: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    given = [option.format(classes.__file__) for option in options]
    found = message(capsys, export.main, [str(saved[name]), "--input-shape", "1,8,8", "-o", str(out), *given])
    assert text in found and not out.exists()


def test_the_command(saved: dict[str, Path], tmp_path: Path) -> None:
    arguments = [str(saved["mlp state"]), "--relu", "module.1, module.3", "-o", str(tmp_path / "out")]
    assert export.main(arguments) == 0
    assert (tmp_path / "out" / "manifest.json").exists()


def test_arch_without_torch(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(IntactError, match="--arch needs the package torch"):
        arch.trace(f"{classes.__file__}:Cnn")
    # files with a topology of their own, and chains, need none
    assert readers.read(saved["fx"], (1, 8, 8)).nodes
    assert readers.read(saved["mlp"], (1, 8, 8)).nodes
    assert readers.read(saved["mlp state"], relu=()).nodes
