"""What one transfer is to paint: its pictures as tensors. What is done with them is left to the other modules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggquant.style.descent import Memory
from vggquant.style.scales import size_of


@dataclass(frozen=True, eq=False)
class Reached:
    """Where a transfer stands after a step, with all that it takes to go on as if it had never stopped.

    Args:
        done: Steps made.
        planned: Steps that the scales were planned for. Whatever is made beyond them is made at the full size.
        first: The picture that the transfer began with, (1, 3, H, W), RGB in [0, 1], at the full size.
        memory: What the steps have left behind, of which the optimiser's part is by far the largest.
    """

    done: int
    planned: int
    first: Tensor
    memory: Memory


@dataclass(frozen=True, eq=False)
class Task:
    """The pictures of one transfer, each (1, 3, H, W), RGB in [0, 1], all on one device.

    Args:
        content: The picture to paint.
        styles: One or more pictures in whose manner, of any size.
        masks: For each style ``None`` or (1, 1, H, W) in [0, 1]: where in the result it is wanted.
        start: A picture to optimise from, of any size, or ``None``.
        done: Steps that led to `start`, or to where the transfer stands, and are not made again.
        planned: Steps that the scales were planned for, if these are not all.
        reached: Where the transfer stands, in place of `start`, or ``None``.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    start: Tensor | None = None
    done: int = 0
    planned: int | None = None
    reached: Reached | None = None

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
        return replace(
            self,
            content=_copy(self.content),
            styles=tuple(_copy(style) for style in self.styles),
            masks=tuple(None if mask is None else _copy(mask) for mask in self.masks),
            start=None if self.start is None else _copy(self.start),
        )

    def going_on(self, reached: Reached) -> Task:
        """The same pictures, painted on from where a transfer stands."""
        return replace(self, start=None, done=reached.done, planned=reached.planned, reached=reached)


def _copy(picture: Tensor) -> Tensor:
    return picture.detach().to(torch.float32, copy=True)
