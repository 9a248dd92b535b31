"""TFLite's arithmetic on shapes, which a converter writes where the batch was left open.

Every shape in the file is known, so the numbers are worked out here, and no layer comes of them.
"""

from __future__ import annotations

from pyexport.readers.tflite_graph import Context, Value, op
from pyexport.readers.tflite_schema import Operator

MOST = 64  # numbers in a list


def _integer(context: Context, operator: Operator) -> None:
    if context.output(operator).dtype not in ("int32", "int64"):
        context.fail(f"gives {context.output(operator).dtype}; it is accepted for shapes only")


@op("SHAPE")
def _shape(context: Context, operator: Operator) -> Value:
    _integer(context, operator)
    info = context.info(operator, 0)
    if info is None:
        context.fail("has no input")
    return Value("", (), numbers=(1, *context.shape(info)))


@op("STRIDED_SLICE")
def _slice(context: Context, operator: Operator) -> Value:
    """One axis: begin, end and stride, where a mask's bit 0 takes the list's own end or keeps one number alone."""
    _integer(context, operator)
    numbers = context.integers(operator, 0)
    ends = [context.integers(operator, i) for i in (1, 2, 3)]
    masks = [operator.integer(i) for i in range(5)]  # begin, end, ellipsis, new axis, shrink
    if any(len(part) != 1 for part in ends) or masks[2] or masks[3] or not ends[2][0]:
        context.fail(f"slices {numbers} by {ends} with masks {masks}; one axis of a shape is accepted")
    (begin,), (end,), (step,) = ends
    found = numbers[None if masks[0] else begin : None if masks[1] else end : step]
    if masks[4]:
        if not -len(numbers) <= begin < len(numbers):
            context.fail(f"takes number {begin} of {numbers}")
        found = [numbers[begin]]
    return Value("", (), numbers=tuple(found))


@op("PACK")
def _pack(context: Context, operator: Operator) -> Value:
    _integer(context, operator)
    if len(operator.inputs) > MOST:
        context.fail(f"packs {len(operator.inputs)} numbers; up to {MOST} are accepted")
    parts = [context.integers(operator, i) for i in range(len(operator.inputs))]
    if any(len(part) != 1 for part in parts):
        context.fail("packs lists; single numbers are accepted")
    return Value("", (), numbers=tuple(part[0] for part in parts))
