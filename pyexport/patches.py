"""Input frames as patches: where the first layer has few channels, the host lays out its windows, packed.

A pixel of 3 channels would fill 3 of a word's lanes. So the frame holds, for each output pixel of the first layer, its
window's codes one after another (ky, kx, channel; the zero point outside the map), padded to whole words. The layer
then is a 1x1 convolution of that many channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyexport.hwconfig import HwConfig
from pyexport.ir import window_shape
from pyexport.qlayers import Network, QLayer

MOST_GROWTH = 4  # a frame of patches takes at most so many times the words of a frame of pixels


@dataclass(frozen=True)
class Patches:
    """The windows of one layer over the input. shape: (out H, out W, codes of a window).  fill: outside the map."""

    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    fill: int

    def gather(self, codes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """On-chip codes (N, H, W, C) -> (N, out H, out W, kh * kw * C)."""
        top, bottom, left, right = self.padding
        padded = np.pad(codes, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=self.fill)
        taps = []
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                y, x = ky * self.dilation[0], kx * self.dilation[1]
                rows = slice(y, y + (self.shape[0] - 1) * self.stride[0] + 1, self.stride[0])
                columns = slice(x, x + (self.shape[1] - 1) * self.stride[1] + 1, self.stride[1])
                taps.append(padded[:, rows, columns])
        return np.concatenate(taps, axis=3)


def input_patches(network: Network, config: HwConfig) -> Patches | None:
    """The first layer's windows where packing them saves words to read, None where the frame holds pixels."""
    readers = [layer for layer in network.layers if network.input.tensor in layer.inputs]
    if len(readers) != 1 or network.output.tensor == network.input.tensor:
        return None
    layer, source = readers[0], network.tensors[network.input.tensor]
    if layer.weights is None or layer.transposed or layer.groups != 1:
        return None
    height, width, channels = source.shape
    taps = layer.kernel[0] * layer.kernel[1]
    out_h, out_w = window_shape(source.shape, layer.kernel, layer.stride, layer.padding, layer.dilation)
    pixel_words, patch_words = -(-channels // config.rows), -(-taps * channels // config.rows)
    frame = MOST_GROWTH * height * width * pixel_words
    if patch_words >= taps * pixel_words or out_h * out_w * patch_words > frame:
        return None
    shape = (out_h, out_w, taps * channels)
    return Patches(shape, layer.kernel, layer.stride, layer.padding, layer.dilation, source.zero_point)


def over_patches(layer: QLayer) -> QLayer:
    """The same layer as the 1x1 convolution that it is over patches."""
    assert layer.weights is not None
    flat = layer.weights.reshape(len(layer.weights), 1, 1, -1)
    return replace(layer, kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), weights=flat)
