"""Refuses options of training that have no meaning, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from vggquant.codec.bitstream import MAX_BITS, MIN_BITS
from vggquant.errors import OptionError, require_one_of
from vggquant.networks.johnson import MOST_BLOCKS, STOCK
from vggquant.networks.vgg import ARCHITECTURES, STYLE_LAYERS
from vggquant.style.checks import SEEDS, require_weight
from vggquant.style.options import PRECISIONS
from vggquant.training.options import PARTS, TAUGHT, AdaINOptions, CommonOptions, DistilOptions, TrainingOptions

MOST_SIDE = 2048
WIDEST = 1.5  # predictor, times a MobileNetV2
_MOST = 10**9


def check_painter_options(options: TrainingOptions, every: int) -> None:
    """Refuse options that have no meaning, and numbers of steps from one checkpoint to the next.

    Raises:
        OptionError: One has none.
    """
    require_one_of("network", options.network, tuple(STOCK))
    _check_common(options, every, STYLE_LAYERS)
    _require_whole("style_pixels", options.style_pixels, _least_side(STYLE_LAYERS) ** 2, 50_000_000)
    if options.blocks is not None:
        _require_whole("blocks", options.blocks, 0, MOST_BLOCKS)
    _require_number("alpha", options.alpha, 0.3)
    _ = options.shape  # which refuses what is no network


def check_adain_options(options: AdaINOptions, every: int) -> None:
    """The same for networks that take their style from a picture.

    Raises:
        OptionError: One has none.
    """
    require_one_of("part", options.part, PARTS)
    _check_common(options, every, STYLE_LAYERS[:4])
    if options.rounded is not None:
        _require_whole("rounded", options.rounded, MIN_BITS, MAX_BITS)


def check_distil_options(options: DistilOptions, every: int) -> None:
    """The same for networks that learn from others.

    Raises:
        OptionError: One has none.
    """
    require_one_of("part", options.part, TAUGHT)
    _check_common(options, every, STYLE_LAYERS, weighted=options.part == "transfer")
    _require_whole("style_size", options.style_size, _least_side(STYLE_LAYERS), MOST_SIDE)
    if options.separable and options.part != "transfer":
        raise OptionError("an option of the part transfer", options.part, "leave it out", tensor="separable")
    if options.width is None:
        return
    if options.part != "predictor":
        raise OptionError("an option of the part predictor", options.part, "leave it out", tensor="width")
    _require_number("width", options.width, 0.6)
    if not 0 < options.width <= WIDEST:
        cure = "choose one, such as 0.6"
        raise OptionError(f"a number above 0, up to {WIDEST}", options.width, cure, tensor="width")


def _check_common(options: CommonOptions, every: int, layers: Sequence[str], *, weighted: bool = True) -> None:
    require_one_of("precision", options.precision, PRECISIONS)
    for name, smallest, most in (
        ("steps", 1, _MOST),
        ("size", _least_side(layers), MOST_SIDE),
        ("batch", 1, 4096),
        ("seed", 0, SEEDS - 1),
    ):
        _require_whole(name, getattr(options, name), smallest, most)
    _require_whole("every", every, 1, _MOST)
    for name, weight in options.weights.items():
        require_weight(f"{name}_weight", weight)
    if weighted and not any(options.weights.values()):
        raise OptionError("a weight above 0", "none", "raise one", tensor="style_weight")
    _require_number("learning_rate", options.learning_rate, 0.005)
    if not 0 < options.learning_rate < math.inf:
        raise OptionError(
            "a number above 0", options.learning_rate, "choose one, such as 0.005", tensor="learning_rate"
        )


def _least_side(layers: Sequence[str]) -> int:
    return ARCHITECTURES["vgg19"].smallest_side(layers)[0]


def _require_number(name: str, number: object, usual: float) -> None:
    if not isinstance(number, Real) or isinstance(number, bool):
        raise OptionError("a number", number, f"choose one, such as {usual}", tensor=name)


def _require_whole(name: str, number: object, smallest: int, most: int) -> None:
    if type(number) is not int or not smallest <= number <= most:
        raise OptionError(f"a whole number from {smallest} to {most}", number, "choose one of these", tensor=name)
