"""One layer -> a window job: each lane of the array sees the 3x3 window of its own channel (docs/architecture.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.lower_layer import LayerLowering, Tile
from pyexport.windows import SIDE


class WindowLowering(LayerLowering):
    """A layer whose output channels see their own input channel alone: one job over the 3x3 window.

    A pixel takes up to two words of weights. The window moves on between them: what stood in column k for the first
    word stands in column k - 1 for the second. Depthwise: a tile is a word of channels, and goes over the whole map.
    Add: a column is a word of either operand, and all words of a row follow each other as if they were pixels.
    """

    def jobs(self) -> list[tuple[list[Tile], int]]:
        tiles = self.tiles[:1] if self.adds else self.tiles
        return [(tiles, len(tiles))]

    def weight_words(self, tiles: list[Tile], run: int) -> tuple[npt.NDArray[np.int8], dict[str, int]]:
        """int8 (words, cols, rows); no loop has an increment. Taps of the window count down its columns."""
        layer, rows, cols = self.layer, self.config.rows, self.config.cols
        newest = SIDE * (SIDE - 1)  # tap 0 of the newest column
        words = np.zeros((len(tiles), self.words_per_pixel, cols, rows), np.int8)
        if layer.weights is None:
            for operand, (high, low) in enumerate(self.digits):
                words[0, 0, :, newest + operand] = high
                words[0, 1, :, newest - SIDE + operand] = low
            return words.reshape(-1, cols, rows), {}
        kernel_h, kernel_w = layer.kernel
        for t, tile in enumerate(tiles):
            for column, channel in enumerate(tile.channels):
                taps = np.zeros((SIDE, SIDE), np.int8)  # column, row
                taps[SIDE - kernel_w :, :kernel_h] = layer.weights[channel, :, :, 0].T
                flat = taps.reshape(-1)
                words[t, 0, column, : min(rows, SIDE * SIDE)] = flat[:rows]
                if rows < SIDE * SIDE:
                    words[t, 1, column, : SIDE * SIDE - rows] = flat[rows:]
        return words.reshape(-1, cols, rows), {}

    @property
    def words_per_pixel(self) -> int:
        """Weight words that a pixel takes: an add has two digits, nine taps need more than eight multipliers."""
        return 2 if self.adds or self.config.rows < SIDE * SIDE else 1

    def _loops(self, tiles: list[Tile], run: int, rewind: dict[str, int]) -> dict[str, int]:
        """Slots, columns and steps of the window job."""
        height, width, _ = self.map
        out_h, out_w, _ = self.target.shape
        pixel, row = self.read_from.pixel_words, self.read_from.row_words
        top, _, left, _ = self.layer.padding
        (_, columns), (stride_y, stride_x), line = self.layer.kernel, self.layer.stride, row
        if self.adds:
            out_w = width = width * pixel
            pixel = columns = stride_x = 1
            line = self.between  # the window's two rows are the operands
        # columns outside the map at a row's end that serve as the next row's first ones too
        shared = min(left, max(0, (out_w - 1) * stride_x - left + columns - width), columns - 1)
        to_last = (out_w - 1) * stride_x + columns - 1  # columns from a row's first to its last
        to_next_row = stride_y * row + (shared - to_last) * pixel
        to_next_tile = 1 - (out_h - 1) * stride_y * row + (shared - to_last) * pixel
        return {
            "two_slots": int(self.words_per_pixel == 2),
            "second_scales_up": int(self.adds),
            "job_slots": columns,
            "row_slots": max(columns - shared, self.words_per_pixel),
            "row_columns": columns - shared,
            "pixel_slots": max(stride_x, self.words_per_pixel),
            "pixel_columns": stride_x,
            "width": out_w - 1,
            "height": out_h - 1,
            "tiles": len(tiles) - 1,
            "column_act": pixel,
            "row_act": to_next_row,
            "tile_act": to_next_tile,
            "row_x": shared - left,
            "line_act": line % (1 << 24),
            "row_y": 0 if self.adds else stride_y,
            "out_tile": 1
            - (out_h - 1) * self.write_to.row_words
            - (self.target.shape[1] - 1) * self.write_to.pixel_words,
            "act_base": (self.read_from.base - top * row - left * pixel) % (1 << 24),
            "map_h": 2 if self.adds else height,
            "map_w": width,
            "x0": -left,
            "y0": -top,
        }

    def fields(self, tiles: list[Tile], run: int, rewind: dict[str, int]) -> dict[str, int]:
        row, pixel = self.write_to.row_words, self.write_to.pixel_words
        width = self.target.shape[1]
        out = {"out_ox": 1, "out_oy": row - width * pixel + 1} if self.adds else {}
        return (
            super().fields(tiles, run, rewind)
            | {"opcode": isa.OPCODE_WINDOW, "pass_shifts": 0, "gap": 0, "out_groups": 1}
            | out
        )
