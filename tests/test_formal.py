"""scripts/formal.py without its tools: what it would prove is there; a missing tool is one line. make formal proves."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import formal


@pytest.mark.parametrize("proof", formal.PROOFS, ids=lambda proof: proof.name)
def test_proof_fits_its_module(proof: formal.Proof) -> None:
    """Every fault is a text of the module, once; the properties are added to the module and rtl/ has none."""
    module = (formal.ROOT / proof.source).read_text()
    plain = formal.with_properties(proof, None)
    assert plain.replace(f'`include "{proof.module}.vh"\n\n', "") == module
    assert "assert" not in module and "$any" not in module
    for fault in proof.faults:
        assert formal.with_properties(proof, fault) != plain
    assert proof.faults and proof.base >= proof.induction
    asserts, covers = formal.assertions(proof)
    assert asserts and covers
    assert all((formal.ROOT / path).is_file() for path in proof.others)


def test_a_fault_that_no_longer_fits_is_said() -> None:
    proof = formal.PROOFS[0]
    with pytest.raises(formal.FormalError, match="0 times, not once"):
        formal.with_properties(proof, formal.Fault("gone", "no such text", ""))


def test_a_missing_tool_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(formal, "BIN", Path("/nonexistent"))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert formal.main([]) == 1
    assert capsys.readouterr().err == (
        "error: z3 is not installed; `make formal` installs it, or: pip install -r requirements/formal.txt\n"
    )
