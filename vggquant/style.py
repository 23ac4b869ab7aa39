"""The transfer of Gatys et al. on any module that gives `{layer name: activation}`; knows no weights.

L. A. Gatys, A. S. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
CVPR 2016, and arXiv:1508.06576. Deviations: every loss is a mean, not half a sum, and the layers'
weights are pastiche 1.6.0's (0.01 for content, 10 / C² for style), so that losses compare with its.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vggquant.errors import OptionError
from vggquant.features import Features, gram_matrix
from vggquant.options import StyleOptions
from vggquant.progress import Progress, ProgressCallback

CONTENT_LAYER_WEIGHT = 0.01


class ContentLoss:
    """Mean squared difference of activations (CVPR 2016, equation 1), times 0.01.

    Args:
        target: Activations of the content picture by layer.
    """

    def __init__(self, target: Mapping[str, Tensor]) -> None:
        self.target = {layer: activation.detach() for layer, activation in target.items()}

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        terms = [mse_loss(activations[layer], target) for layer, target in self.target.items()]
        return CONTENT_LAYER_WEIGHT * torch.stack(terms).sum()


class StyleLoss:
    """Mean squared difference of Gram matrices (CVPR 2016, equations 4 and 5), times 10 / C².

    Args:
        target: Activations of one style picture by layer, of any size.
    """

    def __init__(self, target: Mapping[str, Tensor]) -> None:
        self.target = {layer: gram_matrix(activation.detach()) for layer, activation in target.items()}

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        terms = [
            10 / target.shape[1] ** 2 * mse_loss(gram_matrix(activations[layer]), target)
            for layer, target in self.target.items()
        ]
        return torch.stack(terms).sum()


def stylize(
    vgg: Features,
    content: Tensor,
    styles: Sequence[Tensor],
    options: StyleOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Paint the content picture in the manner of the style pictures.

    The picture is optimised by L-BFGS from the content picture, in units of 0–255 and unclipped.

    Args:
        vgg: Gives activations by layer name, for instance a `VGG`.
        content: (1, 3, H, W), RGB in [0, 1].
        styles: One or more of the same form, of any size; they count alike.
        options: Layers, weights and steps.
        progress: Called after each step with the terms of the loss.

    Returns:
        (1, 3, H, W), RGB, mostly in [0, 1].

    Raises:
        OptionError: No style, fewer than 0 steps, or layers that the network does not have.
    """
    options = options or StyleOptions()
    if not styles:
        raise OptionError("one style or more", "none", "name a style picture", tensor="styles")
    if options.steps < 0:
        raise OptionError("0 steps or more", options.steps, "choose some", tensor="steps")
    with torch.no_grad():
        content_loss = ContentLoss(vgg(content, options.content_layers))
        style_losses = [StyleLoss(vgg(style, options.style_layers)) for style in styles]
    layers = (*options.content_layers, *options.style_layers)
    pixels = (content.detach() * 255).contiguous().requires_grad_()  # L-BFGS views it flat
    optimizer = torch.optim.LBFGS([pixels], lr=1.0, max_iter=1)
    terms: dict[str, float] = {}

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        activations = vgg(pixels / 255, layers)
        content_term = options.content_weight * content_loss(activations)
        style_term = torch.stack([loss(activations) for loss in style_losses]).mean()
        loss = content_term + style_term
        loss.backward()  # type: ignore[no-untyped-call]
        terms.update(loss=loss.item(), content=content_term.item(), style=style_term.item())
        return loss

    started = time.monotonic()
    for step in range(1, options.steps + 1):
        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        if progress is not None:
            progress(Progress("stylize", step, options.steps, time.monotonic() - started, values=dict(terms)))
    return pixels.detach() / 255
