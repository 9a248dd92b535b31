"""A graph in plain Python integers and fractions, one tap at a time: what the golden model is checked against.

It shares nothing with the exporter but the IR; the requantise equations are written again from docs/arithmetic.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from pyexport import ir

Place = tuple[int, int, int]  # y, x, channel
Codes = dict[Place, int]  # the source's code there


def positions(shape: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    for y in range(shape[0]):
        for x in range(shape[1]):
            for c in range(shape[2]):
                yield y, x, c


def run(graph: ir.Graph, image: Codes, rounded: Callable[[ir.AnyNode, int, Place], int]) -> dict[str, Codes]:
    """Every tensor's codes. rounded(node, acc, place) is the code before the clamp, for sums and for functions of a
    code; maxima need none.
    """
    values = {graph.input.tensor: image}
    for node in graph.nodes:
        source, target = graph.tensors[node.inputs[0]], graph.tensors[node.output]
        codes: Codes = {}
        for place in positions(target.shape):
            if isinstance(node, ir.Concat):
                code = beside(node, [(values[name], graph.tensors[name].shape) for name in node.inputs], place)
            elif isinstance(node, ir.Lookup):
                code = rounded(node, values[source.name][place], place)
            elif isinstance(node, (ir.MaxPool2d, ir.Clamp)):
                code = largest(node, values[source.name], source, place)
            else:
                code = rounded(node, accumulator(node, values[source.name], source, place), place)
            codes[place] = min(max(code, node.clamp[0]), node.clamp[1])
        values[node.output] = codes
    return values


def beside(node: ir.Concat, operands: list[tuple[Codes, tuple[int, int, int]]], place: tuple[int, int, int]) -> int:
    """The code at a place of tensors that lie side by side."""
    at = list(place)
    for codes, shape in operands:
        if at[node.axis] < shape[node.axis]:
            return codes[at[0], at[1], at[2]]
        at[node.axis] -= shape[node.axis]
    raise AssertionError(f"{place} lies beyond the last operand")


def taps(node: Any, kernel: tuple[int, int], place: tuple[int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """(ky, kx, y, x) of each tap of the window, inside the map or not."""
    dilation = getattr(node, "dilation", (1, 1))
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y = place[0] * node.stride[0] + ky * dilation[0] - node.padding[0]
            x = place[1] * node.stride[1] + kx * dilation[1] - node.padding[2]
            yield ky, kx, y, x


def accumulator(node: ir.AnyNode, codes: Codes, source: ir.Tensor, place: tuple[int, int, int]) -> int:
    """Sum of (x - zx)(w - zw); a tap outside the map adds nothing."""
    total, zero, channel = 0, source.quant.zero_point, place[2]
    if isinstance(node, ir.Linear):
        for y, x, c in positions(source.shape):
            weight = int(node.weights.codes[channel, y, x, c]) - int(node.weights.zero_point[channel])
            total += (codes[y, x, c] - zero) * weight
    elif isinstance(node, ir.Conv2d):
        out, height, width, per_group = node.weights.codes.shape
        group = channel // (out // node.groups)
        for ky, kx, y, x in taps(node, (height, width), place):
            for c in range(per_group):
                if (y, x, group * per_group + c) in codes:
                    weight = int(node.weights.codes[channel, ky, kx, c]) - int(node.weights.zero_point[channel])
                    total += (codes[y, x, group * per_group + c] - zero) * weight
    elif isinstance(node, ir.ConvTranspose2d):
        out, height, width, per_group = node.weights.codes.shape
        group = channel // (out // node.groups)
        for (y, x, c), code in codes.items():  # every input code, and where its tap would have to be
            (ky, rest_y), (kx, rest_x) = (
                divmod(place[i] + node.padding[2 * i] - (y, x)[i] * node.stride[i], node.dilation[i]) for i in (0, 1)
            )
            if c // per_group == group and rest_y == rest_x == 0 and 0 <= ky < height and 0 <= kx < width:
                weight = int(node.weights.codes[channel, ky, kx, c % per_group]) - int(node.weights.zero_point[channel])
                total += (code - zero) * weight
    elif isinstance(node, ir.AvgPool2d):
        for _, _, y, x in taps(node, node.kernel, place):
            total += codes.get((y, x, channel), zero) - zero
    return total


def largest(node: ir.AnyNode, codes: Codes, source: ir.Tensor, place: tuple[int, int, int]) -> int:
    """Largest code of the window; the lowest code there is where the window holds none."""
    if isinstance(node, ir.Clamp):
        return codes[place]
    assert isinstance(node, ir.MaxPool2d)
    lowest = ir.CODE_RANGE[source.quant.dtype][0]
    inside = [codes[y, x, place[2]] for _, _, y, x in taps(node, node.kernel, place) if (y, x, place[2]) in codes]
    return max(inside, default=lowest)


def exactly(graph: ir.Graph) -> Callable[[ir.AnyNode, int, Place], int]:
    """Real arithmetic rounded once, half to even (Eq. 19; pools: the sum over the divisor)."""

    def code(node: ir.AnyNode, acc: int, place: Place) -> int:
        target, channel = graph.tensors[node.output].quant, place[2]
        if isinstance(node, ir.AvgPool2d):
            height, width, _ = graph.tensors[node.inputs[0]].shape
            inside = sum(0 <= y < height and 0 <= x < width for _, _, y, x in taps(node, node.kernel, place))
            count = node.kernel[0] * node.kernel[1] if node.count_include_pad else inside
            return round(Fraction(acc, node.divisor or count)) + target.zero_point
        assert isinstance(node, (ir.Conv2d, ir.ConvTranspose2d, ir.Linear))
        source = graph.tensors[node.inputs[0]].quant
        step = Fraction(float(source.scale)) * Fraction(float(node.weights.scale[channel]))
        real = step * acc
        if node.weights.bias is not None:
            bias = Fraction(float(node.weights.bias[channel]))
            real += bias * step if node.weights.bias_is_integer else bias
        return round(real / Fraction(float(target.scale))) + target.zero_point

    return code


def requantise(acc: int, constants: dict[str, int], zero_point: int) -> int:
    """Eq. 1 to 9 without the clamp, for one accumulator."""
    v = acc + constants["bias"]
    shift = constants["s"] - 24
    product = v * constants["m"]
    u = (product >> shift) + constants["r"] + (constants["d"] if v < 0 else 0)
    u = max(-(1 << 33), min(u, (1 << 33) - 1))
    y, fraction = u // (1 << 24), u % (1 << 24)
    if constants["even"] and y % 2:
        bits = (-1 - y if y < 0 else y).bit_length()
        window = 1 << bits >> 1
        rest = product % (1 << shift)
        if fraction < window or (fraction == window and rest == 0):
            y -= 1
        elif fraction >= (1 << 24) - window:
            y += 1
    if v == constants["exc_v"]:
        y += constants["exc_d"]
    return y + zero_point


def to_codes(array: np.ndarray[Any, np.dtype[Any]]) -> Codes:
    """(H, W, C) -> codes by position."""
    return {place: int(array[place]) for place in positions((array.shape[0], array.shape[1], array.shape[2]))}
