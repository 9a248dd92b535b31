"""Small ONNX models of a few operations, written directly: what a quantiser does not write, or not on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
MS = "com.microsoft"


class Model:
    """Operations in order. Constants are NumPy values, by name."""

    def __init__(self, shape: tuple[int | str, ...], dtype: str = "float32", opset: int = 17) -> None:
        self.input = helper.make_tensor_value_info("x", TYPES[dtype], list(shape))
        self.opset, self.nodes, self.constants = opset, list[Any](), dict[str, Any]()

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def op(self, kind: str, inputs: str, output: str, domain: str = "", **attributes: Any) -> str:
        """inputs: names with spaces between them, "-" where one is left out."""
        names = ["" if name == "-" else name for name in inputs.split()]
        node = helper.make_node(kind, names, [output], name=f"n_{output}", domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def scale(self, name: str, scale: float, zero_point: int, dtype: str = "int8") -> str:
        """Constants `name`s and `name`z; gives both names for `inputs`."""
        self.constant(name + "s", np.float32(scale))
        self.constant(name + "z", np.dtype(dtype).type(zero_point))
        return f"{name}s {name}z"

    def pair(self, source: str, scale: str) -> str:
        """QuantizeLinear and DequantizeLinear."""
        self.op("QuantizeLinear", f"{source} {scale}", f"{source}_q")
        return self.op("DequantizeLinear", f"{source}_q {scale}", f"{source}_d")

    def weights(self, name: str, codes: Any, scale: Any) -> str:
        """int8 codes, dequantised along axis 0 where there are several scales."""
        self.constant(name, np.asarray(codes, np.int8))
        self.constant(name + "s", np.asarray(scale, np.float32))
        self.constant(name + "z", np.zeros(np.shape(scale), np.int8))
        return self.op("DequantizeLinear", f"{name} {name}s {name}z", f"{name}_d", axis=0)

    def proto(self, output: str, dtype: str = "float32") -> Any:
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        result = helper.make_tensor_value_info(output, TYPES[dtype], None)
        graph = helper.make_graph(self.nodes, "graph", [self.input], [result], constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def save(self, folder: Path, output: str, dtype: str = "float32") -> Path:
        path = folder / "model.onnx"
        onnx.save(self.proto(output, dtype), str(path))
        return path
