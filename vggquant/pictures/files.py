"""Picture files to tensors, RGB in [0, 1], and back, with transparency, colour profile and the text of a PNG.

What the tensors are used for is left to others, and so are changes of their colours.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vggquant.errors import PictureError, located
from vggquant.files.disk import PathLike, read_file, write_file
from vggquant.pictures.colors import luminance

if TYPE_CHECKING:
    from PIL import Image

READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_PIXELS = 50_000_000
SETTINGS_KEY = "vggquant"  # names our text among the texts of a PNG
_LONGEST = {"WEBP": 16_383, "JPEG": 65_535}  # pixels a side; the other types hold any
_JPEG_QUALITY = 95  # and WebP's


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, with what its file says besides colours.

    Args:
        pixels: float32, (1, 3, H, W), RGB in [0, 1]. Transparent parts lie over white here; in files they do not.
        alpha: float32, (1, 1, H, W) in [0, 1], or ``None`` if all of it is opaque.
        icc: Colour profile of the pixels, or ``None``.
        settings: What the picture was made with, as vggquant wrote it into a PNG, or ``None``.
        frames: How many frames or pages its file has; this is the first.
        stored: Height and width in its file, before it was resized; ``None`` if it comes from none.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc: bytes | None = None
    settings: str | None = None
    frames: int = 1
    stored: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.pixels.shape[2], self.pixels.shape[3])


def read_picture(
    path: PathLike, *, longest: int | None = None, pixels: int | None = None, most: int | None = None
) -> Picture:
    """Read a picture as people see it: upright, in RGB, with transparent parts over white.

    Args:
        path: PNG, JPEG, WebP, TIFF, GIF, BMP or AVIF.
        longest: Resize so that the longer side has this many pixels.
        pixels: Resize to about this many pixels in all, unless `longest` is given.
        most: Reduce to about this many pixels if there are more, unless `longest` or `pixels` is given.

    Raises:
        PictureError: Not a picture of these types, damaged, or over 50 megapixels.
        StorageError: There is no such file, or it cannot be read.
    """
    data = read_file(path)
    with located(path):
        image, about = _decode(data.tobytes())
        about["stored"] = (image.height, image.width)
        if pixels is None and most is not None:
            pixels = min(most, image.width * image.height)
        image = _resized(image, longest, pixels)
    array = np.asarray(image, dtype=np.float32) / 255
    tensor = torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()
    if tensor.shape[1] == 3:
        return Picture(tensor, **about)
    colors, alpha = tensor[:, :3], tensor[:, 3:]
    return Picture(colors * alpha + (1 - alpha), alpha, **about)


def read_mask(path: PathLike, size: tuple[int, int]) -> Tensor:
    """Read a picture as a mask, by how light it is: white is inside, black and transparent parts are outside.

    Args:
        path: See `read_picture`.
        size: Height and width that the mask is stretched to.

    Returns:
        float32, (1, 1, H, W) in [0, 1].
    """
    picture = read_picture(path)
    grey = luminance(picture.pixels) - (0 if picture.alpha is None else 1 - picture.alpha)
    stretched: Tensor = torch.nn.functional.interpolate(grey, size, mode="bilinear", antialias=True)
    return stretched.clamp(0, 1)


def write_picture(path: PathLike, picture: Picture, *, force: bool = False) -> None:
    """Write a picture, rounded to 8 bits; values outside [0, 1] are clipped.

    Args:
        path: Its ending decides the type, see `WRITABLE`. JPEG keeps no transparency, and only PNG keeps settings.
        picture: What to write.
        force: Replace an existing file.

    Raises:
        PictureError: The ending is unknown, or the type cannot hold the picture.
        StorageError: The file exists, or cannot be written.
    """
    check_ending(path)
    from PIL import Image, PngImagePlugin

    kind = WRITABLE[Path(path).suffix.lower()]
    channels = [picture.pixels]
    if picture.alpha is not None and kind != "JPEG":
        colors = (picture.pixels - (1 - picture.alpha)) / picture.alpha.clamp(min=1e-3)  # no longer over white
        channels = [torch.where(picture.alpha > 0, colors, picture.pixels), picture.alpha]
    array = torch.cat([part.detach().cpu()[0] for part in channels]).permute(1, 2, 0)
    image = Image.fromarray((array * 255).round().clamp(0, 255).to(torch.uint8).numpy())
    options: dict[str, Any] = {"quality": _JPEG_QUALITY}
    if picture.icc is not None:
        options["icc_profile"] = picture.icc
    if picture.settings is not None and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(SETTINGS_KEY, picture.settings)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise PictureError(f"a picture that {kind} holds", f"{error}", "write a PNG", path=path) from None
    write_file(path, [buffer.getvalue()], force=force)


def check_ending(path: PathLike, longest: int = 1) -> None:
    """Refuse a file name that `write_picture` could not write to.

    Args:
        path: Where a picture will be written.
        longest: Its longer side in pixels.

    Raises:
        PictureError: The ending is unknown, or its type does not hold sides this long.
    """
    ending = Path(path).suffix.lower()
    if ending not in WRITABLE:
        raise PictureError(f"an ending {', '.join(WRITABLE)}", ending or "none", "rename the output", path=path)
    most = _LONGEST.get(WRITABLE[ending], longest)
    if longest > most:
        raise PictureError(f"at most {most} pixels a side in {ending}", longest, "write a PNG", path=path)


def _resized(image: Image.Image, longest: int | None, pixels: int | None) -> Image.Image:
    width, height = image.size
    if longest is not None:
        factor = longest / max(width, height)
    else:
        factor = math.sqrt(pixels / (width * height)) if pixels is not None else 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size[0] * size[1] > MAX_PIXELS:
        raise PictureError(f"at most {MAX_PIXELS} pixels", f"{size[0]} × {size[1]}", "choose a smaller size")
    if size == image.size:
        return image
    from PIL import Image

    return image.resize(size, Image.Resampling.BICUBIC)


def _decode(data: bytes) -> tuple[Image.Image, dict[str, Any]]:
    """The first image of a file in RGB or RGBA, and the other fields of its `Picture`."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise PictureError("Pillow for pictures", "no such package", "pip install 'vggquant[style]'") from None
    too_large = f"at most {MAX_PIXELS} pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which our users cannot help
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=READABLE)
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(too_large, f"{image.width} × {image.height}", "reduce it first")
            frames = getattr(image, "n_frames", 1)
            image = _in_8_bits(_upright(image))
            about = {"icc": _rgb_profile(image), "settings": _settings(image), "frames": frames}
            return image.convert("RGBA" if image.has_transparency_data else "RGB"), about
        except UnidentifiedImageError:
            raise PictureError(f"a picture ({_readable_here()})", "something else", "convert it to PNG") from None
        except Image.DecompressionBombError:
            raise PictureError(too_large, "far more", "reduce it first") from None
        except PictureError:
            raise
        except Exception as error:  # Pillow's decoders raise errors of any type on damaged data
            raise PictureError("an undamaged picture", f"{error}", "get it again") from None


