"""Serial parameters: what an array has with them, and the same codes, program and memory words but for their cycles."""

from __future__ import annotations

import pytest

from pyexport import golden, lower, quantise
from pyexport.errors import IntactError
from pyexport.hwconfig import SERIAL_CYCLES, HwConfig, for_array
from sim.runner import simulator_missing
from tests import fixed_networks
from tests.rtl_network import assert_equal, prepare, simulated


def test_settings() -> None:
    assert HwConfig(4, 1, 1, prm_serial=1).verilog_parameters()["PRM_SERIAL"] == 1
    assert for_array(8, 8).window and not for_array(8, 8, serial=True).window, "its pixels would come too fast"
    with pytest.raises(IntactError, match="prm_serial=2"):
        HwConfig(prm_serial=2)
    with pytest.raises(IntactError, match="as many requantise lanes as columns"):
        HwConfig(4, 4, 2, prm_serial=1)


def test_only_gaps_and_cycles_differ() -> None:
    network = quantise.quantise(fixed_networks.first())
    plain, serial = (lower.lower(network, for_array(4, 4, serial=each)) for each in (False, True))
    assert plain.params == serial.params and (plain.weights == serial.weights).all()
    differ = [
        {name for name in a.fields if a.fields[name] != b.fields[name]}
        for a, b in zip(plain.jobs, serial.jobs, strict=True)
    ]
    assert set().union(*differ) == {"gap"}
    cycles = [sum(golden.network_cycles(network, each.config)) for each in (plain, serial)]
    assert cycles[0] < cycles[1]
    shortest = min(job.fields["gap"] for job in serial.jobs)
    assert 0 <= shortest < SERIAL_CYCLES


@pytest.mark.parametrize(
    ("sim", "config"),
    [
        ("icarus", HwConfig(4, 1, 1, prm_serial=1)),
        ("icarus", HwConfig(6, 3, 3, prm_serial=1)),
        ("verilator", HwConfig(8, 8, 8, prm_serial=1)),
    ],
)
def test_networks(sim: str, config: HwConfig) -> None:
    if reason := simulator_missing(sim):
        pytest.skip(reason)
    for name in ("first", "windows", "tables"):
        prepared = prepare(getattr(fixed_networks, name)(), config, 2)
        assert assert_equal(prepared, simulated(sim, prepared, f"serial_{name}_{config.array}"))
