"""Accumulators through the Verilog requantiser by file (sim/requant_vectors.v): what the tests of it share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyexport.arith import IntArray, Requant
from sim.runner import BUILD, ROOT, RTL, run_bench

LANES = 16
LATENCY = 14
SOURCES = ("requantise", "requant_lane", "wide_mul", "mul18", "delay")


@dataclass(frozen=True)
class Batch:
    """acc (n, C): n accumulators for each channel of `rq`; C is a multiple of LANES. v = acc + bias lies in int32."""

    rq: Requant
    acc: IntArray


def pad_channels(rq: Requant) -> Requant:
    """Repeats channels until there are a multiple of LANES."""
    index = np.arange(-(-rq.m.size // LANES) * LANES) % rq.m.size
    names = ("bias", "m", "s", "r", "d", "even", "exc_v", "exc_d")
    return Requant(**{name: getattr(rq, name)[index] for name in names}, z=rq.z, lo=rq.lo, hi=rq.hi)


def pack(rq: Requant) -> list[int]:
    """160 bits a channel, as docs/formats.md places them."""
    places = (("bias", 0, 32), ("m", 32, 31), ("even", 63, 1), ("r", 64, 34), ("exc_v", 98, 30), ("d", 128, 24))
    packed = []
    for c in range(rq.m.size):
        word = (int(rq.s[c]) - 24) << 152 | (int(rq.exc_d[c]) & 3) << 158
        for name, lsb, bits in places:
            word |= (int(getattr(rq, name)[c]) & ((1 << bits) - 1)) << lsb
        packed.append(word)
    return packed


def _rows(batch: Batch, first_word: int) -> npt.NDArray[np.uint8]:
    """The lines of one batch as bytes, highest first; the last one again until it is through: z, lo, hi must hold."""
    n, channels = batch.acc.shape
    blocks = channels // LANES
    acc = batch.acc.reshape(n, blocks, LANES).transpose(1, 0, 2).reshape(-1, LANES)[:, ::-1]
    acc = np.concatenate([acc, np.repeat(acc[-1:], LATENCY + 1, axis=0)])
    words = np.repeat(np.arange(first_word, first_word + blocks), n)
    words = np.concatenate([words, np.repeat(words[-1:], LATENCY + 1)])
    head = np.empty((len(acc), 5), np.uint8)
    head[:, 0], head[:, 1] = words >> 8, words & 255
    head[:, 2:] = np.array([batch.rq.z, batch.rq.lo, batch.rq.hi]).astype(np.uint8)
    data = (acc & 0xFFFFFFFF).astype(">u4").view(np.uint8).reshape(len(acc), -1)
    return np.concatenate([head, data], axis=1)


def _hex(rows: npt.NDArray[np.uint8]) -> bytes:
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((len(rows), 2 * rows.shape[1] + 1), ord("\n"), np.uint8)
    text[:, 0:-1:2], text[:, 1:-1:2] = digits[rows >> 4], digits[rows & 15]
    return text.tobytes()


def run(sim: str, batches: Iterable[Batch], name: str, rtl: Path = RTL, more: Sequence[str] = ()) -> list[IntArray]:
    """The codes that the Verilog in folder `rtl` gives, one (n, C) array a batch. All batches take one simulation.

    more: modules besides SOURCES.
    """
    batches = list(batches)
    rows: list[npt.NDArray[np.uint8]] = []
    params: list[int] = []
    for batch in batches:
        rows.append(_rows(batch, len(params)))
        packed = pack(batch.rq)
        for i in range(0, len(packed), LANES):
            params.append(sum(word << (160 * lane) for lane, word in enumerate(packed[i : i + LANES])))
    count = sum(map(len, rows))
    folder = BUILD / f"{name}_{sim}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.hex").write_bytes(b"".join(map(_hex, rows)))
    (folder / "params.hex").write_text("".join(f"{word:0{40 * LANES}x}\n" for word in params))
    (folder / "size.hex").write_text(f"{count:x}\n{len(params):x}\n")
    (folder / "codes.hex").unlink(missing_ok=True)
    sources = [ROOT / "sim" / "requant_vectors.v", *(rtl / f"{source}.v" for source in (*SOURCES, *more))]
    depth = 1 << 18 if sim == "verilator" else 1 << 13
    assert count <= depth and len(params) <= 1024, f"{count} rows, {len(params)} parameter words"
    parameters: dict[str, int | str] = {"LANES": LANES, "ROWS": depth, "WORDS": 1024}
    run_bench(sim, "requant_vectors", "sim.bench_requant_vectors", sources, parameters, name)
    text = np.frombuffer((folder / "codes.hex").read_bytes(), np.uint8).reshape(-1, 2 * LANES + 1)
    known = text[LATENCY:, :-1]
    assert not (known == ord("x")).any(), "an undefined code left the requantiser"
    assert len(text) == count
    nibbles = np.zeros(256, np.uint8)
    nibbles[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
    codes = (nibbles[known[:, 0::2]] << 4 | nibbles[known[:, 1::2]])[:, ::-1].astype(np.int8).astype(np.int64)
    results, at = [], 0
    for batch, lines in zip(batches, rows, strict=True):
        n, channels = batch.acc.shape
        mine = codes[at : at + n * channels // LANES]
        results.append(mine.reshape(channels // LANES, n, LANES).transpose(1, 0, 2).reshape(n, channels))
        at += len(lines)
    return results
