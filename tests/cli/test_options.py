from __future__ import annotations

import click
import pytest

from vggquant.cli.options import LayerWeight, Widths


@pytest.mark.parametrize(
    ("text", "widths"),
    [("4", (4,)), ("8,4,2", (8, 4, 2)), ("8-5", (8, 7, 6, 5)), ("1-3, 8", (1, 2, 3, 8)), ("4,3-5,4", (4, 3, 5))],
)
def test_widths(text: str, widths: tuple[int, ...]) -> None:
    assert Widths().convert(text, None, None) == widths


@pytest.mark.parametrize("text", ["", ",", "a-b", "8-", "-8", "1-2-3", "９", "9" * 5000])
def test_what_are_no_widths_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected widths like 8-1 or 8,4,2"):
        Widths().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "9", "1-9"])
def test_widths_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected widths of 1 to 8 bits"):
        Widths().convert(text, None, None)


def test_layers_with_and_without_a_weight() -> None:
    assert LayerWeight().convert("relu4_2", None, None) == ("relu4_2", None)
    assert LayerWeight().convert("relu4_2=0.02", None, None) == ("relu4_2", 0.02)
    with pytest.raises(click.BadParameter, match="expected LAYER or LAYER=WEIGHT, got relu4_2=x"):
        LayerWeight().convert("relu4_2=x", None, None)
