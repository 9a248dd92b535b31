"""Quantisers from scratch, as teaching code has them: symmetric and affine formulas, QConvBNReLU, QMaxPool2d, QLinear.

Their integers reach a file through torch's quantised modules; models/qconvbnrelu.py and models/affine.py show how.
"""

from __future__ import annotations

from pathlib import Path

from models import affine, qconvbnrelu
from models.quantizers.common import Built


def build(folder: Path) -> list[Built]:
    qconvbnrelu.main(folder)
    affine.main(folder)
    return [
        Built(10, "from scratch: QConvBNReLU, symmetric weights, affine activations", folder / "qconvbnrelu.pt"),
        Built(10, "from scratch: affine weights per channel, scales that are powers of two", folder / "affine.pt"),
    ]
