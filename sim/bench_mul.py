"""A signed multiplier cell of latency 3 (mul8, mul18): every pair of 8-bit operands, corners and random wider ones."""

from __future__ import annotations

import itertools
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

LATENCY = 3


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def products(dut: Any) -> None:
    bits = len(dut.a)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    if bits == 8:
        pairs = list(itertools.product(range(low, high + 1), repeat=2))
    else:
        corners = sorted(
            {low, low + 1, -1, 0, 1, high - 1, high} | {sign << k for k in range(bits - 1) for sign in (1, -1)}
        )
        pairs = list(itertools.product(corners, repeat=2))
        pairs += [(random.randint(low, high), random.randint(low, high)) for _ in range(20000)]
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    for index in range(len(pairs) + LATENCY):
        await RisingEdge(dut.clk)
        if index < len(pairs):
            dut.a.value, dut.b.value = pairs[index]
        await ReadOnly()
        if index >= LATENCY:
            a, b = pairs[index - LATENCY]
            assert dut.product.value.to_signed() == a * b, f"{a} * {b} gave {dut.product.value.to_signed()}"
