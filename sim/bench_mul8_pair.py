"""sim/mul8_pair_check.v to its end: all 2**24 operands of a mul8_pair, both products."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

CLOCK_NS = 10
CYCLES = (1 << 20) + 4


@cocotb.test(timeout_time=CYCLES * CLOCK_NS + 1000, timeout_unit="ns")
async def every_operand(dut: Any) -> None:
    """The bench in Verilog counts; here is only its clock and its verdict."""
    Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start(start_high=False)
    await RisingEdge(dut.done)
    assert dut.count.value.to_unsigned() == CYCLES, "the bench ended early"
    assert dut.wrong.value.to_unsigned() == 0, f"products differ for b1 modulo 16 in the set {dut.wrong.value}"
