"""How one file ends: a model, one clear error, or a fault."""

from __future__ import annotations

import codecs
import json
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import h5py  # noqa: F401  # the readers load it late
import numpy as np
import numpy.ma  # numpy loads it late, on its own

from pyexport import export, golden, images
from pyexport.errors import IntactError
from pyexport.qlayers import Network

MEMORY_BYTES = 4 << 30  # of address space
SECONDS = 20.0  # of processor time for one file
LONGEST_MESSAGE = 900
SMALL = 200_000  # multiplications and codes of a network that is run as well
GOOD = ("model", "refused", "refused as damaged")
# Python's own codecs, which zipfile and json load when they first meet such bytes.
for _codec in ("cp437", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32",
               "raw_unicode_escape", "unicode_escape", "latin-1", "ascii"):  # fmt: skip
    codecs.lookup(_codec)
# What Python announces when code runs, is fetched or reaches out: none of it may happen while a file is read.
FORBIDDEN = ("exec", "import", "pickle.find_class", "marshal.", "os.system", "os.exec", "os.fork", "os.posix_spawn",
             "os.spawn", "subprocess.", "socket.", "ctypes.", "os.remove", "os.rename", "os.mkdir", "shutil.",
             "code.__new__")  # fmt: skip


class Outcome(NamedTuple):
    """kind: one of GOOD, or a fault: "traceback", "message", "memory", "slow", "ran code". text: of the error."""

    kind: str
    text: str


class _Slow(BaseException):
    """Raised by the timer; no reader catches it."""


class _Watch:
    """Notes the forbidden events while it is on. An audit hook can't be taken away again, so there is one."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        self.added = False

    def start(self) -> None:
        if not self.added:
            sys.addaudithook(self.note)
            self.added = True
        self.seen, self.on = [], True

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            self.seen.append(f"open {str(arguments)[:100]}")


_WATCH = _Watch()


def limit_memory() -> None:
    """This process and its children: no more than MEMORY_BYTES."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(path: Path, options: Mapping[str, Any]) -> Outcome:
    """Exports `path` to memory images and manifest, nothing written. Main thread only: it sets a timer."""
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    _WATCH.start()
    try:
        found = _run(path, options)
    except _Slow:
        found = Outcome("slow", f"more than {SECONDS:g} s: {_place()}")
    finally:
        _WATCH.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return Outcome("ran code", "; ".join(_WATCH.seen)) if _WATCH.seen else found


def _run(path: Path, options: Mapping[str, Any]) -> Outcome:
    try:
        exported = export.export(str(path), "4x4", **options)
        json.dumps(exported.manifest, allow_nan=False)
        images.memory_images(exported.lowered)
        _compute(exported.network)
    except IntactError as error:
        text = str(error)
        if "MemoryError" in text:
            return Outcome("memory", text)
        if str(path) not in text or "\n" in text or len(text) > LONGEST_MESSAGE:
            return Outcome("message", text)
        return Outcome("refused as damaged" if "is damaged or truncated (" in text else "refused", text)
    except MemoryError:
        return Outcome("memory", _place())
    except Exception as error:
        return Outcome("traceback", f"{type(error).__name__}: {error}: {_place()}")
    return Outcome("model", "")


def _compute(network: Network) -> None:
    """A small network on its lowest, highest and zero codes: what was exported must run, and no sum leave int32."""
    tensor = network.tensors[network.input.tensor]
    if network.macs + sum(int(np.prod(t.shape)) for t in network.tensors.values()) > SMALL:
        return
    low, high = (code + tensor.shift for code in tensor.quant.range)
    frames = np.array([low, high, tensor.zero_point], np.int8).reshape(-1, 1, 1, 1)
    try:
        golden.run(network, np.broadcast_to(frames, (3, *tensor.shape)).copy())
    except IntactError as error:
        raise AssertionError(f"exported, but does not run: {error}") from error


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Slow


def _place() -> str:
    """The innermost lines of the project that the exception came through."""
    frames = [f for f in traceback.extract_tb(sys.exc_info()[2]) if "pyexport" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[:-4:-1])
