"""Executes a program as the hardware would, word by word, from its 64-bit words: an independent reading of the format.

Every address is checked on the way; nothing here knows the network, the golden model or the lowering.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.arith import Requant, requantise
from pyexport.hwconfig import HwConfig

Fields = dict[str, int]


def decode(fields: tuple[isa.Field, ...], words: list[int]) -> Fields:
    """Program words -> values by name."""
    values = {}
    for f in fields:
        value = words[f.word] >> f.lsb & (1 << f.bits) - 1
        values[f.name] = value - (1 << f.bits) if f.signed and value >> f.bits - 1 else value
    return values


def unpack(param: int) -> Fields:
    """One channel's 160 bits -> constants by name."""
    values, lsb = {}, 0
    for name, bits in (
        ("bias", -32), ("m", 31), ("even", 1), ("r", -34), ("exc_v", -30), ("d", -24), ("s", 6), ("exc_d", -2),
    ):  # fmt: skip
        width = abs(bits)
        value = param >> lsb & (1 << width) - 1
        values[name] = value - (1 << width) if bits < 0 and value >> width - 1 else value
        lsb += width
    return values | {"s": values["s"] + 24}


@dataclass(frozen=True)
class Step:
    """One issued word. inside: the tap lies in the map; ends: it is the last of its tile, pixel, row.

    scale_up: the sum before it counts 256 times.
    """

    act: int
    wgt: int
    inside: bool
    subtract: bool
    scale_up: bool
    ends: tuple[bool, bool, bool]


@dataclass
class Walk:
    """What a run did. memory: int8 (act_depth, rows), with `defined` telling which bytes the run or the host wrote.

    layer_cycles: per layer.  reads, writes: per layer the activation words touched (reads: taps in the map only).
    """

    memory: npt.NDArray[np.int8]
    defined: npt.NDArray[np.bool_]
    layer_cycles: dict[int, int] = field(default_factory=dict)
    reads: dict[int, set[int]] = field(default_factory=dict)
    writes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # (word, group), in order
    weights_read: set[int] = field(default_factory=set)
    params_read: set[int] = field(default_factory=set)


def steps(job: Fields, config: HwConfig) -> Iterator[Step]:
    """The loop nest, one counter a loop; the increment of the loop that advances is added."""
    counts = [job[f"{level}_count"] for level in isa.LEVELS]
    left = list(counts)
    level = -1
    act, wgt, x, y = job["act_base"], job["wgt_base"], job["x0"], job["y0"]
    while True:
        at_end = [value == 0 for value in left]
        last_pass = at_end[3] or not (job["pass_subtracts"] or job["pass_shifts"])
        inside = 0 <= x < job["map_w"] and 0 <= y < job["map_h"]
        tile = all(at_end[:3]) and last_pass
        ends = (tile, all(at_end[:5]), all(at_end[:6]))
        subtract, scale_up = bool(job["pass_subtracts"]) and at_end[3], bool(job["pass_shifts"]) and level == 3
        yield Step(act % config.act_depth if inside else -1, wgt, inside, subtract, scale_up, ends)
        if all(at_end):
            return
        level = at_end.index(False)
        left[level] -= 1
        left[:level] = counts[:level]
        act += job[f"{isa.LEVELS[level]}_act"]
        wgt += job[f"{isa.LEVELS[level]}_wgt"]
        x = job["x0"] if level == 6 else x + [0, job["kx_x"], *[job["back_x"]] * 3, job["ox_x"]][level]
        y += [0, 0, job["ky_y"], *[job["back_y"]] * 3, job["oy_y"]][level]


def run(
    program: list[int],
    weights: npt.NDArray[np.int8],
    params: list[int],
    config: HwConfig,
    memory: npt.NDArray[np.int8],
    tables: list[list[int]],
) -> Walk:
    """Runs the whole program. weights: (words, cols, rows).  memory: the input is in place, the rest is anything."""
    header = decode(isa.HEADER, program[: isa.HEADER_WORDS])
    assert header["magic"] == isa.MAGIC and header["version"] == isa.FORMAT_VERSION
    assert (header["rows"], header["cols"], header["lanes"]) == (config.rows, config.cols, config.lanes)
    assert header["wgt_words"] == len(weights) and header["prm_words"] * config.lanes == len(params)
    assert header["tables"] == len(tables) <= config.tables
    assert len(program) == isa.HEADER_WORDS + header["jobs"] * isa.DESCRIPTOR_WORDS
    defined = np.zeros(memory.shape, bool)
    defined[header["in_base"] : header["in_base"] + header["in_words"]] = True
    walk = Walk(memory.copy(), defined)
    source = slice(header["in_base"], header["in_base"] + header["in_words"])
    free = header["free_job"]
    for index in range(header["jobs"]):
        if free and index == free:  # from here on the next frame may be written
            walk.memory[source] = ~walk.memory[source]
            walk.defined[source] = False
        at = isa.HEADER_WORDS + index * isa.DESCRIPTOR_WORDS
        words = program[at : at + isa.DESCRIPTOR_WORDS]
        job = decode(isa.LAYOUTS[words[0] & 0xFF], words)
        assert not any(value for name, value in job.items() if name.startswith("reserved"))
        assert job["program_end"] == (index == header["jobs"] - 1) and job["layer"] < header["layers"]
        assert job["layer_end"] or not job["program_end"]
        assert job["table"] <= len(tables)
        # without a table a code stays what it is
        table = [list(range(-128, 128)), *tables][job["table"]]
        kind = _window_job if job["opcode"] == isa.OPCODE_WINDOW else _job
        before = walk.defined[source].copy()
        kind(walk, job, header, weights, params, config, table)
        assert not free or (walk.defined[source] == before).all(), "a write to the next frame's words"
    ends = header["out_base"] + header["out_words"]
    assert not free or ends <= source.start or source.stop <= header["out_base"], "the output lies in the input's words"
    used = max(max(words, default=0) for words in walk.reads.values())
    assert used < header["act_words"] <= config.act_depth
    return walk


