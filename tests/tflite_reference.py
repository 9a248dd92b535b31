"""A `.tflite` model in NumPy: an ir.Graph evaluated with a runtime's formulas, and the comparison with the runtime.

Slow and plain on purpose, and independent of the golden model and the fit. As a command it compares every output code:

    python -m tests.tflite_reference [--inputs N] [--runtime NAME] MODEL.tflite ...
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyexport import ir, readers, runtimes
from pyexport.readers import tflite_schema

Codes = npt.NDArray[np.int64]
ROOT = Path(__file__).resolve().parent.parent
MATCHES = ("tflite-ref", "tflite-xnnpack")
BATCH_BYTES = 256 << 20
NETWORKS = {  # file: what it is
    "pretrainedResnet_quant.tflite": "ResNet-8",
    "kws_ref_model.tflite": "DS-CNN",
    "vww_96_int8.tflite": "MobileNetV1 x0.25",
    "ad01_int8.tflite": "autoencoder",
    "mobilenet_v2_quantized_1x3x224x224.tflite": "MobileNetV2",
}


def models_folder() -> Path:
    """Where the published networks lie: the variable INTACT_MODELS, or `shared/models` beside the checkout."""
    given = os.environ.get("INTACT_MODELS")
    return Path(given) if given else ROOT.parent / "shared" / "models"


# --- the graph in NumPy --------------------------------------------------------------------------------------------


def evaluate(graph: ir.Graph, inputs: Codes, runtime: str) -> dict[str, Codes]:
    """Input codes (N, *graph.input.shape) -> every tensor's codes by name, and "" for the model's own output."""
    codes = {graph.input.tensor: graph.input.to_hwc(inputs).astype(np.int64)}
    for node in graph.nodes:
        codes[node.output] = layer(graph, node, [codes[name] for name in node.inputs], runtime)
    result = graph.output.from_hwc(codes[graph.output.tensor]).astype(np.int64)
    if graph.tail is not None:
        result = runtimes.softmax_codes(result, graph.tail.source, graph.tail.target, graph.tail.beta, runtime)
    return codes | {"": result}


def layer(graph: ir.Graph, node: ir.AnyNode, inputs: list[Codes], runtime: str) -> Codes:
    """One layer's output codes (N, H, W, C)."""
    x, target = inputs[0], graph.tensors[node.output].quant
    quants = [graph.tensors[name].quant for name in node.inputs]
    if isinstance(node, (ir.Conv2d, ir.Linear)):
        return _weighted(graph, node, x, runtime)
    if isinstance(node, ir.MaxPool2d):
        taps = _windows(x, node.kernel, node.stride, node.padding, node.dilation, -1000)
        return np.clip(taps.max(axis=(3, 4)), *node.clamp)
    if isinstance(node, ir.AvgPool2d):
        return _average(node, x, quants[0], target, runtime)
    if isinstance(node, ir.Add):
        low_a, low_b = (ir.CODE_RANGE[quant.dtype][0] for quant in quants)
        table = runtimes.add_table(quants[0], quants[1], target, runtime, node.clamp, node.sign)
        return np.asarray(table[x - low_a, inputs[1] - low_b])
    if isinstance(node, ir.Lookup):
        return np.asarray(
            runtimes.lookup_table(node, quants[0], target, runtime)[x - ir.CODE_RANGE[quants[0].dtype][0]]
        )
    if isinstance(node, ir.Concat):
        return np.clip(np.concatenate(inputs, axis=node.axis + 1), *node.clamp)
    return np.clip(x, *node.clamp)


def _windows(
    x: Codes, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int],
    dilation: tuple[int, int], fill: int,
) -> Codes:  # fmt: skip
    """(N, H, W, C) -> (N, out H, out W, kh, kw, C)."""
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return np.asarray(view.transpose(0, 1, 2, 4, 5, 3))


