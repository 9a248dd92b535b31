"""The synthesised core against the golden model: make test-gate. Minutes each, so the other tests leave these out.

INTACT_GATES names the families to run, separated by commas.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sim.gates.run import FAMILIES, GateRun, cells_of, run
from sim.runner import ROOT
from tests.gate import in_gate

ASKED = [pytest.param(name, marks=in_gate(name)) for name in FAMILIES]
DIGITS = ROOT / "models" / "digits.pt"
XOR = ROOT / "models" / "xor.pt"
ARRAY = (4, 4)


def equal(name: str, gates: GateRun) -> None:
    """Prints the figures; nothing differs, and every run takes the cycles that the model of the core predicts."""
    synthesis, building, simulating = gates.seconds
    cycles = sum(gates.result.cycles)
    print(
        f"\n{name}: {gates.compared.compared} codes of {len(gates.result.cycles)} inferences compared, "
        f"{gates.compared.different} differ; {cycles:,} cycles at {gates.rate:,.0f} a second; "
        f"synthesis {synthesis:.0f} s, simulator {building:.0f} s, simulation {simulating:.1f} s; "
        + ", ".join(f"{count:,} {kind}" for kind, count in sorted(gates.cells.items()))
    )
    assert gates.compared.compared > 0
    assert not gates.compared.different, gates.compared.first
    assert set(gates.result.cycles) == {gates.predicted}


@pytest.mark.parametrize("family", ASKED)
def test_xor(family: str) -> None:
    equal(f"{family} xor", run(family, XOR, ARRAY, 64))


@pytest.mark.parametrize("family", ASKED)
def test_digits(family: str) -> None:
    images = np.load(ROOT / "models" / "digits_test.npz")["inputs"]
    equal(f"{family} digits", run(family, DIGITS, ARRAY, 8, images))


def other_weight(netlist: str) -> str:
    """The sign of the first weight inverted, in the memory's contents at power-up."""
    found = re.search(
        r"\.INITVAL_00\(320'h([0-9a-f]+)\)(?=(?:(?!\n  \);).)*\n  \) \\weight_memory\.[^\n]*\.mem)", netlist, re.DOTALL
    )
    assert found, "no weight memory in the netlist"
    digits = f"{int(found[1], 16) ^ 0x80:0{len(found[1])}x}"
    return netlist[: found.start(1)] + digits + netlist[found.end(1) :]


@in_gate("ecp5")
def test_a_wrong_bit_is_seen() -> None:
    """After test_xor, whose netlist it changes."""
    gates = run("ecp5", XOR, ARRAY, 64, change=other_weight)
    assert gates.compared.different


def test_cells_are_counted() -> None:
    text = "module top(a);\n  wire a;\n"
    text += "  LUT4 #(\n    .INIT(1)\n  ) a1 (\n  );\n  INV b (\n  );\n  LUT4 #(\n  ) c (\n  );\n"
    assert cells_of(text) == {"LUT4": 2, "INV": 1}


def test_every_model_is_there() -> None:
    assert all(path.is_file() for family in FAMILIES.values() for path in family.models)
    assert all(family.cells is None or Path(family.cells).is_dir() for family in FAMILIES.values())
