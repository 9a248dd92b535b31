"""The tests can fail: every fault of tests/mutations.py, put into a copy of the Verilog, is found by a fast check."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyexport.arith import requantise
from pyexport.errors import IntactError
from pyexport.fit_add import digits
from pyexport.hwconfig import HwConfig
from pyexport.isa import OPCODE_WINDOW
from sim import runner, simulate
from sim.runner import RTL, simulator_missing
from tests import fixed_networks, requant_vectors
from tests.mutations import FAULTS, Fault
from tests.requant_stimulus import arbitrary
from tests.rtl_memory import image
from tests.rtl_network import Prepared, assert_equal, prepare, simulated

CONFIG = HwConfig(4, 6, 2)  # three drain beats, two groups to a word


@pytest.fixture(scope="module")
def network() -> Prepared:
    return prepare(fixed_networks.first(), CONFIG, 1)


@pytest.fixture(scope="module")
def overlapped() -> Prepared:
    return prepare(fixed_networks.first(), CONFIG, 3, overlap=True)


@pytest.fixture(scope="module")
def adding() -> Prepared:
    prepared = prepare(fixed_networks.adding(), CONFIG, 2)
    assert [len(digits(layer.factors)[0]) for layer in prepared.network.layers[1:]] == [3, 2]
    return prepared


@pytest.fixture(scope="module")
def windows() -> Prepared:
    prepared = prepare(fixed_networks.windows(), HwConfig(8, 8, 8), 2)
    assert [job.fields["opcode"] for job in prepared.lowered.jobs] == [OPCODE_WINDOW] * 4
    return prepared


@pytest.fixture(scope="module")
def tables() -> Prepared:
    return prepare(fixed_networks.tables(), CONFIG, 2)


@pytest.fixture(scope="module")
def packed() -> Prepared:
    return prepare(fixed_networks.first(), replace(CONFIG, packed=1), 1)


@pytest.fixture(scope="module")
def serial() -> Prepared:
    return prepare(fixed_networks.first(), HwConfig(6, 3, 3, prm_serial=1), 1)


@pytest.fixture
def rtl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the Verilog, which everything builds from; its builds go to the test's own folder."""
    if reason := simulator_missing("icarus"):
        pytest.skip(reason)
    copy = tmp_path / "rtl"
    shutil.copytree(RTL, copy)
    monkeypatch.setattr(runner, "RTL", copy)
    monkeypatch.setattr(runner, "BUILD", tmp_path)
    monkeypatch.setattr(simulate, "BUILDS", tmp_path / "sim")
    monkeypatch.setattr(requant_vectors, "BUILD", tmp_path)
    monkeypatch.setattr("tests.rtl_network.BUILD", tmp_path)
    yield copy


def requantise_is_right(rtl: Path) -> bool:
    batches = [batch for seed in range(3) for batch in arbitrary(seed, 4 * requant_vectors.LANES, 60)]
    results = requant_vectors.run("icarus", batches, "mutant", rtl)
    return all(
        np.array_equal(got, requantise(batch.acc, batch.rq)) for batch, got in zip(batches, results, strict=True)
    )


def network_is_right(network: Prepared) -> bool:
    try:
        back_to_back = bool(network.lowered.header["free_job"])
        assert_equal(network, simulated("icarus", network, "mutant", back_to_back))
    except (AssertionError, IntactError) as error:
        assert "building" not in str(error), error
        return False
    return True


def memory_is_right(rtl: Path, folder: Path) -> bool:
    """3,500 words: three parts."""
    depth = {"WIDTH": 64, "SLICE": 32, "DEPTH": 3500, "ADDR": 12}
    parameters: dict[str, int | str] = {**depth, "INIT_FILE": f'"{image(folder, 64, 3500)[0]}"'}
    try:
        runner.run_bench(
            "icarus", "ram", "sim.bench_ram", [rtl / "delay.v", rtl / "ram_part.v", rtl / "ram.v"], parameters, "mutant"
        )
    except AssertionError:
        return False
    return True


def test_there_are_enough_and_each_is_one_change() -> None:
    assert len(FAULTS) >= 12 and len({fault.reason for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        text = (RTL / f"{fault.file}.v").read_text()
        assert text.count(fault.old) == 1, f"{fault.reason}: {text.count(fault.old)} places in {fault.file}.v"
        assert fault.old != fault.new


def test_unchanged_design_passes(
    rtl: Path,
    tmp_path: Path,
    network: Prepared,
    overlapped: Prepared,
    adding: Prepared,
    windows: Prepared,
    tables: Prepared,
    packed: Prepared,
    serial: Prepared,
) -> None:
    networks = (network, overlapped, adding, windows, tables, packed, serial)
    assert requantise_is_right(rtl) and memory_is_right(rtl, tmp_path) and all(map(network_is_right, networks))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.reason.replace(" ", "-"))
def test_fault_is_found(
    fault: Fault,
    rtl: Path,
    tmp_path: Path,
    network: Prepared,
    overlapped: Prepared,
    adding: Prepared,
    windows: Prepared,
    tables: Prepared,
    packed: Prepared,
    serial: Prepared,
) -> None:
    path = rtl / f"{fault.file}.v"
    path.write_text(path.read_text().replace(fault.old, fault.new))
    if fault.check == "requantise":
        right = requantise_is_right(rtl)
    elif fault.check == "memory":
        right = memory_is_right(rtl, tmp_path)
    else:
        networks = {"network": network, "overlapped": overlapped, "adding": adding, "windows": windows}
        networks |= {"tables": tables, "packed": packed, "serial": serial}
        right = network_is_right(networks[fault.check])
    assert not right, f"nothing noticed that {fault.reason}"
