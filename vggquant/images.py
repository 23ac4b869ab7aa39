"""Picture files ↔ tensors, RGB in [0, 1]; knows of no models."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vggquant.errors import PictureError, located
from vggquant.storage import PathLike, read_file, write_file

if TYPE_CHECKING:
    from PIL import Image

READABLE = ("PNG", "JPEG", "WEBP", "TIFF")
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_PIXELS = 50_000_000


def read_picture(path: PathLike, *, longest: int | None = None, pixels: int | None = None) -> Tensor:
    """Read a picture as people see it: upright, in RGB, transparency over white.

    Args:
        path: PNG, JPEG, WebP or TIFF.
        longest: Resize so that the longer side has this many pixels.
        pixels: Resize to about this many pixels in all, unless `longest` is given.

    Returns:
        float32, (1, 3, H, W), RGB in [0, 1].

    Raises:
        PictureError: Not a picture of these types, damaged, or over 50 megapixels.
        StorageError: No such file, or not to be read.
    """
    data = read_file(path)
    with located(path):
        image = _decode(data.tobytes())
    width, height = image.size
    if longest is not None:
        factor = longest / max(width, height)
    else:
        factor = math.sqrt(pixels / (width * height)) if pixels is not None else 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size[0] * size[1] > MAX_PIXELS:
        raise PictureError(f"at most {MAX_PIXELS} pixels", f"{size[0]} × {size[1]}", "choose a smaller size", path=path)
    if size != image.size:
        from PIL import Image

        image = image.resize(size, Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()


def write_picture(path: PathLike, picture: Tensor, *, force: bool = False) -> None:
    """Write a picture, rounded to 8 bits; values outside [0, 1] are clipped.

    Args:
        path: Its ending tells the type, see `WRITABLE`.
        picture: (1, 3, H, W), RGB in [0, 1].
        force: Replace an existing file.

    Raises:
        PictureError: Unknown ending.
        StorageError: The file exists, or cannot be written.
    """
    check_ending(path)
    from PIL import Image

    array = (picture.detach()[0].permute(1, 2, 0).cpu() * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, WRITABLE[Path(path).suffix.lower()], quality=95)
    write_file(path, [buffer.getvalue()], force=force)


def check_ending(path: PathLike) -> None:
    """Refuse an ending that `write_picture` does not know."""
    ending = Path(path).suffix.lower()
    if ending not in WRITABLE:
        raise PictureError(f"an ending {', '.join(WRITABLE)}", ending or "none", "rename the output", path=path)


def _decode(data: bytes) -> Image.Image:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise PictureError("Pillow for pictures", "no such package", "pip install 'vggquant[style]'") from None
    too_large = f"at most {MAX_PIXELS} pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's advice on odd metadata is not for our users
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=READABLE)
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(too_large, f"{image.width} × {image.height}", "reduce it first")
            image = ImageOps.exif_transpose(image)
            if image.mode == "F":
                raise PictureError("8 or 16 bits a channel", "floating point", "convert it first")
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.int64)
                if grey.min() < 0 or grey.max() > 65535:
                    raise PictureError("8 or 16 bits a channel", "32 bits", "convert it first")
                image = Image.fromarray((grey / 257).round().astype(np.uint8))
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return image.convert("RGB")
        except UnidentifiedImageError:
            raise PictureError(f"a picture ({', '.join(READABLE)})", "something else", "convert it to PNG") from None
        except Image.DecompressionBombError:
            raise PictureError(too_large, "far more", "reduce it first") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError("an undamaged picture", f"{error}", "get it again") from None
