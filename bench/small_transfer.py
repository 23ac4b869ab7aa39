"""How does the small embedded file paint? `python -m bench.small_transfer`, about four minutes.

`vgg19-small` paints the pictures in the repository beside the embedded VGG-19, for docs/rate.jpg. The regret is that of
`vggquant compare`.
"""

from __future__ import annotations

from bench.calibrated_transfer import ROOT, paint
from vggquant.files.sources import SMALL, embedded_path


def main() -> None:
    """Paint with both."""
    paint({SMALL: embedded_path(SMALL)}, "small_transfer", ROOT / "docs" / "rate.jpg")


if __name__ == "__main__":
    main()
