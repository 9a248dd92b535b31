"""`make area`: what the hardware costs, array by array and part by part, synthesised with its hierarchy kept.

    .venv/bin/python constraints/area.py [--boards ulx3s,...] [--arrays 4x4,8x8,...] [--fmax] [--clock MHZ] [--seeds N]
        [--pnr-args ARGS] [--out DIR]

Prints a table of arrays and one of parts for each, writes DIR/area.json, and ends with an error where a part costs more
than its budget (BUDGETS, docs/area.md). Results are kept in DIR by what went into them: the Verilog, the command and
its parameters.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # started as a script: import from the checkout, not from this folder
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from pyexport import bootstrap

bootstrap.ready(("numpy", "flatbuffers", "rich"))

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from constraints import build
from constraints.boards import BOARDS, Board, clocks_per_bit
from constraints.cells import CELLS, GLUE, Cells, Cost, parts_of
from constraints.flow import ROOT, Stages, positive, relative, tool
from pyexport import choice, devices, export, hwconfig, report
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig

ARRAYS = "default,4x4,8x8,16x8,largest"
DEFAULT, LARGEST = "default", "largest"
SEEDS = 3
TOP = "uart_system"
# small memories, so that arrays alone decide what fits; on the iCEBreaker those of its digits network
DEPTHS = {"act_depth": 2048, "wgt_depth": 512, "prm_depth": 256, "prg_depth": 512, "layers": build.BLOCK_WORDS}
SMALL_DEPTHS = {"icebreaker": {"act_depth": 768, "wgt_depth": 4096, "prm_depth": 256, "prg_depth": 512, "layers": 256}}
LANE, PRODUCTS = "MAC lane", "multipliers"


@dataclass(frozen=True)
class Effort:
    """Of place and route.

    seeds: how many placements.  clock: MHz to ask for, the board's own where None.  options: more for the tool.
    """

    seeds: int
    clock: float | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """The most that one of a part may cost: LUTs and flip-flops, and more of them for each row of the array.

    packed: of arrays with two products a block (1) or one (0) alone.
    """

    part: str
    luts: int
    ffs: int
    luts_row: int = 0
    ffs_row: int = 0
    packed: int | None = None


# Some 10 % above what docs/area.md measures: room for a small change, none for a large one that nobody noticed.
BUDGETS: dict[str, tuple[Budget, ...]] = {
    "ecp5": (
        Budget(LANE, 100, 40, luts_row=37, ffs_row=7),
        Budget(PRODUCTS, 0, 16, packed=0),
        Budget(PRODUCTS, 87, 75, packed=1),
        Budget("requantise lane", 940, 1170),
        Budget("operands", 0, 0, luts_row=105, ffs_row=80),
        Budget("activation memory", 0, 20, luts_row=93, ffs_row=43),
        Budget("address generator", 810, 330),
        Budget("window generator", 700, 255),
        Budget("sequencer", 560, 1560),
        Budget("drain", 210, 230, luts_row=28, ffs_row=36),
        Budget("input stream", 90, 80, luts_row=9, ffs_row=18),
        Budget("output stream", 200, 90, luts_row=12, ffs_row=9),
        Budget("AXI4-Lite registers", 710, 280),
        Budget("UART host", 770, 335),
        Budget("byte streams", 10, 10, luts_row=6, ffs_row=9),
        Budget(GLUE, 150, 180, luts_row=15, ffs_row=8),
    ),
}


def fitting(board: Board, rows: int, cols: int) -> HwConfig | None:
    """The array with as many requantise lanes as the board's device holds, packed if need be; None where none fits."""
    device = devices.find_device(board.name)
    wanted = choice.Wanted(most_lanes=board.preset.lanes)
    for array in choice.variants(rows, cols, wanted, devices.FAMILIES[board.family]):
        hardware = replace(array, **SMALL_DEPTHS.get(board.name, DEPTHS))
        if not choice.lacks(hardware, device):
            return hardware
    return None


def largest(board: Board) -> HwConfig | None:
    """The array with the most multipliers that the board's device holds."""
    found = (fitting(board, rows, cols) for rows, cols in choice.sizes(devices.find_device(board.name)))
    return next((hardware for hardware in found if hardware), None)


