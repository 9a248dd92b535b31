"""rtl/intact_core.v with the window: programs of dense jobs and window jobs in turn, as their host sees them.

Environment: CORE_NETWORKS, a folder with dense.npz and window.npz, named by their first job, as for sim/bench_core.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb

from pyexport import isa
from sim.core_host import CoreHost, Loaded
from sim.streams import cycles

NETWORKS = Path(os.environ["CORE_NETWORKS"])
DENSE, WINDOW = (Loaded.read(NETWORKS / f"{name}.npz") for name in ("dense", "window"))


def kinds(network: Loaded) -> list[int]:
    """Opcodes of its jobs."""
    return [network.descriptor(job)["opcode"] for job in range(network.header()["jobs"])]


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def swapped(dut: Any, stall: float) -> None:
    """A first job of the other kind than that of the program before; the cycles are the same each time."""
    assert kinds(DENSE)[0] == isa.OPCODE_ACCUMULATE and kinds(WINDOW)[0] == isa.OPCODE_WINDOW
    assert len(set(kinds(DENSE))) == 2, "dense.npz has jobs of both kinds"
    host = await CoreHost(dut).start(stall)
    for network in (DENSE, WINDOW, WINDOW, DENSE, WINDOW, DENSE, DENSE):
        await host.load(network)
        await host.run(network)
        assert await host.layer_ends(len(network.layer_ends)) == network.layer_ends


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """Frames without a pause: behind a run's last job comes a first one of another kind."""
    host = await CoreHost(dut).start()
    for network in (DENSE, WINDOW):
        await host.load(network)
        await host.write("CTRL", 1 << 8)
        for _ in range(3):
            for frame in network.frames:
                await host.send(frame)
        for _ in range(3):
            for output in network.outputs:
                await host.receive(output)
        await host.write("CTRL", 0)
        await host.settle()
        assert await host.error() == "NONE" and await host.read("CYCLES") == network.layer_ends[-1]


@cocotb.test(timeout_time=60, timeout_unit="ms")
async def swapped_after_an_abort(dut: Any) -> None:
    """A program told to stop at any moment, also between jobs of different kinds, leaves nothing to the next one."""
    host = await CoreHost(dut).start()
    turns = 0
    for network, other in ((DENSE, WINDOW), (WINDOW, DENSE)):
        span = network.layer_ends[-1]
        for delay in range(0, span, span // 9):
            await host.load(network)
            await host.begin()
            await host.send(network.frames[0])
            await host.sent()
            await cycles(dut, delay)
            await host.write("CTRL", 1 << 1)
            await host.settle()
            turns += await host.error() == "ABORTED"
            host.sink.clear()
            await host.write("CTRL", 1 << 2)
            await host.load(other)
            await host.run(other)
    assert turns > 14, turns
