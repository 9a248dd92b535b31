"""Devices, what they have, and what hardware takes of them: known before any tool runs.

The rules are those of the open tools (docs/area.md): block RAMs as yosys maps rtl/ram.v, multipliers as the family's
flow instantiates them, LUTs by a model fitted to synthesised arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pyexport.errors import IntactError
from pyexport.hwconfig import PARAM_BITS, PROGRAM_BITS, HwConfig

BANKS = 4  # of the activation memory where there is a window
LAYER_BITS = 32  # of a cycle counter
HOST_SLICE = 32  # bits that the host writes at once
UART_PAYLOAD = 512  # bytes, PAYLOAD of rtl/uart_host.v
SERIAL_MEMORY = "parameter_parts"  # of parameters that are read in parts
LOADED = {"weight_memory": "weights", SERIAL_MEMORY: "params"}  # what may be large and holds the network
NARROW = 9  # bits of a word for which a block is deepest in rtl/ram.v
LEAST = 512  # words of the smallest part of a wide memory
CHOICE_LUTS = (0, 1, 2, 8)  # for each bit of a memory of one, two, three, four and more parts
MOST_LUTS = 0.9  # of a device: fuller ones do not route, or only slowly


@dataclass(frozen=True)
class Memory:
    """A memory that must become block RAM: its instance name, words, bits of a word.

    slice: bits under one write enable, 0 for all of a word.  unread: bits of the last slice that nothing reads, which
    synthesis leaves out.
    """

    instance: str
    depth: int
    width: int
    slice: int = 0
    unread: int = 0

    @property
    def bits(self) -> int:
        return self.depth * (self.width - self.unread)


@dataclass(frozen=True)
class LutModel:
    """LUTs of rtl/uart_system.v, linear in what the array has; docs/area.md says from which syntheses and how exact.

    fixed: whatever the array.  lane: an output lane.  product: an int8 product's share of the adder tree.  pair: two
    products of one block, taken apart.  requantise: a requantise lane.  row: a byte of an activation word.  table: a
    byte looked up.
    window: the 3x3 window's generator, and with it for each row (window_row) and each of up to nine taps of a lane
    (window_tap).
    flattened: what is left of the sum where synthesis dissolves the modules, placed.
    """

    fixed: float
    lane: float
    product: float
    pair: float
    requantise: float
    row: float
    table: float
    window: float
    window_row: float
    window_tap: float
    flattened: float


@dataclass(frozen=True)
class Large:
    """How a memory lies in large blocks.

    least: bits that it has more than.  depth, width: words and bits that a block holds of it.
    """

    least: int
    depth: int
    width: int


@dataclass(frozen=True)
class Family:
    """How a family of devices holds what the hardware needs.

    shapes: words and bits of a block RAM in each of its shapes, the widest first.  byte: bits under one write enable in
    the shapes that are wider; a narrower shape has one.
    product, requantise: multiplier blocks of an int8 product and of a requantise lane.
    pairs: whether a block computes two products where the array is packed.
    divides: whether memories whose depth is no power of two lie in parts (rtl/ram.v).
    block: words of the blocks that memories are made of where they need not be powers of two, else 0.
    luts: None where no array of this family has been measured.
    large: memories that lie outside block RAM where they have more bits than block RAM is meant for.
    own: what the family's own Verilog keeps in block RAM besides the memories.
    count, coordinate: bits of a descriptor's counts, and of its coordinates with their sign, that its address generator
    takes.
    """

    shapes: tuple[tuple[int, int], ...]
    byte: int
    product: int
    requantise: int
    pairs: bool
    divides: bool
    luts: LutModel | None
    large: Mapping[str, Large] = field(default_factory=dict)
    own: tuple[Memory, ...] = ()
    block: int = 0
    count: int = 16
    coordinate: int = 16


@dataclass(frozen=True)
class Preset:
    """A board's hardware unless told otherwise. array: rows x columns.  lanes: requantise lanes at most."""

    array: str = "8x8"
    lanes: int = 64


@dataclass(frozen=True)
class Device:
    """luts, multipliers, block_rams, large (blocks of the family's): how many it has.  boards: those that carry it."""

    name: str
    family: str
    luts: int
    multipliers: int
    block_rams: int
    large: int = 0
    boards: Mapping[str, Preset] = field(default_factory=dict)


