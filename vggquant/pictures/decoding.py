"""Decoding by Pillow, in a process that may be lost: bytes of a file to 8 bits a channel at the size that is wanted.

Only what `read_here` needs is imported here, since a child process imports it anew. Which process that is, and what
the pixels are turned into, is left to `files`.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vggquant.errors import PictureError
from vggquant.isolation.child import limit_anew
from vggquant.isolation.messages import Answer, Limits
from vggquant.pictures.checks import PNG, check_png, check_profile, check_scans, check_strips, damaged, png_size

if TYPE_CHECKING:
    from PIL import Image

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")
MAX_PIXELS = 50_000_000
_OTHER = "name a picture, or convert it to PNG"  # the cure for a file that is none of these
SETTINGS_KEY = "vggquant"  # names our text among the texts of a PNG

_MEMORY, _PIXEL_MEMORY, _WANTED_MEMORY, _FILE_MEMORY = 3 * 2**25, 24, 12, 4  # bytes: at least, per pixel, per byte
_MOST_SECONDS = 10.0
_SECONDS, _PIXELS_A_SECOND, _BYTES_A_SECOND = 1.5, 6e6, 40e6
_DEFLATE = (8, 32946)  # in TIFF's tag Compression
_COMPRESSION, _FILL_ORDER, _STRIPS, _TILES = 259, 266, (273, 279), (324, 325)
_AVIF = b"ftyp"  # from the fifth byte
_TO_8_BITS = ((np.arange(2**16) + 128) // 257).astype(np.uint8)  # rounded


def limits(size: int, pixels: int = MAX_PIXELS, wanted: int = MAX_PIXELS) -> Limits:
    """What the decoding of a file may take.

    Args:
        size: Of the file, in bytes.
        pixels: How many it holds.
        wanted: How many are to be made of them.
    """
    memory = _MEMORY + _FILE_MEMORY * size + _PIXEL_MEMORY * pixels + _WANTED_MEMORY * wanted
    seconds = _SECONDS + size / _BYTES_A_SECOND + (pixels + wanted) / _PIXELS_A_SECOND
    return Limits(memory, min(seconds, _MOST_SECONDS))


def read_here(data: bytes, longest: int | None, pixels: int | None, most: int | None) -> Answer:
    """Decode the first image of a file in this process.

    Args:
        data: The file.
        longest: See `files.read_picture`, as for the others.
        pixels: Pixels in all.
        most: Pixels in all, if there are more.

    Returns:
        ``pixels``, uint8 in RGB or RGBA, (H, W, C), and ``icc`` if there is a profile; ``settings``, ``animated`` and
        ``stored``, height and width in the file.

    Raises:
        PictureError: Not a picture of these types, damaged, or too large.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise PictureError("Pillow for pictures", "no such package", "pip install 'vggquant[style]'") from None
    limit_anew(_before_it_is_known(data))
    if data[4:8] == _AVIF:
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take memory of its own
    try:
        if data.startswith(PNG):
            _expect(data, png_size(data), 0)
            check_png(data)
        image: Image.Image = Image.open(io.BytesIO(data), formats=READABLE)
        _expect(data, image.size, 0)
        _expect(data, image.size, math.prod(_wanted(image.size, longest, pixels, most)))
        _check(image, data)
        animated = bool(getattr(image, "is_animated", False))  # counting frames may take for ever
        _turn_upright(image)
        image = _in_8_bits(image)
        values = {"settings": _settings(image), "animated": animated, "stored": (image.height, image.width)}
        icc = _rgb_profile(image)
        image = _in_colors(image, _wanted(image.size, longest, pixels, most))  # the size as it stands upright
    except UnidentifiedImageError:
        raise PictureError(f"a picture ({_readable_here()})", "something else", _OTHER) from None
    except Image.DecompressionBombError:
        raise PictureError(f"at most {MAX_PIXELS} pixels", "far more", "reduce it first") from None
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise errors of any type on damaged data
        raise damaged(f"{error}") from None
    profile = {} if icc is None else {"icc": np.frombuffer(icc, np.uint8)}
    return Answer(values, {"pixels": np.array(image), **profile})


