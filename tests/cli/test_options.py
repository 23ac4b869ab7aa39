from __future__ import annotations

import click
import pytest

from vggquant.cli.options import LayerWeight, PathName, Weights, Widths, Word


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
    assert LayerWeight().convert("relu4_2", None, None) == ("relu4_2", 1.0)
    assert LayerWeight().convert("relu4_2=0.5", None, None) == ("relu4_2", 0.5)
    with pytest.raises(click.BadParameter, match="expected LAYER or LAYER=WEIGHT, got relu4_2=x"):
        LayerWeight().convert("relu4_2=x", None, None)


def test_weights_one_or_several() -> None:
    assert Weights().convert("0.7", None, None) == (0.7,)
    assert Weights().convert("0.7,0.3", None, None) == (0.7, 0.3)
    for text in ("", "0.7,", "a", "0.7;0.3"):
        with pytest.raises(click.BadParameter, match=r"expected numbers like 0\.7 or 0\.7,0\.3, got"):
            Weights().convert(text, None, None)


def test_words_have_other_spellings() -> None:
    words = Word(("float32", "bf16"))
    assert [words.convert(text, None, None) for text in ("bf16", "bfloat16", "fp32")] == ["bf16", "bf16", "float32"]
    assert Word(("float32", "bfloat16")).convert("bf16", None, None) == "bfloat16"
    for text, cure in (("fp8", "choose one of these"), ("floa32", r"did you mean float32\?")):
        with pytest.raises(click.BadParameter, match=f"expected one of float32, bf16, got {text}; {cure}$"):
            words.convert(text, None, None)


def test_names_are_left_to_whoever_opens_them() -> None:
    assert PathName("vgg19").convert("no/such\nfile", None, None) == "no/such\nfile"
