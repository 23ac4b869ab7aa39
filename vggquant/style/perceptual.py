"""Losses for training networks: how far images are from others in content and style, seen through a VGG.

J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016, and
L. A. Gatys, A. S. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016. What is
summed is left to `losses`, which the optimisation of a single picture shares.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vggquant.errors import OptionError, PictureError, located, require_one_of, suggestion
from vggquant.files.disk import Readable
from vggquant.models.frozen import Frozen
from vggquant.models.load import load_quantized_vgg
from vggquant.models.preprocessing import require_range
from vggquant.networks.vgg import CONTENT_LAYER, LAYERS, STYLE_LAYERS
from vggquant.style.checks import require_weight
from vggquant.style.losses import distance, gram_matrices, total

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
Layers = str | Iterable[str] | Mapping[str, float]

# the layers of the papers, of which Johnson et al. look at VGG-16 and Gatys et al. at VGG-19
CONTENT_PRESETS: Mapping[str, tuple[str, ...]] = {"johnson": ("relu3_3",), "gatys": (CONTENT_LAYER,)}
STYLE_PRESETS: Mapping[str, tuple[str, ...]] = {
    "johnson": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    "gatys": STYLE_LAYERS,
}


class PerceptualLoss(nn.Module):
    """How far images are from others, in content and in style, as a VGG sees them.

    Content is compared by activations, style by Gram matrices G = F Fᵀ / HW. For each image the loss is the mean
    squared difference of these, times a weight for each layer, summed over the layers. With weights of 1 this is what
    Johnson et al. define, and 4 times the style loss of Gatys et al. Activations are those of the network's own
    weights; with the embedded ones, a content loss is of the order of 10⁵ and a style loss of 10⁹. Networks with
    torchvision's weights have smaller ones, so weights that were tuned with these do not carry over.

    Gradients reach the images, the target as well if it requires one, and no parameter. The network is `Frozen`: it
    follows from device to device and from type to type, but is in no state dict, so a checkpoint of the module that
    holds the loss does not grow by it.

    Differences and Gram matrices are computed in float32 at least. Under autocast in bfloat16 the network computes in
    that. In float16 its activations may overflow, so there it keeps to the type of its weights; ``.half()`` gives a
    network that computes in float16 and keeps in range.

    Args:
        content_layers: Where content is compared: names of layers, weights by name, or the layers of a paper,
            ``johnson`` (relu3_3) or ``gatys`` (relu4_2); none for ``()``.
        style_layers: Where style is compared, likewise: ``johnson`` (relu1_2, relu2_2, relu3_3, relu4_3) or ``gatys``
            (relu1_1, relu2_1, relu3_1, relu4_1, relu5_1). Johnson's layers are those of VGG-16; a VGG-19 is looked at
            in the layers of the same names, though its third and fourth blocks go on for one layer more.
        network: A packed file as for `load_quantized_vgg`, read no deeper than the layers need, or a module that gives
            activations by layer name for RGB images in [0, 1]. It is frozen. The embedded VGG-19 if not given.
        content_weight: Factor of the content loss.
        style_weight: Factor of the style loss.
        reduction: ``mean`` or ``sum`` over the images of a batch, or ``none`` for the loss of each.
        input_range: Which numbers stand for black and white in the images; ``(-1, 1)`` for those of a tanh. If the
            first images passed seem to be of another range, they are refused.

    Raises:
        VggQuantError: The file is missing or not sound, or an argument has no meaning.

    Example:
        >>> loss = PerceptualLoss()
        >>> x = torch.rand(4, 3, 64, 64, requires_grad=True)
        >>> loss(x, torch.rand(4, 3, 64, 64)).backward()
    """

    def __init__(
        self,
        content_layers: Layers = "johnson",
        style_layers: Layers = (),
        *,
        network: Readable | nn.Module | None = None,
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        reduction: Reduction = "mean",
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        require_one_of("reduction", reduction, REDUCTIONS)
        require_weight("content_weight", content_weight)
        require_weight("style_weight", style_weight)
        self.content_layers = _weights("content_layers", content_layers, CONTENT_PRESETS)
        self.style_layers = _weights("style_layers", style_layers, STYLE_PRESETS)
        self.layers = tuple(dict.fromkeys((*self.content_layers, *self.style_layers)))
        if not self.layers:
            raise OptionError("a layer or more", "none", "name a content layer or a style layer", tensor="layers")
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.reduction = reduction
        self.input_range = _range(input_range)
        self.network = Frozen(network if isinstance(network, nn.Module) else _load(network, self.layers))
        self._ranges_seen = False

    def forward(self, x: Tensor, target: Tensor, style: Tensor | None = None) -> Tensor:
        """Compare images with others.

        Args:
            x: (N, 3, H, W), RGB in `input_range`.
            target: Of the same shape, or with N = 1, which each image is then compared with.
            style: Images to compare the style with instead of `target`, of any size; N of them or one.

        Returns:
            The loss, in float32 at least: a scalar, or (N,) if `reduction` is ``none``.

        Raises:
            OptionError: There are no style layers to compare `style` at.
            PictureError: Images are of another shape or range, or too small for the deepest layer.
        """
        if style is not None and not self.style_layers:
            raise OptionError("style layers to compare a style at", "none", "name some", tensor="style_layers")
        for name, images in (("x", x), ("target", target), ("style", style)):
            if images is not None or name != "style":
                _require_batch(name, images)
        _require_fitting("target", target, x, same_size=bool(self.content_layers))
        _require_fitting("style", target if style is None else style, x, same_size=False)
        self._look_once(x, target, style)
        x, target, style = self._unit(x), self._unit(target), None if style is None else self._unit(style)
        found = self._activations(x, self.layers)
        expected = self._activations(target, self.content_layers if style is not None else self.layers)
        terms = []
        if self.content_layers:
            terms.append(self.content_weight * distance(found, expected, self.content_layers))
        if self.style_layers:
            manner = expected if style is None else self._activations(style, self.style_layers)
            ours, theirs = (gram_matrices(activations, self.style_layers) for activations in (found, manner))
            terms.append(self.style_weight * distance(ours, theirs, self.style_layers))
        losses = total(terms)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        return (
            f"content_layers={self.content_layers}, style_layers={self.style_layers}, "
            f"content_weight={self.content_weight}, style_weight={self.style_weight}, "
            f"reduction={self.reduction}, input_range={self.input_range}"
        )

    def _unit(self, images: Tensor) -> Tensor:
        """Images in [0, 1]."""
        black, white = self.input_range
        if (black, white) == (0, 1):
            return images
        wide = torch.promote_types(images.dtype, torch.float32)  # a half type would round the pixels
        return (images.to(wide) - black) / (white - black)

    def _look_once(self, *images: Tensor | None) -> None:
        """Refuse the first images if they seem to be of another range; later it would make a GPU wait each time."""
        if self._ranges_seen or torch.compiler.is_compiling():
            return
        for name, batch in zip(("x", "target", "style"), images, strict=True):
            # a picture that is still being optimised may go astray, unlike what a network in training gives
            if batch is not None and not (batch.requires_grad and batch.is_leaf):
                self._ranges_seen = True
                try:
                    with located(tensor=name):
                        require_range(self._unit(batch.detach()))
                except PictureError as error:
                    self._ranges_seen = False
                    raise error.advising("pass the range that they have as input_range") from None

    def _activations(self, images: Tensor, layers: Iterable[str]) -> Mapping[str, Tensor]:
        kind = images.device.type
        half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        with torch.autocast(kind, enabled=False) if half else contextlib.nullcontext():
            activations: Mapping[str, Tensor] = self.network(images, tuple(layers))
            return activations


class ContentLoss(PerceptualLoss):
    """How far images are from others in content: a `PerceptualLoss` without style.

    Args:
        layers: Where content is compared: names, weights by name, ``johnson`` or ``gatys``, see `PerceptualLoss`.
        network: A packed file, or a module that gives activations by layer name; the embedded VGG-19 if not given.
        reduction: ``mean`` or ``sum`` over the images of a batch, or ``none`` for the loss of each.
        input_range: Which numbers stand for black and white in the images.
    """

    def __init__(
        self,
        layers: Layers = "johnson",
        *,
        network: Readable | nn.Module | None = None,
        reduction: Reduction = "mean",
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(layers, (), network=network, reduction=reduction, input_range=input_range)


class StyleLoss(PerceptualLoss):
    """How far images are from others in style: a `PerceptualLoss` without content, whose target may have any size.

    Args:
        layers: Where style is compared: names, weights by name, ``johnson`` or ``gatys``, see `PerceptualLoss`.
        network: A packed file, or a module that gives activations by layer name; the embedded VGG-19 if not given.
        reduction: ``mean`` or ``sum`` over the images of a batch, or ``none`` for the loss of each.
        input_range: Which numbers stand for black and white in the images.
    """

    def __init__(
        self,
        layers: Layers = "johnson",
        *,
        network: Readable | nn.Module | None = None,
        reduction: Reduction = "mean",
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__((), layers, network=network, reduction=reduction, input_range=input_range)


def _weights(option: str, layers: Layers, presets: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Weights by layer; 1 where only names are given."""
    if not isinstance(layers, Iterable):
        cure = "pass names, weights by name, johnson or gatys; () for none"
        raise OptionError("layers", layers, cure, tensor=option)
    if isinstance(layers, str):
        layers = presets.get(layers, (layers,))
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    for layer, weight in weights.items():
        require_weight(option, weight, f" for {layer}")
    return weights


