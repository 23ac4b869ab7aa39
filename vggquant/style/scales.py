"""The sizes that a transfer works at, from coarse to fine, and pictures resized from one to the next.

What is done at each size is left to `transfer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from vggquant.style.options import StyleOptions

SHORTEST_SIDE = 32  # pixels; scales are not chosen, nor styles shrunk, to less than this
FIRST_LONGEST = 128  # longer side of the first scale in pixels, about: what relu5_1 sees at once


@dataclass(frozen=True)
class Stage:
    """One of the sizes that a transfer works at.

    Args:
        size: Height and width in pixels.
        factor: This size over the full size.
        steps: The steps made at this size, counted over all stages from 0.
    """

    size: tuple[int, int]
    factor: float
    steps: range

    @property
    def area(self) -> int:
        """Pixels in all."""
        return math.prod(self.size)

    @property
    def width_by_height(self) -> str:
        """The size as people read it."""
        return f"{self.size[1]} × {self.size[0]}"

    def without(self, done: int) -> range:
        """The steps of this stage that are still to be made once the first `done` of all steps are."""
        return self.steps[max(0, done - self.steps.start) :]


def stages(height: int, width: int, options: StyleOptions, planned: int | None = None) -> list[Stage]:
    """Plan the sizes that a picture is worked at, coarse to fine, each with twice the steps of the one before.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        options: Number of steps and, where it is asked for, of scales.
        planned: Steps that were planned at first, if there are more now; these are all made at the full size.
    """
    by_length = round(math.log2(max(height, width) / FIRST_LONGEST))
    by_breadth = math.floor(math.log2(min(height, width) / SHORTEST_SIDE))
    scales = options.scales or 1 + max(0, min(by_length, by_breadth))
    steps = options.steps if planned is None else planned
    ends = [steps * (2 ** (index + 1) - 1) // (2**scales - 1) for index in range(scales)]
    ends[-1] = options.steps
    found = []
    for index, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        factor = 2.0 ** (index - scales + 1)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        found.append(Stage(size, factor, range(begin, end)))
    return found


def size_of(picture: Tensor) -> tuple[int, int]:
    """Height and width of a picture (1, C, H, W)."""
    return (picture.shape[2], picture.shape[3])


def resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture at another height and width; itself if it has them already."""
    if size_of(picture) == size:
        return picture
    return interpolate(picture.detach(), size, mode="bicubic", antialias=True, align_corners=False)


def enlarge(pixels: Tensor, first: Tensor, size: tuple[int, int]) -> Tensor:
    """Take a painting to the next size.

    What was painted, which is the difference from the picture it started from, is enlarged. Details finer than the old
    size are those of the picture it started from.

    Args:
        pixels: The painting, in units of 0–255.
        first: The picture it started from, in [0, 1], at the full size.
        size: The new height and width.
    """
    if size_of(pixels) == size:
        return pixels.clone()
    return 255 * resize(first, size) + resize(pixels - 255 * resize(first, size_of(pixels)), size)


def shrink_style(style: Tensor, factor: float) -> Tensor:
    """A style at the factor of a stage, but never so small that the network's pools leave nothing of it."""
    height, width = size_of(style)
    factor = min(1.0, max(factor, SHORTEST_SIDE / min(height, width)))
    return resize(style, (round(height * factor), round(width * factor)))