def script(board: Board, cells: Cells, hardware: HwConfig, statistics: Path) -> str:
    """Yosys' commands: synthesis with every module kept, and counts of each module's cells into `statistics`."""
    files = [path for path in build.sources(board) if path != ROOT / board.top]
    parameters = " ".join(f"-set {name} {value}" for name, value in hardware.verilog_parameters().items())
    return "\n".join(
        [
            f"read_verilog -defer -Irtl {' '.join(relative(path) for path in files)}",
            f"chparam {parameters} {TOP}",
            cells.synthesis.format(top=TOP),
            f"tee -q -o {relative(statistics)} stat -json",
            "",
        ]
    )


def name_of(board: Board, hardware: HwConfig) -> str:
    """Of an array's files."""
    return f"{board.name}-{hardware.array}-{hardware.lanes}" + ("-packed" if hardware.packed else "")


def digest(board: Board, text: str) -> str:
    """What names a result: the commands, every file that they read, the flow and its tools' versions."""
    hashed = hashlib.sha256(text.encode())
    flow = [ROOT / "constraints" / f"{board.family}_{what}.py" for what in ("flow", "registers")]
    tools = [path for path in [*flow, ROOT / "requirements" / "board.txt"] if path.is_file()]
    for path in [*sorted((ROOT / "rtl").glob("*.vh")), *build.sources(board), ROOT / board.pins, *tools]:
        hashed.update(path.name.encode() + path.read_bytes())
    return hashed.hexdigest()[:16]


def synthesise(console: Console, board: Board, hardware: HwConfig, folder: Path) -> dict[str, Any]:
    """`stat -json` of one array, from `folder` where it has been made before. Raises IntactError."""
    cells = CELLS[board.family]
    name = name_of(board, hardware)
    known = digest(board, script(board, cells, hardware, folder / "statistics"))
    statistics = folder / f"{name}-{known}.json"
    if not statistics.exists():
        made = folder / f"{name}.json"
        commands = folder / f"{name}.ys"
        commands.write_text(script(board, cells, hardware, made))
        command = [tool("yosys"), "-q", "-s", relative(commands)]
        Stages(console, folder).run(f"synthesis {hardware.array}", f"{name}.log", command)
        for old in folder.glob(f"{name}-{'[0-9a-f]' * len(known)}.json"):
            old.unlink()
        made.replace(statistics)
    found: dict[str, Any] = json.loads(statistics.read_text())
    return found


def place_and_route(console: Console, board: Board, hardware: HwConfig, effort: Effort, folder: Path) -> dict[str, Any]:
    """fmax_mhz: one of each seed whose placement could be routed.  derating, note: as in Timing.  used: of each
    resource, as the tool names it.  luts: the first of these.

    Of the board's whole top with empty memories. Raises IntactError where no seed has a result.
    """
    flow = build.FLOWS[board.family]
    clock, pll = flow.pll(board, effort.clock or board.clock)
    parameters = {"CLOCKS_PER_BIT": clocks_per_bit(clock, board.baud), **pll, **hardware.verilog_parameters()}
    name = name_of(board, hardware)
    wanted_of = {
        seed: digest(board, f"{board} {parameters} {effort.options} seed {seed}") for seed in range(1, effort.seeds + 1)
    }
    known = {seed: folder / f"{name}-placed-{asked}.json" for seed, asked in wanted_of.items()}
    missing = [seed for seed, path in known.items() if not path.exists()]
    if missing:
        work = folder / name
        work.mkdir(exist_ok=True)
        stages = Stages(console, work)
        netlist = flow.synthesise(stages, board, build.sources(board), parameters)
        flow.check_netlist(netlist, build.memories(hardware), flow.multipliers(hardware))
        for seed in missing:
            try:
                used, timing, _ = flow.place_and_route(stages, board, netlist, seed, effort.options)
            except IntactError as error:
                if seed == max(wanted_of) and not any(path.exists() for path in known.values()):
                    raise
                console.print(f"seed {seed}: {error}", style="yellow", highlight=False, soft_wrap=True)
                continue
            result = {
                "fmax_mhz": timing.fmax, "derating": timing.derating, "note": timing.note,
                "used": {figure.name: figure.used for figure in used},
            }  # fmt: skip
            export.write_files({known[seed].name: json.dumps(result).encode()}, folder)
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in known.values() if path.exists()]
    # a flow names its LUTs first
    luts = next(iter(found[0]["used"].values()))
    return found[0] | {"fmax_mhz": [each["fmax_mhz"] for each in found], "luts": luts}


