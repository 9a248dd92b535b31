"""rtl/address_gen.v: random loop nests against a NumPy model; one word a cycle but for the gaps, whatever go does."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import RisingEdge

from pyexport import isa
from sim.runner import bench_parameters
from sim.streams import cycles, pulse, start, unsigned

P = {name: int(value) for name, value in bench_parameters().items()}
ACT, WGT = P["ACT_ADDR"], P["WGT_ADDR"]
# a family's own generator that holds short counts and coordinates: bits of either
SHORT = [int(bits) for bits in os.environ.get("SHORT_LOOPS", "").split()]
FAR = 30 if SHORT else 300  # steps of coordinates
LEVELS = isa.LEVELS  # innermost first
FLAGS = ("first", "subtract", "scale_up", "last", "pixel_last", "row_last", "job_last")


@dataclass(frozen=True)
class Words:
    """What a job must issue, one entry a word. gap_after: idle cycles that follow it."""

    act: npt.NDArray[np.int64]
    wgt: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_]
    flags: npt.NDArray[np.bool_]  # (words, FLAGS)
    gap_after: npt.NDArray[np.int64]


def random_job(rng: random.Random, limit: int = 400) -> dict[str, int]:
    """Fields of a descriptor: short loops, any increments, a window that leaves the map now and then."""
    counts = dict.fromkeys(LEVELS, 1)
    for _ in range(rng.randrange(12)):
        level = rng.choice(LEVELS)
        counts[level] += 1
        if np.prod(list(counts.values())) > limit:
            counts[level] -= 1
    fields = {f"{level}_count": count - 1 for level, count in counts.items()}
    for level in LEVELS:
        for side in ("act", "wgt"):
            fields[f"{level}_{side}"] = rng.choice((0, 1, rng.randint(-9, 9), rng.randint(-(1 << 23), (1 << 23) - 1)))
    for name in ("kx_x", "back_x", "ox_x", "ky_y", "back_y", "oy_y", "x0", "y0"):
        fields[name] = rng.choice((0, 1, -1, rng.randint(-5, 5), rng.randint(-FAR, FAR)))
    fields |= {name: rng.choice((1, 3, rng.randint(1, 12), rng.randint(1, 500))) for name in ("map_h", "map_w")}
    fields |= {"act_base": rng.getrandbits(24), "wgt_base": rng.getrandbits(24)}
    fields["gap"] = rng.choice((0, 0, 1, 2, rng.randint(3, 9)))
    fields |= rng.choice(({}, {"pass_subtracts": 1}, {"pass_shifts": 1}))
    return fields


def expected_words(fields: dict[str, int]) -> Words:
    """The nest as nested loops: indices of every word, then what each loop that advances adds."""
    shape = [fields[f"{level}_count"] + 1 for level in reversed(LEVELS)]
    index = np.indices(shape).reshape(len(LEVELS), -1)[::-1]  # [level, word]
    count = np.array(shape[::-1])
    at_end = index == (count - 1)[:, None]
    inner_done = np.cumprod(at_end, axis=0).astype(bool)  # level and all inside it are at their last iteration
    advancing = inner_done.argmin(axis=0)[:-1]  # the innermost loop not at its end steps after each word but the last

    def follow(base: int, added: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return base + np.concatenate([[0], np.cumsum(added)])

    steps = {side: np.array([fields[f"{level}_{side}"] for level in LEVELS])[advancing] for side in ("act", "wgt")}
    x_table = [0, fields["kx_x"], *[fields["back_x"]] * 3, fields["ox_x"], 0]
    y_table = [0, 0, fields["ky_y"], *[fields["back_y"]] * 3, fields["oy_y"]]
    x = follow(fields["x0"], np.array(x_table)[advancing])
    y = follow(fields["y0"], np.array(y_table)[advancing])
    row = index[6]
    row_start = np.searchsorted(row, row)  # x starts again from x0 in each row of the output
    x = x - x[row_start] + fields["x0"]
    subtracts, shifts = bool(fields.get("pass_subtracts")), bool(fields.get("pass_shifts"))
    tile_end = inner_done[3] if subtracts or shifts else inner_done[2]
    first = np.concatenate([[True], tile_end[:-1]])
    subtract = at_end[3] & subtracts
    scale_up = np.concatenate([[False], advancing == 3]) & shifts  # the first word of a pass but the first
    flags = np.stack([first, subtract, scale_up, tile_end, inner_done[4], inner_done[5], inner_done[6]], axis=1)
    gap = np.where(tile_end, fields["gap"], 0)
    gap[-1] = 0
    x, y = x.astype(np.int16), y.astype(np.int16)
    outside = (x < 0) | (x >= fields["map_w"]) | (y < 0) | (y >= fields["map_h"])
    act = follow(fields["act_base"], steps["act"]) % (1 << ACT)
    return Words(act, follow(fields["wgt_base"], steps["wgt"]) % (1 << WGT), outside, flags, gap)


async def hand_over(dut: Any, fields: dict[str, int]) -> list[int]:
    """A descriptor's words, one by one as they come from program memory."""
    words = isa.encode(isa.DESCRIPTOR, {"opcode": 1} | fields)[: isa.LOOP_WORDS]
    for i, word in enumerate(words):  # for families whose address generator keeps words of its own
        dut.landing.value = word
        dut.lands.value = 1 << i
        await cycles(dut, 1)
    dut.lands.value = 0
    return words


