"""Picture files to painted picture files in one pass, by a network that knows its style.

Loading the network is left to `models`, painting by optimisation to `painting`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from vggquant.errors import OptionError, PictureError, VggQuantError, located
from vggquant.files.disk import PathLike, check_output, make_folder, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.models.johnson import SMALLEST, Johnson
from vggquant.models.painters import load_stylizer
from vggquant.pictures.files import WRITABLE, Picture, check_ending, read_picture, write_picture
from vggquant.progress import Progress, ProgressCallback


@dataclass(frozen=True)
class Painted:
    """One picture that was painted.

    Args:
        path: Of its file.
        width: In pixels.
        height: In pixels.
        notes: Sentences for the caller.
    """

    path: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


def paint_in_one_pass(
    contents: PathLike | Sequence[PathLike],
    out: PathLike,
    network: PathLike,
    *,
    size: int | None = None,
    pixels: int | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> tuple[Painted, ...]:
    """Paint pictures, from files to files, in the style that a network was trained for.

    A result has the content's size, unless another is asked for, and its transparency and colour profile. If it is a
    PNG, its text tells what made it.

    Args:
        contents: A picture to paint, or several.
        out: Picture to write; its ending decides the type. For several contents a folder, made if missing, where each
            result has the name of its content.
        network: A packed file that `train` wrote, or the name of an embedded one, see `load_stylizer`.
        size: Longer side of the results in pixels.
        pixels: Their area, if `size` is not given.
        device: Where to compute.
        force: Whether existing files may be replaced.
        progress: Called after each picture.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, or an option has no meaning.
    """
    if isinstance(contents, str | bytes | os.PathLike):
        contents = [contents]
    if size is not None and pixels is not None:
        raise OptionError("a side or an area", "both", "leave `size` or `pixels` out", tensor="size")
    file = resolve(network)
    outputs = _outputs(contents, out, [*contents, file], force=force)
    painter = _loaded(network, device)
    made_with = {"network": sha256(read_file(file)), "torch": torch.__version__, "vggquant": version("vggquant")}
    if len(contents) > 1:
        make_folder(out)
    started, painted = time.monotonic(), []
    try:
        for done, (content, path) in enumerate(zip(contents, outputs, strict=True), start=1):
            picture = _read(content, size, pixels)
            check_ending(path, max(picture.size))
            result = _through(painter, picture, device)
            settings = json.dumps({**made_with, "content": picture.sha256}, sort_keys=True)
            write_picture(path, Picture(result, picture.alpha, picture.icc, settings), force=force)
            painted.append(Painted(os.fspath(path), picture.size[1], picture.size[0], _notes(content, path, picture)))
            if progress is not None:
                elapsed = time.monotonic() - started
                progress(Progress("paint", done, len(contents), elapsed, os.path.basename(os.fspath(content))))
    except VggQuantError as error:
        if painted:
            error.cure = f"{error.cure}; of {len(contents)} the first {len(painted)} are painted"
        raise
    return tuple(painted)


def _loaded(network: PathLike, device: str) -> Johnson:
    painter = load_stylizer(network, device=device)
    if not isinstance(painter, Johnson):
        with located(network):
            cure = "name styles too, with `paint_in_styles`"
            raise OptionError("a network that knows its style", f"one of the family {painter.network.family}", cure)
    return painter


def _outputs(contents: Sequence[PathLike], out: PathLike, sources: Sequence[PathLike], *, force: bool) -> list[str]:
    """Where each result goes; whatever can be refused before is refused."""
    if not contents:
        raise OptionError("a picture or more", "none", "name one", tensor="contents")
    if len(contents) == 1 and not os.path.isdir(out):
        check_ending(out)
        check_output(out, force=force, sources=sources)
        return [os.fsdecode(out)]
    if Path(os.fsdecode(out)).suffix.lower() in WRITABLE and not os.path.isdir(out):
        cure = "name a folder; for a style of your own, `network` adain"
        raise OptionError("a folder for several contents", "the name of a picture", cure, tensor="out")
    names = [Path(os.fsdecode(content)) for content in contents]
    # what cannot be written becomes a PNG
    files = [name.name if name.suffix.lower() in WRITABLE else f"{name.stem}.png" for name in names]
    for file, count in Counter(file.lower() for file in files).items():
        if count > 1:
            got = f"{file} {count} times"
            raise OptionError("contents of different names", got, "paint them one by one", tensor="contents")
    outputs = [os.path.join(os.fsdecode(out), file) for file in files]
    if os.path.isdir(out):
        for path in outputs:
            check_output(path, force=force, sources=sources)
    return outputs


def _read(content: PathLike, size: int | None, pixels: int | None) -> Picture:
    """A content, if the painter can do with its size."""
    picture = read_picture(content, longest=size, pixels=pixels)
    if min(picture.size) < SMALLEST:
        got = " × ".join(map(str, reversed(picture.size)))
        cure = "choose a larger picture, or a larger `size`"
        raise PictureError(f"sides of at least {SMALLEST} pixels", got, cure, path=content)
    return picture


def _through(painter: nn.Module, picture: Picture, device: str) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = painter(picture.pixels.to(device)).cpu()
    return result


def _notes(content: PathLike, path: PathLike, picture: Picture) -> tuple[str, ...]:
    notes = []
    if picture.animated:
        notes.append(f"{os.fspath(content)}: only the first of its frames is used")
    if picture.alpha is not None and WRITABLE[Path(path).suffix.lower()] == "JPEG":
        notes.append(f"{os.fspath(path)}: JPEG keeps no transparency; it is painted over white")
    return tuple(notes)
