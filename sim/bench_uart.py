"""rtl/uart_host.v with all that it holds, through its two pins: commands, refusals, damaged frames, resynchronising."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteSlave, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from host.client import Client, Command, LinkError, Status, encode_request, encode_response
from sim.runner import bench_parameters
from sim.streams import CLOCK_NS, Stream, cycles, stalls, start
from sim.uart import SerialPins, with_client

P = {name: int(value) for name, value in bench_parameters().items()}
PAYLOAD = P["PAYLOAD"]
BITS = 10 * P["CLOCKS_PER_BIT"]  # clocks of a byte
EXPIRY = 1 << P["TIMER"]  # clocks


class Registers:
    """64 words behind AXI4-Lite; those from byte address 0x80 on refuse."""

    def __init__(self) -> None:
        self.words = [random.getrandbits(32) for _ in range(32)]
        self.writes: list[tuple[int, int]] = []

    async def read(self, address: int, length: int) -> bytes:
        if address >= 0x80 or length != 4:
            raise ValueError("refused")
        return self.words[address // 4].to_bytes(4, "little")

    async def write(self, address: int, data: bytes) -> None:
        if address >= 0x80 or len(data) != 4:
            raise ValueError("refused")
        self.words[address // 4] = int.from_bytes(data, "little")
        self.writes.append((address, self.words[address // 4]))


class Bench:
    """The design with registers and streams behind it, and pins before it."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.registers = Registers()
        self.pins = SerialPins(dut.rxd, dut.txd, P["CLOCKS_PER_BIT"] * CLOCK_NS * 1000)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
        self.resets = 0

    async def start(self) -> Bench:
        dut = self.dut
        slave = AxiLiteSlave(AxiLiteBus.from_prefix(dut, "m_axil"), dut.clk, dut.rst, target=self.registers)
        for half in (slave.write_if, slave.read_if):
            half.log.setLevel("CRITICAL")
        channels = [slave.write_if.aw_channel, slave.write_if.w_channel, slave.write_if.b_channel]
        for channel in [*channels, slave.read_if.ar_channel, slave.read_if.r_channel, self.sink, self.source]:
            channel.set_pause_generator(stalls(0.4))
        await start(dut)
        Stream(dut, "m_axil_awvalid", "m_axil_awready", "m_axil_awaddr")
        Stream(dut, "m_axil_wvalid", "m_axil_wready", "m_axil_wdata")
        Stream(dut, "m_axil_arvalid", "m_axil_arready", "m_axil_araddr")
        Stream(dut, "m_axis_tvalid", "m_axis_tready", "m_axis_tdata", "m_axis_tlast")
        cocotb.start_soon(self._count_resets())
        await cycles(dut, 5)
        return self

    async def _count_resets(self) -> None:
        while True:
            await RisingEdge(self.dut.link_rst)
            self.resets += 1

    async def client(self, work: Any) -> Any:
        # longer than any silence: a stream's expiry, or a whole payload executed with a slow bus
        silence = 2 * EXPIRY + 20 * PAYLOAD
        return await with_client(self.pins, work, silence // P["CLOCKS_PER_BIT"], PAYLOAD)

    async def exchange(self, request: bytes, answer: bytes) -> None:
        """Sends raw bytes; exactly `answer` must come."""
        await self.pins.send(request)
        came = await self.pins.receive(len(answer) + 1, EXPIRY * 2 // P["CLOCKS_PER_BIT"])
        assert came == answer, f"{request.hex(' ')} -> {came.hex(' ')}, expected {answer.hex(' ')}"


def error_of(call: Callable[[], object]) -> LinkError:
    try:
        call()
    except LinkError as error:
        return error
    raise AssertionError("no LinkError")


def words(count: int) -> list[int]:
    return [random.getrandbits(32) for _ in range(count)]


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def registers(dut: Any) -> None:
    """WRITE, BURST and READ of every length class, in order, with stalls on the bus."""
    bench = await Bench(dut).start()
    model, log = bench.registers, bench.registers.writes

    def work(client: Client) -> None:
        for count in (1, 2, min(32, (PAYLOAD - 1) // 4)):
            values = words(count)
            client.write_regs(4 * (32 - count), values)
            assert model.words[32 - count :] == values
            assert client.read_regs(4 * (32 - count), count) == values
        log.clear()
        values = words((PAYLOAD - 1) // 4)
        client._ask(Command.BURST, struct.pack(f"<B{len(values)}I", 0x30, *values))
        assert log == [(0x30, value) for value in values]
        log.clear()
        values = words(2 * len(values) // 5)
        client.load("WEIGHTS", [a | b << 32 for a, b in zip(values[::2], values[1::2], strict=False)], 64, 7)
        assert log == [(0x2C, 1 << 28 | 7), *((0x30, value) for value in values[: len(values) // 2 * 2])]

    await bench.client(work)


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def refused(dut: Any) -> None:
    """Bus errors stop a request where they happen; illegal requests do nothing; each has its status."""
    bench = await Bench(dut).start()
    log = bench.registers.writes
    value = struct.pack("<2I", 1, 2)
    cases = [
        (Command.WRITE, b"\x7c" + value, Status.BUS_ERROR),
        (Command.WRITE, b"\x80" + value, Status.BUS_ERROR),
        (Command.BURST, b"\xfc" + value, Status.BUS_ERROR),
        (Command.READ, b"\x7c\x02", Status.BUS_ERROR),
        (Command.READ, b"\x80\x01", Status.BUS_ERROR),
        (Command.WRITE, b"", Status.BAD_LENGTH),
        (Command.WRITE, b"\x00", Status.BAD_LENGTH),
        (Command.WRITE, b"\x00" + value[:3], Status.BAD_LENGTH),
        (Command.BURST, value, Status.BAD_LENGTH),
        (Command.READ, b"\x00", Status.BAD_LENGTH),
        (Command.READ, b"\x00\x00", Status.BAD_LENGTH),
        (Command.READ, bytes([0, PAYLOAD // 4 + 1]), Status.BAD_LENGTH),
        (Command.READ, b"\x00\x01\x00", Status.BAD_LENGTH),
        (Command.INPUT, b"", Status.BAD_LENGTH),
        (Command.INPUT_LAST, b"", Status.BAD_LENGTH),
        (Command.OUTPUT, b"\x00\x00", Status.BAD_LENGTH),
        (Command.OUTPUT, struct.pack("<H", PAYLOAD + 1), Status.BAD_LENGTH),
        (Command.OUTPUT, b"\x01", Status.BAD_LENGTH),
        (Command.RESET, b"\x00", Status.BAD_LENGTH),
        (0x00, b"", Status.BAD_COMMAND),
        (0x08, b"\x00" * 5, Status.BAD_COMMAND),
        (0xA5, b"\xa5\xa5", Status.BAD_COMMAND),
    ]
    resets = bench.resets
    for command, payload, status in cases:
        await bench.exchange(encode_request(command, payload), encode_response(command, status))
    # the first word of the first case was written, nothing else
    assert log == [(0x7C, 1)]
    assert bench.resets == resets and bench.sink.empty()
    # a length above PAYLOAD is answered before the payload comes
    header = struct.pack("<BBH", 0xA5, Command.WRITE, PAYLOAD + 1)
    await bench.exchange(header, encode_response(Command.WRITE, Status.BAD_LENGTH))
    await bench.client(lambda client: client.read_regs(0, 1))


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def frames(dut: Any) -> None:
    """Frames shorter than, equal to and longer than a payload arrive whole, with one TLAST at the end."""
    bench = await Bench(dut).start()
    for size in (1, 2, PAYLOAD - 1, PAYLOAD, PAYLOAD + 1, 2 * PAYLOAD + 7):
        sent, given = random.randbytes(size), random.randbytes(size)
        await bench.source.send(AxiStreamFrame(given))
        await bench.client(lambda client, sent=sent: client.send_input(sent))
        frame = await bench.sink.recv()
        assert bytes(frame.tdata) == sent
        assert await bench.client(lambda client: client.read_output()) == given
        assert bench.sink.empty()
    await bench.source.send(AxiStreamFrame(b"abcde"))
    count = struct.pack("<H", 3)
    await bench.exchange(encode_request(Command.OUTPUT, count), encode_response(Command.OUTPUT, Status.MORE, b"abc"))
    await bench.exchange(encode_request(Command.OUTPUT, count), encode_response(Command.OUTPUT, Status.OK, b"de"))


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def stalled_streams(dut: Any) -> None:
    """No output, or output that stops half way, and input that nobody takes: TIMEOUT, and nothing is lost or hangs."""
    bench = await Bench(dut).start()
    count = struct.pack("<H", 5)
    ask = encode_request(Command.OUTPUT, count)
    await bench.exchange(ask, encode_response(Command.OUTPUT, Status.TIMEOUT))
    await bench.source.send(AxiStreamFrame(b"12345"))
    cocotb.start_soon(bench.pins.send(ask))
    while dut.s_axis_tvalid.value == 0 or dut.s_axis_tdata.value != ord("4"):
        await RisingEdge(dut.clk)
    bench.source.clear_pause_generator()
    bench.source.pause = True
    await bench.exchange(b"", encode_response(Command.OUTPUT, Status.TIMEOUT, b"1234"))
    bench.source.pause = False
    await bench.exchange(ask, encode_response(Command.OUTPUT, Status.OK, b"5"))
    bench.sink.clear_pause_generator()
    bench.sink.pause = True
    await bench.exchange(encode_request(Command.INPUT, b"xyz"), encode_response(Command.INPUT, Status.TIMEOUT))
    await bench.exchange(encode_request(Command.INPUT, b"q"), encode_response(Command.INPUT, Status.TIMEOUT))
    bench.sink.pause = False
    await bench.client(lambda client: client.send_input(b"uv"))
    # the byte that was shown when the time ended is still taken: streams do not take a beat back
    assert bytes((await bench.sink.recv()).tdata) == b"xuv"
    resets = bench.resets
    await bench.client(lambda client: client.reset())
    assert bench.resets == resets + 1 and dut.link_rst.value == 0


@cocotb.test(timeout_time=120, timeout_unit="ms")
async def damaged_frames(dut: Any) -> None:
    """One wrong bit anywhere after the length: BAD_CRC, and nothing happens. In the header: never an execution."""
    bench = await Bench(dut).start()
    log, resets = bench.registers.writes, bench.resets
    good = encode_request(Command.WRITE, b"\x10" + struct.pack("<I", 0x12345678))
    for at in range(4, len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << random.randrange(8)
        await bench.exchange(bytes(bad), encode_response(Command.WRITE, Status.BAD_CRC))
    for command in Command:
        bad = bytearray(encode_request(command, b"\x10\x01"))
        bad[-1] ^= 0x80
        await bench.exchange(bytes(bad), encode_response(command, Status.BAD_CRC))
    for at in range(4):
        bad = bytearray(good)
        bad[at] ^= 1 << random.randrange(8)
        await bench.pins.send(bytes(bad))
        await cycles(dut, EXPIRY + 20 * BITS)
        bench.pins.received.clear()
        assert await bench.client(lambda client: client.read_regs(0, 2)) == bench.registers.words[:2]
    assert log == [] and bench.resets == resets and bench.sink.empty()
    await bench.exchange(good, encode_response(Command.WRITE, Status.OK))
    assert log == [(0x10, 0x12345678)]


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def resynchronises(dut: Any) -> None:
    """Garbage without a sync byte costs nothing; a cut frame or random bytes cost one expiry at most."""
    bench = await Bench(dut).start()
    good = encode_request(Command.READ, b"\x00\x01")
    answer = encode_response(Command.READ, Status.OK, bench.registers.words[0].to_bytes(4, "little"))

    async def pause() -> None:
        await cycles(dut, EXPIRY + 12 * BITS)

    await bench.exchange(b"\x00\xff\x5a hello" + good, answer)
    for cut in range(1, len(good)):
        await bench.pins.send(good[:cut])
        await pause()
        await bench.exchange(good, answer)
    # a low stop bit drops the byte, a break of three bytes drops everything in it
    await bench.pins.bits([0, *(good[0] >> bit & 1 for bit in range(8)), 0, 1, 1])
    await bench.exchange(good, answer)
    await bench.pins.bits([0] * 33 + [1] * 2)
    await bench.exchange(good, answer)
    # a glitch shorter than half a bit is no start bit
    await FallingEdge(dut.clk)
    dut.rxd.value = 0
    await FallingEdge(dut.clk)
    dut.rxd.value = 1
    await cycles(dut, BITS)
    await bench.exchange(good, answer)
    for _ in range(10):
        await bench.pins.send(random.randbytes(random.randrange(1, 60)))
        await pause()
        await cycles(dut, 40 * BITS)
        bench.pins.received.clear()
        await bench.exchange(good, answer)
    # a second request before the first one's answer is ignored
    await bench.pins.send(good + good[:3])
    await cycles(dut, len(answer) * BITS + 20 * BITS)
    assert bytes(bench.pins.received) == answer
    bench.pins.received.clear()
    await pause()
    await bench.exchange(good, answer)


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def other_speeds(dut: Any) -> None:
    """A sender up to 2 % faster or slower than the receiver is understood."""
    bench = await Bench(dut).start()
    for speed in (0.98, 1.02):
        bench.pins.speed = speed
        values = words(15)
        await bench.client(lambda client, values=values: client.write_regs(0x10, values))
        assert bench.registers.words[4:19] == values


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def client_errors(dut: Any) -> None:
    """The client raises LinkError with the status, and without one when no answer comes."""
    bench = await Bench(dut).start()

    def work(client: Client) -> None:
        assert error_of(lambda: client.read_regs(0x80, 1)).status == Status.BUS_ERROR
        client.link.write(b"\xa5\x01\x20\x00")
        assert error_of(lambda: client.read_regs(0, 1)).status is None
        client.recover(silence=0)
        assert client.read_regs(0, 1) == bench.registers.words[:1]

    await bench.client(work)
