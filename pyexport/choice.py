"""Which array a device holds, and which of them runs a network fastest: decided before any tool runs (docs/area.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pyexport import devices
from pyexport.devices import FAMILIES, Device, Memory
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig

AUTO = "auto"
SIZES = (4, 8, 16, 32)  # rows and columns that are tried
FEWER_LANES = (1, 2, 4)  # requantise lanes that are tried: as many as there can be, divided by these
# from an array to it with memories that hold the network, it with the words used as depths, and an inference's cycles
Measure = Callable[[HwConfig], tuple[HwConfig, HwConfig, int]]
SNUG = 512  # depths are whole multiples of it where powers of two take too many blocks


@dataclass(frozen=True)
class Need:
    """What hardware takes of a device. memories: each with its block RAMs.  luts: None where no model knows them."""

    memories: tuple[tuple[Memory, int], ...]
    multipliers: int
    luts: int | None

    @property
    def block_rams(self) -> int:
        return sum(blocks for _, blocks in self.memories)

    @property
    def bits(self) -> int:
        return sum(memory.bits for memory, _ in self.memories)


@dataclass(frozen=True)
class Trial:
    """An array that was tried. hardware: with the network's memories.  cycles: of one inference, predicted.

    why_not: what there is too little of, empty where it fits.  Where the multipliers do not suffice nothing else was
    worked out: the depths are arbitrary and cycles is None.
    """

    hardware: HwConfig
    need: Need
    cycles: int | None
    why_not: tuple[str, ...]

    @property
    def name(self) -> str:
        """The array, with its requantise lanes where there could be more."""
        hardware = self.hardware
        if hardware.lanes == math.gcd(hardware.rows, hardware.cols):
            return hardware.array
        return f"{hardware.array}, {hardware.lanes} requantise lane{'s' if hardware.lanes > 1 else ''}"


@dataclass(frozen=True)
class Choice:
    """device: what was chosen for.  chosen: the trial that was taken.  trials: all, fastest first."""

    device: Device
    chosen: Trial
    trials: tuple[Trial, ...]


def need(hardware: HwConfig, device: Device) -> Need:
    """What `hardware` takes of `device`."""
    family = FAMILIES[device.family]
    blocks = tuple((memory, devices.block_rams(memory, family)) for memory in devices.memories(hardware))
    return Need(blocks, devices.multipliers(hardware, family), devices.luts(hardware, family))


def problems(found: Need, device: Device) -> tuple[str, ...]:
    """What the device has too little of, in words; empty where it holds the hardware."""
    limit = int(devices.MOST_LUTS * device.luts)
    lines = []
    if found.multipliers > device.multipliers:
        lines.append(f"{found.multipliers} multipliers, the device has {device.multipliers}")
    if found.block_rams > device.block_rams:
        lines.append(f"{found.block_rams} block RAMs, the device has {device.block_rams}")
    if found.luts is not None and found.luts > limit:
        lines.append(f"about {found.luts:,} LUTs, {devices.MOST_LUTS:.0%} of the device's are {limit:,}")
    return tuple(lines)


def snug(hardware: HwConfig, used: HwConfig, device: Device) -> HwConfig:
    """`hardware` with memories no deeper than need be, as few of them as make it fit the device's block RAMs.

    used: the same with the words that the network really uses as depths. A memory whose depth is no power of two has
    several blocks behind one another and a multiplexer, so the ones that save most are cut first.
    """
    family = FAMILIES[device.family]

    def blocks(config: HwConfig) -> int:
        return sum(devices.block_rams(memory, family) for memory in devices.memories(config))

    tight = {}
    for name in ("act_depth", "wgt_depth", "prm_depth", "prg_depth"):
        step = SNUG * devices.BANKS if name == "act_depth" and hardware.window else SNUG
        tight[name] = min(-(-getattr(used, name) // step) * step, getattr(hardware, name))
    now = blocks(hardware)
    saved = {name: now - blocks(replace(hardware, **{name: depth})) for name, depth in tight.items()}
    cut = hardware
    for name in sorted(saved, key=lambda name: -saved[name]):
        if blocks(cut) <= device.block_rams:
            break
        if saved[name]:
            cut = replace(cut, **{name: tight[name]})
    return cut


def sizes() -> list[tuple[int, int]]:
    """Rows and columns of the arrays to try, most multipliers first, square ones before long ones."""
    return sorted(
        [(rows, cols) for rows in SIZES for cols in SIZES],
        key=lambda size: (-size[0] * size[1], abs(size[0] - size[1]), -size[0]),
    )


def with_lanes(rows: int, cols: int) -> Iterator[HwConfig]:
    """An array with as many requantise lanes as there can be, then with fewer: never faster, but smaller."""
    for fewer in FEWER_LANES:
        yield HwConfig(rows, cols, math.gcd(rows, cols) // fewer)


def trial(array: HwConfig, device: Device, measure: Measure) -> Trial:
    """One array on a device."""
    found = need(array, device)
    if found.multipliers > device.multipliers:
        return Trial(array, found, None, problems(replace(found, memories=(), luts=None), device))
    try:
        hardware, used, cycles = measure(array)
    except IntactError as error:
        return Trial(array, found, None, (str(error),))
    hardware = snug(hardware, used, device)
    found = need(hardware, device)
    return Trial(hardware, found, cycles, problems(found, device))


def try_all(device: Device, measure: Measure) -> list[Trial]:
    """One trial of each size: with the most requantise lanes that fit, else with those that come nearest."""
    trials = []
    for rows, cols in sizes():
        tried: list[Trial] = []
        for array in with_lanes(rows, cols):
            tried.append(trial(array, device, measure))
            if not tried[-1].why_not:
                break
        trials.append(min(tried, key=nearness))
    return trials


def nearness(one: Trial) -> tuple[bool, bool, int]:
    """Orders trials of one size: those that fit, then those that lack block RAMs or LUTs, then multipliers."""
    return bool(one.why_not), one.cycles is None, one.need.multipliers if one.cycles is None else one.need.block_rams


def choose(device: Device, array: HwConfig | None, measure: Measure) -> Choice:
    """The array for a network: `array`, or with None the fastest that fits `device`, the smallest of equally fast ones.

    Raises IntactError, saying what there is too little of, where `array` or with None every array is too large.
    """
    if array is not None:
        one = trial(array, device, measure)
        if one.why_not:
            raise IntactError(f"array {one.name} does not fit {device.name}: it takes {'; '.join(one.why_not)}")
        return Choice(device, one, (one,))
    trials = try_all(device, measure)
    trials.sort(key=lambda one: (one.cycles is None, one.cycles or 0, one.need.multipliers, one.need.block_rams))
    fitting = [one for one in trials if not one.why_not]
    if not fitting:
        smallest = min(trials, key=lambda one: (len(one.why_not), one.need.multipliers))
        raise IntactError(
            f"no array fits {device.name}; the nearest, {smallest.name}, takes {'; '.join(smallest.why_not)}"
        )
    return Choice(device, fitting[0], tuple(trials))


def described(choice: Choice) -> dict[str, Any]:
    """The choice as the manifest has it (docs/formats.md)."""
    device = choice.device
    return {
        "device": device.name,
        "multipliers": device.multipliers,
        "block_rams": device.block_rams,
        "luts": device.luts,
        "memories": [
            {"name": memory.instance, "words": memory.depth, "bits": memory.width, "block_rams": blocks}
            for memory, blocks in choice.chosen.need.memories
        ],
        "trials": [
            {
                "array": one.name,
                "chosen": one is choice.chosen,
                "cycles": one.cycles,
                "multipliers": one.need.multipliers,
                "block_rams": None if one.cycles is None else one.need.block_rams,
                "luts": None if one.cycles is None else one.need.luts,
                "why_not": list(one.why_not),
            }
            for one in choice.trials
        ],
    }
