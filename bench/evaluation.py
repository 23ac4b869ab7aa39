"""The six photographs that results are shown with, of scikit-image's own package; never calibrated on."""

from __future__ import annotations

from pathlib import Path

import skimage
from torch import Tensor

from vggquant.images import read_picture

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")
PIXELS = 65_536


def photograph(name: str) -> Path:
    """A file of scikit-image's package."""
    return Path(skimage.__file__).parent / "data" / name


def evaluation_pictures() -> list[Tensor]:
    """Each (1, 3, H, W), RGB in [0, 1], of about `PIXELS` pixels."""
    return [read_picture(photograph(name), pixels=PIXELS).pixels for name in NAMES]
