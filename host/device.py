"""A board with an exported network: loading, running and reading counters, again where the line garbled something.

Every step can be repeated from its start: a register, a few words of a memory, an inference. After an answer that did
not come, or came damaged, the device waits until the other end has forgotten what it holds of a frame, drops what
came, sends RESET and repeats the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

from host.client import MAX_PAYLOAD, SILENCE, Client, LinkError, NoResponse, Status
from host.deployed import Deployed
from pyexport.errors import IntactError
from pyexport.hwconfig import PROGRAM_BITS
from pyexport.isa import ERRORS, LOAD_TARGETS

T = TypeVar("T")
BURST_WORDS = (MAX_PAYLOAD - 1) // 4  # of 32 bits, in one request
TRIES = 8  # of one step
SILENT_TRIES = 2  # where not one byte has come
NOISY = 10.0  # seconds after which a line that does not fall silent is given up
GARBLED = (Status.BAD_CRC, Status.BAD_LENGTH)  # a damaged length is refused before its CRC comes


class Port(Protocol):
    """What carries the bytes: a serial port of pyserial, or anything like it. timeout: of a `read`, in seconds."""

    timeout: float | None

    def write(self, data: bytes, /) -> object:
        """Sends all of `data`."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; fewer when `timeout` ends first."""


class _Counting:
    """A port that counts the bytes that came: none at all has other reasons than wrong ones."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.received = 0

    def write(self, data: bytes, /) -> object:
        return self.port.write(data)

    def read(self, count: int, /) -> bytes:
        data = self.port.read(count)
        self.received += len(data)
        return data


class Device:
    """The board at `port`. name: of the port, for errors.

    silence: seconds after which the other end has forgotten a frame that stopped half way.
    patience: seconds that one inference may take. Methods raise IntactError, in one line, and OSError where the port
    itself fails.
    """

    def __init__(self, port: Port, name: str, silence: float = SILENCE, patience: float = 60.0) -> None:
        self.port, self.name = port, name
        self.line = _Counting(port)
        self.client = Client(self.line)
        self.silence, self.patience = silence, patience
        self.retries = 0  # steps repeated so far
        self.placed = False  # whether the board knows where the next words of a memory go
        self.advice = _LOAD  # where the board does not run the network as it should

    # ---------------------------------------------------------------- steps

    def _step(self, work: Callable[[], T]) -> T:
        """Does `work`, again after a garbled or missing response."""
        for number in range(1, TRIES + 1):
            try:
                return work()
            except LinkError as error:
                last = number >= (TRIES if self.line.received else SILENT_TRIES)
                if last or not (isinstance(error, NoResponse) or error.status in GARBLED):
                    raise self._explained(error) from error
            self.retries += 1
            self._recover()
        raise AssertionError("unreachable")

    def _recover(self) -> None:
        """Until the line is silent; then RESET, after which a load must say its address again.

        A RESET without a response is no error: the step's repetition finds out.
        """
        self.placed = False
        usual, self.port.timeout = self.port.timeout, self.silence
        end = time.monotonic() + NOISY
        try:
            while self.line.read(4096):
                if time.monotonic() > end:
                    raise IntactError(f"{self.name}: the line does not fall silent; is this the right port?")
        finally:
            self.port.timeout = usual
        try:
            self.client.reset()
        except LinkError:
            return

    def _explained(self, error: LinkError) -> IntactError:
        """The one line for a person."""
        if isinstance(error, NoResponse) and self.line.received == 0:
            return IntactError(f"{self.name}: no answer; is the board on, its bitstream loaded, and --baud its speed?")
        if isinstance(error, NoResponse):
            return IntactError(f"{self.name}: {error}; is --baud the bitstream's speed?")
        code = error.code
        if error.status == Status.TIMEOUT:  # the accelerator may say why its streams stand still
            try:
                state = self.client.status()
                code = state["code"] if state["error"] else None
            except LinkError:
                pass
        if code == ERRORS["FRAME"][0]:
            return IntactError(f"{self.name}: {_OTHER}: its input has another size; {self.advice}")
        if code is not None:
            meaning = dict(ERRORS.values()).get(code, "unknown error")
            return IntactError(f"{self.name}: error {code} of the accelerator: {meaning}; {self.advice}")
        return IntactError(f"{self.name}: {error}")

    # ---------------------------------------------------------------- what a host wants

    def identity(self) -> dict[str, int]:
        """What the accelerator says of itself (client.Client.check_id), and its options."""
        found = self._step(self.client.check_id)
        options = self._step(lambda: self.client.read_reg("OPTIONS"))
        return {**found, "tables": options & 0xFF, "packed": options >> 8 & 1, "prm_serial": options >> 9 & 1}

    def check(self, deployed: Deployed) -> None:
        """Raises IntactError where the board is not one that the network was exported for."""
        found, hardware = self.identity(), deployed.hardware
        for name in ("rows", "cols", "lanes"):
            if found[name] != getattr(hardware, name):
                raise IntactError(
                    f"{self.name}: an array {found['rows']}x{found['cols']} with {found['lanes']} lanes answers; "
                    f"{deployed.path} is for {hardware.array} with {hardware.lanes}"
                )
        for name, option in (("packed", "--packed"), ("prm_serial", "--serial-params")):
            if found[name] != getattr(hardware, name):
                raise IntactError(
                    f"{self.name}: the bitstream's hardware was built {'with' if found[name] else 'without'} {option}, "
                    f"{deployed.path} was exported {'without' if found[name] else 'with'} it"
                )
        needed = {"act_depth": deployed.act_words, "wgt_depth": deployed.used["WEIGHTS"],
                  "prm_depth": deployed.used["PARAMS"], "prg_depth": deployed.used["PROGRAM"],
                  "tables": deployed.used.get("TABLES", 0) // 256}  # fmt: skip
        for name, count in needed.items():
            if found[name] < count:
                raise IntactError(f"{self.name}: {name} of the board is {found[name]}, the network needs {count}")

    def reset(self) -> None:
        """Resets the accelerator; memories stay, counters do not."""
        self._step(self.client.reset)

    def load(
        self,
        deployed: Deployed,
        targets: Sequence[str] = tuple(LOAD_TARGETS),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Writes memory images. progress: called with the bytes written so far, and those of all.

        The images are read and checked before the first byte is sent. The program, which goes with any of them, loses
        its header first and is written last: a load that stopped half way leaves a network that is refused, not one
        that gives wrong codes.
        """
        images = [(target, *deployed.image(target)) for target in deployed.to_load(targets)]
        total = sum(len(words) * width // 8 for _, words, width in images)
        done = 0
        self.reset()
        self._step(lambda: self.client.load("PROGRAM", [0], PROGRAM_BITS))
        for target, words, width in images:
            part = max(1, BURST_WORDS * 32 // width)  # whole memory words, in one request where one fits
            self.placed = False
            for at in range(0, len(words), part):
                some = words[at : at + part]
                self._step(lambda t=target, s=some, w=width, a=at: self._write(t, s, w, a))  # type: ignore[misc]
                done += len(some) * width // 8
                if progress:
                    progress(done, total)
        self.reset()
        self.advice = _REBUILT

    def _write(self, target: str, words: Sequence[int], width: int, address: int) -> None:
        self.client.load(target, words, width, None if self.placed else address)
        self.placed = True

    def run(self, deployed: Deployed, frames: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Output frame and cycles of each input frame, in order.

        Raises IntactError where sizes or cycles show that another network than `deployed` is in the board's memories;
        the cycles of every layer are compared after the first inference.
        """
        self.reset()  # a client that was stopped may have left a part of a frame, or one that nobody fetched
        for index, frame in enumerate(frames):
            result, cycles = self._step(lambda frame=frame: self._inference(frame))  # type: ignore[misc]
            if len(result) != deployed.target.size:
                raise IntactError(
                    f"{self.name}: {_OTHER}: {len(result)} bytes came out, not {deployed.target.size}; {self.advice}"
                )
            if cycles != deployed.cycles:
                raise IntactError(f"{self.name}: {_OTHER}: {cycles:,} cycles, not {deployed.cycles:,}; {self.advice}")
            if index == 0:
                for layer, found in zip(deployed.layers, self.layer_cycles(deployed), strict=True):
                    if found != layer.cycles:
                        told = f"{_OTHER}: layer {layer.name!r} took {found:,} cycles, not {layer.cycles:,}"
                        raise IntactError(f"{self.name}: {told}; {self.advice}")
            yield result, cycles

    def _inference(self, frame: bytes) -> tuple[bytes, int]:
        return self.client.run(frame, self.patience), self.client.read_reg("CYCLES")

    def layer_cycles(self, deployed: Deployed) -> list[int]:
        """Cycles of each layer in the last run."""

        def end(index: int) -> int:
            self.client.write_reg("LAYER_INDEX", index)
            return self.client.read_reg("LAYER_CYCLES")

        ends = [0]
        for index in range(len(deployed.layers)):
            ends.append(self._step(lambda index=index: end(index)))  # type: ignore[misc]
        return [after - before for before, after in pairwise(ends)]

    def counters(self) -> dict[str, int]:
        """CYCLES of the last run and RUNS since reset."""
        return {name: self._step(lambda name=name: self.client.read_reg(name)) for name in ("CYCLES", "RUNS")}  # type: ignore[misc]


_OTHER = "another network is in the board's memories"
_LOAD = "--load writes this one"
_REBUILT = "it was just loaded, so the bitstream is of other Verilog: build it again"
