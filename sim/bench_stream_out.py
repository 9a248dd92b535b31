"""rtl/stream_out.v: frames leave memory whole and in order under any stalls; a flush ends one cleanly at any moment."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamSink

from sim.runner import bench_parameters
from sim.streams import Stream, cycles, now, pulse, stalls, start, unsigned, until

P = {name: int(value) for name, value in bench_parameters().items()}
ROWS, DEPTH = P["ROWS"], 1 << P["ADDR"]
SLOW = "STREAM_OUT_SLOW" in os.environ  # a family's own, which takes several cycles a beat


class Bench:
    """A memory with latency 3, a sink with stalls."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.memory = [random.getrandbits(8 * ROWS) for _ in range(DEPTH)]

    async def start(self, stall: float = 0.0) -> Bench:
        dut = self.dut
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst, byte_size=8 * ROWS)
        if stall:
            self.sink.set_pause_generator(stalls(stall))
        await start(dut, start=0, base=0, words=0, flush=0, read_data=0)
        self.stream = Stream(dut, "m_axis_tvalid", "m_axis_tready", "m_axis_tdata", "m_axis_tlast")
        cocotb.start_soon(self._serve())
        await cycles(dut, 3)
        return self

    async def _serve(self) -> None:
        dut = self.dut
        fetched = [0, 0]
        while True:
            await RisingEdge(dut.clk)
            assert dut.active.value.is_resolvable
            assert dut.m_axis_tvalid.value == 0 or dut.active.value == 1, "a beat is shown and active is low"
            dut.read_data.value = fetched.pop(0)
            address = dut.read_addr.value
            granted = dut.active.value == 1 and address.is_resolvable
            fetched.append(self.memory[unsigned(address)] if granted else random.getrandbits(8 * ROWS))

    async def launch(self, words: int) -> list[tuple[int, int]]:
        """Starts a frame at a random place; the beats (data, last) that it should give."""
        base = random.choice((0, DEPTH - words, random.randint(0, DEPTH - words)))
        self.dut.base.value = base
        self.dut.words.value = words
        self.stream.beats.clear()
        await pulse(self.dut, "start")
        self.dut.base.value = random.randrange(DEPTH)
        self.dut.words.value = random.randrange(DEPTH)
        return [(self.memory[base + i], int(i == words - 1)) for i in range(words)]

    def seen(self) -> list[tuple[int, ...]]:
        return [beat for _, beat in self.stream.beats]


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.2, 0.5, 0.9])
async def frames(dut: Any, stall: float) -> None:
    """Every word once, in order, TLAST on the last; the next frame starts as soon as active falls."""
    bench = await Bench(dut).start(stall)
    for words in (min(DEPTH, most) for most in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 60, 1, DEPTH)):
        expected = await bench.launch(words)
        await until(dut, "active", 0)
        assert bench.seen() == expected
    assert bench.sink.count() == 13


@cocotb.test(timeout_time=2, timeout_unit="ms", skip=SLOW)
async def one_beat_a_cycle(dut: Any) -> None:
    """With ready high the first beat comes 6 cycles after start and no cycle is left out."""
    bench = await Bench(dut).start()
    words = min(60, DEPTH)
    begin = now()
    await bench.launch(words)
    await until(dut, "active", 0)
    beats = [cycle for cycle, _ in bench.stream.beats]
    assert beats == list(range(begin + 7, begin + 7 + words)), (begin, beats)


@cocotb.test(timeout_time=2, timeout_unit="ms", skip=SLOW)
async def full_speed_after_a_stall(dut: Any) -> None:
    """A long stall fills the FIFO; afterwards again one beat per cycle."""
    bench = await Bench(dut).start()
    words = min(40, DEPTH)
    expected = await bench.launch(words)
    await cycles(dut, 9)
    bench.sink.pause = True
    await cycles(dut, 20)
    bench.sink.pause = False
    await until(dut, "active", 0)
    assert bench.seen() == expected
    numbers = [cycle for cycle, _ in bench.stream.beats]
    assert sum(after - before > 1 for before, after in pairwise(numbers)) <= 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def no_words(dut: Any) -> None:
    """A frame of no words sends nothing and is never active."""
    bench = await Bench(dut).start()
    dut.words.value = 0
    await pulse(dut, "start")
    for _ in range(20):
        await RisingEdge(dut.clk)
        assert dut.active.value == 0
    assert not bench.stream.beats


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.3, 0.7])
async def flush(dut: Any, stall: float) -> None:
    """At any moment: a shown beat is delivered, a frame that had begun ends in zeros with TLAST, the next is whole."""
    bench = await Bench(dut).start(stall)
    kinds = set()
    for delay in range(20):
        for words in (1, 2, min(9, DEPTH), min(9, DEPTH)):
            expected = await bench.launch(words)
            await cycles(dut, delay)
            await pulse(dut, "flush")
            if random.getrandbits(1):  # a second one changes nothing
                await cycles(dut, random.randrange(3))
                await pulse(dut, "flush")
            await until(dut, "active", 0)
            seen = bench.seen()
            if seen == expected or not seen:
                kinds.add("whole" if seen else "none")
            else:
                kinds.add("part")
                assert seen[-1] == (0, 1) and seen[:-1] == expected[: len(seen) - 1], (seen, expected)
            begin = bench.sink.count()
            expected = await bench.launch(words)
            await until(dut, "active", 0)
            assert bench.seen() == expected and bench.sink.count() == begin + 1
    assert kinds == {"none", "part", "whole"}


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def flush_keeps_the_shown_beat(dut: Any) -> None:
    """With ready low the beat stays for as long as it takes; active stays high, and so does the beat after it."""
    bench = await Bench(dut).start()
    bench.sink.pause = True
    expected = await bench.launch(2)
    await cycles(dut, 12)
    await pulse(dut, "flush")
    for _ in range(10):
        await RisingEdge(dut.clk)
        assert dut.active.value == 1 and dut.m_axis_tvalid.value == 1
    bench.sink.pause = False
    await until(dut, "active", 0)
    assert bench.seen() == [expected[0], (0, 1)]
