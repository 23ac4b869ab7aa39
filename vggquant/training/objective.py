"""What a painter is trained for: content, style, colours and smoothness of what it paints, seen through a VGG.

Differences are taken relative to what they are measured against, so the weights of the terms mean the same for every
style and every network; they are the squares of the metrics of `models.features`. The functions that sum them are those
of `style.losses`, which the transfer shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from vggquant.models.features import Features
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.style.losses import TotalVariationLoss, activations_of, distance, gram_matrices
from vggquant.style.options import Precision
from vggquant.training.trainer import Paint


def epoch_of(batch: int) -> int:
    """Steps after which the same photographs come again, given how many each step takes."""
    return max(1, EPOCH // batch)


class PainterLoss:
    """How far paintings are from the content of photographs and from the style of a picture.

    Args:
        vgg: Gives activations by layer name.
        style: (1, 3, H, W), RGB in [0, 1], at the scale at which it is to appear.
        weights: Of the terms ``content``, ``style``, ``color`` and ``tv``.
        precision: Of the network, ``float32`` or ``bf16``.
        epoch: Steps after which the same photographs come again, so that what paintings of them are compared with is
            computed once.
    """

    def __init__(
        self, vgg: Features, style: Tensor, weights: Mapping[str, float], precision: Precision, epoch: int = 1
    ) -> None:
        self.network = partial(activations_of, vgg, precision=precision)
        self.style, self.weights, self.epoch = style, weights, epoch
        self.variation = TotalVariationLoss()
        with torch.no_grad():
            self.grams = gram_matrices(self.network(style, STYLE_LAYERS), STYLE_LAYERS)
            self.colors = _Colors(style)
        # the mean of ‖G − G*‖² / ‖G*‖² over the layers
        self.layer_weights = {
            layer: 1 / (len(STYLE_LAYERS) * float(gram.square().mean())) for layer, gram in self.grams.items()
        }
        self._targets: dict[int, Tensor] = {}
        self._room = MOST_KEPT

    def terms(self, paint: Paint, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The terms of the loss, each a mean over the paintings, without their weights.

        Args:
            paint: Gives paintings of photographs.
            batch: Photographs (N, 3, H, W).
            step: Which step this is, from 0.
        """
        target = self._target(batch, step % self.epoch)
        paintings = paint(batch)
        found = self.network(paintings, _LAYERS)
        target = target.to(found[CONTENT_LAYER].dtype)
        energy = target.float().square().mean((1, 2, 3))
        content = distance(found, {CONTENT_LAYER: target}, {CONTENT_LAYER: 1.0}) / energy
        style = distance(gram_matrices(found, STYLE_LAYERS), self.grams, self.layer_weights)
        return {
            "content": content.mean(),
            "style": style.mean(),
            "color": self.colors.differences(paintings).mean(),
            "tv": self.variation(255 * paintings),
        }

    def _target(self, photographs: Tensor, place: int) -> Tensor:
        """What the content of photographs is, kept for when they come again, as long as there is room."""
        found = self._targets.get(place)
        if found is None:
            with torch.no_grad():
                # with half the memory, for many are kept
                found = self.network(photographs, (CONTENT_LAYER,))[CONTENT_LAYER].bfloat16()
            self._room -= found.nbytes
            if self._room >= 0:
                self._targets[place] = found
        return found


EPOCH = 1000  # photographs after which they come again
MOST_KEPT = 2**30  # bytes of what photographs are compared with; what does not fit is computed again
_LAYERS: Sequence[str] = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])
_TINY = 1e-8  # variance at which the root still has a slope
_OPPONENTS = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, 1 / 2, -1), (1, -1, 0))  # brightness, yellow to blue, red to green
_LEAST_DEVIATION = 0.02  # that colours are taken to have along each of these


class _Colors:
    """The mean and the standard deviation of a picture's brightness, yellow against blue, and red against green.

    Args:
        picture: (1, 3, H, W).
    """

    def __init__(self, picture: Tensor) -> None:
        self.axes = torch.tensor(_OPPONENTS).to(picture)
        mean, deviation = self._moments(picture)
        self.mean, self.deviation = mean, deviation.clamp_min(_LEAST_DEVIATION)

    def differences(self, pictures: Tensor) -> Tensor:
        """How far means and deviations are from those of the picture, in units of its deviations, squared, (N,)."""
        mean, deviation = self._moments(pictures)
        return (((mean - self.mean) / self.deviation) ** 2 + (deviation / self.deviation - 1) ** 2).mean(1)

    def _moments(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        opposed = self.axes @ pictures.flatten(2)
        return opposed.mean(2), (opposed.var(2, correction=0) + _TINY).sqrt()
