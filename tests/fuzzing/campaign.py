"""Many files through workers: counts of each outcome, and the faults with the numbers of their files."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.fuzzing.outcome import GOOD, Outcome
from tests.fuzzing.targets import ROOT

WALL_SECONDS = 200  # for one file, a start of the worker with it; its own limit is of processor time


@dataclass
class Result:
    """counts: files of each outcome. faults: (number of the file, outcome), the first of each kind and text first."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, Outcome]] = field(default_factory=list)

    def add(self, number: int, found: Outcome) -> None:
        self.counts[found.kind] += 1
        if found.kind not in GOOD:
            self.faults.append((number, found))


class Worker:
    """One process that is started again after every crash. command: what to run, where it isn't the real one."""

    def __init__(
        self, reader: str, seed: int, wall_seconds: float = WALL_SECONDS, command: list[str] | None = None
    ) -> None:
        self.command = command or [sys.executable, "-m", "tests.fuzzing.worker", reader, str(seed)]
        self.wall_seconds = wall_seconds
        self.process: subprocess.Popen[str] | None = None

    def ask(self, number: int) -> Outcome:
        """The outcome of file `number`: what the worker says, or how it died."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        process = self.process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.wall_seconds, kill)
        timer.start()
        try:
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if answer:
            return Outcome(*json.loads(answer))
        said = process.stderr.read().strip().splitlines()
        status = process.wait()
        self.close()
        if late.is_set():
            return Outcome("hang", f"no answer in {self.wall_seconds:g} s")
        return Outcome("crash", f"status {status}: {said[-1][:300] if said else ''}")

    def close(self) -> None:
        if self.process is not None:
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()
            self.process.wait()
            self.process = None


def run(
    reader: str, seed: int, numbers: Iterable[int], workers: int = 1, progress: Callable[[Result], None] | None = None
) -> Result:
    """Files `numbers` of `seed`, shared out among worker processes. progress: called after every file."""
    result, lock = Result(), threading.Lock()
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        todo.put(number)

    failed: list[Exception] = []

    def work() -> None:
        worker = Worker(reader, seed)
        try:
            while not failed:
                number = todo.get_nowait()
                found = worker.ask(number)
                with lock:
                    result.add(number, found)
                    if progress:
                        progress(result)
        except queue.Empty:
            pass
        except Exception as error:
            failed.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    result.faults.sort()
    return result