def _weighted(graph: ir.Graph, node: ir.Conv2d | ir.Linear, x: Codes, runtime: str) -> Codes:
    source, target, weights = graph.tensors[node.inputs[0]], graph.tensors[node.output], node.weights
    conv = node if isinstance(node, ir.Conv2d) else None
    depthwise = conv is not None and conv.groups == source.shape[2] and weights.codes.shape[3] == 1
    curve = runtimes.layer_curve(
        runtime,
        runtimes.Layer(
            source.quant.scale, weights.scale.astype(np.float32), target.quant.scale, target.quant.zero_point,
            *node.clamp, weights.bias, weights.bias_is_integer, weights.per_channel,
            "depthwise" if depthwise else "conv" if conv else "linear", source.quant.dtype,
        ),
    )  # fmt: skip
    w = weights.codes.astype(np.float64) - weights.zero_point.reshape(-1, 1, 1, 1)
    centred = (x - source.quant.zero_point).astype(np.float64)
    kernel = w.shape[1], w.shape[2]
    if conv is None:
        acc = centred.reshape(len(x), 1, 1, -1) @ w.reshape(len(w), -1).T
    else:
        taps = _windows(centred, kernel, conv.stride, conv.padding, conv.dilation, 0)  # type: ignore[arg-type]
        groups, per_group, each = conv.groups, w.shape[3], len(w) // conv.groups
        if groups == 1:
            acc = taps.reshape(*taps.shape[:3], -1) @ w.reshape(len(w), -1).T
        else:
            split = taps.reshape(*taps.shape[:5], groups, per_group)
            acc = np.zeros((*taps.shape[:3], groups, each))
            for i, j in np.ndindex(*kernel):
                acc += np.einsum("nhwgi,goi->nhwgo", split[:, :, :, i, j], w[:, i, j].reshape(groups, each, per_group))
            acc = acc.reshape(*taps.shape[:3], -1)
    return curve(acc.astype(np.int64), np.arange(len(w)))


def _average(node: ir.AvgPool2d, x: Codes, source: ir.Quant, target: ir.Quant, runtime: str) -> Codes:
    """Where padding does not count, each position's divisor is the number of its taps on the map."""
    low, high = node.clamp
    sums = _windows(x - source.zero_point, node.kernel, node.stride, node.padding, (1, 1), 0).sum(axis=(3, 4))
    inside = _windows(np.ones_like(x[:1, :, :, :1]), node.kernel, node.stride, node.padding, (1, 1), 0)
    counts = inside.sum(axis=(3, 4))[0, :, :, 0]
    if node.count_include_pad:
        counts = np.full_like(counts, node.kernel[0] * node.kernel[1])
    result = np.zeros_like(sums)
    channels = np.arange(x.shape[3])
    for n in np.unique(counts):
        if node.arithmetic == "tflite-mean":
            curve = runtimes.mean_curve(runtime, int(n), len(channels), source, target, node.clamp)
        else:
            curve = runtimes.pool_curve(node.arithmetic, int(n), len(channels), target.zero_point, low, high)
        result[:, counts == n] = curve(sums[:, counts == n], channels)
    return result


# --- the runtime ---------------------------------------------------------------------------------------------------


