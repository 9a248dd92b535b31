"""Graph -> quantised layers: folds clamps and tables, subtracts zero points, fits every requantiser to the runtime."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyexport import fit, fit_add, ir, join, overflow, runtimes
from pyexport.arith import Requant
from pyexport.errors import IntactError
from pyexport.qlayers import Area, Network, QLayer, QTensor

MOST_JOBS = 4096  # of a transposed convolution, which has one at least for each pixel of a stride


def quantise(graph: ir.Graph, match: str | None = None, allow_overflow: bool = False) -> Network:
    """The network in integers.

    match: the runtime whose arithmetic to follow (default: the graph's own). allow_overflow: let sums that can leave
    int32 wrap modulo 2^32; otherwise they are refused. Raises IntactError naming the layer.
    """
    graph = fold_clamps(join.side_by_side(requantise_operands(graph)))
    runtime = match or graph.match
    if runtime not in runtimes.LAYERS:
        raise IntactError(f"--match {runtime}: not a known runtime; choose one of {', '.join(sorted(runtimes.LAYERS))}")
    tensors = {name: _tensor(tensor) for name, tensor in graph.tensors.items()}
    layers = []
    for node in graph.nodes:
        try:
            layers.append(_layer(graph, node, runtime, tensors, allow_overflow))
        except IntactError as error:
            raise IntactError(f"layer {node.name!r}: {error}") from None
    if graph.tail is not None:
        try:
            runtimes.check_runtime(runtime)
        except IntactError as error:
            raise IntactError(f"layer {graph.tail.name!r}: {error}") from None
    rule = runtimes.input_rule(graph.float_input, runtime)
    layers = _fuse_lookups(layers, graph.output.tensor)
    return Network(graph.name, runtime, tensors, tuple(layers), graph.input, graph.output, rule, graph.tail)


def requantise_operands(graph: ir.Graph) -> ir.Graph:
    """Puts a change of scale before each concatenation's operands that have another scale than its output."""
    tensors, nodes = dict(graph.tensors), list[ir.AnyNode]()
    for node in graph.nodes:
        if isinstance(node, ir.Concat):
            out, names = tensors[node.output].quant, list(node.inputs)
            for i, name in enumerate(node.inputs):
                if tensors[name].quant != out:
                    names[i] = f"{node.name}.operand{i}"
                    tensors[names[i]] = ir.Tensor(names[i], tensors[name].shape, out)
                    change = ir.Lookup(names[i], (name,), names[i], node.requantise, out.range)
                    nodes.append(replace(change, arithmetic=node.arithmetic))
            node = replace(node, inputs=tuple(names))
        nodes.append(node)
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def fold_clamps(graph: ir.Graph) -> ir.Graph:
    """Folds a stand-alone clamp into the layer before it, where nothing else reads that layer's output."""
    nodes: list[ir.AnyNode] = []
    for node in graph.nodes:
        before = nodes[-1] if nodes else None
        readers = sum(node.inputs[0] in other.inputs for other in graph.nodes)
        foldable = before is not None and before.output == node.inputs[0] != graph.output.tensor and readers == 1
        if isinstance(node, ir.Clamp) and before is not None and foldable:
            low, high = (min(max(code, node.clamp[0]), node.clamp[1]) for code in before.clamp)
            name = f"{before.name}+{node.name}"
            nodes[-1] = replace(before, name=name, output=node.output, clamp=(low, high))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _tensor(tensor: ir.Tensor) -> QTensor:
    shift = -128 if tensor.quant.dtype == "uint8" else 0
    return QTensor(tensor.name, tensor.shape, tensor.quant.zero_point + shift, shift, tensor.quant)


def _layer(graph: ir.Graph, node: ir.AnyNode, runtime: str, tensors: dict[str, QTensor], allow: bool) -> QLayer:
    if isinstance(node, ir.Conv2d) and node.joined is not None:
        return join.layer(node, tensors[node.joined], graph.tensors[node.inputs[0]], tensors)
    if isinstance(node, (ir.Conv2d, ir.ConvTranspose2d, ir.Linear)):
        return _weighted(graph, node, runtime, tensors, allow)
    if isinstance(node, ir.AvgPool2d):
        return _average(node, runtime, tensors)
    if isinstance(node, ir.Add):
        return _add(node, runtime, tensors)
    if isinstance(node, ir.Lookup):
        return _lookup(node, runtime, tensors)
    if isinstance(node, ir.Concat):
        layer = _unit_layer(
            node, "concat", tensors, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), False, _same(node, tensors[node.output])
        )
        return replace(layer, operands=node.inputs, axis=node.axis, groups=1)
    return _maximum(node, tensors)


