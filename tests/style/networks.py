"""A network that needs no weights file, and what tests of the transfer do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tests.conftest import natural_picture
from vggquant.progress import Progress
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import stylize


class Tiny(nn.Module):
    """Any module that gives activations by name will do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)
        weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0)) / 5  # every one is the same
        self.convolution.weight.copy_(weight)
        self.convolution.bias = None

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.convolution(images * 255).relu())


def photograph(name: str, side: int, step: int = 1) -> Tensor:
    """The upper left corner of a photograph, (1, 3, side / step, side / step)."""
    pixels = torch.from_numpy(natural_picture(name)[:side:step, :side:step].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def start_loss(content: Tensor, style: Tensor, options: StyleOptions, start: Tensor | None = None) -> float:
    """The loss of the picture that a transfer starts from."""
    seen: list[Progress] = []
    stylize(Tiny(), content, [style], replace(options, steps=1, scales=1), start=start, progress=seen.append)
    return seen[0].values["loss"]
