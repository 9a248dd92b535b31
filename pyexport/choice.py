"""Which array a device holds, and which of them runs a network fastest: decided before any tool runs (docs/area.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pyexport import devices, hwconfig
from pyexport.devices import FAMILIES, SERIAL_MEMORY, Device, Family, Memory, left_empty
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig

AUTO = "auto"
SIZES = (4, 8, 16, 32)  # rows and columns that are tried
SMALL_SIZES = (1, 2, 4)  # where a device has few multipliers
FEW = 20
FEWER_LANES = (1, 2, 4)  # requantise lanes that are tried: as many as there can be, divided by these
# from an array to it with memories that hold the network, it with the words used as depths, and an inference's cycles
Measure = Callable[[HwConfig], tuple[HwConfig, HwConfig, int]]
SNUG = 512  # depths are whole multiples of it where powers of two take too many blocks


@dataclass(frozen=True)
class Wanted:
    """array: None to choose one.  most_lanes: requantise lanes at most.  packed, serial: only arrays that are."""

    array: HwConfig | None = None
    most_lanes: int = 64
    packed: bool = False
    serial: bool = False


@dataclass(frozen=True)
class Need:
    """What hardware takes of a device. memories: each with its block RAMs.  luts: None where no model knows them.

    large: blocks of the device's other kind of memory (iCE40: SPRAM).
    """

    memories: tuple[tuple[Memory, int], ...]
    multipliers: int
    luts: int | None
    large: int = 0

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
    worked out: the depths are arbitrary and cycles is None.  refused: by the exporter, whatever the device has.
    """

    hardware: HwConfig
    need: Need
    cycles: int | None
    why_not: tuple[str, ...]
    refused: bool = False

    @property
    def name(self) -> str:
        """`array_name` of its hardware."""
        return array_name(self.hardware)


@dataclass(frozen=True)
class Choice:
    """device: what was chosen for.  chosen: the trial that was taken.  trials: all, fastest first."""

    device: Device
    chosen: Trial
    trials: tuple[Trial, ...]


def array_name(hardware: HwConfig) -> str:
    """The array, with its requantise lanes where there could be more, and its options."""
    parts = [hardware.array]
    if hardware.lanes < math.gcd(hardware.rows, hardware.cols):
        parts.append(f"{hardware.lanes} requantise lane{'s' if hardware.lanes > 1 else ''}")
    parts += ["packed"] if hardware.packed else []
    return ", ".join([*parts, "serial parameters"] if hardware.prm_serial else parts)


def need(hardware: HwConfig, device: Device) -> Need:
    """What `hardware` takes of `device`."""
    family = FAMILIES[device.family]
    every = (*devices.memories(hardware), *family.own)
    blocks = tuple((memory, devices.block_rams(memory, family)) for memory in every)
    large = sum(devices.large_blocks(memory, family) for memory in every)
    return Need(blocks, devices.multipliers(hardware, family), devices.luts(hardware, family), large)


def problems(found: Need, device: Device) -> tuple[str, ...]:
    """What the device has too little of, in words; empty where it holds the hardware."""
    limit = int(devices.MOST_LUTS * device.luts)
    lines = []
    if found.multipliers > device.multipliers:
        lines.append(f"{found.multipliers} multipliers, the device has {device.multipliers}")
    if found.block_rams > device.block_rams:
        lines.append(f"{found.block_rams} block RAMs, the device has {device.block_rams}")
    if found.large > device.large:
        lines.append(f"{found.large} large memories (SPRAM), the device has {device.large}")
    if found.luts is not None and found.luts > limit:
        lines.append(f"about {found.luts:,} LUTs, {devices.MOST_LUTS:.0%} of the device's are {limit:,}")
    return tuple(lines)


def lacks(hardware: HwConfig, device: Device) -> tuple[str, ...]:
    """`problems` of what `hardware` takes."""
    return problems(need(hardware, device), device)


def snug(hardware: HwConfig, used: HwConfig, device: Device) -> HwConfig:
    """`hardware` with memories no deeper than need be, as few of them as make it fit the device's block RAMs.

    used: the same with the words that the network really uses as depths. A memory whose depth is no power of two lies
    in several parts behind a multiplexer, so the ones that save most are cut first.
    """
    family = FAMILIES[device.family]

    def blocks(config: HwConfig) -> int:
        return sum(devices.block_rams(memory, family) for memory in (*devices.memories(config), *family.own))

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


