"""What `vggquant.pictures` offers, and at what cost."""

from __future__ import annotations

import pytest

from tests.test_house import loaded_by
from vggquant import pictures


def test_everything_offered_is_there_and_documented() -> None:
    assert pictures.__all__ == ["Picture", "generated_pictures", "read_picture", "write_picture"]
    for name in pictures.__all__:
        assert getattr(pictures, name).__doc__
        assert name in dir(pictures)


@pytest.mark.parametrize("code", ["import vggquant.pictures", "from vggquant.pictures import generated_pictures"])
def test_generating_pictures_needs_no_torch(code: str) -> None:
    assert loaded_by(code) == set()
