"""--arch FILE.py:Class: the user's class becomes a plain list of calls, or one clear error."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from pyexport import arch
from pyexport.errors import IntactError
from pyexport.readers.calls import Ref, Step, references

NET = """
    import torch
    from torch import nn
    from torch.ao.quantization import DeQuantStub, QuantStub
    import torch.nn.functional as F

    class Signs(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight.sign(), self.bias)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant = QuantStub()
            self.features = nn.Sequential(Signs(1, 8, 3, padding=1), nn.ReLU())
            self.fc = nn.Linear(8, 10)

        def forward(self, x, times: int = 2):
            x = self.features(self.quant(x))
            x = F.dropout(F.avg_pool2d(x, times), 0.5, self.training) + x
            return self.fc(torch.flatten(x.relu(), 1))

    def make():
        return Net()

    class Sized(Net):
        def __init__(self, n):
            super().__init__()

    class Branches(Net):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Two(Net):
        def forward(self, x, y):
            return x + y

    class Fails(Net):
        def __init__(self):
            raise SystemExit(3)

    number = 3
"""


def write(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("name", ["Net", "make"])
def test_the_calls_of_a_class(tmp_path: Path, name: str) -> None:
    traced = arch.trace(f"{write(tmp_path, NET)}:{name}")
    assert [(step.kind, step.target) for step in traced.steps] == [
        ("module", "quant"),
        ("module", "features.0"),
        ("module", "features.1"),
        ("function", "torch._C._nn.avg_pool2d"),
        ("function", "torch.nn.functional.dropout"),
        ("function", "operator.add"),
        ("method", "relu"),
        ("function", "torch.flatten"),
        ("module", "fc"),
    ]
    # the default of an argument that nobody gives is a constant; eval mode is on
    assert traced.steps[3].args == (Ref("features_1"), 2)
    assert traced.steps[4].kwargs["training"] is False
    assert traced.input == "x" and traced.result == Ref("fc")
    assert [step.name for step in traced.users("features_1")] == ["avg_pool2d", "add"]


def test_the_modules_of_a_class(tmp_path: Path) -> None:
    modules = arch.trace(f"{write(tmp_path, NET)}:Net").modules
    assert sorted(modules) == ["fc", "features", "features.0", "features.1", "quant"]
    conv = modules["features.0"]
    assert [kind.rsplit(".", 1)[-1] for kind in conv.kinds][:2] == ["Signs", "Conv2d"]
    assert conv.kinds[1] == "torch.nn.modules.conv.Conv2d"
    assert conv.attributes["padding"] == (1, 1) and conv.attributes["kernel_size"] == (3, 3)
    assert conv.shapes == {"weight": (8, 1, 3, 3), "bias": (8,)}


def test_what_a_leaf_is_can_be_said(tmp_path: Path) -> None:
    traced = arch.trace(f"{write(tmp_path, NET)}:Net", lambda module: type(module).__name__ in ("QuantStub", "Linear"))
    assert [(s.kind, s.target) for s in traced.steps[1:5]] == [
        ("attribute", "features.0.weight"),
        ("method", "sign"),
        ("attribute", "features.0.bias"),
        ("function", "torch.conv2d"),
    ]


def test_a_file_may_import_its_neighbour_and_leaves_no_trace(tmp_path: Path) -> None:
    write(tmp_path, NET, "intact_neighbour.py")
    path = write(tmp_path, "from intact_neighbour import Net\n")
    before = list(sys.path)
    assert arch.trace(f"{path}:Net").steps
    assert sys.path == before and "intact_arch_net" not in sys.modules
    del sys.modules["intact_neighbour"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}", "is no FILE.py:Class"),
        ("{}:", "is no FILE.py:Class"),
        ("{}:a.b", "is no FILE.py:Class"),
        ("nowhere.py:Net", "there is no file nowhere.py"),
        ("{}:Missing", "has no class 'Missing'"),
        ("{}:number", "is a int, not a class"),
        ("{}:Sized", "cannot be built without arguments"),
        ("{}:Branches", "forward cannot be traced"),
        ("{}:Two", "forward takes 2 inputs"),
        ("{}:Fails", "fails (SystemExit: 3)"),
        ("{}:Ref", "is no torch.nn.Module"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(tmp_path: Path, spec: str, message: str) -> None:
    path = write(tmp_path, NET + "\n    def Ref():\n        return 1\n")
    with pytest.raises(IntactError) as error:
        arch.trace(spec.format(path))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["raise ValueError('no\\nluck')", "def f(:", "import no_such_package_at_all"])
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str) -> None:
    with pytest.raises(IntactError, match="cannot be imported") as error:
        arch.trace(f"{write(tmp_path, text)}:Net")
    assert "\n" not in str(error.value)


def test_references() -> None:
    step = Step("a", "function", "torch.cat", ([Ref("x"), (Ref("y"), 1)],), {"out": {"k": Ref("z")}, "dim": 1})
    assert references((step.args, step.kwargs)) == {"x", "y", "z"}
