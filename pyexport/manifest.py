"""manifest.json: every integer that will sit in the hardware, and where it comes from (docs/formats.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pyexport import isa
from pyexport.fit_add import digits
from pyexport.ir import Graph, Port, Softmax
from pyexport.lower import Lowered
from pyexport.lower_layer import folded_bias
from pyexport.phases import phases
from pyexport.qlayers import Network, QLayer, QTensor

VERSION = 1
LISTED = 16  # differing accumulators that are listed per channel


def manifest(
    graph: Graph, network: Network, lowered: Lowered, cycles: list[int], source: str, sha256: str
) -> dict[str, Any]:
    """Plain data for JSON. cycles: predicted, per layer."""
    config = lowered.config
    return {
        "version": VERSION,
        "format_version": isa.FORMAT_VERSION,
        "source": {"file": source, "sha256": sha256, "kind": graph.source, "notes": list(graph.notes)},
        "match": network.match,
        "array": config.array,
        "hardware": config.verilog_parameters(),
        "macs": network.macs,
        "predicted_cycles": sum(cycles),
        "proved_equal": all(not any(len(d) for d in layer.differing) for layer in network.layers),
        "input": {
            **_port(network.input, network, lowered),
            "code_range": list(network.tensors[network.input.tensor].quant.range),
            "real_values": network.float_input,
        },
        "output": _port(network.output, network, lowered),
        "host_tail": _tail(network.tail),
        "overlap": bool(lowered.header["free_job"]),
        "memory": {
            "activation_words": lowered.plan.words,
            "activation_lower_bound": lowered.plan.lower_bound,
            "weight_words": lowered.header["wgt_words"],
            "parameter_words": lowered.header["prm_words"],
            "program_words": len(lowered.program),
            "tables": len(lowered.tables),
            "bytes": {
                "activations": lowered.plan.words * config.rows,
                "weights": lowered.header["wgt_words"] * config.rows * config.cols,
                "parameters": lowered.header["prm_words"] * config.prm_bits // 8,
                "program": len(lowered.program) * 8,
                "tables": len(lowered.tables) * 256 * config.lanes,
            },
            "files": {"program": "program.mem", "weights": "weights.mem", "parameters": "params.mem"}
            | ({"tables": "tables.mem"} if config.tables else {}),
        },
        "layers": [
            _layer(i, layer, network, lowered, predicted)
            for i, (layer, predicted) in enumerate(zip(network.layers, cycles, strict=True))
        ],
        "program": [{"layer": network.layers[job.layer].name, "fields": job.fields} for job in lowered.jobs],
    }


def _tail(tail: Softmax | None) -> dict[str, Any] | None:
    """What the host computes from the output's codes."""
    if tail is None:
        return None
    quant = tail.target
    target = {"dtype": quant.dtype, "scale": float(quant.scale), "zero_point": quant.zero_point}
    return {"name": tail.name, "op": "softmax", "beta": float(tail.beta), **target}


def _port(port: Port, network: Network, lowered: Lowered) -> dict[str, Any]:
    placement = lowered.plan.placements[port.tensor]
    patches = placement.patches
    return {
        **_tensor(network.tensors[port.tensor]),
        "source_shape": list(port.shape),
        "source_axes_of_hwc": list(port.axes),
        "base": placement.base,
        "words": placement.words,
        "row_words": placement.row_words,
        "pixel_words": placement.pixel_words,
        "patches": {
            "shape": list(patches.shape),
            "kernel": list(patches.kernel),
            "stride": list(patches.stride),
            "padding_top_bottom_left_right": list(patches.padding),
            "dilation": list(patches.dilation),
        }
        if patches
        else None,
    }


def _tensor(tensor: QTensor) -> dict[str, Any]:
    return {
        "tensor": tensor.name,
        "shape_hwc": list(tensor.shape),
        "dtype": tensor.quant.dtype,
        "scale": float(tensor.quant.scale),
        "zero_point": tensor.quant.zero_point,
        "code_shift_on_chip": tensor.shift,
    }


