"""--explain LAYER: one layer from float to integers, with one output worked by hand (equations: docs/arithmetic.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import golden
from pyexport.arith import FRACTION, Requant, requantise, wrapped
from pyexport.errors import IntactError
from pyexport.fit_add import digits
from pyexport.golden.accumulate import accumulate, add
from pyexport.qlayers import Network, QLayer, QTensor

SHOWN = 6  # taps that are listed


def explain(network: Network, name: str, inputs: npt.NDArray[np.int64] | None) -> str:
    """Plain text about layer `name`.

    inputs: the source's codes (N, *shape); the first one is the worked example (without: one of random codes).
    Raises IntactError for an unknown layer, listing those there are.
    """
    layer = next((layer for layer in network.layers if layer.name == name), None)
    if layer is None:
        names = ", ".join(layer.name for layer in network.layers)
        raise IntactError(f"--explain {name}: there is no such layer; layers are {names}")
    source, stored = network.tensors[layer.input], network.tensors[layer.output]
    # what the requantiser gives, before the table if there is one
    target = stored if layer.table is None else network.tensors[layer.rounded or layer.input]
    lines = [
        f"{layer.name}: {layer.op}, {_shape(source)} -> {_shape(stored)}, matching {network.match}",
        f"  kernel {layer.kernel}, stride {layer.stride}, padding (top, bottom, left, right) {layer.padding}, "
        f"dilation {layer.dilation}, groups {layer.groups}",
        *([] if layer.second else [f"  input  {_quant(source)}"]),
        *([_operands(layer, network)] if layer.operands else []),
        f"  output {_quant(target)}, clamped to codes "
        f"{layer.requant.lo - target.shift}..{layer.requant.hi - target.shift}",
        *([] if layer.table is None else [f"  through a table to {_quant(stored)}"]),
        "",
    ]
    first = network.tensors[network.input.tensor]
    if inputs is None:
        rng = np.random.default_rng(0)
        codes = rng.integers(-128, 128, (1, *first.shape)).astype(np.int8)
        lines.append("Example: random input codes (give --inputs FILE for your own).")
    else:
        codes = (network.input.to_hwc(inputs[:1]) + first.shift).astype(np.int8)
        lines.append("Example: the first input of --inputs.")
    tensors = golden.run(network, codes)
    second = None if layer.second is None else network.tensors[layer.second]
    if layer.operands:
        acc = np.concatenate([tensors[name] for name in layer.operands], 1 + layer.axis)[0].astype(np.int64)
    elif second is None:
        acc = accumulate(tensors[layer.input], layer, source)[0]
    else:
        acc = add(tensors[source.name], tensors[second.name], layer, source, second)[0]
    # an output that is neither clamped nor zero says most
    rounded = golden.rounded(acc[None], layer)[0]
    middle = np.abs(rounded - target.zero_point)
    inside = (rounded > layer.requant.lo) & (rounded < layer.requant.hi)
    place = np.unravel_index(int(np.argmax(np.where(inside, middle, -1))), target.shape)
    y, x, channel = (int(i) for i in place)
    lines.append(f"Output (h, w, c) = ({y}, {x}, {channel}).")
    lines.append("")
    if "joined" in layer.facts:
        lines += _joined(layer, network, channel)
    if layer.weights is not None:
        lines += _weights(layer, source, target, (y, x, channel))
    if layer.operands:
        lines += _side_by_side(layer, network, (y, x, channel), int(acc[y, x, channel]))
        return "\n".join(lines)
    if layer.maximum:
        lines.append(
            f"The largest code of the window is {int(acc[y, x, channel]) - source.shift}; it is kept as it is."
        )
        lines += _through_table(layer, target, stored, int(rounded[place]))
        return "\n".join(lines)
    if second is None:
        lines += _taps(layer, source, tensors[layer.input][0], (y, x, channel), int(acc[y, x, channel]))
    else:
        lines += _sum(layer, [(t, int(tensors[t.name][0][place])) for t in (source, second)], int(acc[y, x, channel]))
    constants, total = _constants(layer, y, x), int(acc[y, x, channel])
    if layer.wraps:
        bias = int(constants.bias[channel])
        lines.append("acc + bias wraps modulo 2^32.")
        total = int(wrapped(acc[y, x, channel] + bias)) - bias
    lines += _requantise(constants, target, channel, total)
    lines += _through_table(layer, target, stored, int(rounded[place]))
    return "\n".join(lines)


def _joined(layer: QLayer, network: Network, channel: int) -> list[str]:
    """How a tensor that is added before rounding comes into the sum, Eq. 80."""
    joined: Any = layer.facts["joined"]
    other, (a, b) = network.tensors[joined["tensor"]], joined["factors"][channel]
    made_up = b * (network.tensors[layer.input].zero_point - other.zero_point)
    return [
        f"{other.name} is added before the rounding: its codes are the input's last {other.shape[2]} channels.",
        f"  {_quant(other)}",
        f"  acc = {a} * (the layer's own) + {b} * ({other.name} - {other.quant.zero_point}): the weights are its own "
        f"times {a}, and {b} for {other.name}",
        f"  the bias below makes up for {other.name}'s zero point: {made_up} of it is "
        f"{b} * ({network.tensors[layer.input].zero_point} - {other.zero_point})",
        "",
    ]


def _constants(layer: QLayer, y: int, x: int) -> Requant:
    for area in layer.areas:
        if area.y <= y < area.y + area.height and area.x <= x < area.x + area.width:
            return area.requant
    return layer.requant


def _through_table(layer: QLayer, rounded: QTensor, stored: QTensor, code: int) -> list[str]:
    if layer.table is None:
        return []
    found = int(layer.table[code + 128])
    real = float(stored.quant.scale) * (found - stored.zero_point)
    return [
        f"Table: for {code} on chip (code {code - rounded.shift}) it has {found}, code {found - stored.shift} in the "
        "model",
        f"  real {float(stored.quant.scale):.9g} * ({found - stored.shift} - {stored.quant.zero_point}) = {real:.6g}",
    ]


def _operands(layer: QLayer, network: Network) -> str:
    sizes = [f"{name} {_shape(network.tensors[name])}" for name in layer.operands]
    return f"  side by side along {'HWC'[layer.axis]}: {', '.join(sizes)}"


def _side_by_side(layer: QLayer, network: Network, place: tuple[int, int, int], acc: int) -> list[str]:
    """Where a concatenation's code comes from."""
    target, at = network.tensors[layer.output], list(place)
    for name in layer.operands:
        if at[layer.axis] < network.tensors[name].shape[layer.axis]:
            break
        at[layer.axis] -= network.tensors[name].shape[layer.axis]
    code = int(np.clip(acc, layer.requant.lo, layer.requant.hi))
    return [f"It is {name} at ({at[0]}, {at[1]}, {at[2]}): code {acc - target.shift}, kept as {code - target.shift}."]


