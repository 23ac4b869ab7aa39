"""Paint the README's picture of content, style and result: `python examples/make_side_by_side.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from vggquant.style.options import StyleOptions
from vggquant.style.painting import paint

HERE = Path(__file__).parent
HEIGHT, GAP = 260, 8


def main() -> None:
    """Paint the result, and write all three into side-by-side.jpg."""
    sources = [HERE / "landscape.jpg", HERE / "swirl.jpg"]
    with tempfile.TemporaryDirectory() as folder:
        painted = Path(folder) / "painted.png"
        paint(sources[0], sources[1:], painted, StyleOptions(steps=300, precision="float32"), size=512)
        pictures = [Image.open(path).convert("RGB") for path in (*sources, painted)]
    pictures = [picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT)) for picture in pictures]
    strip = Image.new("RGB", (sum(picture.width + GAP for picture in pictures) - GAP, HEIGHT), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + GAP
    strip.save(HERE / "side-by-side.jpg", quality=88)


if __name__ == "__main__":
    main()
