from __future__ import annotations

import pytest

from vggquant.errors import OptionError, require_one_of


def test_a_value_that_is_none_of_those_allowed_is_refused() -> None:
    require_one_of("pooling", "avg", ("max", "avg"))
    with pytest.raises(OptionError) as refused:
        require_one_of("pooling", "min", ("max", "avg"))
    assert str(refused.value) == "pooling: expected one of max, avg, got min; choose one of these"