def _sum(layer: QLayer, operands: list[tuple[QTensor, int]], acc: int) -> list[str]:
    """A residual add's accumulator, Eq. 34."""
    lines = [
        "Accumulator: (a - za) * pa + (b - zb) * pb; the factors stand as the scales do, in base-256 digits as weights."
    ]
    total = 0
    for name, (tensor, code), factor, parts in zip("ab", operands, layer.factors, digits(layer.factors), strict=True):
        total += (code - tensor.zero_point) * factor
        zero = tensor.zero_point - tensor.shift
        lines.append(f"  {name}: {_quant(tensor)}")
        lines.append(
            f"  ({code - tensor.shift} - {zero}) * {factor} = {(code - tensor.zero_point) * factor}, digits {parts}"
        )
    assert total == acc, "the worked sum is not the golden model's"
    return [*lines, f"  acc = {acc}", ""]


def _shape(tensor: QTensor) -> str:
    return "×".join(map(str, tensor.shape))


def _quant(tensor: QTensor) -> str:
    quant = tensor.quant
    text = f"{quant.dtype} codes, real = {float(quant.scale):.9g} * (code - {quant.zero_point})"
    if tensor.shift:
        text += f"; on chip every code and the zero point are {-tensor.shift} lower, so that they are int8"
    return text


def _weights(layer: QLayer, source: QTensor, target: QTensor, place: tuple[int, int, int]) -> list[str]:
    y, x, channel = place
    scales = np.asarray(layer.facts["weight_scales"])
    zeros = np.asarray(layer.facts["weight_zero_points"])
    codes = np.asarray(layer.facts["weight_codes"])
    biases = layer.facts["bias"]
    s_in, s_out, s_w = float(source.quant.scale), float(target.quant.scale), float(scales[channel])
    flat = codes[channel].reshape(-1)
    lines = [f"Weights of channel {channel}: scale s_w = {s_w:.9g}, zero point {zeros[channel]}"]
    for index in np.argsort(-np.abs(flat - zeros[channel]), kind="stable")[:3]:
        tap = tuple(int(i) for i in np.unravel_index(int(index), codes[channel].shape))
        value = int(flat[index]) - int(zeros[channel])
        lines.append(f"  w{list(tap)}: code {flat[index]} - {zeros[channel]} = {value}, real {value * s_w:.6g}")
    if layer.wide:
        lines.append("  some code - zero point is no int8: the weights take two passes, the second subtracts")
    if layer.digits > 1:
        lines.append(f"  in {layer.digits} passes, one for each int8 digit to base 256, highest first")
    rq = layer.requant
    step = s_in * s_w
    if biases is None:
        lines.append("No bias.")
    else:
        bias = float(np.asarray(biases)[channel])
        whole = rq.m[channel] / 2.0 ** rq.s[channel]
        kind = "codes at s_in*s_w" if layer.facts["bias_is_integer"] else "real"
        lines.append(
            f"Bias: {bias:.9g} ({kind}); one accumulator step is s_in*s_w = {s_in:.9g} * {s_w:.9g} = {step:.9g}"
        )
        if not layer.facts["bias_is_integer"]:
            lines.append(f"  bias / (s_in*s_w) = {bias / step:.6f} steps")
            if whole:
                there = rq.bias[channel] + (rq.r[channel] / 2.0**FRACTION - 0.5) / whole
                lines.append(
                    f"  in hardware: integer bias {rq.bias[channel]}, the rest in the rounding offset "
                    f"(together {there:.6f} steps)"
                )
    lines.append(
        f"Multiplier: M = s_in*s_w/s_out = {step:.9g} / {s_out:.9g} = {step / s_out:.9g}; "
        f"m / 2^s = {rq.m[channel]} / 2^{rq.s[channel]} = {rq.m[channel] / 2.0 ** rq.s[channel]:.9g}"
    )
    assert layer.weights is not None
    folded = sum(int(layer.weights[channel, ky, kx].sum(dtype=np.int64)) for ky, kx, _, _ in _window(layer, y, x))
    taps = "w" if not layer.transposed else "w of the taps that meet here"
    lines.append(
        f"Zero points: the array sums x*w; the input's zero point is taken off once, in the bias: "
        f"{rq.bias[channel]} - ({source.zero_point}) * sum of {taps} ({folded}) = "
        f"{rq.bias[channel] - source.zero_point * folded} is what the parameter memory holds."
    )
    lines.append("")
    return lines


