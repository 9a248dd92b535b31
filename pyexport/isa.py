"""Program format: the fields of the header and of a descriptor, the host's register map, and the Verilog header.

One source for Python and Verilog: `python -m pyexport.isa` writes rtl/intact_defs.vh. docs/formats.md has it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyexport.errors import IntactError

FORMAT_VERSION = 1
MAGIC = 0x494E5441  # "INTA"
WORD_BITS = 64


@dataclass(frozen=True)
class Field:
    """Bits [lsb + bits - 1 : lsb] of program word `word`; two's complement where `signed`."""

    name: str
    word: int
    lsb: int
    bits: int
    signed: bool
    meaning: str


def _layout(words: list[list[tuple[str, int, str]]]) -> tuple[Field, ...]:
    """Places fields from bit 0 up; a width below 0 means signed. Names starting with `reserved` must be zero."""
    fields = []
    for word, entries in enumerate(words):
        lsb = 0
        for name, bits, meaning in entries:
            fields.append(Field(name, word, lsb, abs(bits), bits < 0, meaning))
            lsb += abs(bits)
        if lsb != WORD_BITS:
            raise ValueError(f"program word {word} has {lsb} bits")
    return tuple(fields)


HEADER = _layout(
    [
        [
            ("magic", 32, "0x494E5441"),
            ("version", 8, "format version, 1"),
            ("rows", 8, "rows of the array that the program was built for"),
            ("cols", 8, "columns"),
            ("lanes", 8, "requantise lanes"),
        ],
        [
            ("in_base", 24, "activation word where the input starts"),
            ("in_words", 24, "activation words of the input"),
            ("jobs", 16, "number of descriptors"),
        ],
        [
            ("out_base", 24, "activation word where the output starts"),
            ("out_words", 24, "activation words of the output"),
            ("layers", 16, "number of layers"),
        ],
        [
            ("act_words", 24, "activation words in use"),
            ("prm_words", 24, "parameter words in use"),
            (
                "free_job",
                16,
                "n: the next input frame may come in once job n - 1 has read its last word; 0: once the output is sent",
            ),
        ],
        [
            ("wgt_words", 24, "weight words in use"),
            ("tables", 8, "tables of codes in use"),
            ("packed", 1, "the array computes two products a multiplier block"),
            ("prm_serial", 1, "it reads parameter words in parts"),
            ("reserved0", 30, "zero"),
        ],
    ]
)

LEVELS = ("word", "kx", "ky", "pass", "tile", "ox", "oy")  # loop nest, innermost first


def _level(name: str) -> list[tuple[str, int, str]]:
    return [
        (f"{name}_count", 16, f"iterations of loop {name}, less one"),
        (f"{name}_act", -24, f"added to the activation address when loop {name} advances"),
        (f"{name}_wgt", -24, f"added to the weight address when loop {name} advances"),
    ]


