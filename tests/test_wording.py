from __future__ import annotations

import math

import pytest

from vggquant.wording import decibels, megabytes


@pytest.mark.parametrize(
    ("count", "text"), [(20_045_678, "20.05 MB"), (100_000, "0.10 MB"), (99_999, "100.00 kB"), (2_336, "2.34 kB")]
)
def test_sizes(count: int, text: str) -> None:
    assert megabytes(count) == text


@pytest.mark.parametrize(
    ("ratio", "lossless", "text"),
    [
        (20.005, False, "20.00 dB"),
        (-3.0, False, "-3.00 dB"),
        (math.inf, True, "lossless"),
        (None, True, "lossless"),
        (-math.inf, False, "-∞ dB"),
        (None, False, "-∞ dB"),
        (None, None, "-"),
    ],
)
def test_a_ratio_that_is_no_number_says_which(ratio: float | None, lossless: bool | None, text: str) -> None:
    assert decibels(ratio, lossless) == text


def test_digits_after_the_point() -> None:
    assert decibels(20.06, False, digits=1) == "20.1 dB"