def _weighted(
    graph: ir.Graph,
    node: ir.Conv2d | ir.ConvTranspose2d | ir.Linear,
    runtime: str,
    tensors: dict[str, QTensor],
    allow: bool,
) -> QLayer:
    source, target = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    stored = node.weights
    weights = (stored.codes.astype(np.int32) - stored.zero_point.reshape(-1, 1, 1, 1)).astype(np.int16)
    low, high = source.quant.range
    codes = low - source.quant.zero_point, high - source.quant.zero_point
    acc_lo, acc_hi = fit.accumulator_bounds(weights, *codes)
    if isinstance(node, ir.ConvTranspose2d):
        sizes = ir.transposed_shape(source.shape, weights.shape[1:3], node.stride, (0, 0, 0, 0), node.dilation)
        if min(node.stride[0], sizes[0]) * min(node.stride[1], sizes[1]) > MOST_JOBS:
            raise IntactError(f"stride {node.stride} makes more than {MOST_JOBS} jobs; smaller strides are accepted")
        acc_lo, acc_hi = _transposed_bounds(weights, node, *codes)
    curve = runtimes.layer_curve(
        runtime,
        runtimes.Layer(
            sx=source.quant.scale,
            sw=stored.scale.astype(np.float32),
            sy=target.quant.scale,
            zy=target.quant.zero_point,
            lo=node.clamp[0],
            hi=node.clamp[1],
            bias=stored.bias,
            bias_is_integer=stored.bias_is_integer,
            per_channel=stored.per_channel,
            op=_kernel(node, source),
            delegated=not isinstance(node, ir.ConvTranspose2d) or node.delegated,
            in_float=node.in_float,
            dtype=source.quant.dtype,
            wide=stored.scale.astype(np.float64),
        ),
    )
    served = overflow.domain(acc_lo, acc_hi, curve.added, (low, high), runtime, allow)
    result = fit.fit(curve, served.lo, served.hi, tensors[target.name].shift)
    out_h, out_w, out = target.shape
    conv = node if isinstance(node, (ir.Conv2d, ir.ConvTranspose2d)) else None
    windows = out_h * out_w * weights.shape[1] * weights.shape[2]
    if isinstance(node, ir.ConvTranspose2d):
        windows = _met(node, 0, out_h) * _met(node, 1, out_w)
    return QLayer(
        name=node.name,
        op="conv_transpose2d" if isinstance(node, ir.ConvTranspose2d) else "conv2d" if conv else "linear",
        input=source.name,
        output=target.name,
        kernel=(weights.shape[1], weights.shape[2]),
        stride=conv.stride if conv else (1, 1),
        padding=conv.padding if conv else (0, 0, 0, 0),
        dilation=conv.dilation if conv else (1, 1),
        groups=conv.groups if conv else 1,
        weights=weights,
        maximum=False,
        requant=result.requant,
        macs=windows * out * weights.shape[3],
        differing=tuple(result.differing),
        wraps=served.wraps,
        facts={
            "sum_range": _reach(acc_lo + result.requant.bias, acc_hi + result.requant.bias),
            "weight_scales": stored.scale,
            "weight_zero_points": stored.zero_point,
            "weight_codes": stored.codes,
            "bias": stored.bias,
            "bias_is_integer": stored.bias_is_integer,
            "acc_lo": acc_lo,
            "acc_hi": acc_hi,
            "exceptions": result.exceptions,
        },
    )


