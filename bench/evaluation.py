"""The photographs, from scikit-image's package, that results are measured on and nothing is calibrated on."""

from __future__ import annotations

from pathlib import Path

import skimage
from torch import Tensor

from vggquant.comparison.sample_pictures import SCIKIT_IMAGE, named_pictures

NAMES = SCIKIT_IMAGE


def photograph(name: str) -> Path:
    """Find a file of scikit-image's package."""
    return Path(skimage.__file__).parent / "data" / name


def evaluation_pictures() -> list[Tensor]:
    """Read the six that fidelity is measured on, each (1, 3, H, W), RGB in [0, 1]."""
    return list(named_pictures("scikit-image").values())
