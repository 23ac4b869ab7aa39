"""How do the smallest files paint? `python -m bench.small_transfer FOLDER`, about six minutes.

The embedded `vgg19-small`, and files that `bench.size --keep FOLDER` packed, paint the pictures in the repository
beside the embedded VGG-19, for docs/rate.jpg. Regrets are those of `vggquant compare`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.calibrated_transfer import ROOT, paint
from vggquant.files.sources import SMALL, embedded_path


def main() -> None:
    """Paint with all of them."""
    sizes = {f"{size / 1e6:.1f} MB": f"{size}-photographs.safetensors" for size in (3_400_000, 2_400_000)}
    files = {SMALL: embedded_path(SMALL), **{label: Path(sys.argv[1]) / name for label, name in sizes.items()}}
    paint(files, "small_transfer", ROOT / "docs" / "rate.jpg")


if __name__ == "__main__":
    main()
