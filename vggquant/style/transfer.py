"""The transfer of Gatys et al. on any module that gives `{layer name: activation}`; knows no weights.

L. A. Gatys, A. S. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
CVPR 2016, and arXiv:1508.06576. Deviations: every loss is a mean, not half a sum, and the layers'
weights are pastiche 1.6.0's (0.01 for content, 10 / C² for style), so that losses compare with its.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, mse_loss

from vggquant.errors import OptionError, PictureError, located
from vggquant.models.devices import available_memory
from vggquant.models.features import Features, gram_matrix
from vggquant.pictures.files import luminance, match_colors, match_luminance, with_luminance
from vggquant.progress import Progress
from vggquant.style.descent import Curvature, descend
from vggquant.style.options import OPTIMIZERS, PRECISIONS, PRESERVE_COLORS, STARTS, Precision, StyleOptions

CONTENT_LAYER_WEIGHT = 0.01
NARROWEST = 32  # shorter side of the first scale, at least
COARSEST = 128  # longest side of the first scale, about: what relu5_1 sees at once
PROBES = (64, 128)  # sides of the pictures that memory is estimated by
MARGIN, OVERHEAD = 1.1, 320e6  # of memory: a reserve, and bytes whatever the size
FARTHEST = 8.0  # how far colours may lie from 0; matched ones leave [0, 1], those of 0–255 were not divided
_MEAN = (0.485, 0.458, 0.408)  # of ImageNet, RGB: what networks take for nothing


class ContentLoss:
    """Mean squared difference of activations (CVPR 2016, equation 1), times 0.01 or a layer's weight.

    Args:
        target: Activations of the content picture by layer.
        weights: Weights by layer; ``None`` means 0.01.
    """

    def __init__(self, target: Mapping[str, Tensor], weights: Mapping[str, float | None]) -> None:
        self.target = target
        self.weights = {layer: CONTENT_LAYER_WEIGHT if weight is None else weight for layer, weight in weights.items()}

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        return _sum(
            weight * mse_loss(activations[layer].float(), self.target[layer].float())
            for layer, weight in self.weights.items()
        )


class StyleLoss:
    """Mean squared difference of Gram matrices (CVPR 2016, equations 4 and 5), times 10 / C² or a layer's weight.

    Args:
        target: Activations of one style picture by layer, of any size.
        weights: Weights by layer; ``None`` means 10 / C².
        mask: (1, 1, H, W) in [0, 1]: where in the result the style is wanted; everywhere if not given.
    """

    def __init__(
        self, target: Mapping[str, Tensor], weights: Mapping[str, float | None], mask: Tensor | None = None
    ) -> None:
        self.target = {layer: gram_matrix(target[layer]) for layer in weights}
        self.weights = {
            layer: 10 / self.target[layer].shape[1] ** 2 if weight is None else weight
            for layer, weight in weights.items()
        }
        self.mask = mask

    def __call__(self, activations: Mapping[str, Tensor]) -> Tensor:
        return _sum(
            weight * mse_loss(self._gram(activations[layer]), self.target[layer])
            for layer, weight in self.weights.items()
        )

    def _gram(self, activation: Tensor) -> Tensor:
        if self.mask is None:
            return gram_matrix(activation)
        size = (activation.shape[2], activation.shape[3])
        return gram_matrix(activation, adaptive_avg_pool2d(self.mask, size).to(activation.device))


class TotalVariationLoss:
    """Mean absolute difference of neighbouring pixels, in units of 0–255, horizontal and vertical halved."""

    def __call__(self, pixels: Tensor) -> Tensor:
        across = (pixels[..., 1:] - pixels[..., :-1]).abs().mean()
        down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().mean()
        return (across + down) / 2


@dataclass(frozen=True, kw_only=True)
class StyleProgress(Progress):
    """A report of `stylize` after a step; `values` are the terms of the loss before it.

    Args:
        picture: Gives the picture as it is by now, (1, 3, H, W), RGB, of the size being worked at.
    """

    picture: Callable[[], Tensor]


@dataclass(frozen=True)
class Stage:
    """A size that is worked at.

    Args:
        size: Height and width.
        factor: Of the full size.
        steps: Which of all steps are made at it.
    """

    size: tuple[int, int]
    factor: float
    steps: range


def stages(height: int, width: int, options: StyleOptions) -> list[Stage]:
    """Sizes that a picture is worked at, coarse to fine, each with twice the steps of the one before."""
    by_length = round(math.log2(max(height, width) / COARSEST))
    by_breadth = math.floor(math.log2(min(height, width) / NARROWEST))
    scales = options.scales or 1 + max(0, min(by_length, by_breadth))
    ends = [options.steps * (2 ** (index + 1) - 1) // (2**scales - 1) for index in range(scales)]
    found = []
    for index, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        factor = 2.0 ** (index - scales + 1)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        found.append(Stage(size, factor, range(begin, end)))
    return found


def stylize(
    vgg: Features,
    content: Tensor,
    styles: Sequence[Tensor],
    options: StyleOptions | None = None,
    *,
    masks: Sequence[Tensor | None] | None = None,
    start: Tensor | None = None,
    done: int = 0,
    progress: Callable[[StyleProgress], None] | None = None,
) -> Tensor:
    """Paint the content picture in the manner of the style pictures.

    The picture is optimised in units of 0–255, unclipped, from coarse to fine.

    Args:
        vgg: Gives activations by layer name, for instance a `VGG`.
        content: (1, 3, H, W), RGB in [0, 1].
        styles: One or more of the same form, of any size; scaled down as the content is.
        options: Layers, weights, steps, optimiser, scales, precision, colours.
        masks: For each style ``None`` or (1, 1, H, W) in [0, 1]: where in the result it is wanted.
        start: A picture to optimise from, of any size, instead of `StyleOptions.start`; finer scales get its details.
        done: Steps that led to `start` and are left out, to resume a transfer.
        progress: Called after each step with the terms of the loss.

    Returns:
        (1, 3, H, W), RGB, mostly in [0, 1].

    Raises:
        OptionError: An option has no meaning, a layer is unknown, or the loss leaves the finite numbers.
        PictureError: A picture or mask is not of the form, or too large for the memory.
    """
    options = options or StyleOptions()
    masks = masks or [None] * len(styles)
    _check(content, styles, masks, start, done, options)
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is about
        own_styles = [_own(style) for style in styles]
        own_masks = [None if mask is None else _own(mask) for mask in masks]
        started = None if start is None else _own(start)
        return _stylize(vgg, _own(content), own_styles, options, own_masks, started, done, progress)


def _own(picture: Tensor) -> Tensor:
    """A copy without history."""
    return picture.detach().to(torch.float32, copy=True)


def _stylize(
    vgg: Features,
    content: Tensor,
    styles: list[Tensor],
    options: StyleOptions,
    masks: list[Tensor | None],
    start: Tensor | None,
    done: int,
    progress: Callable[[StyleProgress], None] | None,
) -> Tensor:
    colored, in_luminance = content, options.preserve_color == "luminance"
    if in_luminance:
        content = luminance(content).expand_as(content)
        styles = [match_luminance(style, content) for style in styles]
        start = None if start is None else luminance(start).expand_as(start)
    elif options.preserve_color == "linear":
        styles = [match_colors(style, content) for style in styles]

    def shown(pixels: Tensor) -> Tensor:
        picture = pixels.detach() / 255
        return with_luminance(_resize(colored, _size(picture)), picture) if in_luminance else picture

    if options.steps > done:
        _require_memory(vgg, content, styles, masks, options)
    planned = stages(*_size(content), options)
    first = _first_picture(content, options) if start is None or done else _resize(start, _size(content))
    pixels = 255 * start if start is not None and done else None
    curvature: Curvature | None = None
    whole = sum(math.prod(stage.size) * sum(step >= done for step in stage.steps) for stage in planned)
    worked, began = 0, time.monotonic()
    for stage in [stage for stage in planned if stage.steps[-1:] and stage.steps[-1] >= done] or planned[-1:]:
        pixels = 255 * _resize(first, stage.size) if pixels is None else _grown(pixels, first, stage.size)
        steps = stage.steps[max(0, done - stage.steps.start) :]
        if not steps:
            break
        scaled, shrunk = _resize(content, stage.size), [_shrink(style, stage.factor) for style in styles]
        try:
            loss = _Loss(vgg, scaled, shrunk, masks, options)
        except PictureError as error:
            if error.tensor is not None or stage.factor == 1:
                raise
            got = f"{stage.size[1]} × {stage.size[0]} at the coarsest"
            raise OptionError(error.expected, got, "choose fewer scales", tensor="scales") from None
        whitening = None if curvature is None else curvature.whitening()
        curvature = Curvature() if options.optimizer == "lbfgs" and stage is not planned[-1] else None
        made = descend(loss, pixels, options.optimizer, whitening=whitening, curvature=curvature)
        for step, terms in zip(steps, made, strict=False):
            worked += math.prod(stage.size)
            if progress is not None:
                size, elapsed = f"{stage.size[1]} × {stage.size[0]}", time.monotonic() - began
                left, picture = elapsed * (whole - worked) / worked, partial(shown, pixels)
                progress(StyleProgress("stylize", step + 1, options.steps, elapsed, size, terms, left, picture=picture))
    assert pixels is not None
    return shown(pixels)


def picture_loss(
    vgg: Features, content: Tensor, styles: Sequence[Tensor], picture: Tensor, options: StyleOptions | None = None
) -> float:
    """Loss of a finished picture at its size, whoever painted it; arguments as in `stylize`."""
    options = options or StyleOptions()
    _check(content, styles, [None] * len(styles), picture, 0, options)
    with torch.no_grad():
        loss, _ = _Loss(vgg, content, styles, [None] * len(styles), options)(255 * picture)
    return loss.item()


class _Loss:
    """The loss at one size: targets are computed once."""

    def __init__(
        self,
        vgg: Features,
        content: Tensor,
        styles: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        options: StyleOptions,
    ) -> None:
        self.network = partial(_activations, vgg, precision=options.precision)
        self.layers = tuple(dict.fromkeys((*options.content_layers, *options.style_layers)))
        self.options = options
        weights = options.style_weights or [1 / len(styles)] * len(styles)
        with torch.no_grad():
            target = self.network(content, tuple(options.content_layers))
            self.content = ContentLoss(target, options.content_layers)
            self.styles = []
            for index, (weight, style, mask) in enumerate(zip(weights, styles, masks, strict=True)):
                with located(tensor=f"styles[{index}]"):
                    target = self.network(style, tuple(options.style_layers))
                self.styles.append((weight, StyleLoss(target, options.style_layers, mask)))
        self.variation = TotalVariationLoss()

    def __call__(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its terms, of (1, 3, H, W) in units of 0–255."""
        activations = self.network(pixels / 255, self.layers)
        terms = {
            "content": self.options.content_weight * self.content(activations),
            "style": _sum(weight * style(activations) for weight, style in self.styles),
        }
        if self.options.tv_weight:
            terms["tv"] = self.options.tv_weight * self.variation(pixels)
        return _sum(terms.values()), terms


