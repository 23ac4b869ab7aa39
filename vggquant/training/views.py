"""Pictures as a style's picture is seen: whole or in part, squeezed into squares, in other colours, and mixed.

The view of a number is always the same, as with `crops`, which the pictures come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from vggquant.models.arbitrary import STYLE_SIDE
from vggquant.pictures.colors import LUMA
from vggquant.training.crops import Crops, Photographs

WHOLE = 1 / 3  # share of views that are of whole pictures
PHOTOGRAPHIC, MIXED = 0.25, 0.35  # shares of styles that are photographs, and that are mixed with another view
OWN, BLENDED = 0.15, 0.15  # shares of contents that are painted in their own style, and in a style between two
_STYLED, _PAIRED = 18, 19  # apart from the seeds of views


class Views(Dataset[Tensor]):
    """Views by number, float32 RGB in [0, 1], (3, side, side).

    Args:
        pictures: What they are of.
        side: In pixels.
        seed: Of all that is random.
        numbers: Which views.
        least: Share of the height and of the width of a picture that is seen, at least.
        recolored: Share of views whose colours are changed.
    """

    def __init__(
        self, pictures: Photographs, side: int, seed: int, numbers: Sequence[int], least: float, recolored: float
    ) -> None:
        self.pictures, self.side, self.seed, self.numbers = pictures, side, seed, numbers
        self.least, self.recolored = least, recolored

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.numbers[index], _STYLED))
        picture = self.pictures[int(rng.integers(len(self.pictures)))]
        whole = rng.random() < WHOLE
        parts = []
        for size in picture.shape[1:]:
            taken = size if whole else max(1, round(size * rng.uniform(self.least, 1)))
            start = int(rng.integers(size - taken + 1))
            parts.append(slice(start, start + taken))
        view = picture[:, parts[0], parts[1]].float() / 255
        if rng.integers(2):
            view = view.flip(2)
        square = (self.side, self.side)
        view = interpolate(view[None], square, mode="bilinear", antialias=True, align_corners=False)[0]
        return recolored(view, rng) if rng.random() < self.recolored else view


class StyleViews(Dataset[Tensor]):
    """What a predictor learns from, (3, 256, 256): paintings, some photographs, many in other colours, some mixed.

    Args:
        paintings: Styles.
        photographs: More of them: a photograph has a style too, and mixtures with it have others.
        seed: Of all that is random.
        numbers: Which views.
    """

    def __init__(self, paintings: Photographs, photographs: Photographs, seed: int, numbers: Sequence[int]) -> None:
        self.seed, self.numbers = seed, numbers
        self._paintings = Views(paintings, STYLE_SIDE, seed, numbers, 0.35, 0.5)
        self._photographs = Views(photographs, STYLE_SIDE, seed + 1, numbers, 0.5, 0.5)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.numbers[index], _PAIRED))
        found, other = self._paintings, self._photographs
        if rng.random() < PHOTOGRAPHIC:
            found, other = other, found
        return mixed(found[index], other[index], rng) if rng.random() < MIXED else found[index]


class StyledCrops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """What a transfer network learns from: contents, styles, and how much of two other styles is taken instead.

    These are the content's own, so that photographs can be painted as they are, and that of the next pair of a batch.

    Args:
        photographs: Contents.
        paintings: Styles.
        sides: Of contents and of styles, in pixels.
        seed: Of all that is random.
        numbers: Which pairs.
    """

    def __init__(
        self,
        photographs: Photographs,
        paintings: Photographs,
        sides: tuple[int, int],
        seed: int,
        numbers: Sequence[int],
    ) -> None:
        self.seed, self.numbers = seed, numbers
        self._contents = Crops(photographs, sides[0], seed, numbers)
        self._styles = Views(paintings, sides[1], seed + 1, numbers, 0.5, 0.3)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, self.numbers[index], _PAIRED))
        kind, amount, other = rng.random(), rng.random(), int(rng.integers(2))
        shares = torch.zeros(2)
        if kind < OWN:
            shares[0] = 1
        elif kind < OWN + BLENDED:
            shares[other] = amount
        return self._contents[index], self._styles[index], shares


def recolored(view: Tensor, rng: np.random.Generator) -> Tensor:
    """A view (3, H, W) in other colours: turned in hue, paler or stronger, brighter or darker."""
    grey, identity = np.tile(LUMA, (3, 1)), np.eye(3)
    across = np.cross(identity, np.full(3, 1 / math.sqrt(3)))
    angle = rng.uniform(-math.pi, math.pi) * rng.random() ** 2
    turned = 1 / 3 + math.cos(angle) * (identity - 1 / 3) + math.sin(angle) * across  # about the axis of greys
    strength, contrast = rng.uniform(0.3, 1.6), rng.uniform(0.6, 1.3)
    colors = contrast * (strength * identity + (1 - strength) * grey) @ turned
    middle = torch.from_numpy(rng.uniform(0.4, 0.6, (3, 1, 1))).to(view)
    gamma = math.exp(rng.uniform(-0.5, 0.5))
    changed = torch.einsum("ij,jhw->ihw", torch.from_numpy(colors).to(view), view.clamp(1e-3, 1) ** gamma - 0.5)
    return (changed + middle).clamp(0, 1)


def mixed(view: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """A view with another of the same shape, half of the time laid over it, else beside it."""
    part, angle, side = rng.random(), rng.uniform(0, 2 * math.pi), view.shape[2]
    if rng.integers(2):
        return torch.lerp(other, view, part)
    steps = torch.linspace(-0.5, 0.5, side, device=view.device)
    distance = math.cos(angle) * steps[:, None] + math.sin(angle) * steps
    return torch.where(distance > part - 0.5, view, other)
