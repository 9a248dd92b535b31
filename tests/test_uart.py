"""The UART host link on both simulators, and the client's bytes."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest

from host.client import (
    Client,
    Command,
    LinkError,
    Response,
    Status,
    crc16,
    encode_request,
    encode_response,
    memory_image,
    read_response,
)
from pyexport.isa import REGISTERS
from sim.runner import RTL, SIMULATORS, lint, run_bench

SOURCES = [RTL / f"{name}.v" for name in ("uart_host", "uart_frames", "uart_rx", "uart_tx", "delay", "ram_part", "ram")]


@pytest.mark.parametrize(("sim", "clocks_per_bit", "payload"), [("icarus", 4, 64), ("verilator", 5, 128)])
def test_bench(sim: str, clocks_per_bit: int, payload: int) -> None:
    parameters: dict[str, int | str] = {"CLOCKS_PER_BIT": clocks_per_bit, "PAYLOAD": payload, "TIMER": 9}
    name = f"uart_{clocks_per_bit}_{payload}"
    run_bench(sim, "uart_host", "sim.bench_uart", SOURCES, parameters, name)


@pytest.mark.parametrize("sim", SIMULATORS)
@pytest.mark.parametrize("clocks_per_bit", [4, 7, 64, 434])
def test_lint(sim: str, clocks_per_bit: int) -> None:
    lint(sim, "uart_host", SOURCES, {"CLOCKS_PER_BIT": clocks_per_bit, "PAYLOAD": 256, "TIMER": 22})


def test_crc_is_the_documented_one() -> None:
    assert crc16(b"123456789") == 0x29B1
    for frame in (encode_request(3, b"abc"), encode_response(3, 0, b"abc")):
        assert crc16(frame[1:]) == 0


def test_the_document_shows_real_frames() -> None:
    text = (Path(__file__).parent.parent / "docs" / "uart.md").read_text()
    assert f"request   {encode_request(Command.READ, bytes([0, 1])).hex(' ').upper()}" in text
    assert f"response  {encode_response(Command.READ, Status.OK, b'ATNI').hex(' ').upper()}" in text


def test_read_response() -> None:
    rng = random.Random(1)
    for size in (0, 1, 512):
        payload = rng.randbytes(size)
        frame = encode_response(Command.OUTPUT, Status.MORE, payload)
        expected = Response(Command.OUTPUT, Status.MORE, payload)
        assert read_response(io.BytesIO(b"\xa5\x00garbage" + frame).read) == expected
        for cut in range(len(frame)):
            with pytest.raises(LinkError):
                read_response(io.BytesIO(frame[:cut]).read)
        for _ in range(50):
            bad = bytearray(frame)
            bad[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            with pytest.raises(LinkError):
                read_response(io.BytesIO(bytes(bad)).read)
    with pytest.raises(LinkError, match="unknown status"):
        read_response(io.BytesIO(encode_response(1, 0x42)).read)


def test_memory_image(tmp_path: Path) -> None:
    path = tmp_path / "x.mem"
    path.write_text("// words\n00ff\n\nABCD // last\n")
    assert memory_image(path) == [0xFF, 0xABCD]


class Registers:
    """A link to a design that has registers and takes input: STATUS shows done from the look `looks` on."""

    error = 0  # what STATUS shows

    def __init__(self, looks: int = 1) -> None:
        self.words = {address: 0 for address, *_ in REGISTERS.values()}
        self.looks = looks
        self.written: list[int] = []
        self.answers = io.BytesIO()

    def write(self, data: bytes, /) -> None:
        command, payload = Command(data[1]), data[4:-2]
        answer = b""
        if command == Command.READ:
            if payload[0] == REGISTERS["STATUS"][0]:
                self.looks -= 1
                self.words[payload[0]] = (self.looks <= 0) << 4 | self.error << 8 | (self.error > 0) << 5
            answer = struct.pack("<I", self.words[payload[0]])
        elif command == Command.WRITE:
            self.words[payload[0]] = struct.unpack("<I", payload[1:])[0] & ~7
            self.written.append(struct.unpack("<I", payload[1:])[0])
        self.answers = io.BytesIO(encode_response(command, Status.OK, answer))

    def read(self, count: int, /) -> bytes:
        return self.answers.read(count)


@pytest.mark.parametrize("levels", [0, 1 << 8, 1 << 9, 3 << 8])
def test_a_start_leaves_the_levels_of_ctrl(levels: int) -> None:
    link = Registers()
    link.words[REGISTERS["CTRL"][0]] = levels
    client = Client(link)
    client.start()
    assert link.written == [levels | 0b101]
    # with auto start the frame itself is the start; a second one would count for the next frame
    client.run(b"frame")
    assert link.written[1:] == ([] if levels & 1 << 8 else [levels | 0b101])


def test_a_frame_that_was_not_taken_is_not_started() -> None:
    link = Registers(looks=10)
    link.error = 3
    with pytest.raises(LinkError, match="not taken") as caught:
        Client(link).run(b"frame")
    assert caught.value.code == 3
    assert link.written == []


def test_waiting_ends_by_the_clock() -> None:
    Client(Registers(looks=5000)).wait_done()
    Client(Registers(looks=1)).wait_done(seconds=0)
    with pytest.raises(LinkError, match=r"not done after 0\.01 s"):
        Client(Registers(looks=10**9)).wait_done(seconds=0.01)
