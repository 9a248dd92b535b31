"""onnxruntime on an ONNX file, with the session options that a user has; every quantised tensor that it shows.

Tensors between layers are shown as further outputs. That must not change what onnxruntime fuses: they are left out
where the operations that it ends up with are then others, changes of layout apart.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.verify.run import Run

Array = npt.NDArray[np.generic]

BATCH = 32
# Operations that onnxruntime computes in float if they are still there after its optimisations.
FLOAT = {
    "Conv",
    "FusedConv",
    "ConvTranspose",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "FusedMatMul",
    "Add",
    "Mul",
    "AveragePool",
}
FLOAT |= {"GlobalAveragePool", "ReduceMean", "MatMulIntegerToFloat"}


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """Every tensor that can be shown, and the output."""
    try:
        plain = onnx.load(str(model))
        shown = _shown(plain, network)
        session, kinds = _session(plain, ())
        outputs = _results(session, codes, real)
        found = {network.output.tensor: _output_codes(next(iter(outputs.values())), network)}
        notes = _notes(kinds)
        if shown:
            more, kinds_shown = _session(plain, tuple(shown.values()))
            if kinds_shown == kinds:
                arrays = _results(more, codes, real)
                found = {**_tensors(arrays, shown, network), **found}
            else:
                notes = (*notes, "only the output is compared: showing other tensors would change what is fused")
    except IntactError:
        raise
    except Exception as error:  # onnxruntime's own errors have no public base
        reason = str(error).strip().splitlines()[-1][:200]
        raise IntactError(f"{model}: onnxruntime cannot run it: {reason}") from error
    return Run(f"onnxruntime {onnxruntime.__version__}", found, notes)


def _session(model: onnx.ModelProto, shown: tuple[str, ...]) -> tuple[onnxruntime.InferenceSession, Counter[str]]:
    """A session with `shown` as further outputs, and how many operations of each kind it ends up with."""
    known = {value.name for value in model.graph.output}
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    wider.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
    kinds = (node.op_type.removeprefix("Nhwc") for node in optimised.graph.node)
    return session, Counter(kind for kind in kinds if kind != "Transpose")


def _results(
    session: onnxruntime.InferenceSession, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]
) -> dict[str, Array]:
    """Every output for all inputs."""
    given = session.get_inputs()[0]
    values = real if given.type == "tensor(float)" else codes.astype(np.uint8 if "uint8" in given.type else np.int8)
    batch = given.shape[0] if isinstance(given.shape[0], int) else BATCH
    if len(values) % batch and isinstance(given.shape[0], int):
        raise IntactError(f"--verify: the model takes inputs {batch} at a time; give a multiple of that with --inputs")
    parts = [session.run(None, {given.name: values[i : i + batch]}) for i in range(0, len(values), batch)]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def _notes(kinds: Counter[str]) -> tuple[str, ...]:
    left = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind in FLOAT)
    notes = [f"onnxruntime computes these in float, after its fusions: {left}"] if left else []
    if kinds["QLinearAveragePool"]:
        notes.append("onnxruntime's QLinearAveragePool adds real numbers; ties depend on their order")
    flags = Path("/proc/cpuinfo")
    if flags.exists() and not re.search(r"\b(avx512_vnni|avx_vnni|asimddp)\b", flags.read_text()):
        notes.append("this CPU has no VNNI: onnxruntime's uint8 x int8 kernels saturate in int16")
    return tuple(notes)


def _shown(model: onnx.ModelProto, network: Network) -> dict[str, str]:
    """Our tensor -> the name of the ONNX tensor that holds its codes."""
    writers = {name: node for node in model.graph.node for name in node.output}
    # QCDQ: the codes of fewer bits
    clipped = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip" and node.input}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" and "QLinear" not in node.op_type and node.op_type != "QGemm":
            continue
        layer: onnx.NodeProto | None = node
        while layer is not None:
            name = re.sub(r"[^A-Za-z0-9_.]", "_", layer.name.strip("/").replace("/", "."))
            if name in network.tensors:
                found.setdefault(name, clipped.get(node.output[0], node.output[0]))
                break
            if layer is not node and layer.op_type in ("DequantizeLinear", "QuantizeLinear"):
                break
            layer = writers.get(layer.input[0]) if layer.input else None
    return found


def _tensors(arrays: dict[str, Array], shown: dict[str, str], network: Network) -> dict[str, npt.NDArray[np.int64]]:
    found = {}
    for name, array_name in shown.items():
        array, (height, width, channels) = arrays[array_name], network.tensors[name].shape
        if array.shape[1:] == (channels, height, width):
            array = array.transpose(0, 2, 3, 1)
        elif (
            array.shape[1:] not in ((height, width, channels), (channels,))
            or array[0].size != height * width * channels
        ):
            continue
        found[name] = array.reshape(len(array), height, width, channels).astype(np.int64)
    return found


def _output_codes(array: Array, network: Network) -> npt.NDArray[np.int64]:
    """The model's output as codes (N, H, W, C); dequantised, (q - z) * s gives q back exactly."""
    quant, port = network.tensors[network.output.tensor].quant, network.output
    if array.dtype.kind == "f":
        low, high = quant.range
        array = np.clip(np.rint(array.astype(np.float32) / quant.scale) + quant.zero_point, low, high)
    return port.to_hwc(array.reshape(-1, *port.shape)).astype(np.int64)