def _job(
    walk: Walk,
    job: Fields,
    header: Fields,
    weights: npt.NDArray[np.int8],
    params: list[int],
    config: HwConfig,
    table: list[int],
) -> None:
    issued = list(steps(job, config))
    wgt = np.array([step.wgt for step in issued])
    assert wgt.min() >= 0 and wgt.max() < header["wgt_words"], "a weight address outside the weights"
    inside = np.array([step.inside for step in issued])
    act = np.array([step.act for step in issued])
    walk.weights_read.update(wgt.tolist())
    walk.reads.setdefault(job["layer"], set()).update(act[inside].tolist())
    x = np.where(inside[:, None], walk.memory[act], np.int8(job["pad"])).astype(np.int64)
    w = weights[wgt].astype(np.int64)
    unknown = inside[:, None] & ~walk.defined[act]
    assert not ((w != 0) & unknown[:, None, :]).any(), "a weight meets a byte that nothing wrote"
    sums = np.einsum("tcr,tr->tc", w, x)
    last = np.flatnonzero([step.ends[0] for step in issued])
    first = np.concatenate([[0], last[:-1] + 1])
    if job["accumulate_max"]:
        acc = np.maximum.reduceat(sums, first, axis=0)
    else:
        sums[[step.subtract for step in issued]] *= -1
        # what a word adds counts 256 times for each later scale-up of its tile
        ups = np.cumsum([step.scale_up for step in issued])
        tile = np.searchsorted(first, np.arange(len(issued)), side="right") - 1
        acc = np.add.reduceat(sums << (8 * (ups[last][tile] - ups))[:, None], first, axis=0)
    beats = job["last_beat"] + 1
    assert beats <= config.beats
    assert (np.diff(last) + job["gap"] >= beats).all(), "a tile would overrun the drain"
    _drain(walk, job, header, params, config, acc, [(*issued[i].ends, False) for i in last], table)
    _count(walk, job, len(issued) + job["gap"] * (len(last) - 1), config)


def _count(walk: Walk, job: Fields, issue: int, config: HwConfig) -> None:
    """Adds a job's cycles to its layer. issue: from its first slot to its last."""
    # address 1, memory 2, operands 1, multiplier 3, tree, accumulator 1, drain 1, requantise 14, the drain's beats, the last one the write
    depth = 1 + 2 + 1 + 3 + config.tree_levels + 1 + 1 + 14 + job["last_beat"] + (2 if job["table"] else 0)
    walk.layer_cycles[job["layer"]] = walk.layer_cycles.get(job["layer"], 0) + issue + depth


@dataclass
class _Column:
    """Three words that enter the window in one slot: bytes (3, rows), and whether anything wrote each."""

    words: npt.NDArray[np.int8]
    defined: npt.NDArray[np.bool_]