def _window(layer: QLayer, y: int, x: int) -> Iterator[tuple[int, int, int, int]]:
    """(ky, kx, y, x) of each tap that an output pixel sees, on the input map or beyond it."""
    (top, _, left, _), stride, dilation = layer.padding, layer.stride, layer.dilation
    for ky, kx in np.ndindex(*layer.kernel):
        if layer.transposed:
            row, no_row = divmod(y + top - ky * dilation[0], stride[0])
            column, no_column = divmod(x + left - kx * dilation[1], stride[1])
            if not no_row and not no_column:
                yield ky, kx, row, column
        else:
            yield ky, kx, y * stride[0] - top + ky * dilation[0], x * stride[1] - left + kx * dilation[1]


def _taps(
    layer: QLayer, source: QTensor, codes: npt.NDArray[np.int8], place: tuple[int, int, int], acc: int
) -> list[str]:
    """The largest products of one output's sum."""
    y, x, channel = place
    per_in, per_out = source.shape[2] // layer.groups, layer.requant.m.size // layer.groups
    terms = []
    for ky, kx, row, column in _window(layer, y, x):
        if not (0 <= row < source.shape[0] and 0 <= column < source.shape[1]):
            continue
        for c in range(per_in):
            code = int(codes[row, column, channel // per_out * per_in + c])
            weight = 1 if layer.weights is None else int(layer.weights[channel, ky, kx, c])
            terms.append((code - source.shift, weight, (code - source.zero_point) * weight))
    zero = source.zero_point - source.shift
    terms.sort(key=lambda term: -abs(term[2]))
    lines = [
        f"Accumulator: sum of (x - {zero}) * w over {len(terms)} taps (those in the padding add 0), largest first:"
    ]
    lines += [f"  ({code} - {zero}) * {weight} = {product}" for code, weight, product in terms[:SHOWN]]
    if len(terms) > SHOWN:
        lines.append(f"  ... and {len(terms) - SHOWN} more that add up to {sum(term[2] for term in terms[SHOWN:])}")
    total = sum(term[2] for term in terms)
    assert total == acc, "the worked sum is not the golden model's"
    return [*lines, f"  acc = {acc}", ""]


def _requantise(rq: Requant, target: QTensor, channel: int, acc: int) -> list[str]:
    """Eq. 1 to 9 on one accumulator, in Python's own integers."""
    m, s, r, d = (int(getattr(rq, name)[channel]) for name in ("m", "s", "r", "d"))
    v = acc + int(rq.bias[channel])
    p = v * m
    u = (p >> (s - FRACTION)) + r + (d if v < 0 else 0)
    y = u >> FRACTION
    fraction = u % (1 << FRACTION)
    near = min(fraction, (1 << FRACTION) - fraction)
    code = int(requantise(np.full((1, rq.m.size), acc, np.int64), rq)[0, channel])
    lines = [
        "Requantise:",
        f"  v = acc + bias = {acc} + {rq.bias[channel]} = {v}",
        f"  p = v * m = {v} * {m} = {p}",
        f"  u = (p >> {s - FRACTION}) + r{' + d' if v < 0 else ''} = {u}   (2^-24 codes; r = {r}, d = {d})",
        f"  y = u >> 24 = {y}   (u / 2^24 = {u / 2.0**FRACTION:.6f}; {near} units of 2^-24 from a rounding threshold"
        + (", half to even there)" if rq.even[channel] else ")"),
    ]
    if rq.exc_d[channel]:
        lines.append(f"  exception of this channel: where v = {rq.exc_v[channel]}, y changes by {rq.exc_d[channel]}")
    lines.append(f"  q = clamp(y + {rq.z}, {rq.lo}, {rq.hi}) = {code} on chip, code {code - target.shift} in the model")
    real = float(target.quant.scale) * (code - target.zero_point)
    return [
        *lines,
        f"  real {float(target.quant.scale):.9g} * ({code - target.shift} - {target.quant.zero_point}) = {real:.6g}",
    ]
