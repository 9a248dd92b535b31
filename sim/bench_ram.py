"""A memory (ram): its image at power-up, where it has one; random reads and writes against a dictionary, at clk and its
double.

What rtl/ram.v leaves open is left open: a word that is written between its address and its coming; with EXCLUSIVE,
any word that comes after a write so.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from sim.runner import bench_parameters

P = bench_parameters()
WIDTH, SLICE, DEPTH = (int(P[name]) for name in ("WIDTH", "SLICE", "DEPTH"))
EXCLUSIVE = bool(P.get("EXCLUSIVE", 0))
CLOCK_NS = 10
LATENCY = int(P.get("LATENCY", 2))


@cocotb.test(skip="INIT_FILE" not in P, timeout_time=20, timeout_unit="ms")
async def image(dut: Any) -> None:
    """Before anything is written a memory holds its image."""
    words = [int(line, 16) for line in Path(str(P["INIT_FILE"]).strip('"')).read_text().split()]
    assert len(words) == DEPTH
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    dut.write_enable.value = 0
    for cycle in range(DEPTH + LATENCY):
        await FallingEdge(dut.clk)
        if cycle >= LATENCY:
            got = dut.read_data.value.to_unsigned()
            assert got == words[cycle - LATENCY], f"word {cycle - LATENCY} is {got:#x}"
        dut.read_addr.value = min(cycle, DEPTH - 1)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def contents(dut: Any) -> None:
    memory: dict[int, int] = {}
    edges = {1 << bit for bit in range(1, 20)} | {DEPTH & -1 << bit for bit in range(1, 20)}  # of parts too
    places = {place for edge in edges for place in (edge - 1, edge) if 0 <= place < DEPTH}
    every = sorted({0, DEPTH - 1, *places, *(random.randrange(DEPTH) for _ in range(30))})
    due: deque[tuple[int, int | None]] = deque([(0, None)] * LATENCY)  # address, word or None: anything
    compared = 0
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    Clock(dut.clk_2x, CLOCK_NS // 2, unit="ns").start()
    for cycle in range(20_000):
        await RisingEdge(dut.clk)
        fill = cycle < len(every)
        place, read, data = (
            every[cycle] if fill else random.choice(every),
            random.choice(every),
            random.getrandbits(WIDTH),
        )
        lanes = [fill or (cycle % 8 < 3 and random.random() < 0.6) for _ in range(WIDTH // SLICE)]
        dut.write_enable.value = sum(lane << i for i, lane in enumerate(lanes))
        dut.write_addr.value, dut.write_data.value, dut.read_addr.value = place, data, read
        await FallingEdge(dut.clk)  # at the latest then the word is there
        await ReadOnly()
        address, word = due.popleft()
        if word is not None:
            got = dut.read_data.value.to_unsigned()
            assert got == word, f"cycle {cycle}: word {address} is {got:#x}, not {word:#x}"
            compared += 1
        due.append((read, memory.get(read)))
        if any(lanes):
            mask = sum((1 << SLICE) - 1 << SLICE * i for i, lane in enumerate(lanes) if lane)
            memory[place] = memory.get(place, 0) & ~mask | data & mask
            for back in range(-LATENCY, 0):
                if EXCLUSIVE or due[back][0] == place:
                    due[back] = due[back][0], None
    assert compared > 5_000
