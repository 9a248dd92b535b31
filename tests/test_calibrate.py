"""--quantize: a float model goes through a framework's own quantiser and comes out as hardware."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch saves the float models")
pytest.importorskip("torchao.quantization.pt2e", reason="torchao quantises them")

from torch import nn  # noqa: E402

from pyexport import export, verify  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.torch_program import Program  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(path: Path, shape: tuple[int, ...], layers: list[nn.Module], batch: int = 1) -> nn.Module:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = nn.Sequential(*layers).eval()
    torch.export.save(torch.export.export(model, (torch.randn(batch, *shape),)), str(path))
    return model


def data(path: Path, shape: tuple[int, ...], labels: bool = True, count: int = 24) -> np.ndarray:
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(count, *shape)).astype(np.float32)
    if labels:
        np.savez(path, inputs=inputs, labels=rng.integers(0, 5, count))
    else:
        np.savez(path, inputs=inputs)
    return inputs


CNN = [
    *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)),
]


@pytest.mark.parametrize("labels", [True, False])
def test_a_float_program(labels: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, shape = tmp_path / "float.pt2", (2, 8, 8)
    saved(model, shape, CNN)
    inputs = data(tmp_path / "data.npz", shape, labels)
    out = tmp_path / "out"
    assert not export.main([str(model), "--quantize", "--inputs", str(tmp_path / "data.npz"), "-o", str(out)])
    shown = capsys.readouterr().out
    assert ("accuracy on them" in shown) == labels and ("top class equal" in shown) != labels
    assert str(out / "quantised.pt2") in shown and json.loads((out / "manifest.json").read_text())
    # the file beside the images is what was exported, and its own runtime agrees
    program = Program(out / "quantised.pt2")
    result = program.outputs(inputs)
    exported = export.export(str(out / "quantised.pt2"), output_range=(float(result.min()), float(result.max())))
    codes = verify.driving_codes(exported.network, 40)
    checked = verify.verify(out / "quantised.pt2", "pt2e", exported.network, codes)
    assert checked.output.compared == 200 and checked.output.differing <= 2 and checked.output.largest <= 1


def test_a_program_equals_torchs_own(tmp_path: Path) -> None:
    """Fixed batches: as many inputs at a time as the file has."""
    path, shape = tmp_path / "float.pt2", (2, 8, 8)
    model = saved(path, shape, CNN, batch=4)
    inputs = data(tmp_path / "data.npz", shape)
    with torch.no_grad():
        theirs = model(torch.from_numpy(inputs)).numpy()
    assert np.allclose(Program(path).outputs(inputs), theirs, atol=1e-5)
    with pytest.raises(IntactError, match="4 inputs at a time"):
        Program(path).outputs(inputs[:3])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert export.main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs, out = str(tmp_path / "float.pt2"), str(tmp_path / "data.npz"), str(tmp_path / "out")
    saved(Path(model), (2, 8, 8), CNN)
    data(Path(inputs), (2, 8, 8))
    assert "give --inputs" in refused(capsys, model, "--quantize", "-o", out)
    data(tmp_path / "other.npz", (3, 8, 8))
    assert "(3, 8, 8)" in refused(capsys, model, "--quantize", "--inputs", str(tmp_path / "other.npz"), "-o", out)
    np.save(tmp_path / "codes.npy", np.zeros((4, 2, 8, 8), np.uint8))
    assert "real, finite" in refused(capsys, model, "--quantize", "--inputs", str(tmp_path / "codes.npy"), "-o", out)
    np.save(tmp_path / "nan.npy", np.full((4, 2, 8, 8), np.nan))
    assert "real, finite" in refused(capsys, model, "--quantize", "--inputs", str(tmp_path / "nan.npy"), "-o", out)
    saved(tmp_path / "odd.pt2", (2, 8, 8), [nn.Conv2d(2, 4, 3), nn.Softplus()])
    assert "softplus" in refused(capsys, str(tmp_path / "odd.pt2"), "--quantize", "--inputs", inputs, "-o", out)
    assert "cannot be read" in refused(capsys, str(tmp_path / "none.pt2"), "--quantize", "--inputs", inputs, "-o", out)
    (tmp_path / "cut.pt2").write_bytes(Path(model).read_bytes()[:-3000])
    assert "damaged" in refused(capsys, str(tmp_path / "cut.pt2"), "--quantize", "--inputs", inputs, "-o", out)
    assert not Path(out).exists()


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    """A graph that names a function outside the list, and weights that are a pickle."""
    saved(tmp_path / "float.pt2", (2, 8, 8), CNN)
    for name, old, new in (
        ("function.pt2", b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"),
        ("pickle.pt2", b'"use_pickle": false', b'"use_pickle": true'),
    ):
        with zipfile.ZipFile(tmp_path / "float.pt2") as source, zipfile.ZipFile(tmp_path / name, "w") as target:
            changed = 0
            for info in source.infolist():
                content = source.read(info)
                changed += content.count(old)
                target.writestr(info, content.replace(old, new))
        assert changed
        with pytest.raises((IntactError, ValueError), match="not supported"):
            Program(tmp_path / name)