def _constants(layer: QLayer, zero_points: tuple[int, int]) -> dict[str, Any]:
    rq = layer.requant
    return {
        "multiplier": rq.m.tolist(),
        "shift": rq.s.tolist(),
        "bias": rq.bias.tolist(),
        "bias_folded": folded_bias(layer, zero_points).tolist(),
        "rounding": {
            "offset": rq.r.tolist(),
            "offset_negative": rq.d.tolist(),
            "half_even": rq.even.tolist(),
            "exception_value": rq.exc_v.tolist(),
            "exception_correction": rq.exc_d.tolist(),
        },
    }


def _layer(index: int, layer: QLayer, network: Network, lowered: Lowered, predicted: int) -> dict[str, Any]:
    rq = layer.requant
    source, second = network.tensors[layer.input], network.tensors[layer.second or layer.input]
    target = lowered.plan.placements[layer.output]
    entry: dict[str, Any] = {
        "name": layer.name,
        "op": layer.op,
        "input": _tensor(source),
        "output": _tensor(network.tensors[layer.output]),
        "kernel": list(layer.kernel),
        "stride": list(layer.stride),
        "padding_top_bottom_left_right": list(layer.padding),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
        "macs": layer.macs,
        "predicted_cycles": predicted,
        "weight_passes": 2 if layer.wide else len(digits(layer.factors)[0]) if layer.second else layer.digits,
        **_constants(layer, (source.zero_point, second.zero_point)),
        "zero_point": rq.z,
        "clamp": [rq.lo, rq.hi],
        "proved_equal": not any(len(values) for values in layer.differing),
        "differing_accumulators": {
            str(channel): {"count": len(values), "values": values[:LISTED].tolist()}
            for channel, values in enumerate(layer.differing)
            if len(values)
        },
        "memory": {**lowered.layer_ranges[index], "output": [target.base, target.base + target.words]},
    }
    if "sum_range" in layer.facts:
        entry["sum_range"] = list(layer.facts["sum_range"])  # type: ignore[call-overload]
        entry["sums_wrap"] = layer.wraps
    if layer.areas:
        entry["areas"] = [
            {"y": area.y, "x": area.x, "height": area.height, "width": area.width, "divisor": area.divisor}
            | _constants(replace(layer, requant=area.requant), (source.zero_point, second.zero_point))
            for area in layer.areas
        ]
    if layer.transposed:  # each phase has taps of its own, and so a folded bias
        del entry["bias_folded"]
        entry["phases"] = [
            {"y": pixels.y, "x": pixels.x, "height": pixels.height, "width": pixels.width, "kernel": list(part.kernel)}
            | {"bias_folded": folded_bias(part, (source.zero_point, 0)).tolist()}
            for part, pixels in phases(layer, network.tensors[layer.output].shape)
        ]
    if layer.table is not None:
        entry["table"] = layer.table.tolist()
    if layer.rounded is not None:
        entry["before_table"] = _tensor(network.tensors[layer.rounded])
    if layer.operands:
        entry["inputs"] = [_tensor(network.tensors[name]) for name in layer.operands]
        entry["axis_of_hwc"] = layer.axis
    if layer.second is not None:
        entry["second_input"] = _tensor(second)
        entry["factors"] = list(layer.factors)
    if "joined" in layer.facts:
        joined: Any = layer.facts["joined"]
        wrong, pairs = joined["pairs"]
        entry["added_before_rounding"] = _tensor(network.tensors[joined["tensor"]]) | {
            "factors": joined["factors"],
            "pairs": pairs,
            "pairs_differing": wrong,
        }
    if layer.weights is not None:
        entry["weights"] = {
            "shape_out_kh_kw_in": list(layer.weights.shape),
            "scales": np.asarray(layer.facts["weight_scales"]).tolist(),
            "zero_points": np.asarray(layer.facts["weight_zero_points"]).tolist(),
            "range": [int(layer.weights.min()), int(layer.weights.max())],
            "accumulator_range": [
                np.asarray(layer.facts["acc_lo"]).tolist(),
                np.asarray(layer.facts["acc_hi"]).tolist(),
            ],
        }
    return entry
