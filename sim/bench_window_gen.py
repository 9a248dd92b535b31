"""rtl/window_gen.v: random window jobs against a plain model; one slot a cycle, whatever go does."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from pyexport import isa
from sim.runner import bench_parameters
from sim.streams import cycles, pulse, start, unsigned

P = {name: int(value) for name, value in bench_parameters().items()}
ACT, WGT = P["ACT_ADDR"], P["WGT_ADDR"]
FLAGS = ("shift", "meets", "second", "scale_up", "first", "last", "row_last", "map_last", "job_last")


@dataclass
class Slot:
    """What a slot must be. column: address, x and y of the column that enters, None where none of the map does.

    weights: the address where weights are met.  up: names of the flags that are high.
    """

    column: tuple[int, int, int] | None = None
    weights: int | None = None
    up: frozenset[str] = frozenset()


def random_job(rng: random.Random) -> dict[str, int]:
    """Fields of a descriptor: small maps, any steps, columns that leave the map now and then."""
    two = rng.getrandbits(1)
    row, pixel = rng.randint(1, 4), rng.randint(1, 4)
    fields = {
        "two_slots": two,
        "second_scales_up": rng.getrandbits(1),
        "job_slots": rng.randint(1, 4),
        "row_slots": max(row, 1 + two),
        "row_columns": row,
        "pixel_slots": max(pixel, 1 + two),
        "pixel_columns": pixel,
        "width": rng.randint(0, 4),
        "height": rng.randint(0, 3),
        "tiles": rng.randint(0, 2),
        "map_h": rng.randint(1, 6),
        "map_w": rng.randint(1, 8),
        "act_base": rng.getrandbits(24),
        "wgt_base": rng.getrandbits(24),
        "line_act": rng.getrandbits(24),
        "row_y": rng.randint(0, 3),
    }
    fields |= {f"{name}_act": rng.randint(-(1 << 23), (1 << 23) - 1) for name in ("column", "row", "tile")}
    return fields | {name: rng.randint(-3, 3) for name in ("x0", "y0", "row_x")}


def expected_slots(job: dict[str, int]) -> list[Slot]:
    """Pixel by pixel. A pixel's second word of weights falls into the slot after its own last one."""
    slots: list[Slot] = []
    address, x, y, weights = job["act_base"], job["x0"], job["y0"], job["wgt_base"]
    pending: frozenset[str] | None = None  # flags of the pixel whose second word is still to come
    pixels = [
        (ox == job["width"], ox == job["width"] and oy == job["height"], tile == job["tiles"])
        for tile in range(job["tiles"] + 1)
        for oy in range(job["height"] + 1)
        for ox in range(job["width"] + 1)
    ]
    second = {"second", "meets", "last"} | ({"scale_up"} if job["second_scales_up"] else set())
    row_first = False
    for index, (row_last, map_last, tile_last) in enumerate(pixels):
        kind = "row" if row_first else "pixel"
        count = job["job_slots"] if index == 0 else job[f"{kind}_slots"]
        columns = count if index == 0 else job[f"{kind}_columns"]
        ends = {"row_last"} if row_last else set()
        ends |= {"map_last"} if map_last else set()
        ends |= {"job_last"} if map_last and tile_last else set()
        for i in range(count):
            slot = Slot()
            up: set[str] = set()
            if i < columns:
                slot.column = (address, x, y)
                up.add("shift")
                if i < columns - 1 or not row_last:
                    address, x = address + job["column_act"], x + 1
                elif map_last:
                    address, x, y = address + job["tile_act"], job["row_x"], job["y0"]
                else:
                    address, x, y = address + job["row_act"], job["row_x"], y + job["row_y"]
            if i == 0 and pending is not None:
                slot.weights = weights + 1
                up |= second | pending
                weights += 2 * ("map_last" in pending)
                pending = None
            if i == count - 1:
                slot.weights = weights
                up |= {"meets", "first"}
                if job["two_slots"]:
                    pending = frozenset(ends)
                else:
                    up |= {"last"} | ends
                    weights += map_last
            slot.up = frozenset(up)
            slots.append(slot)
        row_first = row_last
    if pending is not None:
        slots.append(Slot(None, weights + 1, frozenset({"shift"} | second | pending)))
    return slots


async def load(dut: Any, fields: dict[str, int]) -> None:
    """Hands over a descriptor and waits until it is primed; nothing may issue meanwhile."""
    words = isa.encode(isa.WINDOW, {"opcode": 2} | fields)[: isa.LOOP_WORDS]
    dut.loops.value = sum(word << (64 * i) for i, word in enumerate(words))
    await pulse(dut, "load")
    await cycles(dut, 3)
    assert dut.issue.value == 0 and dut.primed.value == 1, "not primed 3 cycles after load"


def outside(job: dict[str, int], slot: Slot) -> int:
    """Bit per window row."""
    if slot.column is None:
        return 7
    _, x, y = slot.column
    rows = [not (0 <= x < job["map_w"] and 0 <= y + k < job["map_h"]) for k in range(3)]
    return sum(bit << k for k, bit in enumerate(rows))


async def run_job(dut: Any, rng: random.Random, share: float) -> int:
    """Runs one job with go high for about `share` of the cycles and compares every slot; how many there were."""
    job = random_job(rng)
    slots = expected_slots(job)
    await load(dut, job)
    await cycles(dut, rng.choice((0, 0, 1, 4)))
    at, was = 0, None
    going, following = 0, 1
    dut.go_next.value = following
    while at < len(slots) or was is not None:
        await RisingEdge(dut.clk)
        due = going == 1 and at < len(slots)
        assert dut.issue.value == due, f"{job}: slot {at}: issue={dut.issue.value}, should be {due}"
        if was is not None and was.up & {"shift"}:
            assert unsigned(dut.outside.value) == outside(job, was), f"{job}: outside of slot {at - 1}, {was}"
        was = None
        if due:
            slot = slots[at]
            got = {name for name in FLAGS if getattr(dut, name).value == 1}
            assert got == slot.up, f"{job}: slot {at} of {len(slots)}: {got} instead of {set(slot.up)}"
            if slot.column is not None:
                addresses = unsigned(dut.act_addr.value)
                for k in range(3):
                    want = (slot.column[0] + k * job["line_act"]) % (1 << ACT)
                    assert addresses >> (ACT * k) & ((1 << ACT) - 1) == want, f"{job}: slot {at}, window row {k}"
            if slot.weights is not None:
                assert unsigned(dut.wgt_addr.value) == slot.weights % (1 << WGT), f"{job}: weights of slot {at}"
            was = slot
            at += 1
        going, following = following, int(rng.random() < share and at < len(slots))
        dut.go_next.value = following
    return at


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(share=[1.0, 0.6])
async def random_windows(dut: Any, share: float) -> None:
    """Columns, weights, flags, rows outside the map, and exactly one slot a cycle in which go is high."""
    rng = random.Random(int(100 * share))
    await start(dut, load=0, go_next=0, loops=0)
    total = sum([await run_job(dut, rng, share) for _ in range(60)])
    assert total > 1000


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """After a reset nothing issues until the next load, and the next job is whole."""
    rng = random.Random(7)
    await start(dut, load=0, go_next=0, loops=0)
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
