"""rtl/axil_regs.v: register values, refusals, pulses, the load port, and both AXI4-Lite directions under stalls."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from pyexport.isa import FORMAT_VERSION, MAGIC, REGISTERS
from sim.runner import bench_parameters
from sim.streams import CLOCK_NS, Stream, cycles, pulse, stalls, start

P = {name: int(value) for name, value in bench_parameters().items()}
ADDRESS = {name: address for name, (address, _) in REGISTERS.items()}
WRITABLE = ("CTRL", "LAYER_INDEX", "LOAD_ADDR", "LOAD_DATA")
TARGETS = 4 if P["TABLES"] else 3
DEPTHS = [P["PRG_DEPTH"], P["WGT_DEPTH"], P["PRM_DEPTH"], 256 * P["TABLES"]][:TARGETS]
SLICES = [2, -(-8 * P["ROWS"] * P["COLS"] // 32), 5 * P["LANES"], 1][:TARGETS]
FLAGS = ("idle", "loaded", "running", "out_pending", "done", "error")
INPUTS = (*FLAGS, "error_code", "job", "cycles", "runs", "layer_cycles")


class Host:
    """An AXI4-Lite master with stalls on its five channels, and the pulses that the module gave."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.loads: list[tuple[int, int, int, int]] = []  # target, address, slice, data
        self.pulses: list[str] = []

    async def start(self, stall: float = 0.0) -> Host:
        dut = self.dut
        self.axi = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.aw, self.w = self.axi.write_if.aw_channel, self.axi.write_if.w_channel
        write_if, read_if = self.axi.write_if, self.axi.read_if
        if stall:
            for channel in (self.aw, self.w, write_if.b_channel, read_if.ar_channel, read_if.r_channel):
                channel.set_pause_generator(stalls(stall))
        await start(dut, **dict.fromkeys(INPUTS, 0))
        Stream(dut, "s_axil_bvalid", "s_axil_bready", "s_axil_bresp")
        Stream(dut, "s_axil_rvalid", "s_axil_rready", "s_axil_rdata", "s_axil_rresp")
        Stream(dut, "s_axil_awvalid", "s_axil_awready")
        Stream(dut, "s_axil_wvalid", "s_axil_wready")
        Stream(dut, "s_axil_arvalid", "s_axil_arready")
        cocotb.start_soon(self._watch())
        await RisingEdge(dut.clk)
        return self

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.pulses += [name for name in ("start", "stop", "clear") if getattr(dut, name).value == 1]
            assert dut.irq.value.is_resolvable and dut.load_valid.value.is_resolvable
            if dut.load_valid.value == 1:
                names = ("load_target", "load_addr", "load_slice", "load_data")
                target, address, part, data = (getattr(dut, name).value.to_unsigned() for name in names)
                self.loads.append((target, address, part, data))

    async def write(self, name: str | int, value: int) -> bool:
        """True where it was accepted."""
        address = ADDRESS[name] if isinstance(name, str) else name
        answer = await self.axi.write(address, value.to_bytes(4, "little"))
        assert answer.resp in (AxiResp.OKAY, AxiResp.SLVERR)
        return bool(answer.resp == AxiResp.OKAY)

    async def read(self, name: str | int) -> int | None:
        """None where it was refused."""
        answer = await self.axi.read(ADDRESS[name] if isinstance(name, str) else name, 4)
        assert answer.resp in (AxiResp.OKAY, AxiResp.SLVERR)
        return int.from_bytes(answer.data, "little") if answer.resp == AxiResp.OKAY else None


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def registers_and_refusals(dut: Any) -> None:
    """Every address of the map, read and written; what may not be written stays as it is."""
    host = await Host(dut).start(0.3)
    array = FORMAT_VERSION << 24 | P["LANES"] << 16 | P["COLS"] << 8 | P["ROWS"]
    expected: dict[int, int] = {ADDRESS[name]: 0 for name in REGISTERS}
    options = P["PRM_SERIAL"] << 9 | P["PACKED"] << 8 | P["TABLES"]
    expected |= {ADDRESS["ID"]: MAGIC, ADDRESS["ARRAY"]: array, ADDRESS["OPTIONS"]: options}
    expected |= {ADDRESS[f"{name}_DEPTH"]: P[f"{name}_DEPTH"] for name in ("ACT", "WGT", "PRM", "PRG")}
    for address in range(0, 256, 4):
        assert await host.read(address) == expected.get(address), hex(address)
    writable = {ADDRESS[name] for name in WRITABLE}
    for address in range(0, 256, 4):
        assert await host.write(address, 0) == (address in writable), hex(address)
    for address in range(0, 256, 4):
        assert await host.read(address) == expected.get(address), hex(address)
    assert host.loads == [(0, 0, 0, 0)] and not host.pulses


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def partial_strobes_are_refused(dut: Any) -> None:
    """One, two or three bytes of a register: SLVERR, nothing happens."""
    host = await Host(dut).start(0.3)
    for name in WRITABLE:
        for offset, length in ((0, 1), (1, 1), (3, 1), (0, 2), (2, 2), (1, 3), (0, 3)):
            answer = await host.axi.write(ADDRESS[name] + offset, bytes([0x01] * length))
            assert answer.resp == AxiResp.SLVERR, (name, offset, length)
    assert await host.read("CTRL") == 0 and await host.read("LAYER_INDEX") == 0 and await host.read("LOAD_ADDR") == 0
    assert not host.loads and not host.pulses


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def control_and_interrupt(dut: Any) -> None:
    """Pulses last one cycle and come once per write; levels stay; irq = enable and (done or error)."""
    host = await Host(dut).start()
    for bit, name in enumerate(("start", "stop", "clear")):
        host.pulses.clear()
        assert await host.write("CTRL", 1 << bit)
        await cycles(dut, 5)
        assert host.pulses == [name]
    for auto_start in (1, 0):
        for enable in (0, 1):
            assert await host.write("CTRL", auto_start << 8 | enable << 9)
            assert dut.auto_start.value == auto_start
            assert await host.read("CTRL") == auto_start << 8 | enable << 9
            for done in (0, 1):
                for error in (0, 1):
                    dut.done.value = done
                    dut.error.value = error
                    await cycles(dut, 3)
                    assert dut.irq.value == (enable & (done | error))
    await pulse(dut, "rst")
    await cycles(dut, 2)
    assert dut.auto_start.value == 0 and dut.irq.value == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def status(dut: Any) -> None:
    """Each input shows at its place."""
    host = await Host(dut).start(0.3)
    for _ in range(20):
        flags = [random.getrandbits(1) for _ in FLAGS]
        code, job = random.getrandbits(8), random.getrandbits(16)
        cycle_count, runs = random.getrandbits(32), random.getrandbits(32)
        values = dict(zip(INPUTS, (*flags, code, job, cycle_count, runs), strict=False))
        for name, value in values.items():
            getattr(dut, name).value = value
        await RisingEdge(dut.clk)
        bits = sum(flag << i for i, flag in enumerate(flags))
        assert await host.read("STATUS") == job << 16 | code << 8 | bits
        assert await host.read("CYCLES") == cycle_count and await host.read("RUNS") == runs


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def layer_cycles_settle(dut: Any) -> None:
    """A read right after, or together with, a new LAYER_INDEX returns that layer's count, which comes 3 cycles late."""
    host = await Host(dut).start()

    async def counters() -> None:
        pipe = [0, 0, 0]
        while True:
            await RisingEdge(dut.clk)  # the index read here stood in the cycle that ends
            index = dut.layer_index.value.to_unsigned()
            pipe = [index, *pipe[:2]]
            dut.layer_cycles.value = 1000 + pipe[2] if pipe[0] == pipe[1] == pipe[2] else 0xDEADBEEF

    cocotb.start_soon(counters())
    for _ in range(30):
        index = random.randrange(P["LAYERS"])
        assert await host.write("LAYER_INDEX", index)
        assert await host.read("LAYER_CYCLES") == 1000 + index
        assert await host.read("LAYER_INDEX") == index
    for index in (P["LAYERS"], 4096, 1 << 31):
        assert not await host.write("LAYER_INDEX", index)
    assert await host.read("LAYER_INDEX") == dut.layer_index.value.to_unsigned()
    for delay in range(8):  # AR comes 0..7 cycles after AW
        index = random.randrange(P["LAYERS"])
        write = host.axi.init_write(ADDRESS["LAYER_INDEX"], index.to_bytes(4, "little"))
        await cycles(dut, delay)
        value = await host.read("LAYER_CYCLES")
        assert value is not None and value != 0xDEADBEEF
        await write.wait()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def loading(dut: Any) -> None:
    """Slices and words count up, a new LOAD_ADDR starts a word; past the depth and while running it is refused."""
    host = await Host(dut).start(0.3)
    for target, (depth, slices) in enumerate(zip(DEPTHS, SLICES, strict=True)):
        for first in (0, random.randrange(depth), depth - 1):
            host.loads.clear()
            assert await host.write("LOAD_ADDR", target << 28 | first)
            expected = []
            for i in range(min(2 * slices + 1, (depth - first) * slices)):
                data = random.getrandbits(32)
                expected.append((target, first + i // slices, i % slices, data))
                assert await host.write("LOAD_DATA", data)
                if random.random() < 0.1:  # refused while running, and the place stays
                    dut.running.value = 1
                    await RisingEdge(dut.clk)
                    assert not await host.write("LOAD_DATA", ~data & 0xFFFFFFFF)
                    dut.running.value = 0
                    await RisingEdge(dut.clk)
            assert host.loads == expected
            where = first + len(expected) // slices
            assert await host.read("LOAD_ADDR") == target << 28 | (where & 0xFFFFFF)
            if where == depth:
                assert not await host.write("LOAD_DATA", 1)
                assert host.loads == expected
        assert await host.write("LOAD_ADDR", target << 28 | depth - 1)
        assert await host.read("LOAD_ADDR") == target << 28 | depth - 1
    before = await host.read("LOAD_ADDR")
    for value in (TARGETS << 28, 8 << 28, 15 << 28, 1 << 24, 1 << 27):
        assert not await host.write("LOAD_ADDR", value)
    assert await host.read("LOAD_ADDR") == before
    if DEPTHS[0] < 1 << 24:
        assert await host.write("LOAD_ADDR", DEPTHS[0]) and not await host.write("LOAD_DATA", 0)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def address_and_data_in_any_order(dut: Any) -> None:
    """AW long before W, W long before AW; nothing happens until both are here, and each is taken without the other."""
    host = await Host(dut).start()
    for late, taken in ((host.w, dut.s_axil_awready), (host.aw, dut.s_axil_wready)):
        for value in (1, 0):
            assert await host.write("LOAD_ADDR", value)
            host.loads.clear()
            late.pause = True
            write = host.axi.init_write(ADDRESS["LOAD_DATA"], value.to_bytes(4, "little"))
            await cycles(dut, 12)
            assert taken.value == 0 and not host.loads and not write.is_set()
            late.pause = False
            await write.wait()
            await cycles(dut, 2)
            assert write.data.resp == AxiResp.OKAY and host.loads == [(0, value, 0, value)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def many_outstanding(dut: Any, stall: float) -> None:
    """Queued writes and reads: each is answered once and in order; without stalls every 3 cycles at most."""
    host = await Host(dut).start(stall)
    assert await host.write("LOAD_ADDR", 0)
    count = min(60, SLICES[0] * DEPTHS[0])
    expected = [(0, i // 2, i % 2, random.getrandbits(32)) for i in range(count)]
    begin = get_sim_time("ns")
    writes = [host.axi.init_write(ADDRESS["LOAD_DATA"], data.to_bytes(4, "little")) for *_, data in expected]
    reads = [host.axi.init_read(ADDRESS["ID" if i % 2 else "ARRAY"], 4) for i in range(count)]
    for write in writes:
        await write.wait()
        assert write.data.resp == AxiResp.OKAY
    for i, read in enumerate(reads):
        await read.wait()
        assert (int.from_bytes(read.data.data, "little") == MAGIC) == bool(i % 2)
    spent = (get_sim_time("ns") - begin) / CLOCK_NS
    assert stall or spent <= 3 * count + 8, f"{spent} cycles for {count} writes and reads"
    await cycles(dut, 2)
    assert host.loads == expected
    assert dut.s_axil_awready.value == 1 and dut.s_axil_wready.value == 1 and dut.s_axil_arready.value == 1
    assert dut.s_axil_bvalid.value == 0 and dut.s_axil_rvalid.value == 0