def sizes(device: Device) -> list[tuple[int, int]]:
    """Rows and columns of the arrays to try, most multipliers first, square ones before long ones."""
    tried = SMALL_SIZES if device.multipliers < FEW else SIZES
    return sorted(
        [(rows, cols) for rows in tried for cols in tried if rows * cols > 1],
        key=lambda size: (-size[0] * size[1], abs(size[0] - size[1]), -size[0]),
    )


def variants(rows: int, cols: int, wanted: Wanted, family: Family) -> Iterator[HwConfig]:
    """An array with as many requantise lanes as there can be, then with fewer; each unpacked, then packed.

    Each of these `with_serial`. None is faster than those before it.
    """
    most = hwconfig.for_array(rows, cols, wanted.most_lanes).lanes
    lanes = [most // fewer for fewer in FEWER_LANES if most % fewer == 0]
    for each in lanes:
        for packed in (1,) if wanted.packed else (0, 1) if family.pairs else (0,):
            yield from with_serial(HwConfig(rows, cols, each, packed=packed), wanted, family)


def with_serial(array: HwConfig, wanted: Wanted, family: Family) -> list[HwConfig]:
    """The array, and the same with serial parameters where they would lie in another kind of memory."""
    if array.lanes != array.cols:
        return [] if wanted.serial else [array]
    serial = replace(array, prm_serial=1)
    if wanted.serial:
        return [serial]
    return [array, serial] if SERIAL_MEMORY in family.large else [array]


def trial(array: HwConfig, device: Device, measure: Measure) -> Trial:
    """One array on a device."""
    found = need(array, device)
    if found.multipliers > device.multipliers:
        return Trial(array, found, None, problems(replace(found, memories=(), luts=None, large=0), device))
    try:
        hardware, used, cycles = measure(array)
    except IntactError as error:
        return Trial(array, found, None, (str(error),), refused=True)
    hardware = snug(hardware, used, device)
    found = need(hardware, device)
    return Trial(hardware, found, cycles, problems(found, device))


def try_all(device: Device, wanted: Wanted, measure: Measure) -> list[Trial]:
    """One trial of each size: its first variant that fits, else the one that comes nearest."""
    trials = []
    for rows, cols in sizes(device):
        tried: list[Trial] = []
        for array in variants(rows, cols, wanted, FAMILIES[device.family]):
            tried.append(trial(array, device, measure))
            if not tried[-1].why_not:
                break
        if tried:
            trials.append(min(tried, key=nearness))
    return trials


def nearness(one: Trial) -> tuple[bool, bool, int]:
    """Orders trials of one size: those that fit, then those that lack block RAMs or LUTs, then multipliers."""
    return bool(one.why_not), one.cycles is None, one.need.multipliers if one.cycles is None else one.need.block_rams


def choose(device: Device, wanted: Wanted, measure: Measure) -> Choice:
    """The array that is wanted, or where none is named the fastest that fits, of equally fast ones the smallest.

    Raises IntactError, saying what there is too little of, where it or every array is too large.
    """
    packed = wanted.packed or (wanted.array is not None and wanted.array.packed)
    if packed and not FAMILIES[device.family].pairs:
        raise IntactError(f"a multiplier block of {device.name} computes one product: leave out --packed")
    if wanted.array is not None:
        array = wanted.array
        arrays = [array] if array.prm_serial else with_serial(array, wanted, FAMILIES[device.family])
        tried = [trial(each, device, measure) for each in arrays]
        one = min(tried, key=lambda each: bool(each.why_not))
        if one.refused:
            raise IntactError(one.why_not[0])
        if one.why_not:
            raise IntactError(
                f"array {one.name} does not fit {device.name}: it takes {'; '.join(one.why_not)}; "
                f"fewer requantise lanes (--lanes) and two products a block (--packed) take less; --array {AUTO} tries"
            )
        return Choice(device, one, (one,))
    trials = try_all(device, wanted, measure)
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
        "load": left_empty(choice.chosen.hardware, FAMILIES[device.family]),
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
