"""TorchScript operations on codes: sums, concatenations and functions of one code. See torch_ops.py."""

from __future__ import annotations

from typing import Any, NoReturn

from pyexport import ir
from pyexport.readers.builder import Value
from pyexport.readers.torch_ops import Context, op
from pyexport.readers.torch_shape_ops import is_channels_last


def _either_order(x: Value) -> bool:
    """Whether channels-last and contiguous memory are the same: one channel or one pixel."""
    return len(x.shape) != 3 or x.shape[0] == 1 or x.shape[1:] == (1, 1)


def _order(*values: Value) -> str:
    """The memory order of operands, by which torch chooses its kernel (runtimes/torch_elementwise.py)."""
    orders = {x.channels_last for x in values if not _either_order(x)}
    if len(orders) > 1:
        return "torch-mixed"
    return "torch-channels-last" if orders == {True} else "torch-contiguous"


def _quant(context: Context, x: Value) -> ir.Quant:
    return context.builder.codes(context.layer(), x).quant


# --- two or more tensors ---------------------------------------------------------------------------------------------


def _sum(context: Context, a: Any, b: Any, scale: Any, zero_point: Any, relu: bool) -> Value:
    a, b = context.value(a), context.value(b)
    quant = context.out_quant(scale, zero_point)
    return context.builder.sum(context.layer(), a, b, quant, relu, _order(a, b))


@op("ops.quantized.add")
def _add(context: Context, qa: Any, qb: Any, scale: Any, zero_point: Any) -> Value:
    return _sum(context, qa, qb, scale, zero_point, False)


@op("ops.quantized.add_relu")
def _add_relu(context: Context, qa: Any, qb: Any, scale: Any, zero_point: Any) -> Value:
    return _sum(context, qa, qb, scale, zero_point, True)


@op("ops.quantized.mul", "ops.quantized.mul_relu")
def _mul(context: Context, qa: Any, qb: Any, scale: Any, zero_point: Any) -> NoReturn:
    context.fail("the product of two activations is not supported; INTACT adds and concatenates activations")


def _concat(context: Context, tensors: Any, dim: Any, quant: ir.Quant | None, relu: bool) -> Value:
    if not isinstance(tensors, (list, tuple)) or not tensors:
        context.fail(f"{context.kind} needs a list of activations")
    values = [context.value(item) for item in tensors]
    axis = context.integer(dim) % (len(values[0].shape) + 1) - 1
    if axis < 0:
        context.fail("concatenates along the batch axis; use dim=1")
    # torch has a kernel for maps that are all channels-last; else it goes through real numbers
    maps = all(len(x.shape) == 3 and is_channels_last(x) for x in values)
    arithmetic = "torch-concat" if maps and axis == 0 else ""
    return context.builder.concat(
        context.layer(), values, axis, quant or _quant(context, values[0]), relu, arithmetic, maps
    )


@op("ops.quantized.cat")
def _quantized_cat(context: Context, qx: Any, dim: Any, scale: Any, zero_point: Any) -> Value:
    quant = None if scale is None or zero_point is None else context.out_quant(scale, zero_point)
    return _concat(context, qx, dim, quant, False)


@op("ops.quantized.cat_relu")
def _cat_relu(context: Context, qx: Any, dim: Any, scale: Any, zero_point: Any) -> Value:
    return _concat(context, qx, dim, context.out_quant(scale, zero_point), True)


@op("torch.cat", "torch.concat", "torch.concatenate")
def _cat(context: Context, tensors: Any, dim: Any = 0) -> Value:
    """Takes the first operand's scale; torch itself refuses operands whose scales are not nearly the same."""
    return _concat(context, tensors, dim, None, False)


# --- functions of one code -------------------------------------------------------------------------------------------


def _function(context: Context, x: Any, function: str, quant: ir.Quant | None, alpha: float = 0.0) -> Value:
    value = context.value(x)
    target = quant or _quant(context, value)
    return context.builder.lookup(context.layer(), value, function, target, _order(value), alpha)


def _fixed(context: Context, scale: float, zero_point: int) -> ir.Quant:
    """The scale that torch itself gives the function's output."""
    return context.builder.quant(context.layer(), scale, zero_point, "uint8")


@op("torch.sigmoid", "torch.sigmoid_")
def _sigmoid(context: Context, x: Any) -> Value:
    return _function(context, x, "logistic", _fixed(context, 2**-8, 0))


@op("ops.quantized.sigmoid")
def _quantized_sigmoid(context: Context, qx: Any, output_scale: Any, output_zero_point: Any) -> Value:
    return _function(context, qx, "logistic", context.out_quant(output_scale, output_zero_point))


@op("torch.tanh", "torch.tanh_")
def _tanh(context: Context, x: Any) -> Value:
    return _function(context, x, "tanh", _fixed(context, 2**-7, 128))


@op("torch.hardsigmoid", "torch.hardsigmoid_")
def _hardsigmoid(context: Context, x: Any) -> Value:
    return _function(context, x, "hard_sigmoid", _fixed(context, 2**-8, 0))


@op("ops.quantized.hardswish")
def _hardswish(context: Context, input: Any, output_scale: Any, output_zero_point: Any) -> Value:
    return _function(context, input, "hard_swish", context.out_quant(output_scale, output_zero_point))


@op("ops.quantized.leaky_relu")
def _quantized_leaky_relu(
    context: Context, qx: Any, negative_slope: Any, inplace: Any, output_scale: Any, output_zero_point: Any
) -> Value:
    quant = context.out_quant(output_scale, output_zero_point)
    return _function(context, qx, "leaky_relu", quant, context.number(negative_slope))


@op("torch.leaky_relu", "torch.leaky_relu_")
def _leaky_relu(context: Context, x: Any, negative_slope: Any = 0.01) -> Value:
    return _function(context, x, "leaky_relu", None, context.number(negative_slope))


@op("ops.quantized.elu")
def _elu(
    context: Context, self: Any, output_scale: Any, output_zero_point: Any, alpha: Any = 1.0, scale: Any = 1.0,
    input_scale: Any = 1.0,
) -> Value:  # fmt: skip
    if context.number(scale) != 1 or context.number(input_scale) != 1:
        context.fail("elu with a scale of its own (SELU, CELU); use ELU")
    return _function(context, self, "elu", context.out_quant(output_scale, output_zero_point), context.number(alpha))
