"""Trains weights that are rounded to codebooks, so that a network learns to paint with what is left of them.

Where codebooks begin is decided by `codec.kmeans`; they follow the weights by Lloyd's step. Gradients pass through the
rounding as if it were not there (Y. Bengio et al., arXiv:1308.3432, the straight-through estimator).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vggquant.codec.palette import palettize
from vggquant.models.painters import Painter
from vggquant.networks.network import weight_specs

EVERY = 25  # passes from one step of Lloyd's to the next


class _Rounded(nn.Module):
    """Weights in place of which the nearest centroid of a codebook is used.

    Args:
        codebook: Ascending, (K,).
    """

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.register_buffer("codebook", codebook)
        self.codebook: Tensor
        self._passes = 0

    def forward(self, weight: Tensor) -> Tensor:
        detached = weight.detach()
        if self.training:
            self._passes += 1
            if self._passes % EVERY == 0:
                self._follow(detached.flatten())
        return weight + (self.rounded(detached) - detached)

    def get_extra_state(self) -> int:
        return self._passes

    def set_extra_state(self, state: int) -> None:
        self._passes = state

    def rounded(self, weight: Tensor) -> Tensor:
        """The centroids themselves."""
        return self.codebook[self._codes(weight)]

    def _codes(self, weight: Tensor) -> Tensor:
        return torch.bucketize(weight.contiguous(), (self.codebook[1:] + self.codebook[:-1]) / 2)

    def _follow(self, weight: Tensor) -> None:
        """Move each centroid to the mean of the weights that it stands for."""
        codes, size = self._codes(weight), len(self.codebook)
        counts = torch.bincount(codes, minlength=size)
        sums = torch.bincount(codes, weights=weight, minlength=size)
        means = (sums / counts.clamp_min(1)).to(weight.dtype)
        self.codebook.copy_(torch.where(counts > 0, means, self.codebook).sort().values)


def round_weights(painter: Painter, bits: int) -> None:
    """Let a network compute with weights rounded to codebooks of a width, until `settle_weights`."""
    for spec in weight_specs(painter.network):
        layer = painter.get_submodule(spec.layer)
        weight = layer.get_parameter("weight")
        codebook = palettize(weight.detach().float().cpu().numpy(), bits).codebook
        rounding = _Rounded(torch.from_numpy(codebook.copy()).to(weight.device))
        parametrize.register_parametrization(layer, "weight", rounding)


def settle_weights(painter: Painter) -> None:
    """Give a network the rounded weights themselves, as which any packing of their width keeps them."""
    for spec in weight_specs(painter.network):
        layer = painter.get_submodule(spec.layer)
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        parametrizations: Any = layer.parametrizations
        rounded = parametrizations.weight[0].rounded(parametrizations.weight.original.detach())
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        layer.get_parameter("weight").data.copy_(rounded)