_FIRST_WORD = [
    ("opcode", 8, "1: accumulate, 2: window; anything else is illegal"),
    ("accumulate_max", 1, "keep the maximum of the products' sums instead of adding them"),
    ("pass_subtracts", 1, "loop pass goes on accumulating and its second iteration subtracts (wide weights)"),
    (
        "pass_shifts",
        1,
        "loop pass goes on accumulating, each later iteration on the sum times 256 (adds)",
    ),
    ("layer_end", 1, "this job completes a layer: its cycle counter is written"),
    ("program_end", 1, "this is the last job"),
    ("reserved0", 3, "zero"),
    ("y0", -16, "y of the first tap"),
    ("gap", 16, "idle cycles between tiles, so that the drain keeps up"),
    ("pad", -8, "code read where the window leaves the map"),
    ("reserved1", 8, "zero"),
]
_MAP_WORD = [
    ("act_base", 24, "activation address of the first tap, modulo the memory's size"),
    ("wgt_base", 24, "weight address of the first word"),
    ("map_h", 16, "rows of the input map; taps outside read pad"),
]
_OUTPUT_WORDS = [
    [
        ("layer", 16, "index of the layer"),
        ("zero_point", -8, "output zero point, as an int8 code"),
        ("low", -8, "lowest output code"),
        ("high", -8, "highest output code"),
        ("out_group", 8, "group of lanes bytes within the word where a pixel's results start"),
        ("last_beat", 8, "drain beats of a tile, less one: a tile is that many times lanes channels"),
        ("table", 8, "0, or 1 + the table of codes that the results go through"),
    ],
    [
        ("out_base", 24, "activation word of the first pixel's results"),
        ("prm_base", 24, "parameter word of the first channels"),
        ("out_groups", 16, "groups of lanes results that are written for each pixel"),
    ],
    [
        ("out_ox", -24, "added to the output word when loop ox advances"),
        ("out_oy", -24, "added to the output word when loop oy advances"),
        ("reserved3", 16, "zero"),
    ],
]
# An accumulate job: every word read goes to all lanes.
DESCRIPTOR = _layout(
    [
        _FIRST_WORD,
        *[_level(name) for name in LEVELS],
        _MAP_WORD,
        [
            ("kx_x", -16, "added to x when loop kx advances"),
            ("back_x", -16, "added to x when loop ky, pass or tile advances"),
            ("ox_x", -16, "added to x when loop ox advances"),
            ("x0", -16, "x of the first tap of each output row"),
        ],
        [
            ("ky_y", -16, "added to y when loop ky advances"),
            ("back_y", -16, "added to y when loop pass, tile or ox advances"),
            ("oy_y", -16, "added to y when loop oy advances"),
            ("map_w", 16, "columns of the input map"),
        ],
        *_OUTPUT_WORDS,
    ]
)
# A window job: a slot reads a column of three words into the 3x3 window, or none, and uses the window or not.
WINDOW = _layout(
    [
        _FIRST_WORD,
        [
            ("two_slots", 1, "a pixel takes two words of weights: the second one meets the window a column later"),
            ("second_scales_up", 1, "the second one is added to the sum times 256 (residual add)"),
            ("unused1", 14, "zero, not looked at"),
            ("job_slots", 8, "slots of the job's first pixel; it reads a column in each"),
            ("row_slots", 8, "slots of another row's first pixel"),
            ("row_columns", 8, "... the first so many of which read a column"),
            ("pixel_slots", 8, "slots of any other pixel"),
            ("pixel_columns", 8, "... the first so many of which read a column"),
            ("unused2", 8, "zero, not looked at"),
        ],
        [
            ("width", 16, "output columns, less one"),
            ("height", 16, "output rows, less one"),
            ("tiles", 16, "tiles, less one: each goes over the whole map"),
            ("unused3", 16, "zero, not looked at"),
        ],
        [
            ("column_act", -24, "added to the activation address from a column to the next"),
            ("row_act", -24, "... from a row's last column to the next row's first"),
            ("row_x", -16, "x of the first column that a row after the first reads"),
        ],
        [
            ("tile_act", -24, "added to the activation address from a tile's last column to the next tile's first"),
            ("line_act", 24, "from a window row's word to the next one's"),
            ("row_y", -16, "added to y from a row to the next"),
        ],
        [
            ("out_tile", -24, "added to the output word from a tile to the next"),
            ("unused4", 40, "zero, not looked at"),
        ],
        [("unused5", 64, "zero, not looked at")],
        [("unused6", 64, "zero, not looked at")],
        _MAP_WORD,
        [("unused7", 48, "zero, not looked at"), ("x0", -16, "x of the job's first column")],
        [("unused8", 48, "zero, not looked at"), ("map_w", 16, "columns of the input map")],
        *_OUTPUT_WORDS,
    ]
)
LAYOUTS = {1: DESCRIPTOR, 2: WINDOW}  # by opcode
# The address generator's part comes first, so that it starts before the rest has arrived.
LOOP_WORDS = 1 + len(LEVELS) + 3

# One channel's requantise constants, a 160-bit word (docs/arithmetic.md, Eq. 1 to 9).
PARAMETER = (
    Field("bias", 0, 0, 32, True, "added to the accumulator, Eq. 1, zero points folded in"),
    Field("m", 0, 32, 31, False, "multiplier, Eq. 2"),
    Field("even", 0, 63, 1, False, "an odd code near a tie goes to its even neighbour, Eq. 7"),
    Field("r", 0, 64, 34, True, "rounding offset, Eq. 3, in 2^-24 codes"),
    Field("exc_v", 0, 98, 30, True, "the value that Eq. 8 corrects"),
    Field("d", 0, 128, 24, True, "added to the offset of negative values, Eq. 3"),
    Field("shift", 0, 152, 6, False, "s - 24, Eq. 3"),
    Field("exc_d", 0, 158, 2, True, "correction of Eq. 8: -1, 0 or 1; 0 switches it off"),
)

HEADER_WORDS = max(f.word for f in HEADER) + 1
DESCRIPTOR_WORDS = max(f.word for f in DESCRIPTOR) + 1
OPCODE_ACCUMULATE = 1
OPCODE_WINDOW = 2

# Host registers, byte addresses on AXI4-Lite, 32 bits each.
REGISTERS = {
    "ID": (0x00, "reads 0x494E5441"),
    "ARRAY": (0x04, "format version [31:24], lanes [23:16], columns [15:8], rows [7:0]"),
    "ACT_DEPTH": (0x08, "activation words"),
    "WGT_DEPTH": (0x0C, "weight words"),
    "PRM_DEPTH": (0x10, "parameter words"),
    "PRG_DEPTH": (0x14, "program words"),
    "CTRL": (0x18, "write: [0] start, [1] abort, [2] clear; read/write: [8] auto start, [9] interrupt enable"),
    "STATUS": (0x1C, "[0] idle, [1] input waiting, [2] running, [3] output pending, [4] done, [5] error, [15:8] code, "
                     "[31:16] job"),
    "CYCLES": (0x20, "cycles of the last or current run, start to done"),
    "LAYER_INDEX": (0x24, "which layer LAYER_CYCLES shows"),
    "LAYER_CYCLES": (0x28, "cycles from start to the end of that layer"),
    "LOAD_ADDR": (0x2C, "memory [31:28] (0 program, 1 weights, 2 parameters, 3 tables), word [23:0] for LOAD_DATA"),
    "LOAD_DATA": (0x30, "32 bits of a memory word, lowest first; the address moves on by itself"),
    "RUNS": (0x34, "runs completed since reset"),
    "OPTIONS": (0x38, "serial parameters [9], packed [8], tables of 256 codes [7:0]"),
}  # fmt: skip

