"""Memory init files ($readmemh text): program, weights, parameters, and tables of codes where the network has any; a
word a line, padded to the memory's depth.
"""

from __future__ import annotations

import numpy as np

from pyexport.hwconfig import PARAM_BITS, PROGRAM_BITS
from pyexport.lower import Lowered

PROGRAM, WEIGHTS, PARAMS, TABLES = "program.mem", "weights.mem", "params.mem", "tables.mem"


def memory_images(lowered: Lowered) -> dict[str, str]:
    """File name -> text."""
    config = lowered.config
    texts = {
        PROGRAM: _text(lowered.program, PROGRAM_BITS, config.prg_depth),
        WEIGHTS: _weights(lowered),
        PARAMS: _text(_param_words(lowered), config.prm_bits, config.prm_depth),
    }
    if config.tables:
        codes = [code & 0xFF for table in lowered.tables for code in table.tolist()]
        texts[TABLES] = _text(codes, 8, 256 * config.tables)
    return texts


def _text(words: list[int], bits: int, depth: int) -> str:
    digits = -(-bits // 4)
    return "".join(f"{word:0{digits}x}\n" for word in words) + ("0" * digits + "\n") * (depth - len(words))


def _weights(lowered: Lowered) -> str:
    """Weight of row r, column c is byte c * rows + r of its word; the text shows the highest byte first."""
    config = lowered.config
    data = lowered.weights.reshape(len(lowered.weights), -1).view(np.uint8)
    padded = np.zeros((len(data), config.wgt_bits // 8), np.uint8)
    padded[:, : data.shape[1]] = data
    lines = [row.tobytes().hex() + "\n" for row in padded[:, ::-1]]
    return "".join(lines) + ("0" * (2 * padded.shape[1]) + "\n") * (config.wgt_depth - len(lines))


def _param_words(lowered: Lowered) -> list[int]:
    lanes = lowered.config.lanes
    return [
        sum(channel << (PARAM_BITS * lane) for lane, channel in enumerate(lowered.params[i : i + lanes]))
        for i in range(0, len(lowered.params), lanes)
    ]
