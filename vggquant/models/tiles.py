"""Computes large pictures tile by tile, with seams that do not show because every tile sees as far as it has to.

What is computed is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor


def in_tiles(compute: Callable[[Tensor], Tensor], x: Tensor, side: int, margin: int, scale: Fraction) -> Tensor:
    """Compute something of pictures that each of its results sees a part of.

    Args:
        compute: Gives (N, C', H · scale, W · scale) for (N, C, H, W), rounded up.
        x: (N, C, H, W).
        side: Of a tile; times `scale` it is a whole number, and so is `margin`.
        margin: How far a result sees beyond the place that it belongs to, at most.
        scale: Of the sides.

    Returns:
        What `compute` gives for the whole, as if it had been called once.
    """
    height, width = x.shape[2:]
    if max(height, width) <= side:
        return compute(x)

    def part(top: int, left: int) -> Tensor:
        above, before = min(margin, top), min(margin, left)
        seen = x[:, :, top - above : top + side + margin, left - before : left + side + margin]
        found = compute(seen)
        y, across = int(above * scale), int(before * scale)
        return found[:, :, y : y + int(side * scale), across : across + int(side * scale)]

    return torch.cat(
        [torch.cat([part(top, left) for left in range(0, width, side)], 3) for top in range(0, height, side)], 2
    )
