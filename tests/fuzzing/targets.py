"""What is fuzzed: for each reader its seed files and what damages them. A new reader is one line of TARGETS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests import tflite_nets
from tests.fuzzing.containers import protobuf, tflite_fields, zip_members
from tests.fuzzing.mutators import raw

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """seeds: by name, a function that gives what `mutate` takes: a file's bytes, or a model that is not written yet.

    mutate: (random generator, seed) -> bytes.  options: keywords of `pyexport.export.export`.
    """

    seeds: Mapping[str, Callable[[], Any]]
    mutate: Callable[[Random, Any], bytes]
    options: Mapping[str, Any] = field(default_factory=dict)


def files(*patterns: str) -> Mapping[str, Callable[[], bytes]]:
    """Seeds that are files, by patterns from the checkout's top."""
    paths = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return {path.name: path.read_bytes for path in paths}


TARGETS: dict[str, Target] = {
    "torchscript": Target(files("models/*.pt"), zip_members),
    "pt2e": Target(files("tests/fuzzing/seeds/*.pt2"), zip_members, {"output_range": (-2.0, 2.0)}),
    "tflite": Target({name: partial(make, 1) for name, make in tflite_nets.CASES.items()}, tflite_fields),
    "onnx": Target(files("tests/fuzzing/seeds/*.onnx"), protobuf),
    "torch_save": Target(files("tests/fuzzing/seeds/eager.pt"), zip_members),
    "fx": Target(files("tests/fuzzing/seeds/fx.pt"), zip_members, {"input_shape": (1, 6, 6)}),
    "state_dict": Target(files("tests/fuzzing/seeds/state.pt"), zip_members, {"relu": ()}),
    "keras": Target(files("tests/fuzzing/seeds/keras.h5"), raw),
}


def mutant(reader: str, seed: int, number: int) -> bytes:
    """File `number` of the sequence that `seed` gives: the same bytes every time."""
    target, rng = TARGETS[reader], Random(f"{reader} {seed} {number}")
    return target.mutate(rng, target.seeds[rng.choice(sorted(target.seeds))]())
