"""Widths for a size, and sizes as people write them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant.errors import OptionError
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.budget import CALIBRATED, SENSITIVITY, Choice, choose_widths, parse_size, visible_loss

LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1")


def problem(numbers: list[int]) -> dict[str, list[Choice]]:
    """Four layers, three widths each; sizes grow with the width, the loss falls."""
    draws = iter(numbers)
    found: dict[str, list[Choice]] = {}
    for layer in LAYERS:
        size, loss = 10, 4.0
        found[layer] = []
        for bits in (1, 2, 3):
            size, loss = size + next(draws), loss / (1 + next(draws))
            found[layer].append(Choice(bits, size, loss))
    return found


@given(st.lists(st.integers(1, 9), min_size=24, max_size=24), st.integers(40, 140))
@settings(max_examples=200, deadline=None)
def test_the_choice_is_the_best_of_all(numbers: list[int], limit: int) -> None:
    choices = problem(numbers)
    options = [
        (sum(choice.loss for choice in combination), combination)
        for combination in itertools.product(*choices.values())
        if sum(c.bytes for c in combination) <= limit
    ]
    if not options:
        with pytest.raises(OptionError, match="at least"):
            choose_widths(choices, limit)
        return
    chosen = choose_widths(choices, limit)
    picked = [next(c for c in choices[n] if c.bits == chosen[n]) for n in LAYERS]
    loss = sum(choice.loss for choice in picked)
    assert sum(c.bytes for c in picked) <= limit
    assert loss == pytest.approx(min(option[0] for option in options))


def test_a_large_problem_is_solved_within_its_budget_and_nearly_exactly() -> None:
    """So many layers that alike lose and take that not every sum of theirs can be kept."""
    rng = np.random.default_rng(0)
    choices = {}
    for number in range(160):
        size = rng.uniform(5e5, 2e6)
        losses = [size / 1e6 * (9 - bits) * rng.uniform(0.9, 1.1) for bits in range(1, 9)]
        choices[f"layer{number}"] = [Choice(bits, int(bits * size), losses[bits - 1]) for bits in range(1, 9)]
    limit = sum(options[-1].bytes for options in choices.values()) // 2
    chosen = {layer: choices[layer][bits - 1] for layer, bits in choose_widths(choices, limit).items()}
    loss = sum(choice.loss for choice in chosen.values())
    assert sum(choice.bytes for choice in chosen.values()) <= limit
    assert loss <= 1.001 * least_possible(choices, limit)


def least_possible(choices: dict[str, list[Choice]], limit: int) -> float:
    """A loss that no choice within the limit can undercut: the best of many bounds of the Lagrangian dual."""
    bounds = []
    for price in np.geomspace(1e-9, 1e-3, 500):  # of a byte, in loss
        cheapest = (min(c.loss + price * c.bytes for c in choices[n]) for n in choices)
        bounds.append(sum(cheapest) - price * limit)
    return float(max(bounds))


def test_every_layer_of_every_vgg_has_its_sensitivity() -> None:
    for architecture in ARCHITECTURES.values():
        for convolution in architecture.convolutions:
            assert len(SENSITIVITY[convolution.name]) == 7
            assert all(value > 0 for value in (*SENSITIVITY[convolution.name], *CALIBRATED[convolution.name]))
            assert len(CALIBRATED[convolution.name]) == 7
    assert visible_loss("conv1_1", 8, 0.5) == 0.5 * SENSITIVITY["conv1_1"][-1]
    assert visible_loss("conv1_1", 2, 0.5, calibrated=True) == 0.5 * CALIBRATED["conv1_1"][1]


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
    with pytest.raises(OptionError, match="max_size"):
        parse_size(text)
