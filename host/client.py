"""The host's side of the link: requests and responses as bytes, and registers, memories and frames on top of them.

docs/uart.md has the bytes. Nothing here knows what carries them: anything with `read` and `write` is a link, for
example a serial port object of pyserial with a time-out, or the simulated pins of sim/uart.py.
"""

from __future__ import annotations

import binascii
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from pyexport.isa import ERRORS, LOAD_TARGETS, MAGIC, REGISTERS

SYNC_REQUEST = 0xA5
SYNC_RESPONSE = 0x5A
MAX_PAYLOAD = 512  # bytes, parameter PAYLOAD of rtl/uart_host.v
MOST_GARBAGE = 4096  # bytes before a response
SILENCE = 0.5  # seconds after which a board has forgotten a partial frame: 2**22 clocks, at 10 MHz and above

# bits of CTRL
CTRL_START = 1 << 0
CTRL_CLEAR = 1 << 2
CTRL_AUTO_START = 1 << 8
CTRL_IRQ_ENABLE = 1 << 9


class Command(IntEnum):
    """Second byte of a request; the response repeats it."""

    WRITE = 0x01
    BURST = 0x02
    READ = 0x03
    INPUT = 0x04
    INPUT_LAST = 0x05
    OUTPUT = 0x06
    RESET = 0x07


class Status(IntEnum):
    """Third byte of a response."""

    OK = 0x00
    MORE = 0x01
    BAD_CRC = 0x80
    BAD_COMMAND = 0x81
    BAD_LENGTH = 0x82
    BUS_ERROR = 0x83
    TIMEOUT = 0x84


STATUS_MEANING = {
    Status.BAD_CRC: "the request's CRC was wrong",
    Status.BAD_COMMAND: "unknown command",
    Status.BAD_LENGTH: "the length or the count does not suit the command",
    Status.BUS_ERROR: "the register refused the access",
    Status.TIMEOUT: "a stream stood still: no input wanted, or no output there",
}


