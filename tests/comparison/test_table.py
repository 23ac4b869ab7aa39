from __future__ import annotations

from dataclasses import replace

import pytest

from vggquant.comparison.study import Comparison
from vggquant.comparison.table import COLUMNS, columns_of, error_text


@pytest.mark.parametrize(("error", "text"), [(None, "-"), (0.0, "0"), (0.00004, "0.0000"), (0.12345, "0.1235")])
def test_only_no_error_at_all_is_zero(error: float | None, text: str) -> None:
    assert error_text(error) == text


def test_what_is_unknown_is_a_dash(painted: Comparison) -> None:
    file = replace(
        painted.files[0],
        bytes=2_000_000,
        bits_per_weight=3.999,
        wheel_bytes=None,
        lossless=True,
        sqnr_db=None,
        content_error=None,
        style_error=None,
        transfer_regret=None,
        load_s=None,
    )
    assert columns_of(file) == (file.label, "2.00 MB", "-", "4.00", "lossless", "-", "-", "-", "-")
    file = replace(file, wheel_bytes=1_500_000, lossless=False, sqnr_db=20.04, transfer_regret=1.5, load_s=0.0123)
    assert columns_of(file) == (file.label, "2.00 MB", "1.50 MB", "4.00", "20.0 dB", "-", "-", "1.500", "12 ms")
    assert len(columns_of(file)) == len(COLUMNS)
    assert columns_of(replace(file, bits_per_weight=None, sqnr_db=None))[3:5] == ("-", "-∞ dB")
    assert columns_of(replace(file, bytes=2_336))[1] == "2.34 kB"
