"""The pictures that a study measures on and paints from, all brought to one area.

Decoding and drawing pictures is left to the package `pictures`.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vggquant.errors import OptionError, PictureError, printable
from vggquant.files.disk import PathLike
from vggquant.pictures.files import read_picture
from vggquant.pictures.folders import pictures_in
from vggquant.pictures.generated import generated_pictures

PIXELS_PER_PICTURE = 65_536  # a square one has sides of 256
GENERATED = 6  # pictures, if none are named
PHOTOGRAPHS = "scikit-image"  # the word that asks for the photographs of that package
SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")
SMALLEST_SIDE = 16  # four pools before relu5_1 halve a picture's sides


def named_pictures(source: PathLike | None) -> dict[str, Tensor]:
    """Read or draw the pictures to measure on.

    Args:
        source: A folder, the word ``scikit-image`` for six photographs of that package, or ``None`` for the package's
            own generated pictures.

    Returns:
        Pictures by name, each (1, 3, H, W), RGB in [0, 1], of about `PIXELS_PER_PICTURE` pixels.

    Raises:
        VggQuantError: There is no such folder, it holds no pictures, or one of them cannot be read or is too thin; or
            scikit-image is asked for and missing.
    """
    if source is None:
        return _generated()
    pictures: dict[str, Tensor] = {}
    for path in _photographs() if source == PHOTOGRAPHS else pictures_in(source):
        pictures[_name(path, pictures)] = _read(path)
    return pictures


def painting_sources(
    pictures: Mapping[str, Tensor], content: PathLike | None, style: PathLike | None
) -> dict[str, Tensor]:
    """Choose what transfers paint, and in whose manner.

    Args:
        pictures: Those measured on; the first is the content and the second the style, unless others are named.
        content: A picture file.
        style: A picture file.

    Returns:
        ``content`` and ``style``, each (1, 3, H, W).

    Raises:
        VggQuantError: A file cannot be read or is too thin, there is no style, or both are the same picture.
    """
    sources = dict(zip(("content", "style"), pictures.values(), strict=False))
    for name, path in (("content", content), ("style", style)):
        if path is not None:
            sources[name] = _read(path)
    if "style" not in sources:
        raise OptionError("a style", "a single picture", "add another, or name one with `style`", tensor="style")
    if torch.equal(sources["content"], sources["style"]):
        raise OptionError("two different pictures", "one for content and style", "name another", tensor="style")
    return sources


def _name(path: Path, taken: Container[str]) -> str:
    """What to call a picture: its file's name, numbered if another one looks the same once it is cut or escaped."""
    name = printable(path.name)
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(other for other in itertools.chain([name], numbered) if other not in taken)


def _generated() -> dict[str, Tensor]:
    side = round(PIXELS_PER_PICTURE**0.5)
    made = torch.from_numpy(generated_pictures(GENERATED, side, side)).permute(0, 3, 1, 2).float() / 255
    return {f"generated {index}": picture[None] for index, picture in enumerate(made)}


def _photographs() -> list[Path]:
    try:
        import skimage
    except ImportError:
        cure = "pip install scikit-image, or name a folder"
        raise PictureError("the package scikit-image", "no such package here", cure) from None
    return [Path(skimage.__file__).parent / "data" / name for name in SCIKIT_IMAGE]


def _read(path: PathLike) -> Tensor:
    """A picture at the area of all others, large enough for every relu."""
    picture = read_picture(path, pixels=PIXELS_PER_PICTURE).pixels
    height, width = picture.shape[2:]
    if min(height, width) < SMALLEST_SIDE:
        expected = f"sides of at least {SMALLEST_SIDE} pixels at {PIXELS_PER_PICTURE:,} in all"
        raise PictureError(expected, f"{width} × {height}", "crop it", path=path)
    return picture