def run_litert(model: bytes, inputs: list[npt.NDArray[Any]], runtime: str, real: bool = False) -> npt.NDArray[Any]:
    """The model's output in ai-edge-litert, inputs one by one in the order of the model's tensors: (N, ...).

    inputs: for each model input an array (N, ...) without the batch of 1. real: the output holds real numbers.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if runtime == "tflite-ref" else OpResolverType.AUTO
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    places = sorted(interpreter.get_input_details(), key=lambda detail: int(detail["index"]))
    output = interpreter.get_output_details()[0]["index"]
    results = []
    for values in zip(*inputs, strict=True):
        for place, value in zip(places, values, strict=True):
            interpreter.set_tensor(place["index"], value[np.newaxis].astype(place["dtype"]))
        interpreter.invoke()
        results.append(interpreter.get_tensor(output)[0])
    return np.stack(results).astype(np.float64 if real else np.int64)


def stimuli(shape: tuple[int, ...], quant: ir.Quant, count: int, seed: int = 0) -> Codes:
    """(count, *shape): all lowest, all highest, all zero points, ramps, checkers, stripes, single points, low contrast;
    the rest random over the full range.
    """
    rng = np.random.default_rng(seed)
    low, high = ir.CODE_RANGE[quant.dtype]
    size = int(np.prod(shape))
    place = np.arange(size)
    base = [
        np.full(size, low), np.full(size, high), np.full(size, quant.zero_point), low + place % 256, high - place % 256,
        np.where(place % 2, low, high), np.where(place // shape[-1] % 2, low, high),
        np.where(place < size // 2, low, high), low + place * 255 // max(size - 1, 1),
    ]  # fmt: skip
    for _ in range(4):
        point = np.full(size, quant.zero_point)
        point[rng.integers(size)] = high
        base.append(point)
    for spread in (1, 2, 4, 8, 16, 32):
        centre = rng.integers(low, high + 1)
        base.append(np.clip(centre + rng.integers(-spread, spread + 1, size), low, high))
    fill = [rng.integers(low, high + 1, size) for _ in range(max(count - len(base), 0))]
    return np.stack([*base, *fill][:count]).reshape(count, *shape).astype(np.int64)


@dataclass(frozen=True)
class Comparison:
    """inputs, codes compared, codes differing."""

    inputs: int
    compared: int
    differing: int


def compare(path: Path, runtime: str, count: int, progress: bool = False) -> Comparison:
    """Every output code of `count` inputs: formulas against the runtime."""
    graph, model = readers.read(path), path.read_bytes()
    inputs = stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, count)
    differing = compared = 0
    for part in _parts(graph, inputs):
        expected = run_litert(model, [part], runtime)
        given = evaluate(graph, part, runtime)[""].reshape(expected.shape)
        differing += int((given != expected).sum())
        compared += expected.size
        if progress:
            print(f"\r{path.name}: {compared} codes", end="", flush=True)
    return Comparison(count, compared, differing)


def compare_tensors(path: Path, count: int) -> Comparison:
    """Every code of every layer's output, formulas of tflite-ref against the reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph, data = readers.read(path), path.read_bytes()
    operators = tflite_schema.Model(str(path), data).operators
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]
    differing = compared = 0
    for value in stimuli(graph.input.shape, graph.tensors[graph.input.tensor].quant, count):
        interpreter.set_tensor(place["index"], value[np.newaxis].astype(place["dtype"]))
        interpreter.invoke()
        codes = evaluate(graph, value[np.newaxis], "tflite-ref")
        for node in graph.nodes:
            index = operators[int(node.name.rpartition("_")[2])].outputs[0]
            expected = interpreter.get_tensor(index).astype(np.int64).ravel()
            differing += int((codes[node.output].ravel() != expected).sum())
            compared += expected.size
    return Comparison(count, compared, differing)


def _parts(graph: ir.Graph, inputs: Codes) -> Iterator[Codes]:
    most = max(int(np.prod(tensor.shape)) for tensor in graph.tensors.values()) * 8 * 9
    step = max(1, BATCH_BYTES // most)
    yield from (inputs[a : a + step] for a in range(0, len(inputs), step))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, help="default: the published networks")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--runtime", choices=MATCHES, action="append")
    args: Any = parser.parse_args(argv)
    failed = 0
    for path in args.models or [models_folder() / name for name in NETWORKS]:
        for runtime in args.runtime or MATCHES:
            result = compare(path, runtime, args.inputs, progress=True)
            print(
                f"\r{path.name} {runtime}: {result.inputs} inputs, {result.compared} codes, {result.differing} differ"
            )
            failed += result.differing
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