LOAD_TARGETS = {"PROGRAM": 0, "WEIGHTS": 1, "PARAMS": 2, "TABLES": 3}

ERRORS = {
    "NONE": (0, "no error"),
    "PROGRAM": (
        1,
        "the program's header is damaged, or was built for another array, lanes, options, version or larger memories",
    ),
    "DESCRIPTOR": (2, "a descriptor has an unknown opcode, a reserved bit set, or an index or address out of range"),
    "FRAME": (3, "the input frame ended early or late (TLAST not on its last word)"),
    "OVERRUN": (4, "a tile finished before the one before was drained: its gap is too small"),
    "ABORTED": (5, "the host stopped the run"),
}


def beyond(fields: Mapping[str, int], count: int, coordinate: int) -> str | None:
    """What of a job's descriptor an address generator with shorter counters does not take, in words; None: all goes.

    fields: values by name.  count, coordinate: bits of its counts, and of its coordinates with their sign; in the
    descriptor both have 16.
    """
    for place in DESCRIPTOR:
        if place.word >= LOOP_WORDS or place.bits != 16 or place.name not in fields:
            continue
        value, bits = fields[place.name], coordinate - 1 if place.signed else count
        if not -(1 << bits) <= value < 1 << bits:
            return f"{place.name} = {value:,} ({place.meaning}), where {(1 << bits) - 1:,} is the most"
    return None


def encode(fields: tuple[Field, ...], values: Mapping[str, int]) -> list[int]:
    """Packs named values into the words of a layout. Fields left out are zero.

    Raises IntactError where a value does not fit its field, KeyError (a bug) for an unknown name.
    """
    unknown = set(values) - {f.name for f in fields}
    if unknown:
        raise KeyError(f"no such fields: {sorted(unknown)}")
    words = [0] * (max(f.word for f in fields) + 1)
    for field in fields:
        value = int(values.get(field.name, 0))
        low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
        if not low <= value <= high:
            raise IntactError(f"program: {field.name}={value} does not fit {low}..{high}; the layer is too large")
        words[field.word] |= (value & ((1 << field.bits) - 1)) << field.lsb
    return words


def verilog_header() -> str:
    """Text of rtl/intact_defs.vh: positions of the fields within their concatenated words, registers, error codes."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "// Written by `python -m pyexport.isa`: change pyexport/isa.py instead.",
        "",
        "`ifndef INTACT_DEFS_VH",
        "`define INTACT_DEFS_VH",
        "",
    ]

    def define(name: str, value: str) -> None:
        lines.append(f"`define {name} {value}")

    define("INTACT_MAGIC", f"32'h{MAGIC:08X}")
    define("INTACT_VERSION", f"8'd{FORMAT_VERSION}")
    define("INTACT_HEADER_WORDS", str(HEADER_WORDS))
    define("INTACT_DESCRIPTOR_WORDS", str(DESCRIPTOR_WORDS))
    define("INTACT_LOOP_WORDS", str(LOOP_WORDS))
    define("INTACT_OPCODE_ACCUMULATE", f"8'd{OPCODE_ACCUMULATE}")
    define("INTACT_OPCODE_WINDOW", f"8'd{OPCODE_WINDOW}")
    own = tuple(field for field in WINDOW if field not in DESCRIPTOR)
    for prefix, title, fields in (
        ("HDR", "program header", HEADER),
        ("DSC", "descriptor", DESCRIPTOR),
        ("WIN", "descriptor of a window job, where it differs", own),
    ):
        lines += ["", f"// {title}: bit range within all its words"]
        for field in fields:
            lsb = field.word * WORD_BITS + field.lsb
            define(f"{prefix}_{field.name.upper()}", f"{lsb + field.bits - 1}:{lsb}")
            if field.bits in (16, 24):  # hardware takes as many bits as it needs
                define(f"{prefix}_{field.name.upper()}_LSB", str(lsb))
    lines += ["", "// a channel's parameters: bit range"]
    for field in PARAMETER:
        define(f"PRM_{field.name.upper()}", f"{field.lsb + field.bits - 1}:{field.lsb}")
    lines += ["", "// host registers: word addresses"]
    for name, (address, _) in REGISTERS.items():
        define(f"REG_{name}", f"6'd{address // 4}")
    lines += ["", "// memories that the host loads"]
    for name, target in LOAD_TARGETS.items():
        define(f"LOAD_{name}", f"2'd{target}")
    lines += ["", "// error codes"]
    for name, (code, _) in ERRORS.items():
        define(f"ERR_{name}", f"8'd{code}")
    lines += ["", "`endif", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (Path(__file__).parent.parent / "rtl" / "intact_defs.vh").write_text(verilog_header())
