"""python -m tests.fuzzing.worker READER SEED: numbers of files come in, a line each; their outcomes go out as JSON.

A process of its own with limits, so that whoever started it sees a crash and knows the file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from tests.fuzzing import outcome
from tests.fuzzing.targets import TARGETS, mutant


def main() -> None:
    reader, seed = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything else prints is no answer
    outcome.limit_memory()
    target = TARGETS[reader]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "model"
        for (
            name,
            make,
        ) in target.seeds.items():  # the undamaged seeds first: they load what loads late, and they must pass
            content = make()
            path.write_bytes(content if isinstance(content, bytes) else content.data)
            found = outcome.run(path, target.options)
            if found.kind not in ("model", "ran code"):
                sys.exit(f"the seed {name} itself ends in: {found.kind}: {found.text}")
        for line in sys.stdin:
            path.write_bytes(mutant(reader, seed, int(line)))
            print(json.dumps(outcome.run(path, target.options)), file=answers, flush=True)


if __name__ == "__main__":
    main()
