"""rtl/drain.v: random jobs of tiles; every write (cycle, address, groups, codes) against the requantise equations."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import RisingEdge

from pyexport import isa
from pyexport.arith import Requant, requantise
from sim.runner import bench_parameters
from sim.streams import pulse, start, unsigned

P = {name: int(value) for name, value in bench_parameters().items()}
ROWS, COLS, LANES = P["ROWS"], P["COLS"], P["LANES"]
ACT_DEPTH, PRM_DEPTH = 1 << P["ACT_ADDR"], 1 << P["PRM_ADDR"]
BEATS, GROUPS = COLS // LANES, ROWS // LANES
TABLES = P["TABLES"]
LATENCY = 16  # from a beat's control to the cycle of its write
MAPPED = 2  # more in a job with a table


@dataclass(frozen=True)
class Write:
    """enable: bit per group; codes: the LANES codes of the beat, which every group of the word shows."""

    address: int
    enable: int
    codes: bytes


def random_params(rng: np.random.Generator) -> tuple[list[int], Requant]:
    """A parameter memory of channels that saturate now and then, and the same as a Requant."""
    count = PRM_DEPTH * LANES

    def draw(low: int, high: int) -> npt.NDArray[np.int64]:
        return rng.integers(low, high, count)

    zero = np.zeros(count, np.int64)
    rq = Requant(
        bias=draw(-5000, 5000), m=draw(1 << 30, 1 << 31), s=draw(34, 39), r=draw(-(1 << 27), 1 << 27),
        d=draw(-500, 500), even=draw(0, 2), exc_v=zero, exc_d=zero, z=0, lo=-128, hi=127,
    )  # fmt: skip
    fields = [(rq.bias, 0), (rq.m, 32), (rq.even, 63), (rq.r, 64), (rq.d, 128), (rq.s - 24, 152)]
    widths = [32, 31, 1, 34, 24, 6]
    words = []
    for first in range(0, count, LANES):
        word = 0
        for lane in range(LANES):
            for (values, lsb), bits in zip(fields, widths, strict=True):
                word |= (int(values[first + lane]) & ((1 << bits) - 1)) << (160 * lane + lsb)
        words.append(word)
    return words, rq


class Job:
    """One random job: its descriptor, its tiles' accumulators, and the writes that it must give."""

    def __init__(self, rng: random.Random, rq: Requant, tables: list[bytes]) -> None:
        self.tables = tables
        self.beats = rng.randint(1, BEATS)
        self.tiles, self.width, self.height = rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 3)
        # a window job: each tile goes over the whole map
        self.maps = rng.choice((1, 1, 2, 3)) if self.tiles == 1 else 1
        self.window = self.maps > 1
        self.zero, self.low = rng.randint(-128, 127), rng.randint(-128, 0)
        self.high = rng.randint(self.low, 127)
        self.table = rng.randint(0, TABLES)
        self.latency = LATENCY + (MAPPED if self.table else 0)
        self.fields = {
            "opcode": 2 if self.window else 1,
            "last_beat": self.beats - 1,
            "out_base": rng.randrange(ACT_DEPTH),
            "prm_base": rng.randrange(PRM_DEPTH),
            "out_group": rng.randrange(GROUPS),
            "out_groups": rng.choice((self.tiles * self.beats, rng.randint(0, self.tiles * self.beats))),
            "out_ox": rng.choice((1, rng.randint(0, 9), -1)),
            "out_oy": rng.randint(-20, 20),
            **({"out_tile": rng.randint(-20, 20)} if self.window else {}),
            "zero_point": self.zero,
            "low": self.low,
            "high": self.high,
            "table": self.table,
        }
        shape = (self.maps * self.height * self.width * self.tiles, COLS)
        self.accs = np.random.default_rng(rng.getrandbits(32)).integers(-8000, 8000, shape)
        self.writes = self._writes(rq)

    def _writes(self, rq: Requant) -> list[Write | None]:
        """One entry a beat, None where it writes nothing."""
        writes: list[Write | None] = []
        fields, used, pixels = self.fields, self.beats * LANES, self.height * self.width
        pixel = fields["out_base"]
        for index in range(self.maps):
            first = fields["prm_base"] * LANES + index * used
            channels = (first + np.arange(self.tiles * used)) % rq.bias.size
            names = ("bias", "m", "s", "r", "d", "even", "exc_v", "exc_d")
            layer = Requant(
                **{name: getattr(rq, name)[channels] for name in names},
                z=self.zero, lo=self.low, hi=self.high,
            )  # fmt: skip
            accs = self.accs.reshape(self.maps, pixels, self.tiles, COLS)[index, ..., :used]
            codes = requantise(accs.reshape(pixels, -1), layer).astype(np.int8).reshape(pixels, -1, LANES)
            for at in range(pixels):
                for beat, values in enumerate(codes[at]):
                    place = fields["out_group"] + beat
                    address = (pixel + place // GROUPS) % ACT_DEPTH
                    given = values.tobytes()
                    if self.table:
                        given = bytes(self.tables[self.table - 1][code + 128] for code in values.tolist())
                    write = Write(address, 1 << place % GROUPS, given)
                    writes.append(write if beat < fields["out_groups"] else None)
                row, last = at % self.width == self.width - 1, at == pixels - 1
                pixel += fields["out_tile" if last and self.window else "out_oy" if row else "out_ox"]
        return writes


class Bench:
    """A parameter memory with latency 2, and what was written in which cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.edge = 0
        self.address: Any = None
        self.written: dict[int, Write] = {}
        self.overruns: list[int] = []
        self.done: list[int] = []
        self.words, self.rq = random_params(np.random.default_rng(3))
        self.tables = [random.Random(i).randbytes(256) for i in range(TABLES)]

    async def start(self) -> Bench:
        names = (
            "tile_last",
            "tile_pixel_last",
            "tile_row_last",
            "tile_map_last",
            "tile_job_last",
            "job_start",
            "descriptor",
            "results",
        )
        await start(self.dut, prm_data=0, prm_ready=1, tab_write=0, tab_addr=0, tab_data=0, **dict.fromkeys(names, 0))
        for address, code in enumerate(b"".join(self.tables)):
            self.dut.tab_addr.value, self.dut.tab_data.value = address, code
            await pulse(self.dut, "tab_write")
        cocotb.start_soon(self._watch())
        return self

    async def _watch(self) -> None:
        dut, fetched = self.dut, 0
        while True:
            await RisingEdge(dut.clk)
            self.edge += 1
            dut.prm_data.value = fetched
            address = dut.prm_addr.value
            if self.address is not None:
                assert dut.prm_ask.value == 1 or address == self.address, "a new address is not asked for"
            self.address = address if address.is_resolvable else None
            fetched = self.words[unsigned(address)] if address.is_resolvable else 0
            enable = unsigned(dut.write_enable.value)
            if enable:
                data = dut.write_data.value.to_bytes(byteorder="little")
                parts = {data[i : i + LANES] for i in range(0, ROWS, LANES)}
                assert len(parts) == 1, "the groups differ"
                self.written[self.edge] = Write(unsigned(dut.write_addr.value), enable, parts.pop())
            if dut.overrun.value == 1:
                self.overruns.append(self.edge)
            if dut.job_done.value == 1:
                self.done.append(self.edge)

    async def tile(self, job: Job, index: int) -> int:
        """The controls of one tile, and its results a cycle later; the edge that ends the controls' cycle."""
        dut = self.dut
        in_pixel, pixel = index % job.tiles == job.tiles - 1, index // job.tiles
        row = in_pixel and pixel % job.width == job.width - 1
        size = job.width * job.height
        last = job.window and in_pixel and pixel % size == size - 1
        flags = {"pixel_last": in_pixel, "row_last": row, "map_last": last, "job_last": index == len(job.accs) - 1}
        for name, value in flags.items():
            getattr(dut, f"tile_{name}").value = int(value)
        await pulse(dut, "tile_last")
        edge = self.edge + 1  # this task may wake before the watcher
        for name in flags:
            getattr(dut, f"tile_{name}").value = random.getrandbits(1)
        dut.results.value = int.from_bytes(job.accs[index].astype(np.int32).tobytes(), "little")
        return edge

    async def begin(self, job: Job) -> None:
        words = isa.encode(isa.LAYOUTS[job.fields["opcode"]], job.fields)
        self.dut.descriptor.value = sum(word << (64 * i) for i, word in enumerate(words))
        await pulse(self.dut, "job_start")


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_jobs(dut: Any) -> None:
    """Each beat is written LATENCY cycles after its control, at its place, and job_done marks the last one."""
    bench = await Bench(dut).start()
    rng = random.Random(11)
    for _ in range(25):
        job = Job(rng, bench.rq, bench.tables)
        await bench.begin(job)
        bench.written.clear()
        bench.done.clear()
        expected: dict[int, Write] = {}
        edge = 0
        for index in range(len(job.accs)):
            edge = await bench.tile(job, index)
            for beat in range(job.beats):
                write = job.writes[index * job.beats + beat]
                if write is not None:
                    expected[edge + beat + job.latency] = write
            for wait in range(job.beats - 1 + rng.choice((0, 0, 1, 5))):
                await RisingEdge(dut.clk)
                if wait == 0:
                    dut.results.value = rng.getrandbits(32 * COLS)  # taken by now
        for _ in range(job.latency + BEATS + rng.choice((0, 0, 2))):
            await RisingEdge(dut.clk)
        assert bench.written.keys() == expected.keys(), f"{job.fields}: written in other cycles"
        for when, write in expected.items():
            assert bench.written[when] == write, f"{job.fields}: {bench.written[when]} instead of {write}"
        assert bench.done == [edge + job.beats - 1 + job.latency] and not bench.overruns


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def parameters_not_there(dut: Any) -> None:
    """A tile that comes before its parameters is reported in that very cycle."""
    bench = await Bench(dut).start()
    job = Job(random.Random(13), bench.rq, bench.tables)
    await bench.begin(job)
    dut.prm_ready.value = 0
    await RisingEdge(dut.clk)
    assert not bench.overruns
    late = await bench.tile(job, 0)
    await RisingEdge(dut.clk)
    assert bench.overruns == [late]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def overrun(dut: Any) -> None:
    """A tile that comes before the last one has left is reported in that very cycle, any later one is not."""
    bench = await Bench(dut).start()
    rng = random.Random(12)
    for _ in range(30):
        job = Job(rng, bench.rq, bench.tables)
        while len(job.accs) < 2:
            job = Job(rng, bench.rq, bench.tables)
        await bench.begin(job)
        bench.overruns.clear()
        await bench.tile(job, 0)
        distance = rng.randint(1, BEATS + 1)
        for _ in range(distance - 1):
            await RisingEdge(dut.clk)
        second = await bench.tile(job, 1)
        await RisingEdge(dut.clk)
        assert bench.overruns == ([second] if distance < job.beats else []), (
            f"{job.beats} beats, {distance} cycles later"
        )
        await pulse(dut, "rst")
