"""What `vggquant.style` offers, and at what cost."""

from __future__ import annotations

from typing import Any

from tests.test_house import loaded_by
from vggquant import style


def test_everything_offered_is_there_and_documented() -> None:
    losses = {"ContentLoss", "PerceptualLoss", "StyleLoss", "TotalVariationLoss"}
    assert set(style.__all__) >= losses | {"StyleOptions", "stylize"}
    for name in style.__all__:
        assert getattr(style, name).__doc__
        assert name in dir(style)


def test_options_need_no_torch() -> None:
    assert loaded_by("from vggquant.style import StyleOptions; StyleOptions()") == set()


def test_each_layer_is_looked_at_once() -> None:
    options = style.StyleOptions(content_layers={"relu3_1": 1.0}, style_layers={"relu1_1": 2.0, "relu3_1": 1.0})
    assert options.layers == ("relu3_1", "relu1_1")


def test_options_have_one_spelling() -> None:
    given: Any = {"start": "gray", "precision": "bfloat16"}
    options = style.StyleOptions(**given)
    assert options == style.StyleOptions(start="grey", precision="bf16")
    given = {"start": ["gray"]}  # which is none, and is refused later
    assert str(style.StyleOptions(**given).start) == "['gray']"


def test_a_precision_is_settled_where_it_was_left_open() -> None:
    assert style.StyleOptions().precision == "auto"
    for bf16, expected in ((True, "bf16"), (False, "float32")):
        assert style.StyleOptions().settled(bf16=bf16).precision == expected
        assert style.StyleOptions(precision="float32").settled(bf16=bf16).precision == "float32"
        assert style.StyleOptions(precision="bf16").settled(bf16=bf16).precision == "bf16"
