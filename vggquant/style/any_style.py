"""Picture files to a painted picture file in one pass, by a network that takes its style from other pictures.

Loading the network is left to `models`, networks that know one style to `feedforward`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from vggquant.errors import OptionError, PictureError, located
from vggquant.files.disk import PathLike, check_output, read_file, sha256
from vggquant.models.adain import REACH, TILE, AdaIN
from vggquant.models.devices import available_memory, require_device
from vggquant.models.painters import load_stylizer
from vggquant.pictures.files import WRITABLE, Picture, check_ending, write_picture
from vggquant.style.checks import check_any_style
from vggquant.style.feedforward import Painted
from vggquant.style.inputs import Inputs, Pictures, Sizes, read_pictures
from vggquant.style.options import STRENGTH, PreserveColor, StyleOptions
from vggquant.style.task import Task
from vggquant.style.transfer import recoloured, shown

OVERHEAD = 200e6  # bytes that painting needs whatever the sizes of the pictures
PIXEL_BYTES = 120  # for each pixel of the content and of the largest style, beside their features
_COPIES, _FEATURE_COPIES = 6, 4  # tensors of a tile's first layers, and of features, that are alive at once


def paint_in_styles(
    content: PathLike,
    styles: Sequence[PathLike],
    out: PathLike,
    network: PathLike,
    *,
    strength: float = STRENGTH,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[PathLike] = (),
    preserve_color: PreserveColor = "none",
    size: int | None = None,
    pixels: int | None = None,
    style_size: int | None = None,
    style_pixels: int | None = None,
    device: str = "cpu",
    force: bool = False,
) -> Painted:
    """Paint a picture in the styles of others, from files to a file.

    The result has the content's size, unless another is asked for, and its transparency and colour profile. If it is a
    PNG, its text tells what made it.

    Args:
        content: Picture to paint.
        styles: Pictures in whose style.
        out: Picture to write; its ending decides the type.
        network: A packed file that `train_adain` wrote, or ``adain``.
        strength: How much of the styles is taken, from 0 to 1.
        style_weights: How much each of them counts; all alike if not given.
        masks: One for each style, or none at all; the word ``none`` stands for everywhere.
        preserve_color: As in `StyleOptions`.
        size: Longer side of the result in pixels.
        pixels: Its area, if `size` is not given; the content's own if neither is.
        style_size: Longer side of the styles in pixels.
        style_pixels: Their area; the content's if neither is given.
        device: Where to compute.
        force: Whether an existing file may be replaced.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, an option has no meaning, or the pictures are too
            large for the memory.
    """
    inputs = Inputs.named(content, styles, masks, None, None, network)
    check_ending(out)
    check_output(out, force=force, sources=inputs.sources)
    inputs.check()
    check_any_style(len(styles), strength, style_weights, preserve_color)
    place = require_device(device)
    painter = _loaded(inputs.weights, place)
    pictures = read_pictures(inputs, Sizes(size, pixels, style_size, style_pixels), most=None)
    check_ending(out, max(pictures.content.size))
    with located(content):
        require_memory(painter, pictures, place)
    result = paint_through(painter, pictures.task(place, 0, 0), strength, style_weights, preserve_color).cpu()
    settings = {
        "network": sha256(read_file(inputs.weights)),
        "preserve_color": preserve_color,
        "sha256": {key: pictures.checksums(inputs)[key] for key in ("content", "styles", "masks")},
        "strength": strength,
        "style_sizes": [[style.size[1], style.size[0]] for style in pictures.styles],
        "style_weights": None if style_weights is None else list(style_weights),
        "torch": torch.__version__,
        "vggquant": version("vggquant"),
    }
    picture = Picture(result, pictures.content.alpha, pictures.content.icc, json.dumps(settings, sort_keys=True))
    write_picture(out, picture, force=force)
    height, width = pictures.content.size
    return Painted(os.fspath(out), width, height, _notes(inputs, out, pictures))


def begun_by(network: PathLike, pictures: Pictures, options: StyleOptions) -> Pictures:
    """Pictures to paint by optimisation, beginning with what a network paints of them."""
    painter = _loaded(network, torch.device("cpu"))
    require_memory(painter, pictures, torch.device("cpu"))
    task = pictures.task(torch.device("cpu"), 0, 0)
    painted = paint_through(painter, task, STRENGTH, options.style_weights, options.preserve_color)
    return replace(pictures, begun=Picture(painted, sha256=sha256(read_file(network))))


def paint_through(
    painter: AdaIN, task: Task, strength: float, style_weights: Sequence[float] | None, preserve_color: PreserveColor
) -> Tensor:
    """What a network paints of a task's content, styles and masks, (1, 3, H, W) in [0, 1]."""
    with torch.inference_mode():
        prepared = recoloured(task, preserve_color)
        painted = painter(
            prepared.content, prepared.styles, strength=strength, weights=style_weights, masks=prepared.masks
        )
        return shown(painted, task.content if preserve_color == "luminance" else None).clamp(0, 1)


def require_memory(painter: AdaIN, pictures: Pictures, device: torch.device) -> None:
    """Refuse pictures that would not fit into the memory of a device.

    Raises:
        PictureError: They would not; the error names a size that would.
    """
    available = available_memory(device)
    area = math.prod(pictures.content.size)
    style_area = max(math.prod(style.size) for style in pictures.styles)
    each = PIXEL_BYTES + _FEATURE_COPIES * 4 * painter.network.channels[-1] / 64
    tile = min(max(area, style_area), (TILE + 2 * REACH) ** 2) * 4 * max(painter.network.channels[:2]) * _COPIES
    needed = OVERHEAD + tile + each * (area + style_area)
    if available is None or needed <= available:
        return
    height, width = pictures.content.size
    share = math.sqrt(max(0.0, available - OVERHEAD) / (needed - OVERHEAD))
    cure = f"choose {math.floor(width * share)} × {math.floor(height * share)} pixels or less"
    if style_area > area:
        cure = "choose smaller styles"
    expected = f"a painting in the {available / 1e9:.1f} GB left on {device}"
    raise PictureError(expected, f"one of about {needed / 1e9:.1f} GB at {width} × {height}", cure)


def _loaded(network: PathLike, device: torch.device) -> AdaIN:
    painter = load_stylizer(network, device=device)
    if not isinstance(painter, AdaIN):
        with located(network):
            cure = "leave the styles out"
            raise OptionError("a network that takes any style", f"one of the family {painter.network.family}", cure)
    return painter


def _notes(inputs: Inputs, out: PathLike, pictures: Pictures) -> tuple[str, ...]:
    notes = pictures.notes(inputs)
    if pictures.content.alpha is not None and WRITABLE[Path(out).suffix.lower()] == "JPEG":
        notes.append(f"{os.fspath(out)}: JPEG keeps no transparency; it is painted over white")
    return tuple(notes)
