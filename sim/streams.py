"""What the benches of streams and buses share: clock and reset, random stalls, the rules that streams obey."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

CLOCK_NS = 10


def stalls(share: float) -> Iterator[bool]:
    """Endless pause flags for cocotbext-axi, in bursts, True for about `share` of the cycles."""
    while True:
        paused = random.random() < share
        for _ in range(random.choice((1, 1, 2, 5))):
            yield paused


def now() -> int:
    """Number of the latest clock edge, the same for every task that wakes on it."""
    return int(get_sim_time("ns") // CLOCK_NS)


def unsigned(value: Any) -> int:
    """Of a vector, or of a port that is one bit wide under these parameters."""
    return int(value.to_unsigned()) if hasattr(value, "to_unsigned") else int(value)


async def start(dut: Any, **inputs: int) -> None:
    """Sets the inputs, starts the clock and resets for 3 cycles."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    Clock(dut.clk, CLOCK_NS, unit="ns").start(start_high=False)
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


async def pulse(dut: Any, name: str) -> None:
    """High for one cycle, from just after a clock edge to just after the next."""
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


async def cycles(dut: Any, count: int) -> None:
    """Waits `count` clock edges."""
    for _ in range(count):
        await RisingEdge(dut.clk)


async def until(dut: Any, name: str, value: int, limit: int = 50_000) -> int:
    """Waits until output `name` has `value` at a clock edge; how many edges that took."""
    for edges in range(1, limit + 1):
        await RisingEdge(dut.clk)
        if getattr(dut, name).value == value:
            return edges
    raise AssertionError(f"{name} did not become {value} within {limit} cycles")


class Stream:
    """Watches one stream: valid and ready are never X, a valid beat holds no X, and a stalled beat holds still.

    `beats` collects (number of the clock edge, payload values) of every transfer.
    """

    def __init__(self, dut: Any, valid: str, ready: str, *payload: str) -> None:
        self.dut = dut
        self.names = (valid, ready, *payload)
        self.beats: list[tuple[int, tuple[int, ...]]] = []
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        valid, ready, *payload = (getattr(self.dut, name) for name in self.names)
        stalled: tuple[int, ...] | None = None
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.rst.value == 1:
                stalled = None
                continue
            for signal in (valid, ready):
                assert signal.value.is_resolvable, f"{signal._name} is {signal.value}"
            if valid.value == 0:
                assert stalled is None, f"{self.names[0]} fell before the beat was taken"
                continue
            for signal in payload:
                assert signal.value.is_resolvable, f"{signal._name} is {signal.value} in a valid beat"
            beat = tuple(unsigned(signal.value) for signal in payload)
            assert stalled in (None, beat), f"{self.names[2:]} changed from {stalled} to {beat} in a stalled beat"
            stalled = beat if ready.value == 0 else None
            if stalled is None:
                self.beats.append((now(), beat))
