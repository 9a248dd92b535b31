"""TFLite's own interpreter (ai-edge-litert) on a `.tflite` file, with the kernels that the match names."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pyexport.errors import IntactError
from pyexport.qlayers import Network
from pyexport.readers.tflite_schema import Model
from pyexport.verify.run import Run

Array = npt.NDArray[np.generic]

# Matches -> kernels; every other match is compared with the reference kernels.
KERNELS = {
    "tflite-ref": OpResolverType.BUILTIN_REF,
    "tflite-xnnpack": OpResolverType.AUTO,
    "tflite-ruy": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def run(model: Path, network: Network, codes: npt.NDArray[np.int64], real: npt.NDArray[np.float32]) -> Run:
    """Every layer's output with the reference kernels; XNNPACK keeps those between its layers to itself."""
    match = network.match if network.match in KERNELS else "tflite-ref"
    data = model.read_bytes()
    every = match != "tflite-xnnpack"
    try:
        interpreter = Interpreter(
            model_content=data,
            experimental_op_resolver_type=KERNELS[match],
            experimental_preserve_all_tensors=every,
            num_threads=1,
        )
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        places = {"": int(target["index"])} | (_places(model, data, network) if every else {})
        floats = source["dtype"] is np.float32
        results: dict[str, list[Array]] = {name: [] for name in places}
        for row in real if floats else codes:
            interpreter.set_tensor(source["index"], row[np.newaxis].astype(source["dtype"]))
            interpreter.invoke()
            for name, index in places.items():
                results[name].append(interpreter.get_tensor(index).reshape(-1))
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise IntactError(f"{model}: TFLite cannot run it: {reason}") from error
    arrays = {name: np.stack(rows) for name, rows in results.items()}
    last = arrays.pop("")
    tensors = {name: rows.reshape(-1, *network.tensors[name].shape).astype(np.int64) for name, rows in arrays.items()}
    quant = network.tail.target if network.tail else network.tensors[network.output.tensor].quant
    if last.dtype.kind == "f":
        last = np.rint(last.astype(np.float32) / quant.scale).astype(np.int64) + quant.zero_point
    shown = last.reshape(-1, *network.output.shape).astype(np.int64)
    if network.tail:
        tensors[network.tail.name] = shown
    else:
        tensors[network.output.tensor] = network.output.to_hwc(shown).astype(np.int64)
    notes = () if every else ("XNNPACK shows the model's output only",)
    return Run(f"ai-edge-litert {version('ai-edge-litert')} {match}", tensors, notes)


def _places(model: Path, data: bytes, network: Network) -> dict[str, int]:
    """Tensor of the network -> its number in the file: the reader ends its names with the number of the operator."""
    operators = Model(str(model), data).operators
    found = {}
    for layer in network.layers:
        number = layer.output.rpartition("_")[2]
        if number.isdecimal() and int(number) < len(operators) and operators[int(number)].layer == layer.output:
            found[layer.output] = operators[int(number)].outputs[0]
    return found
