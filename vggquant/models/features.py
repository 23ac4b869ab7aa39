"""Gram matrices, and the metrics that say how much of a network's features quantization has lost.

This is the one definition of the metrics. For each image and layer, let F be the activation (C × HW) under the weights
in question, F* the one under the reference, and G = F Fᵀ / HW. The feature error is ‖F − F*‖ / ‖F*‖ and the Gram error
‖G − G*‖ / ‖G*‖; both are averaged over the images.

Where the images and the weights come from is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vggquant.errors import OptionError
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS


class Features(Protocol):
    """Any network that returns activations by layer name, for instance a `VGG`."""

    def __call__(self, images: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class FeatureErrors:
    """Errors of a network's features against those of a reference, averaged over images.

    Args:
        feature: ‖F − F*‖ / ‖F*‖ by layer.
        gram: ‖G − G*‖ / ‖G*‖ by layer.
    """

    feature: Mapping[str, float]
    gram: Mapping[str, float]

    @property
    def content(self) -> float:
        """Content error: the feature error at relu4_2."""
        return self.feature[CONTENT_LAYER]

    @property
    def style(self) -> float:
        """Style error: the mean Gram error over the style layers."""
        return sum(self.gram[layer] for layer in STYLE_LAYERS) / len(STYLE_LAYERS)


def gram_matrix(activation: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute G = F Fᵀ / HW, which says how strongly channels are active together, wherever in the image that is.

    Args:
        activation: (N, C, H, W).
        mask: (1, 1, H, W), in [0, 1]: how much each position counts. With it, G = (m F)(m F)ᵀ / Σ m².

    Returns:
        (N, C, C); in float32 if the activation is of a half type.

    Source:
        L. Gatys et al., arXiv:1508.06576, equation 3, except that G is divided by the number of positions, so that
        images of different sizes can be compared. The mask follows L. Gatys et al., "Controlling Perceptual Factors in
        Neural Style Transfer", CVPR 2017.
    """
    flat = activation.flatten(2)
    if mask is None:
        gram: Tensor = _Gram.apply(flat)  # type: ignore[no-untyped-call]
        return gram / flat.shape[2]
    flat_mask = mask.flatten(2)
    gram = _Gram.apply(flat * flat_mask)  # type: ignore[no-untyped-call]
    return gram / (flat_mask**2).sum()


class _Gram(torch.autograd.Function):
    """F Fᵀ in float32, whose gradient (D + Dᵀ) F is one product in F's own type; autograd would compute two."""

    generate_vmap_rule = True  # so that the transforms of torch.func work

    @staticmethod
    def forward(flat: Tensor) -> Tensor:
        with torch.autocast(flat.device.type, enabled=False):  # which would multiply in a half type
            wide = flat.to(torch.promote_types(flat.dtype, torch.float32))
            return wide @ wide.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        symmetric = (gradient + gradient.mT).to(flat.dtype)
        # keep F's memory format, because the gradients of deeper layers come in it and are added to this one
        last = flat.stride(1) == 1
        with torch.autocast(flat.device.type, enabled=False):
            product: Tensor = (flat.mT @ symmetric).mT if last else symmetric @ flat
        return product


def feature_errors(
    network: Features, reference: Features, images: Iterable[Tensor], layers: Sequence[str]
) -> FeatureErrors:
    """Measure how far a network's features are from those of a reference.

    Args:
        network: The weights in question.
        reference: The weights that they approximate.
        images: Each (1, 3, H, W), RGB in [0, 1]; sizes may differ.
        layers: The layers to measure at.

    Raises:
        OptionError: There are no images.
    """
    feature: dict[str, list[float]] = {layer: [] for layer in layers}
    gram: dict[str, list[float]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for image in images:
            ours, theirs = network(image, layers), reference(image, layers)
            for layer in layers:
                feature[layer].append(relative_error(ours[layer], theirs[layer]))
                gram[layer].append(relative_error(gram_matrix(ours[layer]), gram_matrix(theirs[layer])))
    if not all(feature.values()):
        raise OptionError("one picture or more", "none", "name some", tensor="pictures")
    return FeatureErrors(
        {layer: sum(errors) / len(errors) for layer, errors in feature.items()},
        {layer: sum(errors) / len(errors) for layer, errors in gram.items()},
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖, summed in float64; 0 if they are equal, infinite if only `expected` is zero."""
    difference = float(torch.linalg.vector_norm(found - expected, dtype=torch.float64))
    norm = float(torch.linalg.vector_norm(expected, dtype=torch.float64))
    return difference / norm if norm else math.inf if difference else 0.0
