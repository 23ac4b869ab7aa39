"""How much of each of several styles is taken. What a style is, is left to the networks that mix them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

from torch import Tensor

from vggquant.errors import OptionError


def shares_of(
    count: int, strength: float, weights: Sequence[float] | None, masks: Sequence[Tensor | None] | None
) -> list[float]:
    """How much of each style is taken; together `strength`.

    Args:
        count: How many styles there are.
        strength: How much of them is taken, from 0 to 1.
        weights: How much each of them counts; all alike if not given.
        masks: Where each is wanted, of which only the number is looked at.

    Raises:
        OptionError: An option has no meaning, or there are no styles.
    """
    if not isinstance(strength, Real) or not 0 <= strength <= 1:
        raise OptionError("a number from 0 to 1", strength, "choose one of these", tensor="strength")
    if not count:
        raise OptionError("a list of styles, one or more", "none", "pass [style]", tensor="styles")
    for name, values in (("weights", weights), ("masks", masks)):
        if values is not None and len(values) != count:
            expected = f"one for each style, {count}"
            raise OptionError(expected, len(values), "give each style one, or none of them", tensor=name)
    counts = [1.0] * count if weights is None else list(weights)
    if not all(0 <= counted < float("inf") for counted in counts) or not any(counts):
        expected = "finite numbers from 0 up, of which one is above 0"
        raise OptionError(expected, counts, "choose others", tensor="weights")
    counts = [counted / max(counts) for counted in counts]  # whose sum is finite
    return [strength * counted / sum(counts) for counted in counts]
