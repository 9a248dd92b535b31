"""TensorFlow Lite models (`.tflite`), read without TensorFlow.

Comes in: a FlatBuffers file whose activations are int8 or uint8 codes. Goes out: an ir.Graph; a SOFTMAX at the end
becomes its tail, a QUANTIZE at the start and a DEQUANTIZE at the end become the graph's own ends.
"""

from __future__ import annotations

from pathlib import Path

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import tflite_elementwise, tflite_layers, tflite_shapes
from pyexport.readers.flatbuffer import FlatbufferError
from pyexport.readers.options import Options
from pyexport.readers.tflite_graph import TABLE, Context
from pyexport.readers.tflite_schema import Model

assert tflite_layers and tflite_elementwise and tflite_shapes  # register their operators

MAGIC = b"TFL3"  # at byte 4
MAX_FILE_BYTES = 2 << 30
AGAIN = "convert it again, with full integer quantisation"


def read(path: Path, options: Options) -> ir.Graph:
    """The graph of a `.tflite` file. The input shape must be the file's own, if given."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise IntactError(f"{path}: {size} bytes is larger than the {MAX_FILE_BYTES} accepted")
    try:
        return _read(path, Model(str(path), path.read_bytes()), options.input_shape)
    except FlatbufferError as error:
        raise IntactError(f"{path}: is damaged or truncated ({error}); {AGAIN}") from error


def _read(path: Path, model: Model, input_shape: tuple[int, ...] | None) -> ir.Graph:
    if len(model.inputs) != 1 or len(model.outputs) != 1 or min(*model.inputs, *model.outputs) < 0:
        raise IntactError(
            f"{path}: has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is accepted"
        )
    context = Context(str(path), model, model.tensors[model.inputs[0]])
    if input_shape not in (None, context.input_shape):
        raise IntactError(f"{path}: was converted for input shape {context.input_shape}, not {input_shape}")
    for operator in model.operators:
        context.layer = operator.layer
        function = TABLE.get(operator.kind)
        if function is None:
            context.fail(f"operator {operator.kind} is not supported; accepted: {', '.join(sorted(TABLE))}")
        value = function(context, operator)
        context.values[context.output(operator).index] = value
    context.layer = "output"
    result = context.values.get(model.outputs[0])
    if result is None or not result.tensor or not context.nodes:
        raise IntactError(f"{path}: no layer writes the model's output; a model with at least one layer is accepted")
    shape = result.shape or (1,)
    if len(shape) > 3:
        shape = tuple(n for n in shape if n > 1)
    if len(shape) > 3:
        context.fail(f"the output has the shape {result.shape}; at most three axes besides the batch are accepted")
    if result.after:
        context.notes.append(f"layer {result.after!r} is computed by the host, after the hardware's last layer")
    axes = (None, None, None, *range(len(shape)))[-3:]
    return ir.Graph(
        path.stem,
        "tflite",
        "tflite-ref",
        context.tensors,
        tuple(context.nodes),
        ir.Port("input", context.input_shape, (context.input_axes[0], context.input_axes[1], context.input_axes[2])),
        ir.Port(result.tensor, shape, (axes[0], axes[1], axes[2])),
        "tflite-ref",
        tuple(context.notes),
        context.tail,
    )
