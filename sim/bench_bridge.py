"""constraints/ulx3s/top.v with its serial pins on a TCP socket, one byte of the socket for each byte on the line.

sim/bridge.py launches it. BRIDGE_PORT_FILE: where to write the socket's port number; BRIDGE_ONCE: end with the first
connection. Simulated time goes on while bytes move or the accelerator runs; the longer nothing happens, the slower.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from sim.runner import bench_parameters
from sim.uart import SerialPins

P = bench_parameters()
ONCE = os.environ["BRIDGE_ONCE"] == "1"
CLOCK_NS = 20
SLICE = 400  # clocks between two looks at the socket: ten bytes at the highest speed
AT_MOST = 64  # bytes taken from the socket at once
LONGEST_WAIT = 0.05  # seconds that an idle board waits for the socket, before each slice
PATIENCE = 120.0  # seconds that a board with ONCE waits for its connection
IDLE_LED = 3


def listen() -> socket.socket:
    """A socket on a free local port, whose number is in BRIDGE_PORT_FILE once connections are taken."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE if ONCE else None)
    path = Path(os.environ["BRIDGE_PORT_FILE"])
    part = path.with_suffix(".part")
    part.write_text(str(server.getsockname()[1]))
    part.replace(path)  # never seen half written
    return server


async def serve(dut: Any, pins: SerialPins, connection: socket.socket) -> None:
    """Moves bytes both ways until the other end closes."""
    wait = 0.0
    while True:
        readable, _, _ = select.select([connection], [], [], wait)
        data = b""
        if readable:
            data = connection.recv(AT_MOST)
            if not data:
                return
            await pins.send(data)
        else:
            await ClockCycles(dut.clk_25mhz, SLICE)
        moved = bytes(pins.received)
        del pins.received[: len(moved)]
        if moved:
            connection.sendall(moved)
        still = not data and not moved and dut.led.value[IDLE_LED] == 1
        wait = min(LONGEST_WAIT, wait + 0.0005) if still else 0.0


@cocotb.test()
async def bridge(dut: Any) -> None:
    """Powers the board up, then serves one connection after the other."""
    pins = SerialPins(dut.ftdi_txd, dut.ftdi_rxd, int(P["CLOCKS_PER_BIT"]) * CLOCK_NS * 1000)
    dut.btn_fire1.value = 0
    Clock(dut.clk_25mhz, CLOCK_NS, unit="ns").start(start_high=False)
    await ClockCycles(dut.clk_25mhz, 400)
    pins.received.clear()
    with listen() as server:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(ConnectionError):
                await serve(dut, pins, connection)
            if ONCE:
                return
            pins.received.clear()
