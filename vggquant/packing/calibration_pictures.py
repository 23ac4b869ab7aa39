"""The pictures that weights are calibrated on: those of a folder, or the package's generated ones.

What is done with them is left to `calibration`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggquant.errors import PictureError, VggQuantError
from vggquant.files.disk import PathLike
from vggquant.pictures.files import Picture, read_picture
from vggquant.pictures.folders import pictures_in
from vggquant.pictures.generated import generated_pictures

MOST = 64  # photographs; more would take more than 3 GB of memory
GENERATED = 48  # pictures, which take 15 seconds to draw; with more, packing would take more than four minutes
PIXELS = 65_536  # of each; 256 × 256
_SEED = 15  # of generated pictures; those that widths are compared on have another


@dataclass(frozen=True, eq=False)
class CalibrationPictures:
    """What weights are calibrated on.

    Args:
        pictures: Each (1, 3, H, W), RGB in [0, 1], of about `PIXELS` pixels.
        description: Of all of them, for the file's record of changes.
        notes: A sentence for each picture that was passed over.
    """

    pictures: tuple[Tensor, ...]
    description: str
    notes: tuple[str, ...] = ()


def calibration_pictures(folder: PathLike | None, smallest_side: int) -> CalibrationPictures:
    """Read or draw the pictures to calibrate on.

    Args:
        folder: Of photographs. If there are more than `MOST`, as many are taken, evenly spread over their names.
            Without it pictures are generated, which serve nearly as well.
        smallest_side: Pixels that a side needs for the deepest layer.

    Raises:
        PictureError: There is no such folder, or none of its pictures can be read or is large enough.
    """
    if folder is None:
        side = round(PIXELS**0.5)
        made = torch.from_numpy(generated_pictures(GENERATED, side, side, _SEED)).permute(0, 3, 1, 2).float() / 255
        return CalibrationPictures(tuple(picture[None] for picture in made), f"{GENERATED} generated pictures")
    paths = pictures_in(folder)
    pictures, refused, checksum = [], [], hashlib.sha256()
    for index in np.unique(np.linspace(0, len(paths) - 1, MOST).round().astype(int)):
        found = _read(paths[index], smallest_side)
        if isinstance(found, VggQuantError):
            refused.append(str(found))
        else:
            pictures.append(found.pixels)
            checksum.update(f"{found.sha256}\n".encode())
    if not pictures:
        raise PictureError("pictures to calibrate on", f"none that serve ({refused[0]})", "name others", path=folder)
    description = f"{len(pictures)} pictures (SHA-256 of the list of their SHA-256 sums: {checksum.hexdigest()})"
    return CalibrationPictures(tuple(pictures), description, tuple(f"passed over {one}" for one in refused))


def _read(path: Path, smallest_side: int) -> Picture | VggQuantError:
    """A picture at the area of all others, or why there is none."""
    try:
        picture = read_picture(path, pixels=PIXELS)
    except VggQuantError as error:
        return error
    height, width = picture.size
    if min(height, width) >= smallest_side:
        return picture
    expected = f"sides of at least {smallest_side} pixels once it is scaled to {PIXELS:,} in all"
    return PictureError(expected, f"{width} × {height}", "crop it", path=path)