def _transposed_bounds(
    weights: npt.NDArray[np.int16], node: ir.ConvTranspose2d, x_low: int, x_high: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Eq. 25 over the taps that meet in one output pixel: those whose distance is a multiple of the stride."""
    steps = [stride // math.gcd(stride, dilation) for stride, dilation in zip(node.stride, node.dilation, strict=True)]
    bounds = [
        fit.accumulator_bounds(weights[:, y :: steps[0], x :: steps[1]], x_low, x_high)
        for y in range(min(steps[0], weights.shape[1]))
        for x in range(min(steps[1], weights.shape[2]))
    ]
    return np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)


def _met(node: ir.ConvTranspose2d, axis: int, size: int) -> int:
    """Taps that a transposed convolution's output positions meet along one axis, all `size` of them together."""
    taps = np.arange(node.weights.codes.shape[1 + axis]) * node.dilation[axis] - node.padding[2 * axis]
    first = taps % node.stride[axis]  # the first position that would meet the tap, were it on the map
    return int(np.maximum(0, (size - 1 - first) // node.stride[axis] + 1).sum())


def _kernel(
    node: ir.Conv2d | ir.ConvTranspose2d | ir.Linear, source: ir.Tensor
) -> Literal["conv", "depthwise", "linear", "transposed"]:
    """Which of a runtime's kernels computes a weighted layer."""
    if isinstance(node, ir.Linear):
        return "linear"
    if isinstance(node, ir.ConvTranspose2d):
        return "transposed"
    return "depthwise" if node.groups == source.shape[2] and node.weights.codes.shape[3] == 1 else "conv"


def _average(node: ir.AvgPool2d, runtime: str, tensors: dict[str, QTensor]) -> QLayer:
    source, target = tensors[node.inputs[0]], tensors[node.output]
    if runtime == "qnnpack" and node.arithmetic.startswith("torch"):  # it divides by the kernel's size, come what may
        node = replace(node, count_include_pad=True, divisor=None)
    whole = node.kernel[0] * node.kernel[1]
    if not any(node.padding) or node.count_include_pad or node.divisor is not None:
        result = _average_fit(node, runtime, source, target, whole)
        layer = _unit_layer(node, "avg_pool2d", tensors, node.kernel, node.stride, node.padding, (1, 1), False, result)
        return _with_range(layer, source, [(whole, result.requant)])
    # the divisor is the number of taps on the map: constants of its own for each
    rows = _stretches(source.shape[0], target.shape[0], node.kernel[0], node.stride[0], node.padding[0])
    columns = _stretches(source.shape[1], target.shape[1], node.kernel[1], node.stride[1], node.padding[2])
    fits = {
        n: _average_fit(node, runtime, source, target, n)
        for n in sorted({a * b for _, _, a in rows for _, _, b in columns})
    }
    areas = tuple(
        Area(y, x, height, width, a * b, fits[a * b].requant) for y, height, a in rows for x, width, b in columns
    )
    most = fits[max(fits)]
    differing = [
        np.unique(np.concatenate(part)) for part in zip(*(one.differing for one in fits.values()), strict=True)
    ]
    result = fit.FitResult(most.requant, differing, sum(one.exceptions for one in fits.values()), 0)
    layer = _unit_layer(node, "avg_pool2d", tensors, node.kernel, node.stride, node.padding, (1, 1), False, result)
    return _with_range(replace(layer, areas=areas), source, [(area.divisor, area.requant) for area in areas])


def _stretches(size: int, outputs: int, kernel: int, stride: int, before: int) -> list[tuple[int, int, int]]:
    """Along one axis: first output, how many, and the taps on the map that each of their windows has."""
    found: list[tuple[int, int, int]] = []
    for i in range(outputs):
        first = i * stride - before
        taps = min(first + kernel, size) - max(first, 0)
        if found and found[-1][2] == taps:
            found[-1] = (found[-1][0], found[-1][1] + 1, taps)
        else:
            found.append((i, 1, taps))
    return found


def _average_fit(node: ir.AvgPool2d, runtime: str, source: QTensor, target: QTensor, taps: int) -> fit.FitResult:
    """taps: how many add to the sum, and the divisor where the node has none."""
    channels = target.shape[2]
    curve = runtimes.average_curve(
        node.arithmetic, runtime, taps, node.divisor or taps, channels, source.quant, target.quant, node.clamp
    )
    low, high = source.quant.range
    ones = np.ones((channels, 1), np.int64)
    acc_lo, acc_hi = fit.accumulator_bounds(ones, low - source.quant.zero_point, high - source.quant.zero_point)
    served = overflow.domain(taps * acc_lo, taps * acc_hi, None, (low, high), runtime, False)
    return fit.fit(curve, served.lo, served.hi, target.shift)


def _with_range(layer: QLayer, source: QTensor, parts: list[tuple[int, Requant]]) -> QLayer:
    """Says how far an average's sums reach. parts: codes that are added up, and the constants that take their sum."""
    low, high = (code - source.quant.zero_point for code in source.quant.range)
    ends = [(taps * min(low, 0) + rq.bias, taps * max(high, 0) + rq.bias) for taps, rq in parts]
    low_ends, high_ends = (np.concatenate(side) for side in zip(*ends, strict=True))
    return replace(layer, facts=layer.facts | {"sum_range": _reach(low_ends, high_ends)})


def _reach(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The lowest and highest of many ranges."""
    return int(low.min()), int(high.max())


def _maximum(node: ir.MaxPool2d | ir.Clamp, tensors: dict[str, QTensor]) -> QLayer:
    result = _same(node, tensors[node.output])
    if isinstance(node, ir.Clamp):
        return _unit_layer(node, "clamp", tensors, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), True, result)
    return _unit_layer(node, "max_pool2d", tensors, node.kernel, node.stride, node.padding, node.dilation, True, result)


def _same(node: ir.AnyNode, target: QTensor) -> fit.FitResult:
    """Constants that keep every code as it is, but for the node's clamp."""
    channels = target.shape[2]
    zeros = np.zeros(channels, np.int64)
    # the code itself: m = 2^24 and no shift put v before the point of Eq. 4, no offset
    requant = Requant(
        bias=zeros,
        m=np.full(channels, 1 << 24, np.int64),
        s=np.full(channels, 24, np.int64),
        r=zeros,
        d=zeros,
        even=zeros,
        exc_v=zeros,
        exc_d=zeros,
        z=0,
        lo=node.clamp[0] + target.shift,
        hi=node.clamp[1] + target.shift,
    )
    return fit.FitResult(requant, [np.zeros(0, np.int64)] * channels, 0, 0)


def _lookup(node: ir.Lookup, runtime: str, tensors: dict[str, QTensor]) -> QLayer:
    source, target = tensors[node.inputs[0]], tensors[node.output]
    first, *others = runtimes.parts(node, runtime, target.shape)
    table = runtimes.lookup_table(node, source.quant, target.quant, first.kernel) + target.shift
    low, high = source.quant.range
    differing = [np.zeros(0, np.int64)] * target.shape[2]
    for part in others:
        other = runtimes.lookup_table(node, source.quant, target.quant, part.kernel) + target.shift
        for channel in part.channels:
            differing[channel] = np.flatnonzero(other != table) - 128
    layer = _unit_layer(
        node,
        "lookup",
        tensors,
        (1, 1),
        (1, 1),
        (0, 0, 0, 0),
        (1, 1),
        True,
        _same(replace(node, clamp=(low, high)), source),
    )
    return replace(layer, table=table.astype(np.int8), differing=tuple(differing))


def _fuse_lookups(layers: list[QLayer], output: str) -> list[QLayer]:
    """Puts a table behind the layer that gives its input, where nothing else reads that and the layer has no table."""
    found: list[QLayer] = []
    for layer in layers:
        before = next((i for i, other in enumerate(found) if other.output == layer.input), None)
        readers = sum(layer.input in other.inputs for other in layers)
        if layer.op == "lookup" and before is not None and readers == 1 and layer.input != output:
            first = found[before]
            if first.table is None and not first.operands:
                name = f"{first.name}+{layer.name}"
                both = zip(first.differing, layer.differing, strict=True)
                differing = tuple(own if len(own) else table for own, table in both)
                found[before] = replace(
                    first,
                    name=name,
                    output=layer.output,
                    table=layer.table,
                    rounded=first.output,
                    differing=differing,
                )
                continue
        found.append(layer)
    return found


def _add(node: ir.Add, runtime: str, tensors: dict[str, QTensor]) -> QLayer:
    (a, b), out = [tensors[name] for name in node.inputs], tensors[node.output]
    first, *others = runtimes.parts(node, runtime, out.shape)
    table = runtimes.add_table(a.quant, b.quant, out.quant, first.kernel, node.clamp, node.sign) + out.shift
    codes = np.arange(-128, 128)
    scales = float(a.quant.scale), float(b.quant.scale), float(out.quant.scale)
    sides, z = (codes - a.zero_point, codes - b.zero_point), out.zero_point
    found = fit_add.fit_add(table, *sides, scales, z, node.sign, (z, out.shift))
    channels = out.shape[2]
    requant = fit_add.spread(found.requant, channels)
    differing = [found.differing] * channels
    v = sides[0][:, None] * found.factors[0] + sides[1][None, :] * found.factors[1]
    for part in others:
        other = runtimes.add_table(a.quant, b.quant, out.quant, part.kernel, node.clamp, node.sign) + out.shift
        for channel in part.channels:
            differing[channel] = np.union1d(found.differing, v[other != table])
    result = fit.FitResult(requant, differing, 0, 0)
    layer = _unit_layer(node, "add", tensors, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), False, result)
    sums = (codes - a.zero_point)[:, None] * found.factors[0] + (codes - b.zero_point) * found.factors[1]
    facts = layer.facts | {"sum_range": _reach(sums, sums)}
    return replace(layer, second=node.inputs[1], factors=found.factors, facts=facts)


def _unit_layer(
    node: ir.AnyNode,
    op: str,
    tensors: dict[str, QTensor],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    maximum: bool,
    result: fit.FitResult,
) -> QLayer:
    return QLayer(
        name=node.name,
        op=op,
        input=node.inputs[0],
        output=node.output,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=tensors[node.output].shape[2],
        weights=None,
        maximum=maximum,
        requant=result.requant,
        macs=0,
        differing=tuple(result.differing),
        facts={"exceptions": result.exceptions},
    )


def input_codes(
    graph_input: QTensor, values: npt.NDArray[np.generic], rule: str, source: str | None = None
) -> npt.NDArray[np.int64]:
    """Real values or codes in the source's own layout -> the source's codes, int64 of the same shape.

    Integer arrays are codes and must lie in the tensor's range; floats are real values, taken as float32 and rounded as
    the source's own quantiser does. Raises IntactError on NaN, on codes out of range and on other dtypes, naming the
    file `source`.
    """
    try:
        return _input_codes(graph_input, values, rule)
    except IntactError as error:
        raise IntactError(f"{source}: {error}" if source else str(error)) from None


def _input_codes(graph_input: QTensor, values: npt.NDArray[np.generic], rule: str) -> npt.NDArray[np.int64]:
    quant = graph_input.quant
    low, high = quant.range
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and saturates
            real = values.astype(np.float32)
        codes = runtimes.quantise_input(real, quant.scale, quant.zero_point, quant.dtype, rule, quant.limits)
        return np.clip(codes, low, high)
    if values.dtype.kind not in "iu":
        raise IntactError(f"inputs have dtype {values.dtype}; give integers (codes) or floats (real values)")
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        raise IntactError(f"input codes {values.min()}..{values.max()} lie outside {quant.dtype}'s {low}..{high}")
    return values.astype(np.int64)
