"""rtl/program_fetch.v: the right words in the right cycle, also when a fetch is cut short by another."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from pyexport import isa
from sim.runner import bench_parameters
from sim.streams import cycles, pulse, start, unsigned

DEPTH = 1 << int(bench_parameters()["PRG_ADDR"])
HEADER, DESCRIPTOR = isa.HEADER_WORDS, isa.DESCRIPTOR_WORDS
LATENCY = 3  # cycles on top of one a word


class Bench:
    """A program memory with latency 2."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.memory = [random.getrandbits(64) for _ in range(DEPTH)]

    async def start(self) -> Bench:
        await start(self.dut, begin_header=0, begin_first=0, begin_next=0, prg_data=0)
        cocotb.start_soon(self._serve())
        return self

    async def _serve(self) -> None:
        dut, fetched = self.dut, 0
        while True:
            await RisingEdge(dut.clk)
            dut.prg_data.value = fetched
            address = dut.prg_addr.value
            fetched = self.memory[unsigned(address)] if address.is_resolvable else 0

    async def whole(self, kind: str, first: int) -> None:
        """One fetch: `here` after the words' cycles and not before, then the words."""
        count = HEADER if kind == "header" else DESCRIPTOR
        await pulse(self.dut, f"begin_{kind}")
        loops = []
        landed: dict[str, list[tuple[int, int]]] = {"header_lands": [], "lands": []}
        for _ in range(count + LATENCY - 1):
            await RisingEdge(self.dut.clk)
            assert self.dut.here.value == 0, f"{kind}: here before its last word"
            loops.append(self.dut.loops_here.value == 1)
            for name, words in landed.items():
                if lands := unsigned(getattr(self.dut, name).value):
                    words.append((lands, unsigned(self.dut.prg_data.value)))
        await RisingEdge(self.dut.clk)
        assert self.dut.here.value == 1, f"{kind}: not here in time"
        due = isa.LOOP_WORDS + LATENCY - 1 if kind != "header" else -1
        # in the first cycle it may still tell of the fetch before
        assert [i for i, high in enumerate(loops) if high and i] == [due] * (due > 0), f"{kind}: loops_here {loops}"
        expected = [(1 << i, self.memory[first + i]) for i in range(count)]
        if kind == "header":
            assert landed == {"header_lands": expected, "lands": []}
            return
        assert landed == {"header_lands": [], "lands": expected}
        kept = unsigned(self.dut.words.value)
        for i in range(count):
            assert kept >> (64 * i) & (1 << 64) - 1 == self.memory[first + i], f"word {i} of the {kind} at {first}"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def program_in_order(dut: Any) -> None:
    """Header, first descriptor, the ones after it, with and without pauses."""
    bench = await Bench(dut).start()
    for _ in range(4):
        await bench.whole("header", 0)
        await bench.whole("first", HEADER)
        for job in range(1, 6):
            await cycles(dut, random.choice((0, 0, 1, 7)))
            await bench.whole("next", HEADER + job * DESCRIPTOR)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def cut_short(dut: Any) -> None:
    """A fetch begun at any moment of another gets its own words only."""
    bench = await Bench(dut).start()
    for kind, first in (("header", 0), ("first", HEADER)):
        for before in ("header", "first", "next"):
            for delay in range(DESCRIPTOR + LATENCY + 2):
                await bench.whole("first", HEADER)
                await pulse(dut, f"begin_{before}")
                await cycles(dut, delay)
                await bench.whole(kind, first)
