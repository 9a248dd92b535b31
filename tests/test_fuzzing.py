"""Damaged files through every reader, in short (`make fuzz` is the long form); and whether the fuzzer sees faults."""

from __future__ import annotations

import io
import json
import os
import pickletools
import random
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyexport import export
from pyexport.errors import LONGEST, IntactError
from tests.fuzzing import campaign, containers, mutators, outcome, targets

CORPUS = Path(__file__).resolve().parent / "fuzz_corpus"
FILES = 150  # for each reader


@pytest.mark.parametrize("reader", targets.TARGETS)
def test_damaged_files(reader: str) -> None:
    """None ends in a traceback, a hang, too much memory or code that runs; enough of them still are models."""
    assert targets.TARGETS[reader].seeds
    result = campaign.run(reader, 1, range(FILES))
    assert not result.faults, result.faults[:3]
    assert result.counts.total() == FILES and result.counts["model"] > FILES // 20 and result.counts["refused"] > 20


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: str(path.name))
def test_what_failed_once(path: Path) -> None:
    found = outcome.run(path, targets.TARGETS[path.name.split("-")[0]].options)
    assert found.kind in outcome.GOOD, found


@pytest.mark.parametrize("reader", targets.TARGETS)
def test_the_same_files_every_time(reader: str) -> None:
    files = [targets.mutant(reader, 5, number) for number in range(12)]
    assert files == [targets.mutant(reader, 5, number) for number in range(12)]
    assert len(set(files)) > 8 and files != [targets.mutant(reader, 6, number) for number in range(12)]


# --- the mutators ----------------------------------------------------------------------------------------------------


def test_archives_stay_archives() -> None:
    """Most are whole zip files with right checksums, most of them with one member or two that differ."""
    target = targets.TARGETS["torchscript"]
    data = target.seeds["xor.pt"]()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    whole = changed = 0
    for seed in range(100):
        damaged = containers.zip_members(random.Random(seed), data)
        try:
            with zipfile.ZipFile(io.BytesIO(damaged)) as archive:
                assert archive.testzip() is None
                after = {name: archive.read(name) for name in archive.namelist()}
        except (zipfile.BadZipFile, AssertionError, NotImplementedError, EOFError, ValueError):
            continue
        whole += 1
        changed += 0 < len(set(before.items()) ^ set(after.items())) <= 5
    assert whole > 80 and changed > 70


def test_json_stays_json() -> None:
    data = json.dumps({"a": [1, 2.5, {"b": "x"}], "c": True}).encode()
    found = set()
    for seed in range(200):
        text = mutators.json_text(random.Random(seed), data)
        try:
            json.loads(text)
        except ValueError:
            continue
        found.add(text)
    assert len(found) > 80


def test_pickles_stay_opcodes() -> None:
    with zipfile.ZipFile(targets.ROOT / "models" / "xor.pt") as archive:
        data = archive.read("xor/data.pkl")
    valid = 0
    for seed in range(100):
        damaged = mutators.pickled(random.Random(seed), data)
        try:
            valid += damaged != data and len(list(pickletools.genops(damaged))) > 10
        except ValueError:
            continue
    assert valid > 40


def test_protobuf() -> None:
    """Taken apart and put together it is the same; damaged, it can mostly be taken apart again."""
    inner = [(1, 0, 300), (2, 2, b"\xff\xffname"), (3, 5, b"\0\0\x80?"), (4, 1, bytes(8))]
    data = containers.message([(1, 0, 7), (7, 2, inner), (7, 2, inner), (15, 2, b"")])
    fields = containers.parse_message(data)
    assert fields == [(1, 0, 7), (7, 2, inner), (7, 2, inner), (15, 2, b"")] and containers.message(fields) == data
    assert containers.parse_message(b"\x08") is None and containers.parse_message(b"\x0a\x7f") is None
    files = [containers.protobuf(random.Random(seed), data) for seed in range(200)]
    assert len(set(files)) > 100 and sum(containers.parse_message(file) is not None for file in files) > 120


def test_every_kind_of_damage_on_any_bytes() -> None:
    """No mutator fails, whatever it is given."""
    for seed in range(300):
        rng = random.Random(seed)
        data = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 2, 9, 200])))
        for mutate in (mutators.raw, mutators.source, mutators.json_text, mutators.pickled, containers.protobuf):
            assert isinstance(mutate(rng, data), bytes)


# --- what the fuzzer sees --------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def endless(*_: Any, **__: Any) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (raising(KeyError("x")), "traceback"),
        (raising(SystemError("x")), "traceback"),
        (raising(MemoryError()), "memory"),
        (raising(IntactError("PATH: is damaged or truncated (_ArrayMemoryError: x)")), "memory"),
        (raising(IntactError("no file is named")), "message"),
        (raising(IntactError("PATH: one clear error")), "refused"),
        (raising(IntactError("PATH: is damaged or truncated (KeyError: 'x')")), "refused as damaged"),
        (endless, "slow"),
        (lambda *_, **__: exec("1"), "ran code"),
        (lambda *_, **__: os.system("true"), "ran code"),
        (lambda *_, **__: open("/dev/null", "w").close(), "ran code"),
    ],
)
def test_faults_are_seen(function: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "export", function)
    monkeypatch.setattr(outcome, "SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    assert outcome.run(Path("PATH"), {}).kind == kind


def test_an_undamaged_file_is_a_model() -> None:
    assert outcome.run(targets.ROOT / "models" / "xor.pt", {}) == outcome.Outcome("model", "")


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ("import os; input(); os.kill(os.getpid(), 11)", "crash", f"status {-signal.SIGSEGV}"),
        ("input(); raise SystemExit('no more memory')", "crash", "no more memory"),
        ("import time; input(); time.sleep(60)", "hang", "no answer in 1 s"),
    ],
)
def test_a_worker_that_dies(script: str, kind: str, text: str) -> None:
    """The file that it was given is the one that is blamed, and the next one goes to a new process."""
    worker = campaign.Worker("", 0, 1.0 if kind == "hang" else 60.0, [sys.executable, "-c", script])
    begin = time.monotonic()
    for number in (1, 2):
        found = worker.ask(number)
        assert found.kind == kind and text in found.text, found
    worker.close()
    assert time.monotonic() - begin < 60


def test_memory_is_limited() -> None:
    """In a process of its own: 5 GiB are refused."""
    script = (
        "import json\nfrom tests.fuzzing import outcome\noutcome.limit_memory()\n"
        "import numpy as np\ninput()\n"
        "from pyexport import export\nexport.export = lambda *a, **k: np.ones(5 << 30, np.uint8)\n"
        "from pathlib import Path\nprint(json.dumps(outcome.run(Path('x'), {})))"
    )
    worker = campaign.Worker("", 0, 100.0, [sys.executable, "-c", script])
    assert worker.ask(0).kind == "memory"
    worker.close()


def test_errors_are_one_line() -> None:
    """Whatever a file's names hold."""
    assert str(IntactError("a\nb\x00c é ×\t")) == "a\\nb\\x00c é ×\\t"
    long = str(IntactError("start " + "A" * 10**6 + " end"))
    assert len(long) < LONGEST + 10 and long.startswith("start A")
    assert len(str(IntactError("\n" * 5000))) < LONGEST + 10


def test_arrays_keep_their_type() -> None:
    for seed in range(100):
        values = containers._array(random.Random(seed), np.arange(4, dtype=np.int32))
        assert values.dtype == np.int32
