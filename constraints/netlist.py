"""yosys' JSON netlists: what reads a net, and changing a module of a file in place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Cell = dict[str, Any]
Result = TypeVar("Result")
Net = int | str  # a wire's number, or a constant "0", "1", "x"


def readers_of(module: dict[str, Any], flip_flop: str, data: str) -> tuple[Counter[Net], dict[Net, str]]:
    """How many inputs and ports each net goes to, and the flip-flop at whose pin `data` it arrives: the cell's name."""
    loads = Counter[Net]()
    readers: dict[Net, str] = {}
    for name, cell in module["cells"].items():
        for pin, nets in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                loads.update(nets)
                if cell["type"] == flip_flop and pin == data:
                    readers[nets[0]] = name
    for port in module["ports"].values():
        loads.update(port["bits"])
    return loads, readers


def change_module(netlist: Path, top: str, change: Callable[[dict[str, Any]], Result]) -> Result:
    """Calls `change` with the module `top` of a netlist's file and writes the file anew; what `change` returned."""
    design = json.loads(netlist.read_text())
    result = change(design["modules"][top])
    netlist.write_text(json.dumps(design))
    return result
