"""Picture files ↔ tensors, RGB in [0, 1], with colour and metadata; knows of no models."""

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
from vggquant.files.storage import PathLike, read_file, write_file

if TYPE_CHECKING:
    from PIL import Image

READABLE = ("PNG", "JPEG", "WEBP", "TIFF")
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_PIXELS = 50_000_000
SETTINGS_KEY = "vggquant"  # of the text in a PNG
_LONGEST = {"WEBP": 16_383, "JPEG": 65_535}  # sides
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with what its file tells beside colours.

    Args:
        pixels: float32, (1, 3, H, W), RGB in [0, 1]; what is transparent lies over white, in files it does not.
        alpha: float32, (1, 1, H, W) in [0, 1], or ``None`` if all is opaque.
        icc: Colour profile of the pixels, or ``None``.
        settings: What made it, as `vggquant` wrote it into a PNG, or ``None``.
        frames: Of its file, an animation or pages; this is the first.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc: bytes | None = None
    settings: str | None = None
    frames: int = 1


def read_picture(path: PathLike, *, longest: int | None = None, pixels: int | None = None) -> Picture:
    """Read a picture as people see it: upright, in RGB, transparency over white.

    Args:
        path: PNG, JPEG, WebP or TIFF.
        longest: Resize so that the longer side has this many pixels.
        pixels: Resize to about this many pixels in all, unless `longest` is given.

    Raises:
        PictureError: Not a picture of these types, damaged, or over 50 megapixels.
        StorageError: No such file, or not to be read.
    """
    data = read_file(path)
    with located(path):
        image, about = _decode(data.tobytes())
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
    tensor = torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()
    if tensor.shape[1] == 3:
        return Picture(tensor, **about)
    colors, alpha = tensor[:, :3], tensor[:, 3:]
    return Picture(colors * alpha + (1 - alpha), alpha, **about)


def read_mask(path: PathLike, size: tuple[int, int]) -> Tensor:
    """Read a mask: how light a picture is, stretched to a size.

    Args:
        path: A picture, see `read_picture`; white is inside, black and what is transparent outside.
        size: Height and width.

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
        path: Its ending tells the type, see `WRITABLE`. JPEG keeps no transparency, and only PNG keeps settings.
        picture: What to write.
        force: Replace an existing file.

    Raises:
        PictureError: Unknown ending.
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
    options: dict[str, Any] = {"quality": 95}
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
    """Refuse an ending that `write_picture` does not know, or whose type does not hold so long a side."""
    ending = Path(path).suffix.lower()
    if ending not in WRITABLE:
        raise PictureError(f"an ending {', '.join(WRITABLE)}", ending or "none", "rename the output", path=path)
    most = _LONGEST.get(WRITABLE[ending], longest)
    if longest > most:
        raise PictureError(f"at most {most} pixels a side in {ending}", longest, "write a PNG", path=path)


def luminance(picture: Tensor) -> Tensor:
    """Luma of RGB (N, 3, H, W) as (N, 1, H, W): the Y of YIQ (ITU-R BT.601)."""
    weights = torch.tensor(_LUMA, dtype=picture.dtype, device=picture.device).reshape(3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def with_luminance(picture: Tensor, other: Tensor) -> Tensor:
    """A picture's colours with another's luminance, both (1, 3, H, W): I and Q stay, Y is replaced."""
    return picture + luminance(other) - luminance(picture)


def match_luminance(picture: Tensor, other: Tensor) -> Tensor:
    """A picture's luminance in three channels, with mean and deviation of another's; arXiv:1606.05897, equation 10."""
    ours, theirs = luminance(picture), luminance(other)
    spread = ours.std(unbiased=False).clamp(min=1e-6)
    return ((ours - ours.mean()) * (theirs.std(unbiased=False) / spread) + theirs.mean()).expand_as(picture)


def match_colors(picture: Tensor, other: Tensor) -> Tensor:
    """A picture with mean and covariance of another's colours, both (1, 3, H, W); values may leave [0, 1].

    The linear map is Σ_other^½ Σ_picture^-½, arXiv:1606.05897, section 4.1. What the picture has no
    colour in, it does not get: a grey one stays grey along one line.
    """
    ours, theirs = (_colors(p) for p in (picture, other))
    root = _power(_covariance(theirs), 0.5) @ _power(_covariance(ours), -0.5)
    matched = root @ (ours - ours.mean(1, keepdim=True)) + theirs.mean(1, keepdim=True)
    return matched.to(picture.dtype).reshape(picture.shape)


def _colors(picture: Tensor) -> Tensor:
    return picture[0].flatten(1).double()


def _covariance(colors: Tensor) -> Tensor:
    centred = colors - colors.mean(1, keepdim=True)
    return centred @ centred.T / colors.shape[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric, positive semidefinite matrix; no power of what is zero but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    solid = values > 1e-8  # a two-thousandth of a grey level
    powers = torch.where(solid, values.clamp(min=1e-8) ** exponent, 0)
    raised: Tensor = (vectors * powers) @ vectors.T
    return raised


def _decode(data: bytes) -> tuple[Image.Image, dict[str, Any]]:
    """Image in RGB or RGBA, and what else a `Picture` tells."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise PictureError("Pillow for pictures", "no such package", "pip install 'vggquant[style]'") from None
    too_large = f"at most {MAX_PIXELS} pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's advice on odd metadata is not for our users
        try:
            image: Image.Image = Image.open(io.BytesIO(data), formats=READABLE)
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(too_large, f"{image.width} × {image.height}", "reduce it first")
            frames = getattr(image, "n_frames", 1)
            image = _upright(image)
            if image.mode == "F":
                raise PictureError("8 or 16 bits a channel", "floating point", "convert it first")
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.int64)
                if grey.min() < 0 or grey.max() > 65535:
                    raise PictureError("8 or 16 bits a channel", "32 bits", "convert it first")
                image = Image.fromarray((grey / 257).round().astype(np.uint8))
            icc, settings = image.info.get("icc_profile"), image.info.get(SETTINGS_KEY)
            if not isinstance(icc, bytes) or icc[16:20] != b"RGB ":  # of inks or greys, which we convert
                icc = None
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            settings = settings if isinstance(settings, str) else None
            return image, {"icc": icc, "settings": settings, "frames": frames}
        except UnidentifiedImageError:
            raise PictureError(f"a picture ({', '.join(READABLE)})", "something else", "convert it to PNG") from None
        except Image.DecompressionBombError:
            raise PictureError(too_large, "far more", "reduce it first") from None
        except PictureError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever they stumble over
            raise PictureError("an undamaged picture", f"{error}", "get it again") from None


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; what says nothing readable is left as it is."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above; what is wrong with the pixels shows when they are read
        return image
