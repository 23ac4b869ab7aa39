"""A width for each layer, by rules."""

from __future__ import annotations

import pytest

from vggquant.errors import OptionError
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.widths import parse_bits

NAMES = tuple(convolution.name for convolution in ARCHITECTURES["vgg11"].convolutions)


def test_widths_by_pattern() -> None:
    widths = parse_bits("conv1_1=8, conv5_*=3,*=4", NAMES)
    assert widths == {name: 8 if name == "conv1_1" else 3 if name[4] == "5" else 4 for name in NAMES}
    assert parse_bits(6, NAMES) == parse_bits("6", NAMES) == dict.fromkeys(NAMES, 6)


@pytest.mark.parametrize(
    ("bits", "match"),
    [
        (0, "1 to 8"),
        (9, "1 to 8"),
        (-1, "1 to 8"),
        ("4.5", "1 to 8"),
        ("", "got nothing"),
        ("conv1_1=9,*=4", "conv1_1=9"),
        ("conv7_*=3,*=4", r"got conv7_\*; did you mean conv5_\*\?"),
        ("conv5_9=3,*=4", r"got conv5_9; did you mean conv5_2\?"),
        ("dense=3,*=4", "got dense; correct the pattern"),
        ("conv1_1=8", "none for conv2_1"),
        ("conv1_1=8,4", "1 to 8, or layer=width"),
        ("*=4,conv1_1=8", "conv1_1=8 after others; put it before them"),
    ],
)
def test_wrong_widths(bits: int | str, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        parse_bits(bits, NAMES)
