"""The photographs that results are shown with, of scikit-image's own package; never calibrated on."""

from __future__ import annotations

from pathlib import Path

import skimage
from torch import Tensor

from vggquant.comparison.pictures import SCIKIT_IMAGE, named_pictures

NAMES = SCIKIT_IMAGE


def photograph(name: str) -> Path:
    """A file of scikit-image's package."""
    return Path(skimage.__file__).parent / "data" / name


def evaluation_pictures() -> list[Tensor]:
    """The six that fidelity is measured on, each (1, 3, H, W), RGB in [0, 1]."""
    return list(named_pictures("scikit-image").values())
