"""A serial line in simulation: bits on two pins, and a link for host/client.py on top of them.

8 data bits lowest first, no parity, one stop bit, as rtl/uart_rx.v and rtl/uart_tx.v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import cocotb
from cocotb.task import bridge, resume
from cocotb.triggers import Event, FallingEdge, First, Timer

from host.client import Client

T = TypeVar("T")


class SerialPins:
    """Drives `rxd` and listens to `txd`, as seen from the design. Bytes that came wait in `received`.

    bit_ps: length of a bit in picoseconds; `speed` bends that of the bytes sent from then on, 1.02 is 2 % faster.
    """

    def __init__(self, rxd: Any, txd: Any, bit_ps: int) -> None:
        self.rxd, self.txd = rxd, txd
        self.bit_ps = bit_ps
        self.speed = 1.0
        self.received = bytearray()
        self._arrived = Event()
        rxd.value = 1
        cocotb.start_soon(self._listen())

    async def _listen(self) -> None:
        while True:
            await FallingEdge(self.txd)
            await Timer(self.bit_ps * 3 // 2, unit="ps")
            byte = 0
            for bit in range(8):
                assert self.txd.value.is_resolvable, f"txd is {self.txd.value}"
                byte |= int(self.txd.value) << bit
                await Timer(self.bit_ps, unit="ps")
            assert self.txd.value == 1, "no stop bit on txd"
            self.received.append(byte)
            self._arrived.set()

    async def bits(self, levels: list[int]) -> None:
        """Puts one level after the other on the line, one bit long each."""
        for level in levels:
            self.rxd.value = level
            await Timer(round(self.bit_ps / self.speed), unit="ps")

    async def send(self, data: bytes) -> None:
        """Sends bytes back to back."""
        for byte in data:
            await self.bits([0, *(byte >> bit & 1 for bit in range(8)), 1])

    async def receive(self, count: int, timeout_bits: int) -> bytes:
        """Up to `count` bytes; fewer when none comes for `timeout_bits` bit times."""
        while len(self.received) < count:
            self._arrived.clear()
            timer = Timer(self.bit_ps * timeout_bits, unit="ps")
            if await First(self._arrived.wait(), timer) is timer:
                break
        data = bytes(self.received[:count])
        del self.received[:count]
        return data


class PinLink:
    """SerialPins as the blocking link that host/client.py wants; to be used within `with_client` only."""

    def __init__(self, pins: SerialPins, timeout_bits: int) -> None:
        self.pins = pins
        self.timeout_bits = timeout_bits

    def write(self, data: bytes, /) -> None:
        resume(self.pins.send)(data)

    def read(self, count: int, /) -> bytes:
        data: bytes = resume(self.pins.receive)(count, self.timeout_bits)
        return data


async def with_client(
    pins: SerialPins, work: Callable[[Client], T], timeout_bits: int = 1000, max_payload: int = 512
) -> T:
    """Runs `work(client)`, ordinary blocking code, against the pins."""
    result: T = await bridge(work)(Client(PinLink(pins, timeout_bits), max_payload))
    return result
