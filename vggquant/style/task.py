"""What one transfer is to paint: its pictures as tensors. What is done with them is left to the other modules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggquant.style.scales import size_of


@dataclass(frozen=True, eq=False)
class Task:
    """The pictures of one transfer, each (1, 3, H, W), RGB in [0, 1], all on one device.

    Args:
        content: The picture to paint.
        styles: One or more pictures in whose manner, of any size.
        masks: For each style ``None`` or (1, 1, H, W) in [0, 1]: where in the result it is wanted.
        start: A picture to optimise from, of any size, or ``None``.
        done: Steps that led to `start` and are not made again.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    start: Tensor | None = None
    done: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return size_of(self.content)

    @property
    def masked(self) -> int:
        """How many styles have a mask."""
        return sum(mask is not None for mask in self.masks)

    def copied(self) -> Task:
        """The same pictures in float32, as tensors of their own without a history of gradients."""
        return Task(
            _copy(self.content),
            tuple(_copy(style) for style in self.styles),
            tuple(None if mask is None else _copy(mask) for mask in self.masks),
            None if self.start is None else _copy(self.start),
            self.done,
        )


def _copy(picture: Tensor) -> Tensor:
    return picture.detach().to(torch.float32, copy=True)
