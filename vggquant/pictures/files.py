"""Picture files to tensors, RGB in [0, 1], and back, with transparency, colour profile and the text of a PNG.

Decoding is left to `decoding`, which runs in a child process unless the file is a small PNG of plain form. What the
tensors are used for is left to others, and so are changes of their colours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggquant.errors import PictureError, located, suggestion
from vggquant.files.disk import Bytes, PathLike, read_file, sha256, write_file
from vggquant.isolation.messages import Answer
from vggquant.isolation.parent import OverrunError, read_isolated
from vggquant.pictures.checks import check_profile, check_text, is_plain_png
from vggquant.pictures.colors import luminance
from vggquant.pictures.decoding import SETTINGS_KEY, limits, read_here

WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_LONGEST = {"WEBP": 16_383, "JPEG": 65_535}  # pixels a side; the other types hold any
_MASK_PIXELS = 4_000_000  # that a mask may have, whatever it is stretched to, before it is reduced for that
_JPEG_QUALITY = 95  # and WebP's


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, with what its file says besides colours.

    Args:
        pixels: float32, (1, 3, H, W), RGB in [0, 1]. Transparent parts lie over white here; in files they do not.
        alpha: float32, (1, 1, H, W) in [0, 1], or ``None`` if all of it is opaque.
        icc: Colour profile of the pixels, or ``None``.
        settings: What the picture was made with, as vggquant wrote it into a PNG, or ``None``.
        animated: Whether its file has more frames or pages, of which this is the first.
        stored: Height and width in its file, before it was resized; ``None`` if it comes from none.
        sha256: Of the file as it was read; ``None`` if it comes from none.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc: bytes | None = None
    settings: str | None = None
    animated: bool = False
    stored: tuple[int, int] | None = None
    sha256: str | None = None

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
    wanted = {"longest": longest, "pixels": pixels, "most": most}
    with located(path):
        data = read_file(path)
        answer = _decoded(data, wanted)
    tensor = torch.from_numpy(answer.arrays["pixels"]).permute(2, 0, 1).unsqueeze(0).contiguous().float().div_(255)
    icc, values = answer.arrays.get("icc"), answer.values
    about: dict[str, Any] = {
        "icc": None if icc is None else icc.tobytes(),
        "settings": values["settings"],
        "animated": values["animated"],
        "stored": tuple(values["stored"]),
        "sha256": sha256(data),
    }
    if tensor.shape[1] == 3:
        return Picture(tensor, **about)
    colors, alpha = tensor[:, :3], tensor[:, 3:]
    return Picture(colors * alpha + (1 - alpha), alpha, **about)


def _decoded(data: Bytes, wanted: dict[str, int | None]) -> Answer:
    """What `decoding` makes of a file, here or in a child process."""
    if is_plain_png(data.data):
        return read_here(data.tobytes(), **wanted)
    try:
        return read_isolated(f"{read_here.__module__}:{read_here.__name__}", data.data, wanted, limits(data.size))
    except OverrunError as error:
        raise PictureError("an undamaged picture", f"{error}", "save it afresh as PNG") from None


def read_mask(path: PathLike, size: tuple[int, int]) -> tuple[Tensor, str | None]:
    """Read a picture as a mask, by how light it is: white is inside, black and transparent parts are outside.

    Args:
        path: See `read_picture`.
        size: Height and width that the mask is stretched to.

    Returns:
        float32, (1, 1, H, W) in [0, 1], and the SHA-256 of the file.
    """
    picture = read_picture(path, most=max(4 * size[0] * size[1], _MASK_PIXELS))
    grey = luminance(picture.pixels) - (0 if picture.alpha is None else 1 - picture.alpha)
    stretched: Tensor = torch.nn.functional.interpolate(grey, size, mode="bilinear", antialias=True)
    return stretched.clamp(0, 1), picture.sha256


def write_picture(path: PathLike, picture: Picture, *, force: bool = False) -> str:
    """Write a picture, rounded to 8 bits; values outside [0, 1] are clipped.

    Args:
        path: Its ending decides the type, see `WRITABLE`. JPEG keeps no transparency, and only PNG keeps settings.
        picture: What to write.
        force: Replace an existing file.

    Returns:
        SHA-256 of the file.

    Raises:
        PictureError: The ending is unknown, or the type cannot hold the picture.
        StorageError: The file exists, or cannot be written.
    """
    check_ending(path)
    from PIL import Image, PngImagePlugin

    with located(path):
        check_profile(len(picture.icc or b""))
        check_text(len((picture.settings or "").encode()))
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
    data = buffer.getvalue()
    write_file(path, [data], force=force)
    return sha256(data)


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
        cure = suggestion(ending, WRITABLE, "rename the output", likeness=0.8)
        raise PictureError(f"an ending {', '.join(WRITABLE)}", ending or "none", cure, path=path)
    most = _LONGEST.get(WRITABLE[ending], longest)
    if longest > most:
        raise PictureError(f"at most {most} pixels a side in {ending}", longest, "write a PNG", path=path)
