"""TFLite's layers on single codes, on pairs of them, and those that only rename positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyexport import ir
from pyexport.readers.tflite_graph import NO_PADDING, Context, Value, op
from pyexport.readers.tflite_schema import Operator

ACTIVATIONS = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
FUNCTIONS = {"LOGISTIC": "logistic", "TANH": "tanh", "LEAKY_RELU": "leaky_relu", "HARD_SWISH": "hard_swish"}
ARITHMETIC = {"ADD": "add", "SUB": "subtract", "MUL": "multiply"}


def _lookup(context: Context, operator: Operator, function: str, clamp: tuple[int, int] | None = None) -> Value:
    source, target = context.source(context.value(operator)), context.output(operator)
    quant = context.quant(target)
    alpha = operator.options.real(0) if function == "leaky_relu" and operator.options else 0.0
    if not np.isfinite(alpha) or abs(alpha) > 1e6:
        context.fail(f"slope {alpha} is not supported")
    name = operator.layer
    node = ir.Lookup(name, (source.name,), name, function, clamp or ir.CODE_RANGE[quant.dtype], alpha)
    return context.add(node, target, source)


@op(*FUNCTIONS)
def _function(context: Context, operator: Operator) -> Value:
    quant = context.quant(context.output(operator))
    low = ir.CODE_RANGE[quant.dtype][0]
    fixed = {"LOGISTIC": (1 / 256, low), "TANH": (1 / 128, low + 128)}.get(operator.kind)
    if fixed is not None and (float(quant.scale), quant.zero_point) != fixed:
        context.fail(f"its output has scale {quant.scale} and zero point {quant.zero_point}; TFLite demands {fixed}")
    if context.source(context.value(operator)).quant.dtype != quant.dtype:
        context.fail("input and output have different code types")
    return _lookup(context, operator, FUNCTIONS[operator.kind])


@op(*ACTIVATIONS)
def _relu(context: Context, operator: Operator) -> Value:
    source, target = context.source(context.value(operator)), context.output(operator)
    quant = context.quant(target)
    clamp = context.limits(quant, ACTIVATIONS[operator.kind])
    if quant != source.quant:
        return _lookup(context, operator, "relu", clamp)
    return context.add(ir.Clamp(operator.layer, (source.name,), operator.layer, clamp), target, source)


@op("ADD", "SUB", "MUL")
def _pairs(context: Context, operator: Operator) -> Value:
    target = context.output(operator)
    quant = context.quant(target)
    clamp = context.limits(quant, operator.integer(0, "b"))
    infos = [context.info(operator, 0), context.info(operator, 1)]
    constants = [i for i, info in enumerate(infos) if info is not None and info.constant]
    if len(constants) == 2:
        context.fail("both inputs are constants")
    name = operator.layer
    if not constants:
        if operator.kind == "MUL":
            context.fail("multiplies two activations; a constant is accepted")
        a, b = (context.source(context.value(operator, i)) for i in (0, 1))
        if a.shape != b.shape or len({a.quant.dtype, b.quant.dtype, quant.dtype}) > 1:
            context.fail(f"takes shapes {a.shape} and {b.shape}; equal shapes and code types are accepted")
        sign = 1 if operator.kind == "ADD" else -1
        return context.add(ir.Add(name, (a.name, b.name), name, sign, clamp), target, a)
    which = constants[0]
    source, info = context.source(context.value(operator, 1 - which)), infos[which]
    assert info is not None
    stored = context.quant(info)
    values = np.unique(context.constant(operator, which))
    if values.size != 1 or len({source.quant.dtype, stored.dtype, quant.dtype}) > 1:
        context.fail("its constant has several values; one value for the whole tensor is accepted")
    node = ir.Lookup(
        name, (source.name,), name, ARITHMETIC[operator.kind], clamp, 0.0, (int(values[0]), stored), which == 0
    )
    return context.add(node, target, source)


@op("QUANTIZE")
def _quantize(context: Context, operator: Operator) -> Value:
    value, target = context.value(operator), context.output(operator)
    quant = context.quant(target)
    if not value.real:
        if context.quant_of(value) == quant:
            return value
        return _lookup(context, operator, "requantise")
    if not value.tensor and context.input_quant in (None, quant):
        context.input_quant = quant
    elif value.after or context.quant_of(value) != quant:
        context.fail("quantises real numbers in the middle of the model; one scale is accepted")
    return replace(value, real=False)


@op("DEQUANTIZE")
def _dequantize(context: Context, operator: Operator) -> Value:
    value = context.value(operator)
    if value.real or context.output(operator).dtype != "float32":
        context.fail("is accepted after the last layer, to float32")
    if value.pad != NO_PADDING:
        context.source(value)
    return replace(value, real=True)


@op("CONCATENATION")
def _concat(context: Context, operator: Operator) -> Value:
    target = context.output(operator)
    values = [context.value(operator, i) for i in range(len(operator.inputs))]
    if not 1 <= len(values) <= 256:
        context.fail(f"has {len(values)} inputs; 1 to 256 are accepted")
    tensors = [context.map(value) for value in values]
    rank = len(values[0].shape) + 1
    axis = operator.integer(0)
    axis += rank if axis < 0 else 0
    if not 1 <= axis < rank or any(len(value.shape) + 1 != rank for value in values):
        context.fail(f"axis {axis} is not supported for {rank} axes")
    clamp = context.limits(context.quant(target), operator.integer(1, "b"))
    name = operator.layer
    node = ir.Concat(name, tuple(tensor.name for tensor in tensors), name, axis + 3 - rank, clamp)
    return context.add(node, target)


@op("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _reshape(context: Context, operator: Operator) -> Value:
    value, target = context.value(operator), context.output(operator)
    if not (value.real or value.after) and context.quant(target) != context.quant_of(value):
        context.fail("input and output have different scales; a reshape keeps them")
    return context.reshaped(value, context.shape(target))


@op("TRANSPOSE")
def _transpose(context: Context, operator: Operator) -> Value:
    value, target = context.value(operator), context.output(operator)
    order = context.integers(operator, 1)
    if sorted(order) != list(range(len(value.shape) + 1)) or order[0] != 0:
        context.fail(f"order {order} does not fit a tensor with {len(value.shape) + 1} axes, the batch first")
    shape = tuple(value.shape[i - 1] for i in order[1:])
    if shape != context.shape(target):
        context.fail(f"writes {shape}, but its output has the shape {context.shape(target)}")
    moved = [i - 1 for i in order[1:] if value.shape[i - 1] > 1]
    if moved == sorted(moved):
        return context.reshaped(value, shape)
    if value.tensor:
        context.fail(f"order {order} moves values; TRANSPOSE is accepted at the input, or where only sizes of 1 move")
    if value.pad != NO_PADDING:
        context.source(value)
    return replace(value, shape=shape, axes=tuple(value.axes[i - 1] for i in order[1:]))


@op("SOFTMAX")
def _softmax(context: Context, operator: Operator) -> Value:
    value = context.value(operator)
    source, quant = context.source(value), context.quant(context.output(operator))
    beta = operator.options.real(0, 0.0) if operator.options else 1.0
    if not 0 < beta < 1e6:
        context.fail(f"beta {beta} is not supported")
    demanded = 1 / 256, ir.CODE_RANGE[quant.dtype][0]
    if (float(quant.scale), quant.zero_point) != demanded or quant.dtype != source.quant.dtype:
        context.fail(f"its output has scale {quant.scale} and zero point {quant.zero_point}; TFLite demands {demanded}")
    context.tail = ir.Softmax(operator.layer, source.quant, quant, beta)
    return replace(value, tensor=source.name, axes=(), after=operator.layer)
