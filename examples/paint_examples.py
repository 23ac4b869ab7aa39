"""Paint the pictures of README.md and docs/painting.md: `python examples/paint_examples.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from vggquant.style.options import StyleOptions
from vggquant.style.painting import paint

HERE = Path(__file__).parent
CONTENT, STYLE = HERE / "landscape.jpg", HERE / "swirl.jpg"
GAP = 8
WEIGHTS = (0.0001, 0.001, 0.01, 1.0)  # of the style


def painted(options: StyleOptions, size: int) -> Image.Image:
    """The content in the manner of the style."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "painted.png"
        paint(CONTENT, [STYLE], out, options, size=size)
        return Image.open(out).convert("RGB")


def write_strip(pictures: Iterable[Image.Image], height: int, path: Path) -> None:
    """Write pictures in a row, all of one height."""
    row = [picture.resize((round(picture.width * height / picture.height), height)) for picture in pictures]
    strip = Image.new("RGB", (sum(picture.width + GAP for picture in row) - GAP, height), "white")
    left = 0
    for picture in row:
        strip.paste(picture, (left, 0))
        left += picture.width + GAP
    strip.save(path, quality=88)


def main() -> None:
    """Paint content, style and result side by side, and results of four style weights."""
    result = painted(StyleOptions(steps=300, precision="float32"), 512)
    write_strip(
        [Image.open(CONTENT).convert("RGB"), Image.open(STYLE).convert("RGB"), result], 260, HERE / "side-by-side.jpg"
    )
    options = [StyleOptions(steps=200, precision="float32", style_weights=(weight,)) for weight in WEIGHTS]
    write_strip((painted(each, 256) for each in options), 179, HERE.parent / "docs" / "style-weights.jpg")


if __name__ == "__main__":
    main()
