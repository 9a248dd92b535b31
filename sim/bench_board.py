"""A board's top.v through its serial pins, with a network in its memories: input, run, output, as a host would.

The test that launches it writes BOARD_JOB, a JSON file: input and expected output frames, which bytes of these hold
codes, the folder with the memory images, widths of memory words, and the cycles of one run. "pins" names the top's pins
where they are not the ULX3S's; "loads" the images that the board does not hold from power-up, by memory.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from host.client import Client, LinkError, Status, memory_image
from pyexport.isa import ERRORS
from sim.runner import bench_parameters
from sim.uart import SerialPins, with_client

P = bench_parameters()
JOB = json.loads(Path(os.environ["BOARD_JOB"]).read_text())
FRAMES = [bytes.fromhex(text) for text in JOB["frames"]]
EXPECTED = [bytes.fromhex(text) for text in JOB["expected"]]
VALID = bytes.fromhex(JOB["valid"])
CLOCK_NS = 20
PROGRAM_ERROR = ERRORS["PROGRAM"][0]
# rxd, txd: as the FPGA sees them.  pressed: the button's level.  lit: an LED's.  error, reset: LEDs.  high: always so.
# per_clock: cycles of the clock pin in one of the core's
PINS: dict[str, Any] = JOB.get("pins") or {
    "clock": "clk_25mhz", "rxd": "ftdi_txd", "txd": "ftdi_rxd", "button": "btn_fire1", "pressed": 1,
    "leds": "led", "lit": 1, "error": 6, "reset": 7, "high": ["wifi_gpio0"], "per_clock": 1,
}  # fmt: skip


def pin(dut: Any, name: str) -> Any:
    """The top's pin that plays this part."""
    return getattr(dut, PINS[name])


def lit(dut: Any, name: str) -> bool:
    """Whether the LED that plays this part is on."""
    return str(pin(dut, "leds").value)[-1 - PINS[name]] == str(PINS["lit"])


def run(client: Client, index: int) -> bool:
    """Whether frame `index` gives the expected codes; bytes that fill up a pixel's last word are anything."""
    got, expected = client.run(FRAMES[index], seconds=600), EXPECTED[index]
    assert len(got) == len(expected)
    return all(a == b for a, b, valid in zip(got, expected, VALID, strict=True) if valid)


async def power_up(dut: Any) -> SerialPins:
    """Clock on, PLL locked, reset over."""
    core_ps = CLOCK_NS * 1000 * PINS["per_clock"]
    pins = SerialPins(pin(dut, "rxd"), pin(dut, "txd"), int(P["CLOCKS_PER_BIT"]) * core_ps)
    pin(dut, "button").value = 1 - PINS["pressed"]
    Clock(pin(dut, "clock"), CLOCK_NS, unit="ns").start(start_high=False)
    await ClockCycles(pin(dut, "clock"), 400 * PINS["per_clock"])
    assert all(getattr(dut, name).value == 1 for name in PINS["high"])
    pins.received.clear()

    def work(client: Client) -> None:
        for target, (file, width) in JOB.get("loads", {}).items():
            client.load(target, memory_image(Path(JOB["folder"]) / file), width)

    await with_board(pins, work)
    return pins


async def with_board(pins: SerialPins, work: Any) -> None:
    await with_client(pins, work, timeout_bits=20000)


@cocotb.test(timeout_time=1000, timeout_unit="ms")
async def computes(dut: Any) -> None:
    """The network of the memory images gives the golden model's codes and cycles, frame after frame."""

    def work(client: Client) -> None:
        names = ("rows", "cols", "lanes", "act_depth", "wgt_depth", "prm_depth", "prg_depth")
        identity = client.check_id()
        assert {name: identity[name] for name in names} == {name: P[name.upper()] for name in names}
        for index in range(len(FRAMES)):
            assert run(client, index)
            assert client.read_reg("CYCLES") == JOB["cycles"]
        assert client.read_reg("RUNS") == len(FRAMES)

    await with_board(await power_up(dut), work)


@cocotb.test(timeout_time=1000, timeout_unit="ms")
async def loads(dut: Any) -> None:
    """What is written over the link takes effect: wrong words give wrong codes or an error, the right ones heal it."""
    parts = [
        ("WEIGHTS", memory_image(Path(JOB["folder"]) / "weights.mem")[:16], JOB["wgt_bits"]),
        ("PARAMS", memory_image(Path(JOB["folder"]) / "params.mem")[:2], JOB["prm_bits"]),
        ("PROGRAM", memory_image(Path(JOB["folder"]) / "program.mem")[: JOB["program_words"]], 64),
    ]

    def work(client: Client) -> None:
        assert run(client, 0)
        for target, words, width in parts:
            client.load(target, [~word & (1 << width) - 1 for word in words], width)
            try:
                assert not run(client, 0), target
            except LinkError as error:
                # no frame is taken for an illegal program; one of a single word waits in front of the core
                assert target == "PROGRAM"
                assert error.status == Status.TIMEOUT or (len(FRAMES[0]) == P["ROWS"] and error.code == PROGRAM_ERROR)
            client.reset()
            client.load(target, words, width)
            assert run(client, 0), target

    await with_board(await power_up(dut), work)


@cocotb.test(timeout_time=1000, timeout_unit="ms")
async def button_resets(dut: Any) -> None:
    """The button in the middle of an input frame: afterwards everything works from the start."""
    pins = await power_up(dut)

    def half(client: Client) -> None:
        client.send_input(FRAMES[0])
        assert client.status()["loaded"] == 1

    await with_board(pins, half)
    pin(dut, "button").value = PINS["pressed"]
    await ClockCycles(pin(dut, "clock"), 10)
    assert lit(dut, "reset")
    pin(dut, "button").value = 1 - PINS["pressed"]
    await ClockCycles(pin(dut, "clock"), 400 * PINS["per_clock"])
    assert not lit(dut, "reset") and not lit(dut, "error")

    def whole(client: Client) -> None:
        assert client.status()["loaded"] == 0
        assert run(client, 0)

    await with_board(pins, whole)
