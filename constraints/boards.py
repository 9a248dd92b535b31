"""The boards that `make bitstream` knows: one entry each, and how their PLL reaches a clock frequency.

To add a board of a known family: a folder constraints/<name>/ with top.v, a pin file, and an entry in BOARDS.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyexport.errors import IntactError


@dataclass(frozen=True)
class Board:
    """One board.

    family: which flow builds it.  device, package, speed: as the place-and-route tool names them.
    pins: constraint file.  top: file of the module `top`.
    clock_in, clock: MHz of the oscillator and, unless told otherwise, of the core.
    baud: of the serial port.  array: rows x columns unless told otherwise.
    multipliers, block_rams: what the device has.
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
    array: str
    multipliers: int
    block_rams: int


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
            clock=62.5,
            baud=1_000_000,
            array="8x8",
            multipliers=156,
            block_rams=208,
        ),
    )
}


def find_board(name: str) -> Board:
    """The board called `name`. Raises IntactError naming the known ones."""
    if name not in BOARDS:
        raise IntactError(f"board {name!r} is unknown; there are: {', '.join(sorted(BOARDS))}")
    return BOARDS[name]


@dataclass(frozen=True)
class Pll:
    """clock = clock_in * multiply / divide, from an oscillator at `post` times that."""

    multiply: int
    divide: int
    post: int
    clock: float


def ecp5_pll(clock_in: float, wanted: float) -> Pll:
    """The fastest setting of an ECP5's PLL, fed back from its output, that does not exceed `wanted` MHz.

    Limits of the ECP5 family data sheet (FPGA-DS-02012): inputs of 8 to 400 MHz, here behind the input
    divider too, and the oscillator at 400 to 800 MHz. Raises IntactError where there is no such setting.
    """
    best: Pll | None = None
    for divide in range(1, int(clock_in / 8) + 1):
        for multiply in range(1, 81):
            clock = clock_in * multiply / divide
            post = max(1, min(128, round(600 / clock)))
            if clock > wanted + 1e-9 or not 400 <= clock * post <= 800:
                continue
            if best is None or clock > best.clock + 1e-9:
                best = Pll(multiply, divide, post, clock)
    if best is None or best.clock < wanted / 2:
        raise IntactError(
            f"clock: the PLL makes nothing near {wanted:g} MHz from {clock_in:g} MHz; ask for 10 to 400 MHz"
        )
    return best


def clocks_per_bit(clock: float, baud: int) -> int:
    """Clocks of one bit on the serial line. Raises IntactError where the speed would be off by more than 1.5 %."""
    count = round(clock * 1e6 / baud)
    if count < 4 or abs(clock * 1e6 / count / baud - 1) > 0.015:
        raise IntactError(f"baud: {baud} cannot be made from {clock:g} MHz to 1.5 %; take a lower --baud")
    return count
