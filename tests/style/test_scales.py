"""The sizes that a transfer works at, and pictures taken from one to the next."""

from __future__ import annotations

import itertools

import pytest
import torch

from vggquant.style.options import StyleOptions
from vggquant.style.scales import enlarge, resize, shrink_style, stages


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((60, 170), 1),
        ((320, 320), 2),
        ((512, 341), 3),
        ((700, 1000), 4),
        ((2048, 1024), 5),
        ((70, 900), 2),
        ((20, 900), 1),
    ],
)
def test_scales_go_by_size(size: tuple[int, int], scales: int) -> None:
    found = stages(*size, StyleOptions(steps=100))
    assert len(found) == scales
    assert found[-1].size == size
    assert [step for stage in found for step in stage.steps] == list(range(100))
    for coarse, fine in itertools.pairwise(found):
        assert coarse.factor == fine.factor / 2
        assert all(abs(2 * a - b) <= 1 for a, b in zip(coarse.size, fine.size, strict=True))


def test_a_stage_knows_its_area_and_the_steps_that_are_left() -> None:
    coarse, fine = stages(40, 30, StyleOptions(steps=9, scales=2))
    assert (coarse.size, coarse.area, coarse.width_by_height) == ((20, 15), 300, "15 × 20")
    assert [list(coarse.without(done)) for done in (0, 2, 3, 9)] == [[0, 1, 2], [2], [], []]
    assert list(fine.without(2)) == [3, 4, 5, 6, 7, 8]
    assert list(fine.without(8)) == [8]


def test_enlarging_keeps_what_was_painted_and_adds_the_first_pictures_details() -> None:
    torch.manual_seed(0)
    first = torch.rand(1, 3, 40, 30)
    small = resize(first, (20, 15))
    assert torch.allclose(enlarge(255 * small, first, (40, 30)), 255 * first, atol=1e-3)
    brighter = enlarge(255 * small + 10, first, (40, 30))
    assert torch.allclose(brighter, 255 * first + 10, atol=1e-3)


def test_what_has_the_size_already_is_left_as_it_is() -> None:
    picture = torch.rand(1, 3, 8, 6)
    assert resize(picture, (8, 6)) is picture
    same = enlarge(picture, torch.rand(1, 3, 8, 6), (8, 6))
    assert torch.equal(same, picture)
    assert same is not picture


@pytest.mark.parametrize(
    ("size", "factor", "expected"),
    [
        ((200, 100), 0.5, (100, 50)),
        ((200, 100), 0.125, (64, 32)),
        ((20, 40), 0.25, (20, 40)),
        ((64, 64), 1.0, (64, 64)),
    ],
)
def test_styles_are_not_shrunk_to_nothing(size: tuple[int, int], factor: float, expected: tuple[int, int]) -> None:
    assert shrink_style(torch.rand(1, 3, *size), factor).shape[2:] == expected
