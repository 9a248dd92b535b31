"""QONNX's own executor, node by node in float32, on a graph of `Quant` nodes or a QCDQ one."""

from __future__ import annotations

import functools
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from qonnx.core import onnx_exec
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.infer_shapes import InferShapes

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run

IntArray = npt.NDArray[np.int64]
BATCH = 50
IR_VERSION = 10  # the executor's models of one node otherwise carry the onnx package's own, too new for onnxruntime
QUANTISERS = ("Quant", "IntQuant", "Trunc", "DequantizeLinear")
BETWEEN = ("Relu", "Clip", "BatchNormalization", "QuantizeLinear")  # a layer's own, and what its quantiser is made of


def run(model: Path, network: Network, codes: IntArray, real: npt.NDArray[np.float32]) -> Run:
    """Every tensor that a quantiser writes directly behind its layer, and the output."""
    wrapper = ModelWrapper(str(model)).transform(InferShapes())
    fixed = any(node.op_type == "Reshape" for node in wrapper.graph.node)  # its sizes may include the batch
    chunks = [real[i : i + (1 if fixed else BATCH)] for i in range(0, len(real), 1 if fixed else BATCH)]
    try:
        parts = [_execute(wrapper, chunk) for chunk in chunks]
    except Exception as error:  # the executor raises plain ones, onnxruntime its own
        raise IntactError(f"{model}: qonnx cannot run it: {str(error).strip().splitlines()[0][:200]}") from error
    tensors = {}
    for name, source in _sources(wrapper, network).items():
        values = np.concatenate([part[source] for part in parts])
        tensors[name] = _codes(network, name, values.transpose(0, 2, 3, 1) if values.ndim == 4 else values)
    last = np.concatenate([part[wrapper.graph.output[0].name] for part in parts])
    output = network.output.to_hwc(last.reshape(-1, *network.output.shape))
    tensors[network.output.tensor] = _codes(network, network.output.tensor, np.asarray(output, np.float32))
    return Run(f"qonnx {version('qonnx')}", tensors, (_note(network),), promised=False)


def _execute(wrapper: Any, real: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """The values of every tensor of the file."""
    if len(real) > 1:
        wrapper = wrapper.transform(ChangeBatchSize(len(real))).transform(InferShapes())
    stored = {tensor.name for tensor in wrapper.graph.initializer}
    name = next(port.name for port in wrapper.graph.input if port.name not in stored)
    make = functools.partial(onnx_exec.qonnx_make_model, ir_version=IR_VERSION)
    with mock.patch.object(onnx_exec, "qonnx_make_model", make):
        found: dict[str, npt.NDArray[np.float32]] = onnx_exec.execute_onnx(wrapper, {name: real}, True)
    return found


def _sources(wrapper: Any, network: Network) -> dict[str, str]:
    """Our tensor -> the file's tensor with its real values."""
    readers: dict[str, list[Any]] = {}
    for node in wrapper.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in wrapper.graph.node:
        ours = re.sub(r"[^A-Za-z0-9_.]", "_", node.name.strip("/").replace("/", "."))
        if ours not in network.tensors or ours == network.input.tensor:
            continue
        following = readers.get(node.output[0], [])
        while len(following) == 1 and following[0].op_type in BETWEEN:
            following = readers.get(following[0].output[0], [])
        if len(following) == 1 and following[0].op_type in QUANTISERS:
            found[ours] = following[0].output[0]
    return found


def _codes(network: Network, name: str, values: npt.NDArray[np.float32]) -> IntArray:
    """Real values (N, H, W, C) or (N, C) -> codes (N, H, W, C)."""
    tensor = network.tensors[name]
    steps = values.reshape(-1, *tensor.shape) / tensor.quant.scale + np.float32(tensor.quant.zero_point)
    low, high = tensor.quant.range  # an output that the file leaves real saturates
    return np.asarray(np.clip(np.rint(steps), low, high), np.int64)


def _note(network: Network) -> str:
    """What float32 does to this network's sums."""
    facts: list[Any] = [layer.facts for layer in network.layers if layer.weights is not None]
    scales = [np.asarray(tensor.quant.scale) for tensor in network.tensors.values()]
    scales += [fact["weight_scales"] for fact in facts]
    bounds = [np.abs(fact[key]).max() for fact in facts for key in ("acc_lo", "acc_hi")]
    whole = all(fact["bias"] is None or fact["bias_is_integer"] for fact in facts)
    if all((np.frexp(scale)[0] == 0.5).all() for scale in scales) and whole and max(bounds, default=0) < 1 << 23:
        return "all scales are powers of two: qonnx's float32 sums are exact, so every code must be equal"
    return (
        "qonnx adds float32 products of scales and biases that are no powers of two: where a sum lies within their "
        "rounding errors of a tie, its code may differ by one, and with it what later layers make of it"
    )
