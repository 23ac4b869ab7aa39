from __future__ import annotations

from pathlib import Path

import pytest

from vggquant.comparison import paintings
from vggquant.comparison.paintings import Painter
from vggquant.comparison.sample_pictures import named_pictures
from vggquant.comparison.subjects import read_reference, restored
from vggquant.errors import OptionError, PictureError, SourceError
from vggquant.style.options import StyleOptions


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (
            OptionError("a finite loss", "nan", "lower the weights", tensor="loss"),
            "{}: expected a finite loss, got nan",
        ),
        (PictureError("a transfer in the 0.1 GB left", "one of 1 GB", "choose 9 × 9"), "expected a transfer in the"),
    ],
)
def test_what_stops_a_transfer_has_a_cure_of_its_own(
    raised: OptionError | PictureError,
    text: str,
    small: None,
    packed_at: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(paintings, "stylize", fail)
    weights = restored(read_reference(packed_at[1])[0])
    sources = dict(zip(("content", "style"), named_pictures(None).values(), strict=True))
    with pytest.raises((SourceError, PictureError)) as caught:
        Painter(weights, sources, StyleOptions(steps=1), lambda *_: None)
    assert str(caught.value).startswith(text.format(packed_at[1]))
    assert str(caught.value).endswith("; leave the transfers out")
