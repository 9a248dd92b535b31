"""`make latency`: cycles over a clock, beside published times."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyexport import hwconfig
from pyexport.errors import IntactError
from scripts import latency

CONFIG = hwconfig.for_array(8, 8)


@pytest.fixture(autouse=True)
def two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones that are quantised fastest."""
    monkeypatch.setattr(latency, "NETWORKS", ("autoencoder", "DS-CNN"))


def test_times_are_cycles_over_the_clock(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    predicted = {name: count for name, (count, _) in latency.cycles(CONFIG, tmp_path / "none").items()}
    assert latency.main(["--clock", "50", "--bench", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    for name in latency.NETWORKS:
        assert f"{predicted[name] / 50e3:,.3f} *" in shown
    # 5.497 inferences a second
    assert "181.917" in shown and "tiny_results_v0.5/closed/reference" in shown


def test_measured_cycles_are_told_from_predicted_ones(tmp_path: Path) -> None:
    (name, (count, _)), *others = latency.cycles(CONFIG, tmp_path / "none").items()
    bench = tmp_path / "bench.json"
    rows = [{"network": name, "array": "8x8", "cycles": count}, {"network": others[0][0], "array": "4x4", "cycles": 1}]
    bench.write_text(json.dumps(rows))
    found = latency.cycles(CONFIG, bench)
    assert [exact for _, exact in found.values()] == [True, False]
    bench.write_text('[{"network": "x"}]')
    with pytest.raises(IntactError, match="is not what `make bench` writes"):
        latency.cycles(CONFIG, bench)


def test_the_clock_is_that_of_the_newest_bitstream(tmp_path: Path) -> None:
    builds = (
        ("two-lanes", hwconfig.for_array(8, 8, 2), 140.0, 0.5),
        ("other", hwconfig.for_array(4, 4), 99.0, 1.0),
        ("new", CONFIG, 60.0, 0.5),
        ("old", CONFIG, 61.0, 1.0),
    )
    for age, (name, config, fmax, derating) in enumerate(builds):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "result.json"
        built = {"hardware": config.verilog_parameters(), "fmax_mhz": fmax, "derating": derating, "seed": 3}
        path.write_text(json.dumps(built))
        os.utime(path, (1e9 - age, 1e9 - age))
    for name, text in (("torn", "{"), ("list", "[]"), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    assert latency.built({}, tmp_path) == (hwconfig.for_array(8, 8, 2), 70.0, "fmax of two-lanes, seed 3")
    assert latency.built({"ROWS": 8, "LANES": 8}, tmp_path) == (CONFIG, 30.0, "fmax of new, seed 3")
    with pytest.raises(IntactError, match="no bitstream with rows 16, packed 1 in"):
        latency.built({"ROWS": 16, "PACKED": 1}, tmp_path)
    with pytest.raises(IntactError, match="no bitstream in"):
        latency.built({}, tmp_path / "nowhere")


@pytest.mark.parametrize("arguments", [["--clock", "0"], ["--array", "8", "--clock", "50"], ["--lanes", "0"]])
def test_bad_options_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = latency.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1
