"""What a transfer minimises: the losses of content, style and total variation, and their sum for one picture.

L. A. Gatys, A. S. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, and
arXiv:1508.06576. Two things differ from the papers, so that losses can be compared with those of pastiche 1.6.0: every
loss is a mean, not half a sum, and the layers have pastiche's weights (0.01 for content, 10 / C² for style).

How the losses are minimised is left to `descent`, and at which sizes to `transfer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from vggquant.errors import located
from vggquant.models.features import Features, gram_matrix
from vggquant.style.options import Precision, StyleOptions

CONTENT_LAYER_WEIGHT = 0.01


class ContentLoss:
    """Mean squared difference of activations (CVPR 2016, equation 1), times a weight for each layer.

    Args:
        target: Activations of the content picture by layer, each (1, C, H, W).
        weights: By layer, a factor of the usual weight, which is 0.01.
    """

    def __init__(self, target: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        self.target = target
        self.weights = {layer: weight * CONTENT_LAYER_WEIGHT for layer, weight in weights.items()}

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        return total(
            weight * mse_loss(activations[layer].float(), self.target[layer].float())
            for layer, weight in self.weights.items()
        )


class StyleLoss:
    """Mean squared difference of Gram matrices (CVPR 2016, equations 4 and 5), times a weight for each layer.

    Args:
        target: Activations of one style picture by layer, each (1, C, H, W). The picture may have any size.
        weights: By layer, a factor of the usual weight, which is 10 / C².
        mask: (1, 1, H, W) in [0, 1]: where in the result the style is wanted; everywhere if not given.
    """

    def __init__(self, target: Mapping[str, Tensor], weights: Mapping[str, float], mask: Tensor | None = None) -> None:
        self.target = {layer: gram_matrix(target[layer]) for layer in weights}
        self.weights = {layer: weight * 10 / self.target[layer].shape[1] ** 2 for layer, weight in weights.items()}
        self.mask = mask

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        return total(
            weight * mse_loss(self._gram(activations[layer]), self.target[layer])
            for layer, weight in self.weights.items()
        )

    def _gram(self, activation: Tensor) -> Tensor:
        if self.mask is None:
            return gram_matrix(activation)
        size = (activation.shape[2], activation.shape[3])
        return gram_matrix(activation, adaptive_avg_pool2d(self.mask, size).to(activation.device))


class TotalVariationLoss:
    """Mean absolute difference of neighbouring pixels: the mean of the horizontal and the vertical one.

    Pixels are in units of 0–255, and so is the loss.
    """

    def __call__(self, pixels: Tensor) -> Tensor:
        across = (pixels[..., 1:] - pixels[..., :-1]).abs().mean()
        down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().mean()
        return (across + down) / 2


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
        self.styles: list[tuple[float, StyleLoss]] = []
        weights = options.style_weights or [1 / len(styles)] * len(styles)
        with torch.no_grad():
            target = self.network(content, tuple(options.content_layers))
            self.content = ContentLoss(target, options.content_layers)
            for index, (weight, style, mask) in enumerate(zip(weights, styles, masks, strict=True)):
                with located(tensor=f"styles[{index}]"):
                    target = self.network(style, tuple(options.style_layers))
                self.styles.append((weight, StyleLoss(target, options.style_layers, mask)))

    def __call__(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms by name, for pixels of shape (1, 3, H, W) in units of 0–255."""
        activations = self.network(pixels / 255, self.options.layers)
        terms = {
            "content": self.options.content_weight * self.content(activations),
            "style": total(weight * style(activations) for weight, style in self.styles),
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
    """The sum of scalar terms, which may lie on different devices; 0 if there are none."""
    found = list(terms)
    return torch.stack([term.to(found[0].device) for term in found]).sum() if found else torch.zeros(())