async def load(dut: Any, fields: dict[str, int]) -> None:
    """Hands over a descriptor and waits until it is primed; nothing may issue meanwhile."""
    words = await hand_over(dut, fields)
    dut.loops.value = sum(word << (64 * i) for i, word in enumerate(words))
    await cycles(dut, 1)
    await pulse(dut, "load")
    await cycles(dut, 3)
    assert dut.issue.value == 0 and dut.primed.value == 1, "not primed 3 cycles after load"


async def run_job(dut: Any, rng: random.Random, share: float) -> int:
    """Runs one job with go high for about `share` of the cycles and compares every word; how many there were."""
    fields = random_job(rng)
    words = expected_words(fields)
    await load(dut, fields)
    await cycles(dut, rng.choice((0, 0, 1, 4)))
    word, idle, was_outside = 0, 0, None
    going, following = 0, 1
    dut.go_next.value = following
    while word < len(words.act) or was_outside is not None:
        await RisingEdge(dut.clk)
        due = going == 1 and idle == 0 and word < len(words.act)
        assert dut.issue.value == due, f"{fields}: word {word}: issue={dut.issue.value}, should be {due}"
        if was_outside is not None:
            assert dut.outside.value == was_outside, f"{fields}: outside of word {word - 1}"
            was_outside = None
        if due:
            assert unsigned(dut.act_addr.value) == words.act[word], f"{fields}: act_addr of word {word}"
            assert unsigned(dut.wgt_addr.value) == words.wgt[word], f"{fields}: wgt_addr of word {word}"
            got = [getattr(dut, name).value == 1 for name in FLAGS]
            assert got == words.flags[word].tolist(), f"{fields}: word {word}: {FLAGS} are {got}"
            was_outside, idle = int(words.outside[word]), int(words.gap_after[word])
            word += 1
        elif going and idle:
            idle -= 1
        going, following = following, int(rng.random() < share and word < len(words.act))
        dut.go_next.value = following
    return word


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(share=[1.0, 0.6])
async def random_nests(dut: Any, share: float) -> None:
    """Addresses, flags, taps outside the map, and exactly one word a cycle in which go is high."""
    rng = random.Random(int(100 * share))
    await start(dut, load=0, go_next=0, loops=0, lands=0, landing=0)
    total = sum([await run_job(dut, rng, share) for _ in range(60)])
    assert total > 1000


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """After a reset nothing issues until the next load, and the next job is whole."""
    rng = random.Random(7)
    await start(dut, load=0, go_next=0, loops=0, lands=0, landing=0)
    for _ in range(10):
        await load(dut, random_job(rng))
        dut.go_next.value = 1
        await cycles(dut, rng.randrange(1, 12))
        await pulse(dut, "rst")
        for _ in range(6):
            await RisingEdge(dut.clk)
            assert dut.issue.value == 0 and dut.primed.value == 0
        dut.go_next.value = 0
        await run_job(dut, rng, 1.0)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def descriptor_never_let_go(dut: Any) -> None:
    """A descriptor loaded over one that waited primed takes its place whole, as when the host changes the program."""
    rng = random.Random(8)
    await start(dut, load=0, go_next=0, loops=0, lands=0, landing=0)
    for _ in range(20):
        await load(dut, random_job(rng))
        await cycles(dut, rng.randrange(4))
        await run_job(dut, rng, 1.0)


@cocotb.test(timeout_time=20, timeout_unit="ms", skip=not SHORT)
async def what_does_not_fit_is_seen(dut: Any) -> None:
    """The largest counts and farthest coordinates fit, one more does not; the next descriptor is judged afresh."""
    await start(dut, load=0, go_next=0, loops=0, lands=0, landing=0)
    counts, spans = SHORT
    limits = dict.fromkeys((*(f"{level}_count" for level in LEVELS), "gap", "map_h", "map_w"), (0, (1 << counts) - 1))
    far = 1 << spans - 1
    limits |= dict.fromkeys(("kx_x", "back_x", "ox_x", "ky_y", "back_y", "oy_y", "x0", "y0"), (-far, far - 1))
    for name, (low, high) in limits.items():
        for value in (low, high, high + 1, *([low - 1] if low else []), low):
            await hand_over(dut, {name: value})
            await cycles(dut, 1)
            assert dut.beyond.value == (not low <= value <= high), (name, value)
