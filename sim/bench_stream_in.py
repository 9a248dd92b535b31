"""rtl/stream_in.v: whole frames reach memory, bad ones are dropped up to their TLAST, flush drops the one under way.

A word is in memory when it is granted: nothing is lost or written twice, however late that is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSource

from sim.runner import bench_parameters
from sim.streams import Stream, cycles, now, pulse, stalls, start, unsigned, until

P = {name: int(value) for name, value in bench_parameters().items()}
ROWS, DEPTH = P["ROWS"], 1 << P["ADDR"]


class Bench:
    """A source with stalls, the memory that was written, and the errors that were reported."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.memory: dict[int, int] = {}
        self.writes = 0
        self.errors = 0

    async def start(self, stall: float = 0.0, base: int = 0, words: int = 1, busy: float = 0.0) -> Bench:
        """stall: share of cycles without a beat; busy: without a grant to write."""
        dut = self.dut
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst, byte_size=8 * ROWS)
        if stall:
            self.source.set_pause_generator(stalls(stall))
        await start(dut, base=base, words=words, enable=1, flush=0, consume=0, write_ready=1)
        self.stream = Stream(dut, "s_axis_tvalid", "s_axis_tready", "s_axis_tdata", "s_axis_tlast")
        Stream(dut, "write_valid", "write_ready", "write_addr", "write_data")
        cocotb.start_soon(self._watch())
        if busy:
            cocotb.start_soon(self._grant(stalls(busy)))
        return self

    async def _grant(self, withheld: Iterator[bool]) -> None:
        for wait in withheld:
            self.dut.write_ready.value = int(not wait)
            await RisingEdge(self.dut.clk)

    async def quiet(self) -> None:
        """Until every beat that was taken has been written."""
        await cycles(self.dut, 3)
        while self.dut.write_valid.value == 1:
            await RisingEdge(self.dut.clk)

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            for name in ("write_valid", "frame_loaded", "frame_error"):
                assert getattr(dut, name).value.is_resolvable, name
            assert not (dut.write_valid.value == 1 and dut.frame_loaded.value == 1), "loaded before it was written"
            self.errors += dut.frame_error.value == 1
            if dut.write_valid.value == 1 and dut.write_ready.value == 1:
                self.writes += 1
                self.memory[unsigned(dut.write_addr.value)] = unsigned(dut.write_data.value)

    def setup(self) -> tuple[int, int]:
        """A new random place for the next frame: base, words."""
        words = min(DEPTH, random.choice((1, 1, 2, 3, random.randint(4, 40))))
        base = random.choice((0, DEPTH - words, random.randint(0, DEPTH - words)))
        self.dut.base.value = base
        self.dut.words.value = words
        self.memory.clear()
        self.writes = self.errors = 0
        self.stream.beats.clear()
        return base, words

    async def good_frame(self) -> None:
        """Sends one, compares memory, checks that the next one waits, consumes."""
        dut = self.dut
        base, words = self.setup()
        data = [random.getrandbits(8 * ROWS) for _ in range(words)]
        await RisingEdge(dut.clk)
        await self.source.send(AxiStreamFrame(data))
        await until(dut, "frame_loaded", 1)
        assert self.memory == {base + i: value for i, value in enumerate(data)} and self.writes == words
        for _ in range(5):
            await RisingEdge(dut.clk)
            assert dut.s_axis_tready.value == 0 and dut.frame_loaded.value == 1
        await pulse(dut, "consume")
        await RisingEdge(dut.clk)
        assert dut.frame_loaded.value == 0 and self.errors == 0

    async def bad_frame(self, short: bool) -> None:
        """TLAST too early, or late by a few beats: one error, no word written past the end, not loaded."""
        dut = self.dut
        _, words = self.setup()
        if short and words == 1:
            return
        length = random.randint(1, words - 1) if short else words + random.choice((1, 1, 2, 20))
        await RisingEdge(dut.clk)
        await self.source.send(AxiStreamFrame([random.getrandbits(8 * ROWS) for _ in range(length)]))
        await self.source.wait()
        await self.quiet()
        assert self.errors == 1 and dut.frame_loaded.value == 0 and len(self.stream.beats) == length
        assert self.writes == min(length, words)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5], busy=[0.0, 0.5, 0.9])
