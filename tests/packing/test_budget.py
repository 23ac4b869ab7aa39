from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant.errors import OptionError
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing import budget
from vggquant.packing.budget import SENSITIVITY, Choice, choose_widths, parse_size, visible_loss

LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1")


def problem(numbers: list[int]) -> dict[str, list[Choice]]:
    """Four layers, three widths each; sizes grow with the width, noise falls."""
    draws = iter(numbers)
    found: dict[str, list[Choice]] = {}
    for layer in LAYERS:
        size, noise = 10, 4.0
        found[layer] = []
        for bits in (1, 2, 3):
            size, noise = size + next(draws), noise / (1 + next(draws))
            found[layer].append(Choice(bits, size, noise))
    return found


@given(st.lists(st.integers(1, 9), min_size=24, max_size=24), st.integers(40, 140))
@settings(max_examples=200, deadline=None)
def test_the_choice_is_the_best_of_all(numbers: list[int], limit: int) -> None:
    choices = problem(numbers)
    options = [
        (sum(visible_loss(n, c.bits, c.noise) for n, c in zip(LAYERS, combination, strict=True)), combination)
        for combination in itertools.product(*choices.values())
        if sum(c.bytes for c in combination) <= limit
    ]
    if not options:
        with pytest.raises(OptionError, match="at least"):
            choose_widths(choices, limit)
        return
    chosen = choose_widths(choices, limit)
    picked = [next(c for c in choices[n] if c.bits == chosen[n]) for n in LAYERS]
    loss = sum(visible_loss(n, c.bits, c.noise) for n, c in zip(LAYERS, picked, strict=True))
    assert sum(c.bytes for c in picked) <= limit
    assert loss == pytest.approx(min(option[0] for option in options))


def test_thinning_stays_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    choices = problem(rng.integers(1, 9, 24).tolist())
    monkeypatch.setattr(budget, "_MOST_STATES", 5)
    chosen = choose_widths(choices, 90)
    assert sum(next(c.bytes for c in choices[n] if c.bits == chosen[n]) for n in LAYERS) <= 90


def test_every_layer_of_every_vgg_has_its_sensitivity() -> None:
    for architecture in ARCHITECTURES.values():
        for convolution in architecture.convolutions:
            assert len(SENSITIVITY[convolution.name]) == 7
            assert all(value > 0 for value in SENSITIVITY[convolution.name])
    assert visible_loss("conv1_1", 8, 0.5) == 0.5 * SENSITIVITY["conv1_1"][-1]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6MB", 6_000_000),
        ("6 MB", 6_000_000),
        ("5.5MiB", 5_767_168),
        ("800kB", 800_000),
        ("1.5KiB", 1536),
        (7, 7),
        ("9B", 9),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-6MB", "6 mb", "6M", "1e6", "six", "nan"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="max-size"):
        parse_size(text)