# 18 kbit; enables for bytes of nine bits from 9 bits of width on
_BLOCKS_18K = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))

_ECP5_LUTS = LutModel(
    fixed=2965,
    lane=90,
    product=33,
    pair=79,
    requantise=855,
    row=62,
    table=13,
    window=718,
    window_row=94,
    window_tap=8,
    flattened=0.98,
)

FAMILIES = {
    "ecp5": Family(_BLOCKS_18K, 9, product=1, requantise=4, pairs=True, divides=True, luts=_ECP5_LUTS),
    # in multipliers of 9 x 9 bits, two to one of 18 x 18
    "gowin": Family(_BLOCKS_18K, 9, product=1, requantise=8, pairs=False, divides=True, luts=None),
    # constraints/ice40/ram.v: SPRAM, 16,384 words of 16 bits, accessed twice a cycle
    "ice40": Family(
        ((256, 16), (512, 8), (1024, 4), (2048, 2)),
        1,
        product=1,
        requantise=4,
        pairs=True,
        divides=False,
        luts=None,
        large={
            "activations": Large(16_384, 16_384, 16),
            "weight_memory": Large(32_768, 8_192, 32),
            SERIAL_MEMORY: Large(32_768, 8_192, 32),
        },
        own=(Memory("delay_offset", 16, 32), Memory("act_steps", 8, 14), Memory("wgt_steps", 8, 14)),
        block=256,
        count=10,
        coordinate=11,
    ),
    "xilinx": Family(_BLOCKS_18K, 9, product=1, requantise=4, pairs=True, divides=True, luts=None),
}

# Lattice FPGA-DS-02012 and FPGA-DS-02008; Gowin DS117 and DS226; Xilinx DS180 and DS190
DEVICES = {
    device.name: device
    for device in (
        Device("LFE5U-25F", "ecp5", luts=24_288, multipliers=28, block_rams=56),
        Device("LFE5U-45F", "ecp5", luts=43_848, multipliers=72, block_rams=108),
        Device("LFE5U-85F", "ecp5", luts=83_640, multipliers=156, block_rams=208, boards={"ulx3s": Preset()}),
        Device(
            "GW1NR-LV9", "gowin", luts=8_640, multipliers=40, block_rams=26, boards={"tangnano9k": Preset("4x4", 1)}
        ),
        Device(
            "GW2AR-LV18", "gowin", luts=20_736, multipliers=96, block_rams=46, boards={"tangnano20k": Preset("8x8", 2)}
        ),
        Device(
            "iCE40UP5K",
            "ice40",
            luts=5_280,
            multipliers=8,
            block_rams=30,
            large=4,
            boards={"icebreaker": Preset("4x1")},
        ),
        Device(
            "XC7A35T", "xilinx", luts=20_800, multipliers=90, block_rams=100, boards={"arty_a7_35t": Preset("16x4")}
        ),
        Device("XC7A100T", "xilinx", luts=63_400, multipliers=240, block_rams=270, boards={"arty_a7_100t": Preset()}),
        Device("XC7Z020", "xilinx", luts=53_200, multipliers=220, block_rams=280, boards={"pynq_z2": Preset()}),
    )
}


def find_device(name: str) -> Device:
    """The device called `name`, or that of the board called so. Raises IntactError naming the known ones."""
    for device in DEVICES.values():
        if name in device.boards or name.upper() == device.name.upper():
            return device
    boards = sorted(board for device in DEVICES.values() for board in device.boards)
    raise IntactError(
        f"board {name!r} is unknown; there are: {', '.join(boards)}, and the devices {', '.join(DEVICES)}"
    )