def _activations(vgg: Features, images: Tensor, layers: Sequence[str], precision: Precision) -> Mapping[str, Tensor]:
    """Activations; bfloat16 is for the network alone, since losses and the optimiser would not stand it."""
    if precision == "float32":
        return vgg(images, layers)
    with torch.autocast(images.device.type, torch.bfloat16):
        return vgg(images.contiguous(memory_format=torch.channels_last), layers)


def _first_picture(content: Tensor, options: StyleOptions) -> Tensor:
    if options.start == "content":
        return content
    if options.start == "grey":
        return torch.full_like(content, 0.5)
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(options.seed))  # one for all devices
    return (torch.tensor(_MEAN).reshape(3, 1, 1) + noise / 255).to(content)


def _size(picture: Tensor) -> tuple[int, int]:
    return (picture.shape[2], picture.shape[3])


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if _size(picture) == size:
        return picture
    return interpolate(picture.detach(), size, mode="bicubic", antialias=True, align_corners=False)


def _grown(pixels: Tensor, first: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture at another scale: what was painted is enlarged, the details of the first picture are its own."""
    if _size(pixels) == size:
        return pixels.clone()
    return 255 * _resize(first, size) + _resize(pixels - 255 * _resize(first, _size(pixels)), size)


def _shrink(style: Tensor, factor: float) -> Tensor:
    """A style at a scale; one that is small keeps what the network needs."""
    height, width = _size(style)
    factor = min(1.0, max(factor, NARROWEST / min(height, width)))
    return _resize(style, (round(height * factor), round(width * factor)))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """A sum over terms that may lie on several devices; 0 for none."""
    found = list(terms)
    return torch.stack([term.to(found[0].device) for term in found]).sum() if found else torch.zeros(())


def _check(
    content: Tensor,
    styles: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    start: Tensor | None,
    done: int,
    options: StyleOptions,
) -> None:
    def require(accepted: bool, option: str, expected: str, got: object) -> None:
        if not accepted:
            raise OptionError(expected, got, "change it", tensor=option)

    count = len(styles)
    require(count > 0, "styles", "one style or more", "none")
    require(len(masks) == count, "masks", f"one for each style, {count}", len(masks))
    weights = options.style_weights
    require(weights is None or len(weights) == count, "style_weights", f"one for each style, {count}", weights)
    for name, layers in (("content_layers", options.content_layers), ("style_layers", options.style_layers)):
        require(isinstance(layers, Mapping), name, "weights by layer", type(layers).__name__)
    require(0 <= options.seed < 2**63, "seed", "a seed from 0 to 2⁶³ − 1", options.seed)
    require(options.steps >= 0, "steps", "0 steps or more", options.steps)
    require(0 <= done <= options.steps, "done", f"0 to {options.steps} steps", done)
    require(options.scales is None or options.scales >= 1, "scales", "1 scale or more", options.scales)
    require(bool(options.content_layers or options.style_layers), "layers", "one layer or more", "none")
    for option, allowed in (
        ("optimizer", OPTIMIZERS),
        ("start", STARTS),
        ("precision", PRECISIONS),
        ("preserve_color", PRESERVE_COLORS),
    ):
        value = getattr(options, option)
        require(value in allowed, option, f"one of {', '.join(allowed)}", value)
    numbers = [options.content_weight, options.tv_weight, *(weights or ())]
    numbers += [
        weight for layers in (options.content_layers, options.style_layers) for weight in layers.values() if weight
    ]
    accepted = all(math.isfinite(number) and number >= 0 for number in numbers)
    require(accepted, "weights", "finite numbers from 0 up", numbers)
    for name, picture, channels in (
        ("content", content, 3),
        *((f"styles[{index}]", style, 3) for index, style in enumerate(styles)),
        *((f"masks[{index}]", mask, 1) for index, mask in enumerate(masks)),
        ("start", start, 3),
    ):
        if picture is None:
            continue
        if not isinstance(picture, Tensor) or not picture.is_floating_point():
            kind = str(picture.dtype) if isinstance(picture, Tensor) else type(picture).__name__
            raise PictureError("a floating tensor in [0, 1]", kind, "convert it", tensor=name)
        if picture.ndim != 4 or picture.shape[:2] != (1, channels) or not picture.numel():
            shape = tuple(picture.shape)
            raise PictureError(f"shape (1, {channels}, H, W)", shape, "reorder or convert it", tensor=name)
        least, most = (float(bound) for bound in picture.detach().aminmax())
        farthest = math.inf if name == "start" else FARTHEST if channels == 3 else 1.001  # paintings go astray
        if not math.isfinite(least + most) or max(-least, most) > farthest:
            raise PictureError(
                "values in [0, 1]", f"{least:.4g} to {most:.4g}", "divide by 255, or mend it", tensor=name
            )
    for index, mask in enumerate(masks):
        if mask is not None and (mask.min() < 0 or not mask.any()):
            seen = "an empty mask" if mask.min() >= 0 else "values below 0"
            raise PictureError("some white", seen, "leave the style out", tensor=f"masks[{index}]")


def _require_memory(
    vgg: Features, content: Tensor, styles: Sequence[Tensor], masks: Sequence[Tensor | None], options: StyleOptions
) -> None:
    """Refuse sizes whose transfer would not fit, and tell one that would."""
    height, width = _size(content)
    largest = max(style.shape[2] * style.shape[3] for style in styles)
    masked = sum(mask is not None for mask in masks)
    for device, (each, each_of_style) in memory_per_pixel(vgg, content.device, options, masked).items():
        available = available_memory(device)
        if available is None:
            continue
        needed = OVERHEAD + max(height * width * each, largest * each_of_style)
        if needed > available:
            share = math.sqrt(max(0.0, available - OVERHEAD) / (needed - OVERHEAD))
            if largest * each_of_style > height * width * each:
                cure = "choose smaller styles"
            else:
                cure = f"choose {math.floor(width * share)} × {math.floor(height * share)} pixels or less"
                cure += "" if options.precision == "bf16" else ", or the precision bf16"
            expected = f"a transfer in the {available / 1e9:.1f} GB left on {device}"
            raise PictureError(expected, f"one of about {needed / 1e9:.1f} GB at {width} × {height}", cure)


def memory_per_pixel(
    vgg: Features, device: torch.device, options: StyleOptions, masks: int = 0
) -> dict[torch.device, tuple[float, float]]:
    """Bytes that a transfer takes on each device for a pixel of the result, and of a style; from two small pictures.

    Most is kept for the gradient, with a copy of each style layer for each mask; the largest activation lives up to
    three times more while its gradient is made; L-BFGS keeps up to a hundred pairs of pictures, Adam two. Styles are
    looked at alone, without a gradient.
    """
    probes = [_kept_for_gradient(vgg, device, side, options) for side in PROBES]
    area = PROBES[1] ** 2 - PROBES[0] ** 2
    pictures = 2 * min(options.steps, 100) + 6 if options.optimizer == "lbfgs" else 6
    found = {}
    for place in probes[1]:
        (small, small_taken), (large, large_taken) = (probe[place] for probe in probes)
        grown = [after - before for before, after in zip(small, large, strict=True)]  # weights are no larger
        widest = max(grown) / area
        kept = (sum(grown) + masks * (large_taken - small_taken)) / area + 3 * widest
        found[place] = (MARGIN * kept + (12 * pictures if place == device else 0), MARGIN * 3 * widest)
    return found


def _kept_for_gradient(
    vgg: Features, device: torch.device, side: int, options: StyleOptions
) -> dict[torch.device, tuple[list[int], int]]:
    """By device, bytes of each tensor that a forward pass keeps, and of the style layers' activations."""
    kept: dict[torch.device, dict[int, int]] = defaultdict(dict)

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.device][tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    picture = torch.zeros(1, 3, side, side, device=device, requires_grad=True)
    layers = tuple(dict.fromkeys((*options.content_layers, *options.style_layers)))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        activations = _activations(vgg, picture, layers, options.precision)
    taken = {
        place: sum(activations[layer].nbytes for layer in options.style_layers if activations[layer].device == place)
        for place in kept
    }
    del activations  # which kept the storages apart
    return {place: (list(storages.values()), taken[place]) for place, storages in kept.items()}
