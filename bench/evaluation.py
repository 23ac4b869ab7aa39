"""The six photographs that results are shown with, of scikit-image's own package; never calibrated on."""

from __future__ import annotations

from pathlib import Path

import skimage
from torch import Tensor

from vggquant.images import read_picture

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")
PIXELS = 65_536


def evaluation_pictures() -> list[Tensor]:
    """Each (1, 3, H, W), RGB in [0, 1], of about `PIXELS` pixels."""
    folder = Path(skimage.__file__).parent / "data"
    return [read_picture(folder / name, pixels=PIXELS) for name in NAMES]