def over_budget(family: str, hardware: HwConfig, parts: Mapping[str, tuple[int, Cost]]) -> list[str]:
    """A line for each part that costs more than its budget. parts: by name, how many and the cost of all of them."""
    lines = []
    for budget in BUDGETS.get(family, ()):
        if budget.packed not in (None, hardware.packed):
            continue
        count, cost = parts.get(budget.part, (1, Cost()))
        limits = budget.luts + budget.luts_row * hardware.rows, budget.ffs + budget.ffs_row * hardware.rows
        for what, limit, used in zip(("LUTs", "flip-flops"), limits, (cost.luts, cost.ffs), strict=True):
            if used > limit * count:
                lines.append(f"{family} {hardware.array}: {budget.part}: {used / count:.0f} {what}, may be {limit}")
    return lines


def array_table(rows: list[dict[str, Any]]) -> Table:
    """One row an array of a board's device."""
    table = Table(title=f"{rows[0]['board']}, {rows[0]['device']} with {rows[0]['device_luts']:,} LUTs", box=None)
    names = ["array", "lanes", "LUTs", "model", "flip-flops", "multipliers", "block RAMs", "LUTs, placed", "model"]
    for name in (*names, "fmax, MHz"):
        table.add_column(name, justify="left" if name == "array" else "right", no_wrap=True)
    for row in rows:
        placed = row.get("place_and_route", {"fmax_mhz": []})
        table.add_row(
            row["array"], str(row["lanes"]), f"{row['luts']:,}", compared(row["model"], row["luts"]), f"{row['ffs']:,}",
            str(row["multipliers"]), str(row["block_rams"]), f"{placed['luts']:,}" if "luts" in placed else "",
            compared(row["model_placed"], placed.get("luts")), reached(placed),
        )  # fmt: skip
    return table


def reached(placed: Mapping[str, Any]) -> str:
    """fmax of each seed, and how much of it is trusted."""
    share = placed.get("derating", 1)
    return " ".join(f"{each:.1f}" for each in placed["fmax_mhz"]) + ("" if share == 1 else f", {share:.0%} trusted")


def notes_of(rows: list[dict[str, Any]]) -> list[str]:
    """What place and route's timing leaves out, once."""
    placed = [row["place_and_route"]["note"] for row in rows if "place_and_route" in row]
    return [note for note in dict.fromkeys(placed) if note]


def compared(estimate: int | None, real: int | None) -> str:
    """An estimate, with how far it is off where that is known."""
    if estimate is None:
        return ""
    return f"{estimate:,}" + (f" ({estimate / real - 1:+.1%})" if real else "")


def part_table(row: dict[str, Any]) -> Table:
    """One row a part, of one array."""
    table = Table(title=f"{row['board']} {row['array']}: its parts", box=None)
    for name in ("part", "count", "LUTs each", "flip-flops each", "LUTs", "flip-flops", "multipliers", "block RAMs"):
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for name, part in row["parts"].items():
        count = part["count"]
        table.add_row(
            name, str(count), f"{part['luts'] / count:,.0f}", f"{part['ffs'] / count:,.0f}", f"{part['luts']:,}",
            f"{part['ffs']:,}", str(part["multipliers"] or ""), str(part["block_rams"] or ""),
        )  # fmt: skip
    products = row["hardware"]["rows"] * row["hardware"]["cols"]
    luts, ffs = (sum(row["parts"][name][key] for name in (LANE, PRODUCTS)) for key in ("luts", "ffs"))
    table.add_section()
    table.add_row(
        f"of {LANE} and {PRODUCTS}, a MAC", str(products), f"{luts / products:,.1f}", f"{ffs / products:,.1f}"
    )
    return table


