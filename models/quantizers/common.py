"""What the scripts that quantise a small model with each tool share: the data, and what they say of their files.

A script has one function, `build(folder) -> list[Built]`: it trains on scikit-learn's digits, quantises with its tool
and writes the files as that tool's users do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Built:
    """One model file. tool: how it was quantised, as the README's table names it. row: the guide's row, 1 to 10.

    options: keywords of `pyexport.export.export` beyond the file, such as match, relu, arch.
    accuracy: on the test images, in float and quantised, as the tool computes it; None where nothing was trained.
    twin: a TorchScript file of the same model, whose runtime stands for that of a file which is never run.
    """

    row: int
    tool: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    accuracy: tuple[float, float] | None = None
    twin: Path | None = None


def digits() -> tuple[Images, Images, Labels, Labels]:
    """scikit-learn's digits: train and test images, train and test labels; images float32 (N, 1, 8, 8), 0..1."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(
        images, data.target, test_size=0.2, random_state=0, stratify=data.target
    )
    return train, test, train_labels.astype(np.int64), test_labels.astype(np.int64)
