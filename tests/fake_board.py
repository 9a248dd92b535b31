"""A board in pure Python: docs/uart.md's link before docs/formats.md's registers, with faults on the line on demand.

It does not compute: it knows, for the memory contents of given networks, which output frame belongs to which input
frame. Anything else in its memories or in a frame gives wrong codes or the error that the accelerator would give.
"""

from __future__ import annotations

import os
import random
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from host.client import MAX_PAYLOAD, Command, Status, crc16, encode_response
from pyexport.hwconfig import HwConfig
from pyexport.isa import ERRORS, HEADER, LOAD_TARGETS, MAGIC, REGISTERS

EXPIRY = 0.1  # seconds after which a frame that pauses is forgotten
NAMES = {address: name for name, (address, _) in REGISTERS.items()}
TARGETS = {number: name for name, number in LOAD_TARGETS.items()}
Mangle = Callable[[bytes], bytes]


@dataclass
class Known:
    """A network that the board can pretend to run. memories: words in use; frames: input frame -> output frame."""

    memories: dict[str, list[int]]
    frames: dict[bytes, bytes]
    layer_ends: list[int]


@dataclass
class FakeBoard:
    """to_board, to_host: what the line does to the bytes of each write, and of each response."""

    config: HwConfig
    known: list[Known]
    to_board: Mangle = bytes
    to_host: Mangle = bytes
    memories: dict[str, dict[int, int]] = field(default_factory=lambda: {name: {} for name in LOAD_TARGETS})
    requests: int = 0
    inferences: int = 0
    buffer: bytes = b""
    heard: float = 0.0

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """RESET: memories stay."""
        self.registers = dict.fromkeys(REGISTERS, 0)
        self.slice, self.frame, self.loaded = 0, b"", b""
        self.output, self.ends = b"", [0] * self.config.layers
        self.done, self.error = False, 0

    def store(self, memories: dict[str, list[int]]) -> None:
        """Puts words into the memories, as a bitstream has them."""
        for name, words in memories.items():
            self.memories[name] |= dict(enumerate(words))

    # ---------------------------------------------------------------- the link

    def feed(self, data: bytes) -> bytes:
        """Bytes from the host -> bytes to the host."""
        now = time.monotonic()
        if now - self.heard > EXPIRY:
            self.buffer = b""
        self.heard = now
        self.buffer += self.to_board(data)
        answer = b""
        while (start := self.buffer.find(b"\xa5")) >= 0:
            self.buffer = self.buffer[start:]
            if len(self.buffer) < 4:
                return answer
            command, length = struct.unpack("<BH", self.buffer[1:4])
            if length > MAX_PAYLOAD:
                self.buffer = self.buffer[4:]
                answer += self.to_host(encode_response(command, Status.BAD_LENGTH))
                continue
            if len(self.buffer) < length + 6:
                return answer
            frame, self.buffer = self.buffer[: length + 6], self.buffer[length + 6 :]
            status, payload = Status.BAD_CRC, b""
            if crc16(frame[1:]) == 0:
                self.requests += 1
                status, payload = self.execute(command, frame[4:-2])
            answer += self.to_host(encode_response(command, status, payload))
        self.buffer = b""
        return answer

    def execute(self, command: int, payload: bytes) -> tuple[Status, bytes]:
        """One request that arrived whole."""
        if command in (Command.WRITE, Command.BURST):
            if len(payload) < 5 or len(payload) % 4 != 1:
                return Status.BAD_LENGTH, b""
            for index, (value,) in enumerate(struct.iter_unpack("<I", payload[1:])):
                if not self.write(payload[0] + 4 * index * (command == Command.WRITE), value):
                    return Status.BUS_ERROR, b""
            return Status.OK, b""
        if command == Command.READ:
            return Status.OK, struct.pack(
                f"<{payload[1]}I", *(self.read(payload[0] + 4 * i) for i in range(payload[1]))
            )
        if command in (Command.INPUT, Command.INPUT_LAST):
            return self.take(payload, command == Command.INPUT_LAST), b""
        if command == Command.OUTPUT:
            if not self.output:
                return Status.TIMEOUT, b""
            (count,) = struct.unpack("<H", payload)
            part, self.output = self.output[:count], self.output[count:]
            return Status.MORE if self.output else Status.OK, part
        if command == Command.RESET:
            self.reset()
            return Status.OK, b""
        return Status.BAD_COMMAND, b""

    # ---------------------------------------------------------------- the accelerator

    def header(self) -> dict[str, int]:
        """Fields of the program that is loaded."""
        words = self.memories["PROGRAM"]
        return {f.name: words.get(f.word, 0) >> f.lsb & (1 << f.bits) - 1 for f in HEADER}

    def illegal(self) -> bool:
        header, config = self.header(), self.config
        return (header["magic"], header["rows"], header["cols"]) != (MAGIC, config.rows, config.cols)

    def write(self, address: int, value: int) -> bool:
        name = NAMES.get(address)
        if name == "CTRL":
            if value & 4:
                self.done, self.error = False, 0
            if value & 1:
                self.start()
        elif name == "LOAD_DATA":
            where = self.registers["LOAD_ADDR"]
            target, word = TARGETS[where >> 28], where & 0xFFFFFF
            old = self.memories[target].get(word, 0) if self.slice else 0
            self.memories[target][word] = old | value << 32 * self.slice
            widths = {"PROGRAM": 64, "WEIGHTS": self.config.wgt_bits, "PARAMS": self.config.prm_bits, "TABLES": 32}
            self.slice = (self.slice + 1) % (widths[target] // 32)
            self.registers["LOAD_ADDR"] += self.slice == 0
        elif name in ("LAYER_INDEX", "LOAD_ADDR"):
            self.registers[name] = value
            self.slice = 0
        else:
            return False
        return True

    def read(self, address: int) -> int:
        config, name = self.config, NAMES[address]
        fixed = {
            "ID": MAGIC,
            "ARRAY": 1 << 24 | config.lanes << 16 | config.cols << 8 | config.rows,
            "ACT_DEPTH": config.act_depth,
            "WGT_DEPTH": config.wgt_depth,
            "PRM_DEPTH": config.prm_depth,
            "PRG_DEPTH": config.prg_depth,
            "OPTIONS": config.prm_serial << 9 | config.packed << 8 | config.tables,
            "STATUS": bool(self.loaded) << 1 | self.done << 4 | (self.error != 0) << 5 | self.error << 8,
        }
        if name == "LAYER_CYCLES":
            return dict(enumerate(self.ends)).get(self.registers["LAYER_INDEX"], 0)
        return fixed[name] if name in fixed else self.registers[name]

    def take(self, data: bytes, last: bool) -> Status:
        if self.illegal():
            self.error = ERRORS["PROGRAM"][0]
            return Status.TIMEOUT
        if self.loaded:
            return Status.TIMEOUT
        self.frame += data
        if last:
            whole, self.frame = self.frame, b""
            if len(whole) == self.header()["in_words"] * self.config.rows:
                self.loaded = whole
            else:
                self.error = ERRORS["FRAME"][0]
        return Status.OK

    def start(self) -> None:
        """Runs at once. Memories or a frame that no network knows give an output frame of all ones."""
        if not self.loaded:
            return  # and waits for one
        running = next((k for k in self.known if self.holds(k)), self.known[0])
        self.output = b"\xff" * self.header()["out_words"] * self.config.rows
        if self.holds(running):
            self.output = running.frames.get(self.loaded, self.output)
        self.ends = running.layer_ends
        self.loaded, self.done = b"", True
        self.registers["CYCLES"] = self.ends[-1]
        self.registers["RUNS"] += 1
        self.inferences += 1

    def holds(self, known: Known) -> bool:
        """Whether the memories' words are those of `known`."""
        return all(self.memories[t].get(i) == w for t, words in known.memories.items() for i, w in enumerate(words))


class Wire:
    """Faults, one in about `gap` bytes: a bit flipped, a byte lost, or garbage added."""

    def __init__(self, seed: int, gap: int) -> None:
        self.random, self.gap = random.Random(seed), gap
        self.faults = 0
        self.left = self._next()

    def _next(self) -> int:
        return self.random.randrange(self.gap // 2, self.gap * 3 // 2)

    def __call__(self, data: bytes) -> bytes:
        out = b""
        for byte in data:
            self.left -= 1
            if self.left:
                out += bytes([byte])
                continue
            self.left = self._next()
            self.faults += 1
            kind = self.random.choice(("flip", "lose", "garbage"))
            if kind == "flip":
                out += bytes([byte ^ 1 << self.random.randrange(8)])
            elif kind == "garbage":
                out += self.random.randbytes(self.random.randrange(1, 9)) + bytes([byte])
        return out


@contextmanager
def on_a_terminal(feed: Callable[[bytes], bytes]) -> Iterator[str]:
    """Serves `feed` behind a pseudo-terminal, as the operating system shows a serial port; gives its path."""
    master, slave = os.openpty()
    tty.setraw(slave)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            if select.select([master], [], [], 0.02)[0] and (answer := feed(os.read(master, 4096))):
                os.write(master, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        ended.set()
        thread.join()
        os.close(master)
        os.close(slave)