def measure(
    console: Console, board: Board, hardware: HwConfig, effort: Effort | None, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """An array's row for area.json, and what is over its budget. effort: None for no place and route."""
    device, family = devices.find_device(board.name), devices.FAMILIES[board.family]
    parts = parts_of(synthesise(console, board, hardware, folder), TOP, CELLS[board.family])
    total = sum((cost for _, cost in parts.values()), Cost())
    row = {
        "board": board.name, "family": board.family, "device": device.name,
        "array": hardware.array, "lanes": hardware.lanes, "hardware": asdict(hardware), **asdict(total),
        "device_luts": device.luts,
        "model": devices.logic(hardware, family.luts) if family.luts else None,
        "model_placed": devices.luts(hardware, family),
        "parts": {name: {"count": count, **asdict(cost)} for name, (count, cost) in parts.items()},
    }  # fmt: skip
    if effort:
        row["place_and_route"] = place_and_route(console, board, hardware, effort, folder)
    needed = choice.need(hardware, device)
    if (total.multipliers, total.block_rams) != (needed.multipliers, needed.block_rams):
        raise IntactError(
            f"{board.family} {hardware.array}: {total.multipliers} multipliers and {total.block_rams} block RAMs "
            f"synthesised, {needed.multipliers} and {needed.block_rams} expected (pyexport/devices.py)"
        )
    return row, over_budget(board.family, hardware, parts)


def chosen_boards(text: str | None) -> list[Board]:
    """The boards of families that have cells to count here; those of `text` alone, comma-separated."""
    known = {board.name: board for board in BOARDS.values() if board.family in CELLS}
    names = text.split(",") if text else list(known)
    if unknown := sorted(set(names) - set(known)):
        raise IntactError(f"--boards: {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in names]


def arrays_of(text: str, board: Board) -> tuple[list[HwConfig], list[str]]:
    """The arrays to measure on a board, none twice, and the names of those that do not fit it.

    `default` is the one that the board's bitstreams have, `largest` the largest that its device holds.
    """
    found: dict[str, HwConfig | None] = {}
    for name in text.split(","):
        if name == LARGEST:
            found[name] = largest(board)
        else:
            found[name] = fitting(board, *hwconfig.parse_array(board.preset.array if name == DEFAULT else name))
    fit = [hardware for hardware in found.values() if hardware]
    return list(dict.fromkeys(fit)), [name for name, hardware in found.items() if not hardware]


def main(arguments: list[str] | None = None) -> int:
    """The command behind `make area`."""
    parser = export.Parser(prog="area.py", description="Measure what the hardware costs on each device family.")
    parser.add_argument("--boards", metavar="NAMES", help="comma-separated (default: all whose cells are known)")
    parser.add_argument("--arrays", default=ARRAYS, help=f"comma-separated (default {ARRAYS})")
    parser.add_argument("--fmax", action="store_true", help="place and route too: minutes for each array and seed")
    parser.add_argument(
        "--clock", type=positive, metavar="MHZ", help="to ask place and route for (default: the board's)"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of place and route (default {SEEDS})")
    parser.add_argument("--pnr-args", default="", metavar="ARGS", help="more options of nextpnr, as one string")
    parser.add_argument("--out", default="build/area", metavar="DIR", help="inside the checkout")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds} is not above 0")
    console = report.console()
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    try:
        folder = Path(options.out).resolve()
        relative(folder)
        effort = Effort(options.seeds, options.clock, tuple(build.split("--pnr-args", options.pnr_args)))
        export.write_files({}, folder)  # says at once where a folder cannot be written
        for board in chosen_boards(options.boards):
            arrays, too_large = arrays_of(options.arrays, board)
            if too_large:
                console.print(f"{board.name}: too large: {', '.join(too_large)}", highlight=False)
            routed = options.fmax and build.FLOWS[board.family].routes
            if options.fmax and not routed:
                console.print(f"{board.name}: no fmax: no open tool places and routes it", highlight=False)
            for hardware in arrays:
                row, over = measure(console, board, hardware, effort if routed else None, folder)
                rows.append(row)
                faults += over
        (folder / "area.json").write_text(json.dumps(rows, indent=1) + "\n")
    except export.REFUSALS as error:
        return export.refused(error)
    for board_name in dict.fromkeys(row["board"] for row in rows):
        of_board = [row for row in rows if row["board"] == board_name]
        console.print(array_table(of_board))
        for note in notes_of(of_board):
            console.print(f"warning: {note}", style="yellow", highlight=False, soft_wrap=True)
        for row in of_board:
            console.print()
            console.print(part_table(row))
        console.print()
    console.print(f"written to {folder / 'area.json'}", soft_wrap=True)
    if faults:
        return export.refused(IntactError("over budget: " + "; ".join(faults)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
