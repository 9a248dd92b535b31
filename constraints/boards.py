"""The boards that `make bitstream` knows: one entry each.

To add a board of a known family: a folder constraints/<name>/ with top.v, a pin file, an entry in BOARDS, and one in
DEVICES (pyexport/devices.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyexport.devices import Device, Preset, find_device
from pyexport.errors import IntactError

LONGEST = 0.45  # seconds: within SILENCE of host/client.py


@dataclass(frozen=True)
class Board:
    """One board.

    family: which flow builds it.  device, package, speed: as the place-and-route tool names them.
    pins: constraint file.  top: file of the module `top`.
    clock_in, clock: MHz of the oscillator and, unless told otherwise, of the core.
    baud: of the serial port.  timer: its top's TIMER, of the serial link.
    serial: whether the host speaks over a serial line; else the design is a block with AXI buses beside a processor.
    """

    name: str
    family: str
    device: str
    package: str
    speed: str
    pins: str
    top: str
    clock_in: float
    clock: float
    baud: int
    timer: int = 22
    serial: bool = True

    @property
    def holds(self) -> Device:
        """What its device has of everything."""
        return find_device(self.name)

    @property
    def preset(self) -> Preset:
        """Its array unless told otherwise."""
        return self.holds.boards[self.name]


BOARDS = {
    board.name: board
    for board in (
        Board(
            name="ulx3s",
            family="ecp5",
            device="85k",
            package="CABGA381",
            speed="6",
            pins="constraints/ulx3s.lpf",
            top="constraints/ulx3s/top.v",
            clock_in=25.0,
            clock=80.0,
            baud=1_000_000,
        ),
        Board(
            name="arty_a7_35t",
            family="xilinx",
            device="xc7a35ti",
            package="csg324",
            speed="-1L",
            pins="constraints/arty_a7/arty_a7.xdc",
            top="constraints/arty_a7/top.v",
            clock_in=100.0,
            clock=100.0,
            baud=1_000_000,
        ),
        Board(
            name="arty_a7_100t",
            family="xilinx",
            device="xc7a100t",
            package="csg324",
            speed="-1",
            pins="constraints/arty_a7/arty_a7.xdc",
            top="constraints/arty_a7/top.v",
            clock_in=100.0,
            clock=100.0,
            baud=1_000_000,
        ),
        Board(
            name="pynq_z2",
            family="xilinx",
            device="xc7z020",
            package="clg400",
            speed="-1",
            pins="constraints/pynq_z2/pynq_z2.xdc",
            top="constraints/pynq_z2/top.v",
            clock_in=125.0,
            clock=100.0,
            baud=0,
            serial=False,
        ),
        Board(
            name="tangnano9k",
            family="gowin",
            device="GW1NR-LV9",
            package="QN88P",
            speed="C6/I5",
            pins="constraints/tangnano9k.cst",
            top="constraints/tangnano/top.v",
            clock_in=27.0,
            clock=27.0,
            baud=115_200,
        ),
        Board(
            name="tangnano20k",
            family="gowin",
            device="GW2AR-LV18",
            package="QN88",
            speed="C8/I7",
            pins="constraints/tangnano20k.cst",
            top="constraints/tangnano/top.v",
            clock_in=27.0,
            clock=54.0,
            baud=115_200,
        ),
        Board(
            name="icebreaker",
            timer=20,
            family="ice40",
            device="up5k",
            package="sg48",
            speed="",
            pins="constraints/icebreaker.pcf",
            top="constraints/icebreaker/top.v",
            clock_in=12.0,
            clock=12.0,
            baud=1_000_000,
        ),
    )
}


def find_board(name: str) -> Board:
    """The board called `name`. Raises IntactError naming the known ones."""
    if name not in BOARDS:
        raise IntactError(f"board {name!r} is unknown; there are: {', '.join(sorted(BOARDS))}")
    return BOARDS[name]


def check_line(board: Board, clock: float, baud: int) -> None:
    """Refuses what does not go with the serial link's timer, 2^timer clocks: a clock in MHz so slow that the host does
    not wait for it, or a line so slow that a byte outlasts it. Raises IntactError.
    """
    seconds = 2**board.timer / (clock * 1e6)
    if seconds > LONGEST:
        raise IntactError(
            f"clock: at {clock:g} MHz the serial link waits {seconds:.2f} s, longer than a host ({LONGEST:g} s); "
            f"ask for {2**board.timer / LONGEST / 1e6:.1f} MHz or more"
        )
    if 11 / baud > seconds:
        raise IntactError(
            f"baud: a byte at {baud} outlasts the serial link's timer, {seconds:.2f} s; take a higher --baud"
        )


def clocks_per_bit(clock: float, baud: int) -> int:
    """Clocks of one bit on the serial line. Raises IntactError where the speed would be off by more than 1.5 %."""
    count = round(clock * 1e6 / baud) if baud > 0 else 0
    if count < 4 or abs(clock * 1e6 / count / baud - 1) > 0.015:
        raise IntactError(f"baud: {baud} cannot be made from {clock:g} MHz to 1.5 %; take a lower --baud")
    return count
