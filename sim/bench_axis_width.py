"""rtl/axis_widen.v and rtl/axis_narrow.v: bytes to words and back, with TLAST, under stalls and at full speed."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from sim.runner import bench_parameters
from sim.streams import Stream, cycles, stalls, start

ROWS = int(bench_parameters()["ROWS"])


class Bench:
    """A source and a sink around the adapter; whole beats on either side."""

    async def start(self, dut: Any, stall: float) -> Bench:
        self.dut = dut
        self.widens = dut._name == "axis_widen"
        narrow, wide = 8, 8 * ROWS
        sizes = (narrow, wide) if self.widens else (wide, narrow)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst, byte_size=sizes[0])
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst, byte_size=sizes[1])
        if stall:
            self.source.set_pause_generator(stalls(random.choice((0.0, stall))))
            self.sink.set_pause_generator(stalls(stall))
        await start(dut)
        self.taken = Stream(dut, "s_axis_tvalid", "s_axis_tready", "s_axis_tdata", "s_axis_tlast")
        self.given = Stream(dut, "m_axis_tvalid", "m_axis_tready", "m_axis_tdata", "m_axis_tlast")
        return self

    async def frame(self, data: bytes) -> list[tuple[int, int]]:
        """Sends the bytes as one frame; the beats (data, last) to expect, the last word padded with zeros."""
        padded = data + bytes(-len(data) % ROWS)
        words = [int.from_bytes(padded[i : i + ROWS], "little") for i in range(0, len(padded), ROWS)]
        beats, given = (list(data), words) if self.widens else (words, list(padded))
        await self.source.send(AxiStreamFrame(beats))
        return [(value, int(i == len(given) - 1)) for i, value in enumerate(given)]


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.3, 0.8])
async def frames(dut: Any, stall: float) -> None:
    """Frames of every length around the word's, back to back."""
    bench = await Bench().start(dut, stall)
    expected = []
    for length in [*range(1, 2 * ROWS + 2), *(random.randint(1, 5 * ROWS) for _ in range(20))]:
        expected += await bench.frame(random.randbytes(length))
    await bench.source.wait()
    for _ in range(2000):
        await cycles(dut, 1)
        if len(bench.given.beats) == len(expected):
            break
    await cycles(dut, 20)
    assert [beat for _, beat in bench.given.beats] == expected


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def one_byte_a_cycle(dut: Any) -> None:
    """Without stalls bytes follow each other, with a cycle between words; results come a cycle later."""
    bench = await Bench().start(dut, 0.0)
    expected = await bench.frame(random.randbytes(10 * ROWS))
    await bench.source.wait()
    await cycles(dut, 2 * ROWS + 4)
    assert [beat for _, beat in bench.given.beats] == expected
    taken, given = ([cycle for cycle, _ in stream.beats] for stream in (bench.taken, bench.given))
    side = taken if bench.widens else given
    assert side == [side[0] + i + i // ROWS for i in range(10 * ROWS)]
    assert given[0] == (taken[ROWS - 1] if bench.widens else taken[0]) + 1
