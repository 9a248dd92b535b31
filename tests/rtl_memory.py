"""A memory image of random words."""

from __future__ import annotations

import random
from pathlib import Path


def image(folder: Path, width: int, depth: int, seed: int = 0) -> tuple[Path, list[int]]:
    """A memory image of random words, and these."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(f"{width}x{depth} {seed}")
    words = [chosen.getrandbits(width) for _ in range(depth)]
    path = folder / f"{width}x{depth}.mem"
    path.write_text("".join(f"{word:0{width // 4}x}\n" for word in words))
    return path, words
