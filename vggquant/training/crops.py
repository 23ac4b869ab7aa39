"""What is trained on: random crops of photographs and paintings at random scales, of a folder or generated.

The crop of a number is always the same, so training goes on exactly where it was interrupted, and on as many processes
as there are. What is done with crops is left to others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from vggquant.errors import PictureError, VggQuantError
from vggquant.files.disk import PathLike, sha256
from vggquant.models.johnson import SMALLEST
from vggquant.pictures.files import read_picture
from vggquant.pictures.folders import pictures_in
from vggquant.pictures.generated import generated_pictures

SCALES = (0.6, 1.6)  # of a crop to the photograph, each as likely in its logarithm as the others
GENERATED, GENERATED_SIDE = 64, 320
MOST_PIXELS = 262_144  # that are kept of a photograph
_KEPT = 600  # photographs held in memory, half a gigabyte at most
_SEED = 16  # of generated pictures
IDENTICAL, PHOTOGRAPHIC = 0.06, 0.2  # shares of pairs whose style is the content, and another photograph
_PAIRED = 17  # apart from the seeds of crops


class Photographs:
    """Photographs by number, RGB in bytes, (3, H, W).

    Args:
        folder: Where they lie; if not given, pictures are generated.
        device: Where they are kept, and where crops of them are made.

    Raises:
        PictureError: There is no such folder, or no picture in it.
    """

    def __init__(self, folder: PathLike | None, device: torch.device | str = "cpu") -> None:
        self._folder, self._device = folder, device
        self.refused: dict[int, str] = {}  # by number, why a photograph cannot be read
        self._paths: Sequence[Path] = () if folder is None else pictures_in(folder)
        made = generated_pictures(GENERATED, GENERATED_SIDE, GENERATED_SIDE, _SEED) if folder is None else ()
        self._made = [torch.from_numpy(picture).permute(2, 0, 1).to(device) for picture in made]
        self._read = lru_cache(_KEPT)(self._decoded)

    @property
    def description(self) -> str:
        """What they are, in words."""
        if self._made:
            return f"{len(self._made)} generated pictures"
        names = "\n".join(f"{path.name} {path.stat().st_size}" for path in self._paths)
        return f"{len(self._paths)} pictures (SHA-256 of their names and sizes: {sha256(os.fsencode(names))})"

    @property
    def first(self) -> Tensor:
        """The first one, which previews show, (1, 3, H, W), float32 RGB in [0, 1]."""
        return self[0][None].float() / 255

    @property
    def notes(self) -> list[str]:
        """Sentences about those that cannot be read."""
        return [f"passed over {refused}" for refused in self.refused.values()]

    def __len__(self) -> int:
        return len(self._made) or len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        """The photograph of a number, or the next one, if that one cannot be read.

        Raises:
            PictureError: None can be read.
        """
        if self._made:
            return self._made[index]
        for number in (*range(index, len(self)), *range(index)):
            if number not in self.refused:
                try:
                    return self._read(number)
                except VggQuantError as error:
                    self.refused[number] = str(error)
        got = f"none that serve ({next(iter(self.refused.values()))})"
        raise PictureError("photographs to train on", got, "name others", path=self._folder)

    def _decoded(self, index: int) -> Tensor:
        picture = read_picture(self._paths[index], most=MOST_PIXELS)
        if min(picture.size) < SMALLEST:
            expected = f"sides of at least {SMALLEST} pixels"
            raise PictureError(expected, min(picture.size), "leave it out", path=self._paths[index])
        pixels = picture.pixels[0]
        return (255 * pixels).round().byte().to(self._device)


class Crops(Dataset[Tensor]):
    """Crops by number, float32 RGB in [0, 1], (3, side, side).

    Args:
        photographs: What they are taken from.
        side: In pixels.
        seed: Of all that is random.
        numbers: Which crops.
    """

    def __init__(self, photographs: Photographs, side: int, seed: int, numbers: Sequence[int]) -> None:
        self.photographs, self.side, self.seed, self.numbers = photographs, side, seed, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.numbers[index]))
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        height, width = photograph.shape[1:]
        scale = float(np.exp(rng.uniform(*np.log(SCALES))))
        taken = min(round(self.side / scale), height, width)
        top, left = (int(rng.integers(side - taken + 1)) for side in (height, width))
        crop = photograph[:, top : top + taken, left : left + taken].float() / 255
        if rng.integers(2):
            crop = crop.flip(2)
        size = (self.side, self.side)
        return interpolate(crop[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Crops of photographs by number, each with a crop of a style.

    Styles are paintings, now and then photographs, so that there are more of them, and sometimes the content itself,
    which is to stay as it is. Half of them have their colours exchanged.

    Args:
        photographs: Contents.
        paintings: Styles.
        side: In pixels.
        seed: Of all that is random.
        numbers: Which pairs.
    """

    def __init__(
        self, photographs: Photographs, paintings: Photographs, side: int, seed: int, numbers: Sequence[int]
    ) -> None:
        self.seed, self.numbers = seed, numbers
        self._contents = Crops(photographs, side, seed, numbers)
        self._others = [Crops(pictures, side, seed + 1, numbers) for pictures in (paintings, photographs)]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        content = self._contents[index]
        rng = np.random.default_rng((self.seed, self.numbers[index], _PAIRED))
        kind, colors = rng.random(), rng.permutation(3)
        if kind < IDENTICAL:
            return content, content
        style = self._others[kind < IDENTICAL + PHOTOGRAPHIC][index]
        return content, style[colors.tolist()] if rng.integers(2) else style
