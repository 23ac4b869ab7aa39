"""Refuses options and pictures that have no meaning for a transfer, each with what to do instead.

Whether the memory is large enough is checked by `memory`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real

from torch import Tensor

from vggquant.errors import OptionError, PictureError, located, require_one_of
from vggquant.models.features import Features
from vggquant.models.preprocessing import require_range
from vggquant.models.vgg import VGG
from vggquant.networks.vgg import Architecture, side_needed
from vggquant.pictures.files import Picture
from vggquant.style.descent import check_memory
from vggquant.style.options import LONGEST, OPTIMIZERS, PRECISIONS, PRESERVE_COLORS, STARTS, PreserveColor, StyleOptions
from vggquant.style.scales import size_of, stages
from vggquant.style.task import Task

LIMIT = 8.0  # how far colours may lie from 0: matched ones leave [0, 1], but those of 0–255 were never divided
MASK_LIMIT = 1.001  # 1, but for rounding
SEEDS = 2**63  # how many torch takes


def check_task(task: Task, options: StyleOptions) -> None:
    """Refuse pictures that are not of the form that a `Task` asks for, or that its options do not fit.

    Raises:
        OptionError: Their number does not fit, or an option has no meaning.
        PictureError: One of them has another type, shape or range of values.
    """
    check_options(options, len(task.styles))
    if len(task.masks) != len(task.styles):
        expected = f"one for each style, {len(task.styles)}"
        raise OptionError(expected, len(task.masks), "pass None for a style that is wanted everywhere", tensor="masks")
    _check_done(task, options)
    for name, picture in (("content", task.content), *((f"styles[{i}]", style) for i, style in enumerate(task.styles))):
        _check_tensor(name, picture)
        with located(tensor=name):
            require_range(picture.detach())
    for index, mask in enumerate(task.masks):
        if mask is not None:
            _check_tensor(f"masks[{index}]", mask, channels=1, limit=MASK_LIMIT)
    check_reached(task, options)
    if task.start is not None:
        _check_tensor("start", task.start, limit=math.inf)  # paintings are not clipped
    for index, mask in enumerate(task.masks):
        if mask is not None:
            check_mask(f"masks[{index}]", mask)


def check_options(options: StyleOptions, styles: int) -> None:
    """Refuse options that have no meaning.

    Args:
        options: To be checked.
        styles: How many styles there are.

    Raises:
        OptionError: One has no meaning, or there are no styles.
    """
    if styles < 1:
        raise OptionError("one style or more", "none", "pass a picture", tensor="styles")
    if options.style_weights is not None and len(options.style_weights) != styles:
        cure = "give each style a weight, or none of them"
        raise OptionError(f"one for each style, {styles}", options.style_weights, cure, tensor="style_weights")
    _check_layers("content_layers", options.content_layers)
    _check_layers("style_layers", options.style_layers)
    for name in ("steps", "seed", "scales"):
        number = getattr(options, name)
        if not isinstance(number, Integral) and not (name == "scales" and number is None):
            raise OptionError("a whole number", number, "round it", tensor=name)
    if not 0 <= options.seed < SEEDS:
        raise OptionError("a seed from 0 to 2⁶³ − 1", options.seed, "choose one of these", tensor="seed")
    if options.steps < 0:
        raise OptionError("0 steps or more", options.steps, "choose a larger number", tensor="steps")
    if options.scales is not None and options.scales < 1:
        cure = "choose a larger number, or leave it out to go by size"
        raise OptionError("1 scale or more", options.scales, cure, tensor="scales")
    if not options.layers:
        raise OptionError("one layer or more", "none", "name a content layer or a style layer", tensor="layers")
    require_one_of("optimizer", options.optimizer, OPTIMIZERS)
    require_one_of("start", options.start, STARTS)
    require_one_of("precision", options.precision, PRECISIONS)
    require_one_of("preserve_color", options.preserve_color, PRESERVE_COLORS)
    _check_weights(options)


def check_scales(vgg: Features, task: Task, options: StyleOptions) -> None:
    """Refuse layers that a VGG lacks, or a coarsest scale of which its pools would leave nothing.

    Other networks know this themselves.

    Raises:
        OptionError: A layer is unknown, or the first scale that is still to be worked at is too small.
    """
    if isinstance(vgg, VGG):
        vgg.require_layers(options.content_layers, "content_layers")
        vgg.require_layers(options.style_layers, "style_layers")
    planned = [stage for stage in stages(*task.size, options, task.planned) if stage.without(task.done)]
    if not isinstance(vgg, VGG) or not planned or planned[0].factor == 1:
        return
    for layers in (options.content_layers, options.layers):
        smallest, deepest = vgg.architecture.smallest_side(layers)
        if min(planned[0].size) < smallest:
            got = f"{planned[0].width_by_height} at the coarsest"
            raise OptionError(side_needed(smallest, deepest), got, "choose fewer scales", tensor="scales")


def check_any_style(
    styles: int, strength: float, style_weights: Sequence[float] | None, preserve_color: PreserveColor
) -> None:
    """Refuse options of painting in any style in one pass that have no meaning.

    Args:
        styles: How many styles there are.
        strength: How much of them is taken.
        style_weights: How much each counts, if that was given.
        preserve_color: Which of the content's colours are kept.

    Raises:
        OptionError: One has none, or there are no styles.
    """
    require_one_of("preserve_color", preserve_color, PRESERVE_COLORS)
    if styles < 1:
        raise OptionError(
            "a style or more", "none", "name a picture, or a network that knows its style", tensor="styles"
        )
    if not isinstance(strength, Real) or not 0 <= strength <= 1:
        raise OptionError("a number from 0 to 1", strength, "choose one of these", tensor="strength")
    if style_weights is None:
        return
    if len(style_weights) != styles:
        cure = "give each style a weight, or none of them"
        raise OptionError(f"one for each style, {styles}", tuple(style_weights), cure, tensor="style_weights")
    for weight in style_weights:
        require_weight("style_weights", weight)
    if not any(style_weights):
        raise OptionError("a weight above 0", "none", "raise one", tensor="style_weights")


def check_mask(name: str, mask: Tensor) -> None:
    """Refuse a mask within which a style would have no place.

    Raises:
        PictureError: It is black all over, or has negative values.
    """
    if mask.min() < 0 or not mask.any():
        seen = "an empty mask" if mask.min() >= 0 else "values below 0"
        raise PictureError("some white", seen, "leave the style out", tensor=name)


def check_side(architecture: Architecture, picture: Picture, layers: Iterable[str], option: str) -> None:
    """Refuse a picture from a file that is too small for some layers at the size it was resized to.

    Args:
        architecture: Of the network that looks at it.
        picture: As it was read.
        layers: Names of layers.
        option: What its longer side is asked for with; the error names a value that is enough.

    Raises:
        PictureError: One of its sides is too short.
    """
    smallest, _ = architecture.smallest_side(layers)
    shorter, longer = sorted(picture.stored or picture.size)
    needed = math.ceil(smallest * longer / shorter)
    cure = f"choose `{option}={needed}` or more" if needed <= LONGEST else "crop it, so that it is less narrow"
    architecture.require_size(picture.size, layers, cure)


def check_reached(task: Task, options: StyleOptions) -> None:
    """Refuse a state that a transfer cannot go on from, which may be another's or come from a file.

    Raises:
        PictureError: It was reached at other sizes or by another optimiser.
    """
    reached = task.reached
    if reached is None:
        return
    if reached.first.shape != task.content.shape:
        expected, got = (f"{size[1]} × {size[0]} pixels" for size in (task.size, size_of(reached.first)))
        raise PictureError(expected, got, "pass the picture as `start`", tensor="resume")
    with located(tensor="resume"):
        planned = stages(*task.size, options, reached.planned)
        made_at = next(stage for stage in planned if stage.steps.start < reached.done <= stage.steps.stop)
        check_memory(reached.memory, options.optimizer, made_at.size)


def _check_done(task: Task, options: StyleOptions) -> None:
    least = 0 if task.reached is None else 1
    if not least <= task.done <= options.steps:
        cure = "pass how many of the steps led to the start"
        raise OptionError(f"{least} to {options.steps} steps", task.done, cure, tensor="done")
    if task.planned is not None and not 0 <= task.planned <= options.steps:
        raise OptionError(f"{task.planned} steps or more, as before", options.steps, "pass as many", tensor="steps")
    if task.done and task.start is None and task.reached is None:
        raise OptionError(f"the picture that {task.done} steps led to", "none", "pass it", tensor="start")


def _check_layers(option: str, layers: object) -> None:
    if not isinstance(layers, Mapping):
        cure = "pass a dict such as {'relu4_2': 1.0}, where 1.0 stands for the usual weight"
        raise OptionError("weights by layer", type(layers).__name__, cure, tensor=option)


def _check_weights(options: StyleOptions) -> None:
    require_weight("content_weight", options.content_weight)
    require_weight("tv_weight", options.tv_weight)
    for weight in options.style_weights or ():
        require_weight("style_weights", weight)
    for option, layers in (("content_layers", options.content_layers), ("style_layers", options.style_layers)):
        for layer, weight in layers.items():
            require_weight(option, weight, f" for {layer}")


def require_weight(option: str, weight: object, where: str = "") -> None:
    """Refuse a weight that is not a finite number from 0 up.

    Args:
        option: What the caller knows it as.
        weight: What was passed.
        where: What it is the weight of, in words that follow.

    Raises:
        OptionError: It is no such number.
    """
    if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
        raise OptionError(f"a finite number from 0 up{where}", weight, "choose 0 or more", tensor=option)


def _check_tensor(name: str, picture: object, channels: int = 3, limit: float = LIMIT) -> None:
    if not isinstance(picture, Tensor) or not picture.is_floating_point():
        kind = str(picture.dtype) if isinstance(picture, Tensor) else type(picture).__name__
        raise PictureError("a floating tensor in [0, 1]", kind, "convert it", tensor=name)
    if picture.ndim != 4 or picture.shape[:2] != (1, channels) or not picture.numel():
        raise PictureError(f"shape (1, {channels}, H, W)", tuple(picture.shape), "reorder or convert it", tensor=name)
    least, most = (float(bound) for bound in picture.detach().aminmax())
    if not math.isfinite(least + most) or max(-least, most) > limit:
        got = f"{least:.4g} to {most:.4g}"
        raise PictureError("values in [0, 1]", got, "divide by 255, or mend it", tensor=name)
