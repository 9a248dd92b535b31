"""cocotb: runs a whole network on sim/intact_sim.v, once per input frame, and notes the core's own cycle counters.

Environment: INTACT_JOB, a JSON file with {frames, frame_words, layers, expected_cycles, back_to_back, results,
progress, loads}. With back_to_back the core starts by itself with every frame, and only the last run's counters are
read. progress: a file to keep "inference cycles" in, or null. loads: for memories that hold nothing at power-up, by
load target, their 32-bit slices in order. The codes are compared afterwards by sim/compare.py from the files that the
design wrote.
"""

from __future__ import annotations

import json
import os
import time
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
NOTED = 0.2  # seconds between two notes of the progress, at least


class Progress:
    """How far the run is, in a file for the process that shows it; looks at the design too seldom to slow it down."""

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.step = 256  # cycles from one look to the next
        self.noted = 0.0

    def note(self, frame: int, cycles: int) -> None:
        """Writes both down, unless it did a moment ago."""
        now = time.monotonic()
        if self.path and now - self.noted >= NOTED:
            self.path.write_text(f"{frame} {cycles}\n")
            self.noted = now

    def looked(self, seconds: float) -> None:
        """Chooses the next step from the time that the last one took."""
        if seconds < NOTED:
            self.step *= 2
        elif seconds > 3 * NOTED:
            self.step = max(self.step // 2, 1)


@cocotb.test()
async def network(dut: Any) -> None:
    job: dict[str, Any] = json.loads(Path(os.environ["INTACT_JOB"]).read_text())
    progress = Progress(job["progress"])
    back_to_back = job["back_to_back"]
    host = await start(dut, AUTO_START | IRQ_ENABLE if back_to_back else 0)
    for target, slices in job["loads"].items():
        await host.write("LOAD_ADDR", int(target) << 28)
        for word in slices:
            await host.write("LOAD_DATA", word)
    limit = 4 * job["expected_cycles"] + 4 * job["frame_words"] + 10_000
    runs: list[dict[str, Any]] = []
    for frame in range(job["frames"]):
        if not back_to_back:
            await host.write("CTRL", START | IRQ_ENABLE)
        await finished(dut, host, limit, frame, progress, runs[-1]["cycles"] if runs else 0)
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


async def finished(dut: Any, host: Host, limit: int, frame: int, progress: Progress, before: int) -> None:
    """Waits for the interrupt, about `limit` cycles at most. before: what CYCLES shows until the run begins."""
    progress.note(frame, 0)
    while limit > 0 and not dut.irq.value:
        began = time.monotonic()
        step = min(progress.step, limit) if progress.path else limit
        await First(RisingEdge(dut.irq), Timer(step * CLOCK_NS, unit="ns"))
        limit -= step
        if progress.path and not dut.irq.value:
            progress.looked(time.monotonic() - began)
            cycles = await host.read("CYCLES")
            progress.note(frame, 0 if cycles == before else cycles)


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
    if hasattr(dut, "clk_2x"):
        Clock(dut.clk_2x, CLOCK_NS // 2, unit="ns", impl="gpi").start(start_high=True)  # edges together
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await host.write("CTRL", control)
    if not control & AUTO_START:
        await settle(dut, host, IDLE, IDLE, 10_000)
    assert await host.read("ID") == 0x494E5441, f"register at {REGISTERS['ID'][0]:#x} is not INTACT's"
    return host
