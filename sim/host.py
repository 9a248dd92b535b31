"""A host on the core's AXI4-Lite port. It waits on the clock only during an access, so that long runs stay fast."""

from __future__ import annotations

from typing import Any

from cocotb.triggers import ReadOnly, RisingEdge

from pyexport.isa import REGISTERS


class Host:
    """Reads and writes registers by name."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for signal in ("awvalid", "wvalid", "arvalid"):
            getattr(dut, f"s_axil_{signal}").value = 0
        for signal in ("awaddr", "wdata", "araddr"):
            getattr(dut, f"s_axil_{signal}").value = 0
        dut.s_axil_wstrb.value = 0xF
        dut.s_axil_bready.value = 1
        dut.s_axil_rready.value = 1

    async def _until(self, signal: Any) -> None:
        """Returns after the clock edge at which `signal` was high."""
        while True:
            await ReadOnly()
            high = bool(signal.value)
            await RisingEdge(self.dut.clk)
            if high:
                return

    async def write(self, register: str, value: int) -> None:
        """Writes 32 bits; raises AssertionError where the core refuses."""
        dut = self.dut
        await RisingEdge(dut.clk)
        dut.s_axil_awaddr.value = REGISTERS[register][0]
        dut.s_axil_wdata.value = value
        dut.s_axil_awvalid.value = 1
        dut.s_axil_wvalid.value = 1
        await self._until(dut.s_axil_awready)  # both holding registers of an idle slave are free
        dut.s_axil_awvalid.value = 0
        dut.s_axil_wvalid.value = 0
        await self._until(dut.s_axil_bvalid)
        assert dut.s_axil_bresp.value == 0, f"write of {value:#x} to {register} was refused"

    async def read(self, register: str) -> int:
        """Reads 32 bits."""
        dut = self.dut
        await RisingEdge(dut.clk)
        dut.s_axil_araddr.value = REGISTERS[register][0]
        dut.s_axil_arvalid.value = 1
        await self._until(dut.s_axil_arready)
        dut.s_axil_arvalid.value = 0
        while True:
            await ReadOnly()
            if dut.s_axil_rvalid.value:
                value = dut.s_axil_rdata.value.to_unsigned()
                await RisingEdge(dut.clk)
                return int(value)
            await RisingEdge(dut.clk)
