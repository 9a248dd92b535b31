"""python scripts/fuzz.py: damaged files through every reader and the rest of the export; exit status 1 on any fault.

Each file must end in a model or in one clear error: never in a traceback, a hang, more than 4 GiB or code that runs.
What fails is written to a folder, to be looked at and kept under tests/fuzz_corpus/.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzzing import campaign
from tests.fuzzing.outcome import GOOD
from tests.fuzzing.targets import ROOT, TARGETS, mutant


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers and the export.")
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"among {', '.join(TARGETS)} (default: all)")
    parser.add_argument("-n", "--files", type=int, default=20_000, help="damaged files for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first file: one fault again with -n 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz", help="where files that fail go")
    args = parser.parse_args()
    unknown = set(args.readers) - set(TARGETS)
    if unknown:
        parser.error(f"no such reader: {', '.join(sorted(unknown))}; choose among {', '.join(TARGETS)}")
    faulty = [reader for reader in args.readers or TARGETS if fuzz(reader, args)]
    return int(bool(faulty))


def fuzz(reader: str, args: argparse.Namespace) -> bool:
    """One reader; returns whether there were faults."""
    begin, told = time.monotonic(), 0

    def progress(result: campaign.Result) -> None:
        nonlocal told
        for number, found in result.faults[told:]:
            told += 1
            args.out.mkdir(parents=True, exist_ok=True)
            path = args.out / f"{reader}-{args.seed}-{number}"
            path.write_bytes(mutant(reader, args.seed, number))
            print(f"  {path}: {found.kind}: {found.text[:400]}", flush=True)
        done = result.counts.total()
        if done % (100 if sys.stderr.isatty() else 2000) == 0:
            rate = done / (time.monotonic() - begin)
            print(f"{reader}: {done:,} of {args.files:,}, {rate:.0f}/s, {summary(result)}", file=sys.stderr, flush=True)

    result = campaign.run(reader, args.seed, range(args.first, args.first + args.files), args.workers, progress)
    print(f"{reader}: {args.files:,} files in {time.monotonic() - begin:,.0f} s: {summary(result)}", flush=True)
    return bool(result.faults)


def summary(result: campaign.Result) -> str:
    kinds = [*GOOD, *sorted(set(result.counts) - set(GOOD))]
    return ", ".join(f"{result.counts[kind]:,} {kind}" for kind in kinds)


if __name__ == "__main__":
    sys.exit(main())
