"""Paint the pictures of README.md, docs/painting.md and docs/one-pass.md: `python examples/paint_examples.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import skimage.data
from PIL import Image

from vggquant.files.sources import ONE_STYLE
from vggquant.style.feedforward import paint_in_one_pass
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


def in_one_pass() -> list[Image.Image]:
    """Rows of photographs of scikit-image's package, each with what the embedded networks make of it."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("chelsea", "coffee", "rocket"):
            photograph = Path(folder) / f"{name}.png"
            Image.fromarray(getattr(skimage.data, name)()).resize((640, 426)).save(photograph)
            painted = [Path(folder) / f"{name}-{painter}.png" for painter in ONE_STYLE]
            for painter, out in zip(ONE_STYLE, painted, strict=True):
                paint_in_one_pass([photograph], out, painter)
            rows.append(strip((Image.open(path).convert("RGB") for path in (photograph, *painted)), 160))
    return rows


def strip(pictures: Iterable[Image.Image], height: int) -> Image.Image:
    """Pictures in a row, all of one height."""
    row = [picture.resize((round(picture.width * height / picture.height), height)) for picture in pictures]
    joined = Image.new("RGB", (sum(picture.width + GAP for picture in row) - GAP, height), "white")
    left = 0
    for picture in row:
        joined.paste(picture, (left, 0))
        left += picture.width + GAP
    return joined


def column(pictures: list[Image.Image]) -> Image.Image:
    """Pictures below each other, all of one width."""
    joined = Image.new("RGB", (pictures[0].width, sum(each.height + GAP for each in pictures) - GAP), "white")
    top = 0
    for picture in pictures:
        joined.paste(picture, (0, top))
        top += picture.height + GAP
    return joined


def main() -> None:
    """Paint in one pass; content, style and result side by side; and results of four style weights."""
    docs = HERE.parent / "docs"
    column(in_one_pass()).save(docs / "one-pass.jpg", quality=88)
    result = painted(StyleOptions(steps=300, precision="float32"), 512)
    pictures = [Image.open(CONTENT).convert("RGB"), Image.open(STYLE).convert("RGB"), result]
    strip(pictures, 260).save(HERE / "side-by-side.jpg", quality=88)
    options = [StyleOptions(steps=200, precision="float32", style_weights=(weight,)) for weight in WEIGHTS]
    strip((painted(each, 256) for each in options), 179).save(docs / "style-weights.jpg", quality=88)


if __name__ == "__main__":
    main()
