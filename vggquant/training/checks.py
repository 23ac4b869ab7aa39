"""Refuses options of training that have no meaning, before anything is computed."""

from __future__ import annotations

import math
from numbers import Real

from vggquant.errors import OptionError, require_one_of
from vggquant.networks.johnson import MOST_BLOCKS, STOCK
from vggquant.networks.vgg import ARCHITECTURES, STYLE_LAYERS
from vggquant.style.checks import SEEDS, require_weight
from vggquant.style.options import PRECISIONS
from vggquant.training.options import TrainingOptions

MOST_SIDE = 2048
_MOST = 10**9


def check_options(options: TrainingOptions, every: int) -> None:
    """Refuse options that have no meaning, and numbers of steps from one checkpoint to the next.

    Raises:
        OptionError: One has none.
    """
    require_one_of("network", options.network, tuple(STOCK))
    require_one_of("precision", options.precision, PRECISIONS)
    least, _ = ARCHITECTURES["vgg19"].smallest_side(STYLE_LAYERS)
    for name, smallest, most in (
        ("steps", 1, _MOST),
        ("size", least, MOST_SIDE),
        ("batch", 1, 4096),
        ("style_pixels", least**2, 50_000_000),
        ("seed", 0, SEEDS - 1),
    ):
        _require_whole(name, getattr(options, name), smallest, most)
    _require_whole("every", every, 1, _MOST)
    if options.blocks is not None:
        _require_whole("blocks", options.blocks, 0, MOST_BLOCKS)
    for name, weight in options.weights.items():
        require_weight(f"{name}_weight", weight)
    if not any(options.weights.values()):
        raise OptionError("a weight above 0", "none", "raise one", tensor="style_weight")
    for name, usual in (("learning_rate", 0.005), ("alpha", 0.3)):
        number = getattr(options, name)
        if not isinstance(number, Real) or isinstance(number, bool):
            raise OptionError("a number", number, f"choose one, such as {usual}", tensor=name)
    if not 0 < options.learning_rate < math.inf:
        raise OptionError(
            "a number above 0", options.learning_rate, "choose one, such as 0.005", tensor="learning_rate"
        )
    _ = options.shape  # which refuses what is no network


def _require_whole(name: str, number: object, smallest: int, most: int) -> None:
    if type(number) is not int or not smallest <= number <= most:
        raise OptionError(f"a whole number from {smallest} to {most}", number, "choose one of these", tensor=name)
