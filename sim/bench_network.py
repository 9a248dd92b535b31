"""cocotb: runs a whole network on sim/intact_sim.v, once per input frame, and notes the core's own cycle counters.

Environment: INTACT_JOB, a JSON file with {frames, frame_words, layers, expected_cycles, back_to_back, results}. With
back_to_back the core starts by itself with every frame, and only the last run's counters are read. The codes are
compared afterwards by sim/compare.py from the files that the design wrote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles, FallingEdge, First, RisingEdge, Timer

from pyexport.isa import ERRORS, REGISTERS
from sim.host import Host

START, CLEAR, AUTO_START, IRQ_ENABLE = 1 << 0, 1 << 2, 1 << 8, 1 << 9
IDLE, OUTPUT_PENDING, ERROR = 1 << 0, 1 << 3, 1 << 5
CLOCK_NS = 10


@cocotb.test()
async def network(dut: Any) -> None:
    job: dict[str, Any] = json.loads(Path(os.environ["INTACT_JOB"]).read_text())
    back_to_back = job["back_to_back"]
    host = await start(dut, AUTO_START | IRQ_ENABLE if back_to_back else 0)
    limit = 4 * job["expected_cycles"] + 4 * job["frame_words"] + 10_000
    runs: list[dict[str, Any]] = []
    for frame in range(job["frames"]):
        if not back_to_back:
            await host.write("CTRL", START | IRQ_ENABLE)
        if not dut.irq.value:
            await First(RisingEdge(dut.irq), Timer(limit * CLOCK_NS, unit="ns"))
        if back_to_back and frame + 1 < job["frames"] and dut.irq.value:
            await First(FallingEdge(dut.irq), Timer(limit * CLOCK_NS, unit="ns"))  # the next run began
            continue
        status = await host.read("STATUS")
        if status & ERROR:
            code = status >> 8 & 0xFF
            meaning = next(text for value, text in ERRORS.values() if value == code)
            raise AssertionError(f"the core stopped at descriptor {status >> 16} with error {code}: {meaning}")
        assert dut.irq.value, f"frame {frame}: not done after {limit} cycles, status {status:#x}"
        ends = []
        for layer in range(job["layers"] if not runs else 0):
            await host.write("LAYER_INDEX", layer)
            ends.append(await host.read("LAYER_CYCLES"))
        runs.append({"cycles": await host.read("CYCLES"), "layer_ends": ends})
        await settle(dut, host, OUTPUT_PENDING, 0, limit)
        if not back_to_back:
            await host.write("CTRL", CLEAR | IRQ_ENABLE)
    Path(job["results"]).write_text(json.dumps(runs))


async def settle(dut: Any, host: Host, bits: int, wanted: int, limit: int) -> None:
    """Waits until `bits` of STATUS are `wanted`, at most about `limit` cycles."""
    for _ in range(limit // 50 + 1):
        status = await host.read("STATUS")
        if status & bits == wanted:
            return
        await ClockCycles(dut.clk, 50)
    raise AssertionError(f"STATUS is still {status:#x} after {limit} cycles")


async def start(dut: SimHandleBase | Any, control: int) -> Host:
    """Clock, reset, CTRL; without auto start until the core is idle, with it before a frame could be in."""
    host = Host(dut)
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start(start_high=False)
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await host.write("CTRL", control)
    if not control & AUTO_START:
        await settle(dut, host, IDLE, IDLE, 10_000)
    assert await host.read("ID") == 0x494E5441, f"register at {REGISTERS['ID'][0]:#x} is not INTACT's"
    return host
