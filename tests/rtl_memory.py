"""A memory image of random words."""

from __future__ import annotations

import random
from pathlib import Path


def image(folder: Path, width: int, depth: int) -> tuple[Path, list[int]]:
    """A memory image of random words, and these."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [random.Random(depth + place).getrandbits(width) for place in range(depth)]
    path = folder / f"{width}x{depth}.mem"
    path.write_text("".join(f"{word:0{width // 4}x}\n" for word in words))
    return path, words
