"""The files that a painting is made from, and the pictures in them. What they are painted into is left to others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vggquant.errors import OptionError, located
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import ANY_STYLE, resolve
from vggquant.pictures.files import Picture, read_mask, read_picture
from vggquant.style.checks import check_mask
from vggquant.style.options import NO_MASK, PIXELS
from vggquant.style.task import Task


@dataclass(frozen=True)
class Inputs:
    """Files that a painting is made from.

    Args:
        content: Picture to paint.
        styles: Pictures in whose manner.
        masks: Where each style is wanted, ``None`` for everywhere; empty if no masks were given.
        start: Picture to optimise from, or ``None``.
        resume: Intermediate picture to go on from, or ``None``.
        weights: A packed file.
        painter: A network whose painting is optimised from, or ``None``.
    """

    content: PathLike
    styles: tuple[PathLike, ...]
    masks: tuple[PathLike | None, ...]
    start: PathLike | None
    resume: PathLike | None
    weights: PathLike
    painter: PathLike | None = None

    @classmethod
    def named(
        cls,
        content: PathLike,
        styles: Sequence[PathLike],
        masks: Sequence[PathLike],
        start: PathLike | None,
        resume: PathLike | None,
        weights: PathLike | None,
    ) -> Inputs:
        """The files as a caller names them.

        Among them are words: ``none`` for no mask, ``vgg19`` or nothing for the embedded weights, and ``adain`` to
        start from what that network paints.
        """
        files = tuple(None if os.fspath(mask) == NO_MASK else mask for mask in masks)
        painter = resolve(start) if start == ANY_STYLE else None
        picture = start if painter is None else None
        return cls(content, tuple(styles), files, picture, resume, resolve(weights), painter)

    @property
    def sources(self) -> list[PathLike]:
        """Those that may not be written over: all but the picture to resume from, which the result may replace."""
        given = (self.content, *self.styles, *self.masks, self.start, self.weights)
        return [path for path in given if path is not None]

    def check(self) -> None:
        """Refuse files that do not go together.

        Raises:
            OptionError: A picture to start from besides one to resume from, or another number of masks than styles.
        """
        if (self.start, self.painter) != (None, None) and self.resume is not None:
            raise OptionError("a picture to start or to resume from", "both", "choose one", tensor="start")
        if self.masks and len(self.masks) != len(self.styles):
            got = f"{len(self.masks)} for {len(self.styles)}"
            raise OptionError("one for each style, or none at all", got, "name as many", tensor="masks")


@dataclass(frozen=True)
class Sizes:
    """Sizes that pictures are resized to.

    Args:
        longest: Longer side of the result in pixels.
        pixels: Its area, if `longest` is not given; the content's own, up to a limit, if neither is.
        style_longest: Longer side of the styles.
        style_pixels: Their area; the content's if neither is given.
    """

    longest: int | None = None
    pixels: int | None = None
    style_longest: int | None = None
    style_pixels: int | None = None

    def __post_init__(self) -> None:
        for kind, side, area in (("", self.longest, self.pixels), ("style_", self.style_longest, self.style_pixels)):
            if side is not None and area is not None:
                cure = f"leave out `{kind}size` or `{kind}pixels`"
                raise OptionError("a side or an area", "both", cure, tensor=f"{kind}size")


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures that were read from `Inputs`.

    Args:
        content: At the size of the result.
        styles: At the sizes that they are looked at.
        masks: For each style, (1, 1, H, W) at the size of the result, or ``None``.
        mask_checksums: For each mask of `Inputs`, the SHA-256 of its file, or ``None``.
        begun: The picture to start or to resume from, as its file has it, or ``None``.
        reduced: Whether the content was reduced though no size was asked for.
    """

    content: Picture
    styles: tuple[Picture, ...]
    masks: tuple[Tensor | None, ...]
    mask_checksums: tuple[str | None, ...]
    begun: Picture | None
    reduced: bool = False

    def notes(self, inputs: Inputs) -> list[str]:
        """Sentences for the caller about files of which only a part was read, or that were reduced unasked."""
        read = zip((inputs.content, *inputs.styles), (self.content, *self.styles), strict=True)
        notes = [
            f"{os.fspath(path)}: only the first of its frames is used" for path, picture in read if picture.animated
        ]
        stored = self.content.stored
        if self.reduced and stored is not None:
            sizes = " to ".join(f"{width} × {height}" for height, width in (stored, self.content.size))
            notes.append(f"{os.fspath(inputs.content)}: reduced from {sizes} pixels; pass `size` for another size")
        return notes

    def checksums(self, inputs: Inputs) -> dict[str, Any]:
        """SHA-256 of each file, as it was read, but the one to resume from, as a painting records them."""
        return {
            "content": self.content.sha256,
            "styles": [style.sha256 for style in self.styles],
            "masks": list(self.mask_checksums),
            "start": self._start(inputs),
            "weights": sha256(read_file(inputs.weights)),
        }

    def _start(self, inputs: Inputs) -> str | None:
        if inputs.painter is not None:
            return sha256(read_file(inputs.painter))
        return None if inputs.resume is not None or self.begun is None else self.begun.sha256

    def task(self, device: torch.device, done: int, planned: int) -> Task:
        """What is to be painted, on a device, once the first `done` steps are made, with scales planned for others."""
        return Task(
            self.content.pixels.to(device),
            tuple(style.pixels.to(device) for style in self.styles),
            tuple(None if mask is None else mask.to(device) for mask in self.masks),
            None if self.begun is None else self.begun.pixels.to(device),
            done,
            planned,
        )


def read_pictures(inputs: Inputs, sizes: Sizes, most: int | None = PIXELS) -> Pictures:
    """Read all pictures at their sizes.

    Args:
        inputs: Files to read.
        sizes: That are asked for.
        most: Largest area of the content where none is asked for, if there is one.

    Raises:
        VggQuantError: A file is missing or no picture, or a mask has no white.
    """
    content = read_picture(inputs.content, longest=sizes.longest, pixels=sizes.pixels, most=most)
    height, width = content.size
    area = sizes.style_pixels or height * width
    styles = tuple(read_picture(path, longest=sizes.style_longest, pixels=area) for path in inputs.styles)
    masks = [(None, None) if path is None else read_mask(path, content.size) for path in inputs.masks]
    for index, (path, (mask, _)) in enumerate(zip(inputs.masks, masks, strict=True)):
        if path is not None and mask is not None:
            with located(path):
                check_mask(f"masks[{index}]", mask)
    begun = inputs.start if inputs.start is not None else inputs.resume
    return Pictures(
        content,
        styles,
        tuple(mask for mask, _ in masks) or (None,) * len(styles),
        tuple(checksum for _, checksum in masks),
        None if begun is None else read_picture(begun),
        reduced=sizes.longest is None and sizes.pixels is None and content.size != content.stored,
    )