def _range(input_range: tuple[float, float]) -> tuple[float, float]:
    numbers = tuple(input_range) if isinstance(input_range, Iterable) else ()
    finite = len(numbers) == 2 and all(isinstance(end, Real) and math.isfinite(end) for end in numbers)
    if not finite or not numbers[0] < numbers[1]:
        raise OptionError("black and white, as in (-1, 1)", input_range, "pass two numbers", tensor="input_range")
    return numbers[0], numbers[1]


def _load(path: Readable | None, layers: tuple[str, ...]) -> nn.Module:
    """A packed VGG, no deeper than needed."""
    for layer in layers:
        if layer not in LAYERS:
            expected = f"johnson, gatys or a layer {LAYERS[0]} … {LAYERS[-1]}"
            raise OptionError(expected, layer, suggestion(layer, ("johnson", "gatys", *LAYERS)), tensor="layers")
    return load_quantized_vgg(path, upto=max(layers, key=LAYERS.index))


def _require_batch(name: str, images: object) -> None:
    """Refuse what is no batch of images; their channels and sizes are looked at by the network."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise PictureError("images as a floating tensor", got, "convert them", tensor=name)
    if images.ndim != 4 or not images.shape[0]:
        raise PictureError("shape (N, 3, H, W), N from 1", tuple(images.shape), "pass one image or more", tensor=name)


def _require_fitting(name: str, images: Tensor, x: Tensor, *, same_size: bool) -> None:
    """Refuse images that `x` cannot be compared with."""
    if images.shape[:1] not in (x.shape[:1], (1,)):
        raise PictureError(f"{len(x)} images or 1", len(images), "repeat or leave out some", tensor=name)
    if same_size and images.shape[1:] != x.shape[1:]:
        raise PictureError(f"shape {tuple(x.shape)}, that of x", tuple(images.shape), "resize it", tensor=name)