async def good_and_bad_frames(dut: Any, stall: float, busy: float) -> None:
    """A random mix; a good frame after any bad one is whole."""
    bench = await Bench(dut).start(stall, busy=busy)
    for _ in range(30):
        kind = random.randrange(4)
        if kind == 0:
            await bench.bad_frame(short=True)
        elif kind == 1:
            await bench.bad_frame(short=False)
        else:
            await bench.good_frame()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_beat_a_cycle(dut: Any) -> None:
    """An unstalled frame takes as many cycles as words; frame_loaded follows 2 cycles after the last beat."""
    words = min(50, DEPTH)
    bench = await Bench(dut).start(words=words)
    await bench.source.send(AxiStreamFrame(list(range(words))))
    await until(dut, "frame_loaded", 1)
    loaded = now()
    await RisingEdge(dut.clk)
    beats = [cycle for cycle, _ in bench.stream.beats]
    assert len(beats) == words and beats[-1] - beats[0] == words - 1
    assert loaded == beats[-1] + 2


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_word_a_grant(dut: Any) -> None:
    """With every other cycle granted a frame takes two cycles a word; a word held back for long is there in the end."""
    words = min(50, DEPTH)
    bench = await Bench(dut).start(words=words)
    data = [random.getrandbits(8 * ROWS) for _ in range(words)]
    await bench.source.send(AxiStreamFrame(data))
    while len(bench.memory) < words - 1:
        dut.write_ready.value = 1 - int(dut.write_ready.value)
        await RisingEdge(dut.clk)
    beats = [cycle for cycle, _ in bench.stream.beats]
    # the first ones find both places empty
    assert all(later - earlier == 2 for earlier, later in pairwise(beats[2:-1]))
    dut.write_ready.value = 0
    await bench.source.wait()
    for _ in range(30):
        await RisingEdge(dut.clk)
        assert dut.frame_loaded.value == 0 and dut.s_axis_tready.value == 0, "loaded before the last word was written"
    dut.write_ready.value = 1
    assert await until(dut, "frame_loaded", 1) == 2
    assert bench.memory == dict(enumerate(data)) and bench.writes == words


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def consumed_while_a_word_is_held(dut: Any) -> None:
    """As when the program is changed under a frame whose last word was just taken: the frame is gone."""
    bench = await Bench(dut).start(words=1)
    dut.write_ready.value = 0
    await bench.source.send(AxiStreamFrame([1]))
    await until(dut, "write_valid", 1)
    await pulse(dut, "consume")
    dut.write_ready.value = 1
    for _ in range(5):
        await RisingEdge(dut.clk)
        assert dut.frame_loaded.value == 0
    await bench.good_frame()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def enable_pauses(dut: Any) -> None:
    """Not enabled: nothing is taken; in the middle of a frame it pauses and goes on."""
    words = min(20, DEPTH)
    bench = await Bench(dut).start(words=words)
    dut.enable.value = 0
    data = [random.getrandbits(8 * ROWS) for _ in range(words)]
    await bench.source.send(AxiStreamFrame(data))
    await cycles(dut, 10)
    assert not bench.stream.beats
    while dut.frame_loaded.value == 0:
        dut.enable.value = random.getrandbits(1)
        await RisingEdge(dut.clk)
    assert bench.memory == dict(enumerate(data)) and bench.errors == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5], busy=[0.0, 0.5])
async def flush_drops_the_frame_under_way(dut: Any, stall: float, busy: float) -> None:
    """A flush at every moment around a frame: in the middle the frame is gone, before and after nothing happens."""
    bench = await Bench(dut).start(stall, busy=busy)
    words = min(6, DEPTH)
    seen = set()
    for delay in range(40 if stall or busy else 14):
        bench.setup()
        dut.words.value = words
        dut.base.value = 0
        await RisingEdge(dut.clk)
        bench.stream.beats.clear()
        await bench.source.send(AxiStreamFrame([random.getrandbits(8 * ROWS) for _ in range(words)]))
        await cycles(dut, delay)
        dut.flush.value = 1
        await RisingEdge(dut.clk)
        dut.flush.value = 0
        flushed = now()
        await bench.source.wait()
        await bench.quiet()
        await RisingEdge(dut.clk)
        edges = [edge for edge, _ in bench.stream.beats]
        assert flushed not in edges, "a beat was taken during flush"
        taken = sum(edge < flushed for edge in edges)
        whole = len(bench.stream.beats) == words and taken in (0, words)
        seen.add("none" if taken == 0 else "all" if taken == words else "part")
        assert bench.errors == 0 and len(bench.stream.beats) == words
        assert dut.frame_loaded.value == whole, f"{taken} of {words} beats were in"
        if whole:
            await pulse(dut, "consume")
        await bench.good_frame()
    assert seen == {"none", "part", "all"}


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def flush_while_dropping(dut: Any) -> None:
    """The rest of a bad frame stays dropped, enabled or not, flushed or not."""
    bench = await Bench(dut).start(words=2)
    bench.source.set_pause_generator(stalls(0.5))
    await bench.source.send(AxiStreamFrame([1] * 30))
    await until(dut, "frame_error", 1)
    dut.enable.value = 0
    await pulse(dut, "flush")
    await bench.source.wait()
    dut.enable.value = 1
    await cycles(dut, 3)
    assert bench.writes == 2 and bench.errors == 1 and len(bench.stream.beats) == 30
    await bench.good_frame()
