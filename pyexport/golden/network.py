"""Runs a quantised network in NumPy: every tensor's codes, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport.arith import requantise
from pyexport.golden.accumulate import accumulate, add
from pyexport.qlayers import Network, QLayer

Codes = npt.NDArray[np.int8]
WINDOW_BYTES = 64 << 20  # the batch is cut so that one layer's windows stay below this


def run(network: Network, x: Codes, keep: bool = True) -> dict[str, Codes]:
    """On-chip input codes (N, H, W, C) -> every tensor's on-chip codes, by name.

    keep=False returns the output tensor alone and frees the others as it goes.
    """
    parts = [_run(network, x[a : a + step], keep) for step in [_batch(network)] for a in range(0, len(x), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rounded(acc: npt.NDArray[np.int64], layer: QLayer) -> npt.NDArray[np.int64]:
    """Accumulators (N, H, W, C) -> codes, before a table."""
    if not layer.areas:
        return requantise(acc, layer.requant, layer.wraps)
    codes = np.zeros_like(acc)
    for area in layer.areas:
        part = np.s_[:, area.y : area.y + area.height, area.x : area.x + area.width]
        codes[part] = requantise(acc[part], area.requant)
    return codes


def _batch(network: Network) -> int:
    largest = 1
    for layer in network.layers:
        height, width, _ = network.tensors[layer.output].shape
        taps = layer.kernel[0] * layer.kernel[1] * network.tensors[layer.input].shape[2]
        largest = max(largest, height * width * taps * 8)
    return max(1, WINDOW_BYTES // largest)


def _run(network: Network, x: Codes, keep: bool) -> dict[str, Codes]:
    codes = {network.input.tensor: x}
    last_read = {name: i for i, layer in enumerate(network.layers) for name in layer.inputs}
    for i, layer in enumerate(network.layers):
        sources = [network.tensors[name] for name in layer.inputs]
        if layer.second is not None:
            acc = add(codes[layer.input], codes[layer.second], layer, sources[0], sources[1])
        elif layer.operands:
            acc = np.concatenate([codes[name] for name in layer.operands], axis=1 + layer.axis).astype(np.int64)
        else:
            acc = accumulate(codes[layer.input], layer, sources[0])
        result = rounded(acc, layer)
        codes[layer.output] = result.astype(np.int8) if layer.table is None else layer.table[result + 128]
        for name in layer.inputs:
            if not keep and last_read[name] == i and name != network.output.tensor:
                codes.pop(name, None)
    return codes if keep else {network.output.tensor: codes[network.output.tensor]}
