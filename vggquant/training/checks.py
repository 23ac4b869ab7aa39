"""Refuses options of training that have no meaning, before anything is computed."""

from __future__ import annotations

import math
from numbers import Real

from vggquant.errors import OptionError, require_one_of
from vggquant.networks.vgg import ARCHITECTURES, STYLE_LAYERS
from vggquant.style.checks import SEEDS, require_weight
from vggquant.style.options import PRECISIONS
from vggquant.training.options import TrainingOptions

MOST_SIDE = 2048


def check_options(options: TrainingOptions, every: int) -> None:
    """Refuse options that have no meaning, and numbers of steps from one checkpoint to the next.

    Raises:
        OptionError: One has none.
    """
    require_one_of("precision", options.precision, PRECISIONS)
    least, _ = ARCHITECTURES["vgg19"].smallest_side(STYLE_LAYERS)
    for name, smallest, most in (
        ("steps", 1, 10**9),
        ("size", least, MOST_SIDE),
        ("batch", 1, 4096),
        ("style_pixels", least**2, 50_000_000),
        ("seed", 0, SEEDS - 1),
    ):
        number = getattr(options, name)
        if not isinstance(number, int) or not smallest <= number <= most:
            cure = "choose one of these"
            raise OptionError(f"a whole number from {smallest} to {most}", number, cure, tensor=name)
    for name, weight in options.weights.items():
        require_weight(f"{name}_weight", weight)
    if not any(options.weights.values()):
        raise OptionError("a weight above 0", "none", "raise one", tensor="style_weight")
    rate = options.learning_rate
    if not isinstance(rate, Real) or not math.isfinite(rate) or rate <= 0:
        raise OptionError("a number above 0", rate, "choose one, such as 0.01", tensor="learning_rate")
    if every < 1:
        raise OptionError("1 step or more", every, "choose a larger number", tensor="every")
    _ = options.shape  # which refuses what is no network
