"""The host of sim/bench_core.py: registers, frames and results over cocotbext-axi, with stalls, and no X anywhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from pyexport import isa
from sim.streams import Stream, cycles, stalls, start

STATUS = {name: bit for bit, name in enumerate(("idle", "loaded", "running", "pending", "done", "error"))}
HEADER, DESCRIPTOR = isa.HEADER, isa.DESCRIPTOR
Words = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Loaded:
    """A network as the host sees it. memories: for each load target, the 32-bit slices in order; tables may be none."""

    memories: list[list[int]]
    frames: Words
    outputs: Words
    layer_ends: list[int]

    @staticmethod
    def read(path: Path) -> Loaded:
        data = np.load(path)
        memories = [data[name].tolist() for name in ("program", "weights", "params", "tables")]
        return Loaded(memories, data["frames"], data["outputs"], data["layer_ends"].tolist())

    def _fields(self, fields: tuple[isa.Field, ...], first: int) -> dict[str, int]:
        slices = self.memories[0]
        values = {}
        for f in fields:
            at = 2 * (first + f.word)
            values[f.name] = (slices[at] | slices[at + 1] << 32) >> f.lsb & (1 << f.bits) - 1
            if f.signed and values[f.name] >> f.bits - 1:
                values[f.name] -= 1 << f.bits
        return values

    def header(self) -> dict[str, int]:
        return self._fields(HEADER, 0)

    def descriptor(self, job: int) -> dict[str, int]:
        return self._fields(DESCRIPTOR, isa.HEADER_WORDS + job * isa.DESCRIPTOR_WORDS)


class CoreHost:
    """Drives every port of intact_core. Each wait has a limit: a hang is a failure."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.rows = len(dut.s_axis_tdata) // 8
        self.overlapped = False

    async def start(self, stall: float = 0.0) -> CoreHost:
        """Buses, checks on every output, clock and reset. stall: share of stalled cycles on both streams."""
        dut = self.dut
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)  # cocotbext-axi tells of every access
        self.axi = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        size = {"byte_size": 8 * self.rows}
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst, **size)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst, **size)
        if stall:
            self.source.set_pause_generator(stalls(stall))
            self.sink.set_pause_generator(stalls(stall))
        await start(dut)
        self.taken = Stream(dut, "s_axis_tvalid", "s_axis_tready")
        self.given = Stream(dut, "m_axis_tvalid", "m_axis_tready", "m_axis_tdata", "m_axis_tlast")
        Stream(dut, "s_axil_awvalid", "s_axil_awready")
        Stream(dut, "s_axil_wvalid", "s_axil_wready")
        Stream(dut, "s_axil_arvalid", "s_axil_arready")
        Stream(dut, "s_axil_bvalid", "s_axil_bready", "s_axil_bresp")
        Stream(dut, "s_axil_rvalid", "s_axil_rready", "s_axil_rdata", "s_axil_rresp")
        cocotb.start_soon(self._watch())
        await self.settle()
        return self

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            if dut.rst.value == 0:
                assert dut.irq.value.is_resolvable, "irq is X"
                self.overlapped |= dut.s_axis_tvalid.value == 1 and dut.m_axis_tvalid.value == 1

    async def write(self, register: str, value: int) -> bool:
        """True where it was accepted."""
        answer = await self.axi.write(isa.REGISTERS[register][0], value.to_bytes(4, "little"))
        return bool(answer.resp == AxiResp.OKAY)

    async def read(self, register: str) -> int:
        answer = await self.axi.read(isa.REGISTERS[register][0], 4)
        assert answer.resp == AxiResp.OKAY, register
        return int.from_bytes(answer.data, "little")

    async def status(self, name: str) -> bool:
        return bool(await self.read("STATUS") >> STATUS[name] & 1)

    async def error(self) -> str:
        status = await self.read("STATUS")
        code = status >> 8 & 0xFF
        assert (code != 0) == bool(status >> STATUS["error"] & 1)
        return next(name for name, (value, _) in isa.ERRORS.items() if value == code)

    async def settle(self, limit: int = 3000) -> None:
        """Until the core is idle and nothing waits to go out."""
        for _ in range(limit // 10):
            status = await self.read("STATUS")
            if status >> STATUS["idle"] & 1 and not status >> STATUS["pending"] & 1:
                return
            await cycles(self.dut, 4)
        raise AssertionError(f"not idle after some {limit} cycles, STATUS {status:#x}")

    async def finished(self, limit: int = 20_000) -> None:
        """Until the run is done or has failed."""
        for _ in range(limit // 10):
            status = await self.read("STATUS")
            if status >> STATUS["done"] & 1 or status >> STATUS["error"] & 1:
                return
        raise AssertionError(f"neither done nor error, STATUS {status:#x}")

    async def ends_with(self, name: str, what: str = "", job: int | None = None) -> None:
        """The run stops with this error, the core is idle again, no frame is held and nothing goes out."""
        await self.finished()
        status = await self.read("STATUS")
        assert await self.error() == name, f"{what}: {await self.error()}"
        assert job is None or status >> 16 == job, f"{what}: job {status >> 16}"
        await self.settle()
        assert not await self.status("done") and not await self.status("loaded"), what
        assert self.sink.empty(), f"{what}: an output frame"
        await self.write("CTRL", 1 << 2)
        assert await self.error() == "NONE"

    async def begin(self) -> None:
        assert await self.write("CTRL", 1)

    async def load(self, network: Loaded) -> None:
        """All memories over LOAD_ADDR and LOAD_DATA."""
        for target, slices in enumerate(network.memories):
            if slices:
                await self._load(target, 0, slices)

    async def _load(self, target: int, word: int, slices: list[int]) -> None:
        assert await self.write("LOAD_ADDR", target << 28 | word)
        for value in slices:
            assert await self.write("LOAD_DATA", value)

    async def poke(self, fields: tuple[isa.Field, ...], job: int, values: dict[str, int]) -> None:
        """Writes the header, or one descriptor."""
        first = 0 if fields is HEADER else isa.HEADER_WORDS + job * isa.DESCRIPTOR_WORDS
        words = isa.encode(fields, values)
        await self._load(0, first, [part for word in words for part in (word & 0xFFFFFFFF, word >> 32)])

    async def send(self, frame: Words) -> None:
        """Queues one frame, a list of words."""
        await self.source.send(AxiStreamFrame([int.from_bytes(word.tobytes(), "little") for word in frame]))

    async def sent(self) -> None:
        await with_timeout(self.source.wait(), 1, "ms")

    async def receive(self, expected: Words) -> None:
        """The next output frame is this one."""
        frame = await with_timeout(self.sink.recv(), 2, "ms")
        got = np.array([list(int(word).to_bytes(self.rows, "little")) for word in frame.tdata], np.uint8).view(np.int8)
        assert got.shape == expected.shape, f"{len(got)} words instead of {len(expected)}"
        assert (got == expected).all(), f"first difference at {np.argwhere(got != expected)[0]}"

    async def run(self, network: Loaded) -> None:
        """One frame through, compared."""
        await self.begin()
        await self.send(network.frames[0])
        await self.receive(network.outputs[0])
        assert await self.error() == "NONE" and await self.read("CYCLES") == network.layer_ends[-1]

    async def layer_ends(self, count: int) -> list[int]:
        ends = []
        for layer in range(count):
            assert await self.write("LAYER_INDEX", layer)
            ends.append(await self.read("LAYER_CYCLES"))
        return ends

    async def reset(self) -> None:
        """Three cycles; cocotbext-axi's sides see it too."""
        self.dut.rst.value = 1
        await cycles(self.dut, 3)
        self.dut.rst.value = 0
        self.sink.clear()
        await self.settle()
