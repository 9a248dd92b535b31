"""cocotb: clocks sim/requant_vectors.v until its files are through; the codes are compared afterwards."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.streams import CLOCK_NS


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def vectors(dut: Any) -> None:
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start(start_high=False)
    await RisingEdge(dut.done)
