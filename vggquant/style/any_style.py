"""Picture files to a painted picture file in one pass, by a network that takes its style from other pictures.

Loading the network is left to `models`, networks that know one style to `feedforward`, styles as numbers to
`style_files`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from vggquant.errors import OptionError, PictureError, located
from vggquant.files.disk import PathLike, check_output, read_file, sha256
from vggquant.models.adain import REACH, TILE, AdaIN
from vggquant.models.arbitrary import STYLE_SIDE, Arbitrary
from vggquant.models.devices import available_memory, require_device
from vggquant.models.painters import load_stylizer
from vggquant.pictures.files import WRITABLE, Picture, check_ending, write_picture
from vggquant.style.checks import check_any_style
from vggquant.style.feedforward import Painted
from vggquant.style.inputs import Inputs, Pictures, Sizes, read_pictures
from vggquant.style.options import STRENGTH, PreserveColor, StyleOptions
from vggquant.style.scales import size_of
from vggquant.style.style_files import is_style, read_style, write_style
from vggquant.style.task import Task
from vggquant.style.transfer import recoloured, shown

AnyStyle = AdaIN | Arbitrary

LOOKED_AT = (2 * STYLE_SIDE) ** 2  # pixels of styles of `arbitrary`, so that numbers don't depend on the content's size
OVERHEAD = 120e6  # bytes that painting needs whatever the sizes of the pictures
PIXEL_BYTES = 120  # for each pixel of the largest picture, beside what the network needs
_COPIES, _FEATURE_COPIES = 3, 4  # of AdaIN: tensors of a tile's first layers, and of features, that are alive at once
_WIDE_COPIES = 4  # of `arbitrary`: tensors of its last but one layer, as large as the picture, that are alive at once
_ALIKE = 0.1  # how far the area of styles that were given the content's may differ from it


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
    save_style: PathLike | None = None,
    device: str = "cpu",
    force: bool = False,
) -> Painted:
    """Paint a picture in the styles of others, from files to a file, with the content's transparency and profile.

    Args:
        content: Picture to paint.
        styles: Pictures in whose style; for ``arbitrary`` also files that `save_style` wrote.
        out: Picture to write; its ending decides the type.
        network: A packed file of a network that takes any style, or ``adain`` or ``arbitrary``.
        strength: How much of the styles is taken, from 0 to 1.
        style_weights: How much each of them counts; all alike if not given.
        masks: One for each style, or none at all; the word ``none`` stands for everywhere.
        preserve_color: As in `StyleOptions`.
        size: Longer side of the result in pixels.
        pixels: Its area, if `size` is not given; the content's own if neither is.
        style_size: Longer side of the styles in pixels.
        style_pixels: Their area; if neither is given the content's, or for ``arbitrary`` one that is always the same.
        save_style: File to write the numbers of the style to, as `arbitrary` blends it; see `style_files`.
        device: Where to compute.
        force: Whether existing files may be replaced.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, an option has no meaning, or the pictures are too
            large for the memory.
    """
    inputs = Inputs.named(content, styles, masks, None, None, network)
    _check(inputs, [out] if save_style is None else [out, save_style], force)
    check_any_style(len(styles), strength, style_weights, preserve_color)
    painter = _loaded(network, place := require_device(device))
    saved = _saved_styles(painter, inputs, preserve_color)
    inputs = replace(inputs, styles=tuple(path for path in styles if not is_style(path)))
    pictures = _read(inputs, Sizes(size, pixels, style_size, style_pixels), out, painter)
    task = pictures.task(place, 0, 0)
    if save_style is not None:
        blended = _blended(painter, recoloured(task, preserve_color), saved, style_weights, inputs)
        write_style(save_style, blended, sha256(read_file(inputs.weights)), force=force)
    result = paint_through(painter, task, strength, style_weights, preserve_color, saved).cpu()
    codes = {index: code[0].tolist() for index, code in saved.items()}
    kept = {"strength": strength, "style_codes": codes, "style_weights": style_weights}
    settings = {"preserve_color": preserve_color, **kept}
    return _written(out, result, inputs, pictures, settings, force=force)


def _read(inputs: Inputs, sizes: Sizes, out: PathLike, painter: AnyStyle) -> Pictures:
    """The pictures at their sizes; those that cannot be painted or written are refused."""
    if isinstance(painter, Arbitrary) and sizes.style_longest is None and sizes.style_pixels is None:
        sizes = replace(sizes, style_pixels=LOOKED_AT)
    pictures = read_pictures(inputs, sizes, most=None)
    check_ending(out, max(pictures.content.size))
    with located(inputs.content):
        require_memory(painter, pictures.content.size, [style.size for style in pictures.styles])
    return pictures


def begun_by(network: PathLike, task: Task, options: StyleOptions) -> Task:
    """A task of the optimisation that begins with what a network paints of it, on the same device.

    Raises:
        PictureError: The network cannot paint pictures as large as these.
    """
    painter = _loaded(network, task.content.device)
    require_memory(painter, task.size, [size_of(style) for style in task.styles])
    painted = paint_through(painter, task, STRENGTH, options.style_weights, options.preserve_color)
    return replace(task, start=painted.clone())


def paint_through(
    painter: AnyStyle,
    task: Task,
    strength: float,
    style_weights: Sequence[float] | None,
    preserve_color: PreserveColor,
    saved: Mapping[int, Tensor] = MappingProxyType({}),
) -> Tensor:
    """What a network paints of a task's content, styles and masks, (1, 3, H, W) in [0, 1].

    Args:
        painter: The network.
        task: Content, and styles that are pictures.
        strength: How much of the styles is taken.
        style_weights: How much each of them counts.
        preserve_color: Which of the content's colours are kept.
        saved: Styles that are numbers, by their places among all.
    """
    with torch.inference_mode():
        prepared = recoloured(task, preserve_color)
        masks = prepared.masks if any(mask is not None for mask in prepared.masks) else None
        styles = _together(prepared.styles, saved)
        painted = painter(prepared.content, styles, strength=strength, weights=style_weights, masks=masks)
        return shown(painted, task.content if preserve_color == "luminance" else None).clamp(0, 1)


def require_memory(painter: AnyStyle, size: tuple[int, int], styles: Sequence[tuple[int, int]]) -> None:
    """Refuse pictures that would not fit into the memory of a network's device.

    Args:
        painter: The network.
        size: Height and width of the content.
        styles: Those of the styles.

    Raises:
        PictureError: They would not fit; the error names a size that would.
    """
    device = next(painter.parameters()).device
    available = available_memory(device)
    (height, width), style_area = size, max(map(math.prod, styles), default=0)
    area = height * width
    needed = _memory(painter, area, style_area)
    if available is None or needed <= available:
        return
    apart = abs(style_area / area - 1) > _ALIKE  # styles have a size of their own, and not the content's
    shares = (percent / 100 for percent in range(99, 0, -1))
    fitting = (s for s in shares if _memory(painter, s**2 * area, (1 if apart else s**2) * style_area) <= available)
    share = next(fitting, None)
    if share is not None:
        cure = f"choose {math.floor(width * share)} × {math.floor(height * share)} pixels or less"
    else:
        cure = "choose smaller styles" if apart and style_area > area else "make more memory free"
    expected = f"a painting in the {available / 1e9:.2f} GB left on {device}"
    raise PictureError(expected, f"one of about {needed / 1e9:.2f} GB at {width} × {height}", cure)


def _check(inputs: Inputs, outputs: Sequence[PathLike], force: bool) -> None:
    """Refuse outputs that cannot be written, and inputs that do not go together."""
    check_ending(outputs[0])
    for path in outputs:
        check_output(path, force=force, sources=inputs.sources)
    inputs.check()


def _memory(painter: AnyStyle, area: float, style_area: float) -> float:
    """Bytes that painting takes, given the areas of the content and of the largest style."""
    largest = max(area, style_area)
    if isinstance(painter, Arbitrary):  # normalisation looks at the whole picture, so there are no tiles
        return OVERHEAD + PIXEL_BYTES * largest + 4 * _WIDE_COPIES * painter.network.filters[1] * area
    channels = painter.network.channels
    tile = min(largest, (TILE + 2 * REACH) ** 2) * 4 * max(channels[:2]) * _COPIES
    return OVERHEAD + tile + (PIXEL_BYTES + _FEATURE_COPIES * 4 * channels[-1] / 64) * largest


def _saved_styles(painter: AnyStyle, inputs: Inputs, preserve_color: PreserveColor) -> dict[int, Tensor]:
    """Styles that are files of numbers, by their places.

    Raises:
        VggQuantError: A file is not sound, or its numbers are of no use here.
    """
    found: dict[int, Tensor] = {}
    for index, path in enumerate(inputs.styles):
        if not is_style(path):
            continue
        if not isinstance(painter, Arbitrary):
            cure = "name a picture, or the network arbitrary"
            with located(path):
                raise OptionError(f"a picture, at which {painter.network.family} looks", "numbers of a style", cure)
        if preserve_color == "linear":
            cure = "choose luminance, or name the picture"
            with located(path):
                raise OptionError("a picture, which linear recolours", "numbers of a style", cure)
        device = next(painter.parameters()).device
        found[index] = read_style(path, sha256(read_file(inputs.weights))).to(device)
    return found


def _together(pictures: Sequence[Tensor], saved: Mapping[int, Tensor]) -> list[Tensor]:
    """All styles in their order."""
    styles = list(pictures)
    for index, code in sorted(saved.items()):
        styles.insert(index, code)
    return styles


def _blended(
    painter: AnyStyle,
    task: Task,
    saved: Mapping[int, Tensor],
    style_weights: Sequence[float] | None,
    inputs: Inputs,
) -> Tensor:
    """The one style that several are together.

    Raises:
        OptionError: There is no such style, or no numbers of it.
    """
    if not isinstance(painter, Arbitrary):
        expected = "a network whose styles are numbers, such as arbitrary"
        raise OptionError(expected, f"one of the family {painter.network.family}", "leave it out", tensor="save_style")
    if inputs.masks:
        raise OptionError("one style for the whole picture", "masks", "leave one of them out", tensor="save_style")
    with torch.inference_mode():
        styles = _together(task.styles, saved)
        return painter.blend([style if style.ndim == 2 else painter.predict(style) for style in styles], style_weights)


def _loaded(network: PathLike, device: torch.device) -> AnyStyle:
    painter = load_stylizer(network, device=device)
    if not isinstance(painter, AdaIN | Arbitrary):
        with located(network):
            cure = "name adain or arbitrary"
            raise OptionError("a network that takes any style", f"one of the family {painter.network.family}", cure)
    return painter


def _written(
    out: PathLike, painted: Tensor, inputs: Inputs, pictures: Pictures, settings: Mapping[str, object], *, force: bool
) -> Painted:
    """Write a painting, of which a PNG's text tells the settings and what else makes it what it is; no paths."""
    checksums, content = pictures.checksums(inputs), pictures.content
    made_with = {
        "network": checksums["weights"],
        "sha256": {key: checksums[key] for key in ("content", "styles", "masks")},
        "style_sizes": [[style.size[1], style.size[0]] for style in pictures.styles],
        "torch": torch.__version__,
        "vggquant": version("vggquant"),
    }
    text = json.dumps({**made_with, **settings}, sort_keys=True)
    write_picture(out, Picture(painted, content.alpha, content.icc, text), force=force)
    return Painted(os.fspath(out), content.size[1], content.size[0], _notes(inputs, out, pictures))


def _notes(inputs: Inputs, out: PathLike, pictures: Pictures) -> tuple[str, ...]:
    notes = pictures.notes(inputs)
    if pictures.content.alpha is not None and WRITABLE[Path(out).suffix.lower()] == "JPEG":
        notes.append(f"{os.fspath(out)}: JPEG keeps no transparency; it is painted over white")
    return tuple(notes)