def _window_job(
    walk: Walk,
    job: Fields,
    header: Fields,
    weights: npt.NDArray[np.int8],
    params: list[int],
    config: HwConfig,
    table: list[int],
) -> None:
    """A window job, slot by slot: a column enters, then the window meets a word of weights, or none."""
    assert config.rows == config.cols == config.lanes >= 8 and job["last_beat"] == 0
    address, x, y = job["act_base"], job["x0"], job["y0"]
    nothing = _Column(np.zeros((3, config.rows), np.int8), np.ones((3, config.rows), bool))
    window = [nothing] * 3  # oldest first
    reads = walk.reads.setdefault(job["layer"], set())
    accs: list[npt.NDArray[np.int64]] = []
    ends: list[tuple[bool, bool, bool, bool]] = []
    slots = 0

    def read(step: str) -> None:
        nonlocal address, x, y
        column = _Column(np.full((3, config.rows), job["pad"], np.int8), np.ones((3, config.rows), bool))
        for k in range(3):
            if 0 <= x < job["map_w"] and 0 <= y + k < job["map_h"]:
                word = (address + k * job["line_act"]) % config.act_depth
                column.words[k], column.defined[k] = walk.memory[word], walk.defined[word]
                reads.add(word)
        window.append(column)
        del window[0]
        address += job[f"{step}_act"]
        x = x + 1 if step == "column" else job["row_x"]
        y = y + job["row_y"] if step == "row" else job["y0"] if step == "tile" else y

    def meet(word: int, second: bool) -> npt.NDArray[np.int64]:
        assert 0 <= word < header["wgt_words"], "a weight address outside the weights"
        walk.weights_read.add(word)
        taps = np.concatenate([column.words for column in window]).astype(np.int64)  # (9, rows): tap, channel
        known = np.concatenate([column.defined for column in window])
        place = [config.rows + r - 3 if second and config.rows + r < 9 else r for r in range(min(9, config.rows))]
        w = weights[word].astype(np.int64)  # (cols, rows)
        assert not w[:, len(place) :].any(), "a weight for a tap that the window does not have"
        w = w[:, : len(place)]
        assert not ((w.T != 0) & ~known[place]).any(), "a weight meets a byte that nothing wrote"
        return (w.T * taps[place]).sum(axis=0)  # lane c takes channel c

    weight, acc, pending = job["wgt_base"], np.zeros(config.cols, np.int64), False

    def second_word() -> None:
        nonlocal acc
        acc = (acc << 8 if job["second_scales_up"] else acc) + meet(weight + 1, True)
        accs.append(acc)

    pixels = [
        (t, oy, ox)
        for t in range(job["tiles"] + 1)
        for oy in range(job["height"] + 1)
        for ox in range(job["width"] + 1)
    ]
    for index, (t, oy, ox) in enumerate(pixels):
        kind = "job" if index == 0 else "row" if ox == 0 else "pixel"
        count = job[f"{kind}_slots"]
        columns = count if kind == "job" else job[f"{kind}_columns"]
        assert 1 <= columns <= count
        row_ends = ox == job["width"]
        map_ends = row_ends and oy == job["height"]
        for slot in range(count):
            slots += 1
            if slot < columns:
                last = slot == columns - 1
                read("tile" if last and map_ends else "row" if last and row_ends else "column")
            if slot == 0 and pending:
                second_word()
                if index and pixels[index - 1][0] != t:
                    weight += 2
        acc = meet(weight, False)
        ends.append((True, True, row_ends, map_ends))
        if job["two_slots"]:
            pending = True
        else:
            accs.append(acc)
            weight += map_ends
    if pending:  # the last pixel's second word, in a slot of its own
        slots += 1
        window.append(nothing)
        del window[0]
        second_word()
    _drain(walk, job, header, params, config, np.array(accs), ends, table)
    _count(walk, job, slots, config)


def _drain(
    walk: Walk,
    job: Fields,
    header: Fields,
    params: list[int],
    config: HwConfig,
    acc: npt.NDArray[np.int64],
    ends: list[tuple[bool, bool, bool, bool]],
    table: list[int],
) -> None:
    """ends: whether the tile is the first word's last one, the last of its pixel, row, and of a window job's map."""
    pixel = job["out_base"]
    first_param = job["prm_base"]
    param, address, group, left = first_param, pixel, job["out_group"], job["out_groups"]
    writes = walk.writes.setdefault(job["layer"], [])
    for tile, (_, pixel_last, row_last, map_last) in zip(acc, ends, strict=True):
        for beat in range(job["last_beat"] + 1):
            assert param < header["prm_words"], "a parameter address outside the parameters"
            walk.params_read.add(param)
            lanes = slice(param * config.lanes, (param + 1) * config.lanes)
            codes = _codes(tile[beat * config.lanes : (beat + 1) * config.lanes], params[lanes], job)
            if left:
                assert 0 <= address < config.act_depth, "a write outside the activation memory"
                bytes_ = slice(group * config.lanes, (group + 1) * config.lanes)
                walk.memory[address, bytes_] = [table[code + 128] for code in codes.tolist()]
                walk.defined[address, bytes_] = True
                writes.append((address, group))
                left -= 1
            param, group = param + 1, group + 1
            if group == config.groups_per_word:
                address, group = address + 1, 0
        if pixel_last:
            pixel += job["out_tile"] if map_last else job["out_oy"] if row_last else job["out_ox"]
            first_param += job["last_beat"] + 1 if map_last else 0
            param, address, group, left = first_param, pixel, job["out_group"], job["out_groups"]


def _codes(acc: npt.NDArray[np.int64], params: list[int], job: Fields) -> npt.NDArray[np.int8]:
    channels = [unpack(param) for param in params]
    columns = {name: np.array([channel[name] for channel in channels], np.int64) for name in channels[0]}
    # the accumulator and Eq. 1 wrap in 32 bits: the bias holds the input's zero point
    v = (acc + columns["bias"] + (1 << 31)) % (1 << 32) - (1 << 31)
    rq = Requant(**(columns | {"bias": np.zeros_like(v)}), z=job["zero_point"], lo=job["low"], hi=job["high"])
    return requantise(v, rq).astype(np.int8)