def memories(hardware: HwConfig) -> list[Memory]:
    """What must become block RAM, by instance name in rtl/intact_core.v and the modules that it joins."""
    write = 8 * hardware.lanes  # a drain beat
    products = 8 * hardware.rows * hardware.cols  # bits of a word of weights
    if hardware.window:
        bank = -(-hardware.act_depth // BANKS)
        activations = [Memory(f"gen_bank[{i}]", bank, hardware.act_bits, write) for i in range(BANKS)]
    else:
        activations = [Memory("activations", hardware.act_depth, hardware.act_bits, write)]
    if hardware.prm_serial:
        parts = PARAM_BITS // HOST_SLICE
        parameters = Memory(SERIAL_MEMORY, parts * hardware.prm_depth, hardware.prm_bits // parts, HOST_SLICE)
    else:
        parameters = Memory("parameter_memory", hardware.prm_depth, hardware.prm_bits, HOST_SLICE)
    return [
        *activations,
        Memory("weight_memory", hardware.wgt_depth, hardware.wgt_bits, HOST_SLICE, hardware.wgt_bits - products),
        parameters,
        Memory("program_memory", hardware.prg_depth, PROGRAM_BITS, HOST_SLICE),
        Memory("layer_counters", hardware.layers, LAYER_BITS),
        Memory("payload", UART_PAYLOAD, 8),
        *[Memory(f"gen_table_lane[{i}]", 256 * hardware.tables, 8) for i in range(hardware.lanes) if hardware.tables],
    ]


def parts(memory: Memory, family: Family) -> list[Memory]:
    """What rtl/ram.v divides a memory into, the largest first: a part for each bit that is set in its depth.

    The depth counts in blocks, each as deep as it is for words of this width, of 9 bits at least.
    """
    if not family.divides:
        return [memory]
    unit = max((depth for depth, width in family.shapes if width >= max(memory.width, NARROW)), default=LEAST)
    units, found, first = -(-memory.depth // unit), [], 0
    for bit in reversed(range(units.bit_length())):
        if units >> bit & 1:
            found.append(replace(memory, depth=min(memory.depth - first, unit << bit)))
            first += unit << bit
    return found


def blocks_of(part: Memory, family: Family) -> int:
    """Block RAMs that a part of a memory takes, in the shape that takes the fewest.

    A write enable covers whole bytes of a block, or all of one that is narrower: 32 bits take 36 of a block's 36 bits,
    or 8 blocks of 4 bits.
    """
    bits = part.slice or part.width
    slices = -(-part.width // bits)
    choices = []
    for depth, width in family.shapes:
        byte = min(family.byte, width)
        enabled = (slices - 1) * -(-bits // byte) + -(-(bits - part.unread) // byte)
        columns = -(-enabled * byte // width)
        choices.append(-(-part.depth // depth) * columns)
    return min(choices)


def is_large(memory: Memory, family: Family) -> bool:
    """Whether a memory lies outside block RAM."""
    large = family.large.get(memory.instance)
    return large is not None and memory.depth * memory.width > large.least and memory.depth <= large.depth


def left_empty(hardware: HwConfig, family: Family) -> list[str]:
    """What a bitstream cannot fill, as --load of host/intact_host.py calls it: large memories start empty."""
    return [LOADED[each.instance] for each in memories(hardware) if each.instance in LOADED and is_large(each, family)]


def block_rams(memory: Memory, family: Family) -> int:
    """Block RAMs that a memory takes."""
    return 0 if is_large(memory, family) else sum(blocks_of(part, family) for part in parts(memory, family))


def large_blocks(memory: Memory, family: Family) -> int:
    """Large blocks that a memory takes."""
    return -(-memory.width // family.large[memory.instance].width) if is_large(memory, family) else 0


def multipliers(hardware: HwConfig, family: Family) -> int:
    """Multiplier blocks that the hardware takes."""
    return family.product * hardware.multiplier_blocks + family.requantise * hardware.lanes


def logic(hardware: HwConfig, model: LutModel) -> int:
    """LUTs of all modules, each by itself: what `make area` counts, memories' multiplexers apart."""
    rows, cols, lanes = hardware.rows, hardware.cols, hardware.lanes
    total = model.fixed + model.lane * cols + model.product * rows * cols + model.requantise * lanes + model.row * rows
    total += model.table * lanes if hardware.tables else 0
    if hardware.packed:
        total += model.pair * rows * (cols // 2)
    if hardware.window:
        total += model.window + model.window_row * rows + model.window_tap * min(rows, 9) * cols
    return round(total)


def luts(hardware: HwConfig, family: Family) -> int | None:
    """LUTs that the hardware is estimated to take once placed, None where the family was never measured.

    Where a memory has several parts a multiplexer chooses one.
    """
    if family.luts is None:
        return None
    total = family.luts.flattened * logic(hardware, family.luts)
    for memory in memories(hardware):
        total += memory.width * CHOICE_LUTS[min(len(parts(memory, family)), len(CHOICE_LUTS)) - 1]
    return round(total)
