"""Writes the tables of docs/formats.md that follow from pyexport/isa.py, and its worked example from a real lowering.

    python -m scripts.format_tables [--check]

A generated part of a document stands between the lines `<!-- begin NAME ... -->` and `<!-- end NAME -->`. With --check
nothing is written, and the exit status is 1 where the document differs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pyexport import isa
from pyexport.arith import HALF, Requant
from pyexport.hwconfig import HwConfig
from pyexport.images import PARAMS, PROGRAM, WEIGHTS, memory_images
from pyexport.ir import Port, Quant
from pyexport.lower import Lowered, lower, with_depths
from pyexport.qlayers import Network, QLayer, QTensor

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "formats.md"

WALK = 14  # steps of the example's loop nest that are shown


# ---- documents with generated parts ----


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as it stands in a Markdown file, without the last line's end. Pads all columns but a wide last one."""
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    if widths[-1] > 30:
        widths[-1] = 3
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def update(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """`text` with every generated part written anew. Raises ValueError where a part has no place."""
    for name, write in parts.items():
        begin = re.findall(rf"<!-- begin {name}[^-\w][^\n]*-->\n", text)
        end = f"<!-- end {name} -->"
        if len(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the document has no place, or several, for the generated part {name!r}")
        before, rest = text.split(begin[0])
        text = f"{before}{begin[0]}\n{write()}\n\n{end}{rest.split(end)[1]}"
    return text


def main(document: Path, parts: Mapping[str, Callable[[], str]], description: str) -> int:
    """The command: writes the document, or checks it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where the document differs")
    check = parser.parse_args().check
    before = document.read_text(encoding="utf-8")
    after = update(before, parts)
    if not check:
        document.write_text(after, encoding="utf-8")
    elif before != after:
        print(f"{document} is not what the code says: run this command without --check", file=sys.stderr)
        return 1
    return 0


# ---- tables ----


def _bits(lsb: int, bits: int) -> str:
    return f"[{lsb}]" if bits == 1 else f"[{lsb + bits - 1}:{lsb}]"


def field_table(fields: tuple[isa.Field, ...]) -> str:
    """Fields of the header or of a descriptor."""
    rows = [
        (str(f.word), _bits(f.lsb, f.bits), f"`{f.name}`", "signed" if f.signed else "unsigned", f.meaning)
        for f in fields
    ]
    return markdown_table(("word", "bits", "field", "type", "meaning"), rows)


def register_table() -> str:
    """Host registers."""
    rows = [(f"`0x{address:02X}`", f"`{name}`", meaning) for name, (address, meaning) in isa.REGISTERS.items()]
    return markdown_table(("address", "register", "contents"), rows)


def error_table() -> str:
    """Error codes."""
    return markdown_table(
        ("code", "name", "meaning"), [(str(code), f"`{name}`", meaning) for name, (code, meaning) in isa.ERRORS.items()]
    )


# ---- worked example ----


def example() -> tuple[Network, Lowered]:
    """One 3x3 convolution of a 6x6 map, 5 channels to 6, on a 4x4 array. Weights and constants are made up."""
    out, inputs = 6, 5
    index = np.indices((out, 3, 3, inputs))
    weights = (7 * index[0] + 5 * index[1] + 3 * index[2] + index[3]) % 15 - 6
    zeros, ones = np.zeros(out, np.int64), np.ones(out, np.int64)
    requant = Requant(
        bias=100 * np.arange(1, out + 1),
        m=1_374_389_535 * ones,
        s=38 * ones,
        r=HALF * ones,
        d=zeros,
        even=ones,
        exc_v=zeros,
        exc_d=zeros,
        z=-5,
        lo=-5,
        hi=127,
    )
    layer = QLayer(
        name="conv",
        op="conv2d",
        input="in",
        output="out",
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1, 1, 1),
        dilation=(1, 1),
        groups=1,
        weights=weights.astype(np.int16),
        maximum=False,
        requant=requant,
        macs=36 * out * 9 * inputs,
    )
    quant = Quant(np.float32(1), 3, "int8")
    tensors = {"in": QTensor("in", (6, 6, inputs), 3, 0, quant), "out": QTensor("out", (6, 6, out), -5, 0, quant)}
    ports = [Port(name, (tensors[name].shape[2], 6, 6), (1, 2, 0)) for name in ("in", "out")]
    network = Network("example", "exact", tensors, (layer,), ports[0], ports[1], "torch")
    return network, with_depths(lower(network, HwConfig(rows=4, cols=4, lanes=4)))


def take(word: int, lsb: int, bits: int, signed: bool) -> int:
    """Bits of a word as a number."""
    value = word >> lsb & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def decode(fields: tuple[isa.Field, ...], words: Sequence[int]) -> dict[str, int]:
    """The named values in 64-bit program words."""
    return {f.name: take(words[f.word], f.lsb, f.bits, f.signed) for f in fields}


def decode_parameters(value: int) -> dict[str, int]:
    """One channel's 160 bits by name."""
    return decode(isa.PARAMETER, [value])


def walk(fields: Mapping[str, int]) -> Iterator[tuple[int, int, int, int]]:
    """The loop nest of a descriptor, as the address generator runs it: (activation address, weight address, x, y)."""
    counts = [fields[f"{level}_count"] for level in isa.LEVELS]
    left = list(counts)
    act, wgt, x, y = fields["act_base"], fields["wgt_base"], fields["x0"], fields["y0"]
    while True:
        yield act, wgt, x, y
        advances = next((level for level, remaining in enumerate(left) if remaining), None)
        if advances is None:
            return
        left[: advances + 1] = [*counts[:advances], left[advances] - 1]
        name = isa.LEVELS[advances]
        act += fields[f"{name}_act"]
        wgt += fields[f"{name}_wgt"]
        x += {"word": 0, "kx": fields["kx_x"], "ox": fields["ox_x"]}.get(name, fields["back_x"])
        x = fields["x0"] if name == "oy" else x
        y += {"word": 0, "kx": 0, "ky": fields["ky_y"], "oy": fields["oy_y"]}.get(name, fields["back_y"])


def _word_rows(fields: tuple[isa.Field, ...], words: Sequence[int]) -> list[tuple[str, str, str]]:
    values = decode(fields, words)
    texts = {name: f"0x{value:08X}" if name == "magic" else str(value) for name, value in values.items()}
    shown = [(f.word, f"{f.name} = {texts[f.name]}") for f in fields if not f.name.startswith("reserved")]
    return [
        (str(number), f"`{word:016x}`", ", ".join(text for at, text in shown if at == number))
        for number, word in enumerate(words)
    ]


def example_program() -> str:
    """program.mem's header and descriptor, decoded from the file's own text."""
    lines = memory_images(example()[1])[PROGRAM].split()
    words = [int(line, 16) for line in lines]
    header, descriptor = words[: isa.HEADER_WORDS], words[isa.HEADER_WORDS :][: isa.DESCRIPTOR_WORDS]
    parts = []
    for title, fields, part in (("Header", isa.HEADER, header), ("Descriptor", isa.DESCRIPTOR, descriptor)):
        parts.append(f"{title}:\n\n" + markdown_table(("word", "hex", "fields"), _word_rows(fields, part)))
    return "\n\n".join(parts)


def example_walk() -> str:
    """The first steps of the example's loop nest."""
    lowered = example()[1]
    fields = decode(isa.DESCRIPTOR, lowered.program[isa.HEADER_WORDS :])
    rows = []
    for step, (act, wgt, x, y) in zip(range(WALK), walk(fields), strict=False):
        inside = 0 <= x < fields["map_w"] and 0 <= y < fields["map_h"]
        address = take(act, 0, 24, True)
        rows.append((str(step), f"{x}, {y}", str(address), str(wgt), "the word" if inside else "`pad`"))
    return markdown_table(("step", "x, y", "activation address", "weight address", "the array reads"), rows)


def example_memories() -> str:
    """First weight words and first channel's parameters of the example, from the files' own text."""
    lowered = example()[1]
    images = memory_images(lowered)
    weights, parameter = images[WEIGHTS].split()[:2], images[PARAMS].split()[0]
    rows, columns = lowered.config.rows, lowered.config.cols
    grid = [
        (f"column {c}", *(str(take(int(w, 16), 8 * (c * rows + r), 8, True)) for w in weights for r in range(rows)))
        for c in range(columns)
    ]
    header = ("", *(f"word {i} row {r}" for i in range(len(weights)) for r in range(rows)))
    channel = int(parameter, 16) & (1 << 160) - 1
    values = decode_parameters(channel)
    table = [(_bits(f.lsb, f.bits), f.name, str(values[f.name])) for f in isa.PARAMETER]
    return "\n\n".join(
        [
            f"Weight words 0 and 1, `{weights[0]}` and `{weights[1]}`:",
            markdown_table(header, grid),
            f"Parameter word 0, lane 0, `{channel:040x}`:",
            markdown_table(("bits", "field", "value"), table),
        ]
    )


PARTS: dict[str, Callable[[], str]] = {
    "header": lambda: field_table(isa.HEADER),
    "descriptor": lambda: field_table(isa.DESCRIPTOR),
    "window": lambda: field_table(tuple(field for field in isa.WINDOW if field not in isa.DESCRIPTOR)),
    "registers": register_table,
    "errors": error_table,
    "example-program": example_program,
    "example-walk": example_walk,
    "example-memories": example_memories,
}

if __name__ == "__main__":
    sys.exit(main(DOCUMENT, PARTS, __doc__ or ""))
