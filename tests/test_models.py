"""The demo models: their files read back as torch computes them, and what each of them is there to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import ir, readers
from tests import reference

torch = pytest.importorskip("torch", reason="the demo models are torch's")
pytest.importorskip("sklearn", reason="the demo models are trained on scikit-learn's digits")

from models import affine, common, constant, qconvbnrelu, xor  # noqa: E402

MODELS = Path(__file__).resolve().parent.parent / "models"
pytestmark = pytest.mark.filterwarnings("ignore")  # torch.ao.quantization and torch.jit announce their removal


def demo(name: str) -> Path:
    path = MODELS / f"{name}.pt"
    if not path.exists():
        pytest.skip(f"models/{name}.py has not been run")
    return path


def output_codes(model: Any, graph: ir.Graph, images: Any) -> Any:
    quant = graph.tensors[graph.output.tensor].quant
    with torch.no_grad():
        return np.rint(model(images).numpy() / quant.scale).astype(np.int64) + quant.zero_point


@pytest.mark.parametrize("name", ["digits", "xor", "affine", "qconvbnrelu"])
def test_files_compute_as_in_torch(name: str) -> None:
    common.setup()
    path = demo(name)
    graph = readers.read(path)
    images = torch.rand(200, *graph.input.shape, generator=torch.Generator().manual_seed(0)) * 2 - 0.5
    assert np.array_equal(reference.run(graph, images.numpy()), output_codes(torch.jit.load(path), graph, images))


def test_files_hold_no_paths() -> None:
    for path in MODELS.glob("*.pt"):
        assert b"debug_pkl" not in path.read_bytes() and b".py(" not in path.read_bytes()


def test_digits_codes_and_accuracy() -> None:
    data = np.load(demo("digits").with_name("digits_test.npz"))
    codes = reference.run(readers.read(MODELS / "digits.pt"), data["inputs"])
    assert np.array_equal(codes, data["codes"])
    assert (codes.argmax(1) == data["labels"]).mean() == pytest.approx(float(data["int8_accuracy"]))
    assert data["float_accuracy"] > 0.97 and data["int8_accuracy"] > 0.97


def test_xor_gets_its_seven_points_right() -> None:
    codes = reference.run(readers.read(demo("xor")), xor.POINTS.numpy())
    assert codes.argmax(1).tolist() == list(range(7))


@pytest.mark.parametrize("bias", constant.BIASES)
def test_constant_answers_its_bias(bias: float, tmp_path: Path) -> None:
    graph = readers.read(constant.make(bias, tmp_path))
    (node,) = graph.nodes
    assert isinstance(node, ir.Conv2d) and node.weights.bias is not None
    assert (node.weights.codes == node.weights.zero_point[:, None, None, None]).all()
    assert (node.weights.zero_point == -128).all() and (node.weights.scale == np.finfo(np.float32).eps).all()
    assert (node.weights.bias == bias).all()
    assert (reference.run(graph, np.zeros((1, 5, 8, 8))) == 255).all()


def test_affine_has_zero_points_and_ties() -> None:
    """Outputs that lie exactly between two codes do occur, else the model would show nothing."""
    common.setup()
    model, example = affine.build()
    graph = readers.read(demo("affine"))
    conv, linear = graph.nodes[0], graph.nodes[-1]
    assert isinstance(conv, ir.Conv2d) and isinstance(linear, ir.Linear)
    assert (conv.weights.zero_point != 0).all() and (linear.weights.zero_point != 0).all()
    assert np.log2(conv.weights.scale).tolist() == [-8] * 8
    assert np.array_equal(reference.run(graph, example.numpy()), output_codes(model, graph, example))
    # With a unit accumulator worth 2^-9 codes, ties are one accumulator in 512; count them.
    quant = graph.tensors["input"].quant
    codes = torch.quantize_per_tensor(example, float(quant.scale), quant.zero_point, torch.quint8)
    real = torch.nn.functional.conv2d(
        codes.dequantize().double(), model[1].weight().dequantize().double(), model[1].bias().double(), 2, 1
    )
    steps = real / float(graph.tensors[conv.output].quant.scale)
    assert int((steps - steps.floor() == 0.5).sum()) > 10


def test_from_scratch_quantiser_agrees_with_torch() -> None:
    """The from-scratch integer network against torch's modules made of the same integers, on an untrained network."""
    common.setup()
    images, test, _, _ = common.digits()
    with torch.no_grad():
        layers = qconvbnrelu.layers_of(qconvbnrelu.float_model().eval(), images[:200])
        theirs = common.codes(qconvbnrelu.torch_model(layers)(test), layers[2].s_out, layers[2].z_out)
    own = qconvbnrelu.forward(layers, test)
    assert np.abs(own - theirs.astype(np.int64)).max() <= 1
    assert (own != theirs).mean() < 0.002