def _before_it_is_known(data: bytes) -> Limits:
    """The limits until the size of a picture is known."""
    canvas = 8 * MAX_PIXELS if data[8:12] == b"WEBP" else 0  # which libwebp reserves at once, and hardly touches
    found = limits(len(data), 0, 0)
    return Limits(found.memory + canvas, found.seconds)


def _expect(data: bytes, size: tuple[int, int], wanted: int) -> None:
    """Refuse a size that is too large, and set the limits for one that is not."""
    pixels = math.prod(size)
    if pixels > MAX_PIXELS:
        raise PictureError(f"at most {MAX_PIXELS} pixels", f"{size[0]} × {size[1]}", "reduce it first")
    limit_anew(limits(len(data), pixels, wanted))


def _wanted(size: tuple[int, int], longest: int | None, pixels: int | None, most: int | None) -> tuple[int, int]:
    """Width and height that an image is to be resized to."""
    width, height = size
    if longest is None and pixels is None and most is not None:
        pixels = min(most, width * height)
    if longest is not None:
        factor = longest / max(width, height)
    else:
        factor = math.sqrt(pixels / (width * height)) if pixels is not None else 1.0
    wanted = (max(1, round(width * factor)), max(1, round(height * factor)))
    if math.prod(wanted) > MAX_PIXELS:
        raise PictureError(f"at most {MAX_PIXELS} pixels", f"{wanted[0]} × {wanted[1]}", "choose a smaller size")
    return wanted


def _check(image: Image.Image, data: bytes) -> None:
    """Look at what the decoder of an image does not look at."""
    if image.format in ("JPEG", "MPO"):
        check_scans(data)
    elif image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(_COMPRESSION) in _DEFLATE and tags.get(_FILL_ORDER, 1) == 1:
            for offsets, sizes in (_STRIPS, _TILES):
                check_strips(data, tags.get(offsets, ()), tags.get(sizes, ()))


def _in_colors(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in RGB or RGBA, resized."""
    from PIL import Image

    mode = "RGBA" if image.has_transparency_data else "RGB"
    grey = mode == "RGB" and image.mode in ("1", "L")  # the same values come of a quarter of the memory
    image = _converted(image, "L" if grey else mode)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return _converted(image, mode)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _readable_here() -> str:
    """The types of pictures that can be read, and those for which this build of Pillow lacks the means."""
    from PIL import features

    lacking = [kind for kind in ("WEBP", "AVIF") if not features.check(kind.lower())]
    found = ", ".join(kind for kind in READABLE if kind not in lacking)
    return found + (f"; this Pillow lacks {', '.join(lacking)}" if lacking else "")


def _turn_upright(image: Image.Image) -> None:
    """Turn the image as its EXIF says, or not where the EXIF cannot be read."""
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # as in `read_here`; damaged pixels are found when they are converted
        return


def _in_8_bits(image: Image.Image) -> Image.Image:
    """The image itself, or its 16 bits a channel reduced to 8."""
    if image.mode == "F":
        raise PictureError("8 or 16 bits a channel", "floating point", "convert it first")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise PictureError("8 or 16 bits a channel", "32 bits", "convert it first")
    return Image.fromarray(_TO_8_BITS[grey.astype(np.uint16, copy=False)])


def _rgb_profile(image: Image.Image) -> bytes | None:
    """The colour profile, unless it is of inks or greys, which are converted to RGB without it."""
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or icc[16:20] != b"RGB ":
        return None
    check_profile(len(icc))
    return icc


def _settings(image: Image.Image) -> str | None:
    settings = image.info.get(SETTINGS_KEY)
    return settings if isinstance(settings, str) else None