def _readable_here() -> str:
    """The types of pictures that can be read, and those for which this build of Pillow lacks the means."""
    from PIL import features

    lacking = [kind for kind in ("WEBP", "AVIF") if not features.check(kind.lower())]
    found = ", ".join(kind for kind in READABLE if kind not in lacking)
    return found + (f"; this Pillow lacks {', '.join(lacking)}" if lacking else "")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says, or as it is where the EXIF cannot be read."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in `_decode`; damaged pixels are found when they are converted
        return image


def _in_8_bits(image: Image.Image) -> Image.Image:
    """The image itself, or its 16 bits a channel reduced to 8."""
    if image.mode == "F":
        raise PictureError("8 or 16 bits a channel", "floating point", "convert it first")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise PictureError("8 or 16 bits a channel", "32 bits", "convert it first")
    return Image.fromarray((grey / 257).round().astype(np.uint8))


def _rgb_profile(image: Image.Image) -> bytes | None:
    """The colour profile, unless it is of inks or greys, which are converted to RGB without it."""
    icc = image.info.get("icc_profile")
    return icc if isinstance(icc, bytes) and icc[16:20] == b"RGB " else None


def _settings(image: Image.Image) -> str | None:
    settings = image.info.get(SETTINGS_KEY)
    return settings if isinstance(settings, str) else None