class LinkError(Exception):
    """The link or the accelerator did not do what it was asked.

    status: of the response that said so, if one did.  code: of the accelerator's error, if it stopped with one.
    """

    def __init__(self, message: str, status: Status | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NoResponse(LinkError):
    """No valid response came: the two ends may disagree about where a frame begins."""


class Link(Protocol):
    """What carries the bytes."""

    def write(self, data: bytes, /) -> object:
        """Sends all of `data`."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; fewer when the link's own time-out ends first."""


@dataclass(frozen=True)
class Response:
    """One response frame whose CRC was right."""

    command: int
    status: Status
    payload: bytes


def crc16(data: bytes) -> int:
    """CRC-16 with polynomial 0x1021, start 0xFFFF, highest bit first, nothing inverted ("CCITT-FALSE", "IBM-3740")."""
    return binascii.crc_hqx(data, 0xFFFF)


def encode_request(command: int, payload: bytes = b"") -> bytes:
    """The bytes of a request frame. The payload's length is not checked here, so that tests can send wrong ones."""
    body = struct.pack("<BH", command, len(payload)) + payload
    return bytes([SYNC_REQUEST]) + body + struct.pack(">H", crc16(body))


def encode_response(command: int, status: int, payload: bytes = b"") -> bytes:
    """The bytes of a response frame."""
    body = struct.pack("<BBH", command, status, len(payload)) + payload
    return bytes([SYNC_RESPONSE]) + body + struct.pack(">H", crc16(body))


def read_response(read: Callable[[int], bytes]) -> Response:
    """Takes one response from `read`, skipping bytes before its sync byte.

    Raises NoResponse when the bytes end early, the CRC is wrong or the status is unknown, or no sync byte is among the
    first MOST_GARBAGE bytes.
    """

    def exactly(count: int) -> bytes:
        data = read(count)
        if len(data) != count:
            raise NoResponse(f"no complete response: {count} bytes expected, {len(data)} came before the time-out")
        return data

    for _ in range(MOST_GARBAGE):
        if exactly(1)[0] == SYNC_RESPONSE:
            break
    else:
        raise NoResponse(f"{MOST_GARBAGE} bytes came, and none of them begins a response")
    header = exactly(4)
    command, status, length = struct.unpack("<BBH", header)
    payload = exactly(length) if length else b""
    if crc16(header + payload) != struct.unpack(">H", exactly(2))[0]:
        raise NoResponse("the response's CRC is wrong")
    if status not in list(Status):
        raise NoResponse(f"unknown status 0x{status:02X}")
    return Response(command, Status(status), payload)


def memory_image(path: Path) -> list[int]:
    """The words of a memory image ($readmemh text: one hexadecimal word a line, `//` comments)."""
    lines = (line.split("//")[0].strip() for line in path.read_text().splitlines())
    return [int(line, 16) for line in lines if line]


class Client:
    """An accelerator at the other end of `link`. Every method raises LinkError when something goes wrong.

    After NoResponse the two ends may disagree about where a frame begins: call `recover`.
    """

    def __init__(self, link: Link, max_payload: int = MAX_PAYLOAD) -> None:
        self.link = link
        self.max_payload = max_payload

    def request(self, command: Command, payload: bytes = b"") -> Response:
        """Sends a request and takes its response, whatever its status."""
        self.link.write(encode_request(command, payload))
        response = read_response(self.link.read)
        if response.status < Status.BAD_CRC and response.command != command:
            raise NoResponse(f"response to command 0x{response.command:02X} where 0x{command:02X} was sent")
        return response

    def _ask(self, command: Command, payload: bytes = b"") -> Response:
        response = self.request(command, payload)
        if response.status >= Status.BAD_CRC:
            meaning = STATUS_MEANING[response.status]
            raise LinkError(f"{command.name}: {response.status.name}: {meaning}", response.status)
        return response

    def recover(self, silence: float = SILENCE) -> None:
        """Lets a partial frame at the other end expire (`silence` seconds), drops what came, and sends RESET."""
        time.sleep(silence)
        while self.link.read(4096):
            pass
        self.reset()

    def reset(self) -> None:
        """Resets the accelerator and its streams. Memory contents stay, registers do not."""
        self._ask(Command.RESET)

    # ---------------------------------------------------------------- registers

    def write_regs(self, address: int, values: Sequence[int]) -> None:
        """Writes 32-bit words to consecutive registers, the first at byte address `address`."""
        self._ask(Command.WRITE, struct.pack(f"<B{len(values)}I", address, *values))

    def write_reg(self, name: str, value: int) -> None:
        """Writes a register by its name in pyexport/isa.py."""
        self.write_regs(REGISTERS[name][0], [value])

    def read_regs(self, address: int, count: int) -> list[int]:
        """Reads consecutive registers."""
        payload = self._ask(Command.READ, bytes([address, count])).payload
        if len(payload) != 4 * count:
            raise NoResponse(f"READ: {len(payload)} bytes came for {count} registers")
        return list(struct.unpack(f"<{count}I", payload))

    def read_reg(self, name: str) -> int:
        """Reads a register by its name."""
        return self.read_regs(REGISTERS[name][0], 1)[0]

    def check_id(self) -> dict[str, int]:
        """What the accelerator says it is: format version, rows, cols, lanes and the depths."""
        identity, array, act, wgt, prm, prg = self.read_regs(REGISTERS["ID"][0], 6)
        if identity != MAGIC:
            raise LinkError(f"ID reads 0x{identity:08X}, not 0x{MAGIC:08X}: another design answers")
        version, lanes, cols, rows = array.to_bytes(4, "big")
        return {"version": version, "rows": rows, "cols": cols, "lanes": lanes,
                "act_depth": act, "wgt_depth": wgt, "prm_depth": prm, "prg_depth": prg}  # fmt: skip

    # ---------------------------------------------------------------- memories

    def load(self, target: str, words: Sequence[int], width: int, address: int | None = 0) -> None:
        """Writes memory words from `address` on, or with None where the last `load` ended.

        `target` is a name in LOAD_TARGETS, `width` a word's bits (a multiple of 32).
        """
        if width % 32:
            raise ValueError(f"memory words of {width} bits: a multiple of 32 is needed")
        slices = [word >> shift & 0xFFFFFFFF for word in words for shift in range(0, width, 32)]
        register = REGISTERS["LOAD_DATA"][0]
        if address is not None:
            self.write_reg("LOAD_ADDR", LOAD_TARGETS[target] << 28 | address)
        burst = (self.max_payload - 1) // 4
        for at in range(0, len(slices), burst):
            part = slices[at : at + burst]
            self._ask(Command.BURST, struct.pack(f"<B{len(part)}I", register, *part))

    # ---------------------------------------------------------------- a run

    def status(self) -> dict[str, int]:
        """The bits of STATUS by name."""
        value = self.read_reg("STATUS")
        names = ("idle", "loaded", "running", "pending", "done", "error")
        bits = {name: value >> bit & 1 for bit, name in enumerate(names)}
        return {**bits, "code": value >> 8 & 0xFF, "job": value >> 16}

    def send_input(self, frame: bytes) -> None:
        """Sends an input frame: activation words of `rows` bytes, lowest channel first (docs/formats.md)."""
        if not frame:
            raise ValueError("an empty input frame")
        for at in range(0, len(frame), self.max_payload):
            part = frame[at : at + self.max_payload]
            last = at + len(part) == len(frame)
            self._ask(Command.INPUT_LAST if last else Command.INPUT, part)

    def start(self) -> None:
        """Clears done and error, and starts a run on the input that was sent. Auto start and the interrupt stay."""
        levels = self.read_reg("CTRL") & (CTRL_AUTO_START | CTRL_IRQ_ENABLE)
        self.write_reg("CTRL", levels | CTRL_START | CTRL_CLEAR)

    def wait_done(self, seconds: float = 60) -> None:
        """Asks for STATUS until the run is done. Raises LinkError with the error code's meaning when it failed.

        seconds: the longest wait, by this computer's clock. A run that is done at the last look is never too late.
        """
        end = time.monotonic() + seconds
        while True:
            late = time.monotonic() >= end
            state = self.status()
            if state["error"]:
                meaning = dict(ERRORS.values()).get(state["code"], "unknown error")
                message = f"error {state['code']} in job {state['job']}: {meaning}"
                raise LinkError(message, code=state["code"])
            if state["done"]:
                return
            if late:
                raise LinkError(f"the run is not done after {seconds:g} s")

    def read_output(self) -> bytes:
        """The output frame, to its last byte."""
        frame = b""
        while True:
            response = self._ask(Command.OUTPUT, struct.pack("<H", self.max_payload))
            frame += response.payload
            if response.status == Status.OK:
                return frame

    def run(self, frame: bytes, seconds: float = 60) -> bytes:
        """Input frame in, output frame out. seconds: as for `wait_done`."""
        self.send_input(frame)
        if not self.read_reg("CTRL") & CTRL_AUTO_START:  # there, the frame has started its run
            state = self.status()
            if state["error"] and not state["loaded"]:  # a start would clear it and wait for another frame
                raise LinkError(f"the input frame was not taken: error {state['code']}", code=state["code"])
            self.start()
        self.wait_done(seconds)
        return self.read_output()
