"""What AdaIN is trained for: AdaIN's own features, and the style's statistics, seen through a VGG that stays as it is.

The losses are those of X. Huang and S. Belongie (ICCV 2017, equations 11 to 13), each relative to what it is measured
against, so that all layers and pictures count alike, and that of Gram matrices, as in `objective`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from vggquant.models.adain import statistics_of
from vggquant.models.features import Features
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.style.losses import TotalVariationLoss, activations_of, gram_matrices
from vggquant.style.options import Precision
from vggquant.training.trainer import Paint

LAYERS = STYLE_LAYERS[:4]
_DEEPEST = LAYERS[-1]
_LEAST = 5e-3  # of the largest energy in a batch, that others are divided by at least: some pictures have one colour


class AdaINLoss:
    """How far paintings are from what AdaIN makes of content and style.

    It looks through a VGG of its own: an encoder in training that gave nothing at all would else do best.

    Args:
        vgg: Gives activations by layer name.
        weights: Of the terms ``content``, ``style``, ``gram`` and ``tv``.
        precision: Of the networks, ``float32`` or ``bf16``.
    """

    def __init__(self, vgg: Features, weights: Mapping[str, float], precision: Precision) -> None:
        self.network = partial(activations_of, vgg, precision=precision)
        self.weights, self.precision = weights, precision
        self.variation = TotalVariationLoss()

    def terms(self, paint: Paint, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of the loss, each a mean over the paintings, without their weights.

        Args:
            paint: Gives paintings of contents and a list of styles.
            batch: Contents and styles, each (N, 3, H, W).
            step: Which step this is; all are alike.
        """
        contents, styles = batch
        with torch.no_grad():
            content = self.network(contents, (_DEEPEST,))[_DEEPEST].float()
            wanted = self.network(styles, LAYERS)
            own, style = statistics_of(content), statistics_of(wanted[_DEEPEST])
            target = (content - own.mean) / own.deviation * style.deviation + style.mean
        with torch.autocast(contents.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            paintings = paint(contents, [styles])
        paintings = paintings.float()
        found = self.network(paintings, LAYERS)
        grams = [gram_matrices(activations, LAYERS) for activations in (found, wanted)]
        moments = [{layer: statistics_of(x[layer]) for layer in LAYERS} for x in (found, wanted)]
        pairs = [pair for layer in LAYERS for pair in zip(moments[0][layer], moments[1][layer], strict=True)]
        return {
            "content": _relative(found[_DEEPEST].float(), target),
            "style": torch.stack([_relative(*pair) for pair in pairs]).sum() / len(LAYERS),
            "gram": torch.stack([_relative(grams[0][layer], grams[1][layer]) for layer in LAYERS]).mean(),
            "tv": self.variation(255 * paintings),
        }


def _relative(found: Tensor, expected: Tensor) -> Tensor:
    """The mean over a batch of ‖found − expected‖² / ‖expected‖²."""
    energy = expected.square().flatten(1).sum(1)
    return ((found - expected).square().flatten(1).sum(1) / energy.clamp_min(_LEAST * energy.max())).mean()
