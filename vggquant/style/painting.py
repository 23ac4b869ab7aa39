"""Picture files → a painted picture file: sizes, masks, saves, resuming; the optimisation is left to `style`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from vggquant.errors import OptionError, PictureError, SourceError, located
from vggquant.files.sources import resolve
from vggquant.files.storage import PathLike, check_output, make_folder, read_file, sha256
from vggquant.models.devices import require_device
from vggquant.models.load import load_quantized_vgg
from vggquant.models.vgg import VGG, Pooling
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.pictures.files import WRITABLE, Picture, check_ending, read_mask, read_picture, write_picture
from vggquant.style.options import PIXELS, Precision, StyleOptions
from vggquant.style.transfer import StyleProgress, stylize

NO_MASK = "none"  # for a style that is wanted everywhere


@dataclass(frozen=True)
class Saves:
    """Intermediate pictures.

    Args:
        every: Steps between two of them.
        folder: Where they go; made if missing.
        prefix: Of their names, which go on with the step.
    """

    every: int
    folder: PathLike = "."
    prefix: str = ""

    def path(self, step: int, steps: int) -> str:
        """Where the picture after a step goes."""
        return os.path.join(os.fspath(self.folder), f"{self.prefix}{step:0{len(str(steps))}d}.png")

    def paths(self, steps: range) -> list[str]:
        """Where the pictures after some steps go."""
        return [self.path(step, steps.stop - 1) for step in steps if step % self.every == 0]


@dataclass(frozen=True)
class PaintReport:
    """What was painted.

    Args:
        width: In pixels.
        height: In pixels.
        loss: Terms of the loss before the last step; empty for no steps.
        notes: Sentences for the caller.
    """

    width: int
    height: int
    loss: dict[str, float]
    notes: tuple[str, ...] = ()


def paint(
    content: PathLike,
    styles: Sequence[PathLike],
    out: PathLike,
    options: StyleOptions | None = None,
    *,
    weights: PathLike | None = None,
    pooling: Pooling = "max",
    size: int | None = None,
    pixels: int = PIXELS,
    style_size: int | None = None,
    style_pixels: int | None = None,
    masks: Sequence[PathLike] = (),
    start: PathLike | None = None,
    resume: PathLike | None = None,
    device: str = "cpu",
    supplemental_devices: Sequence[tuple[str, str]] = (),
    deterministic: bool = False,
    saves: Saves | None = None,
    force: bool = False,
    progress: Callable[[StyleProgress], None] | None = None,
) -> PaintReport:
    """Paint a picture in the manner of others, file to file.

    Transparency and colour profile are the content's; a PNG tells in its text what made it: options,
    sizes and checksums, no paths.

    Args:
        content: Picture to paint.
        styles: Pictures in whose manner.
        out: Picture to write; its ending tells the type.
        options: Of the transfer.
        weights: A packed file; the embedded VGG-19 if not given.
        pooling: ``max`` or ``avg``.
        size: Longest side of the result.
        pixels: Its area, if `size` is not given.
        style_size: Longest side of the styles.
        style_pixels: Their area; the content's if neither is given.
        masks: One for each style, or none at all; the word ``none`` stands for everywhere.
        start: A picture to optimise from, instead of what the options say.
        resume: An intermediate picture of this very transfer, to go on from.
        device: Where to compute.
        supplemental_devices: Device and layer (a name, or an index from 1) from which it is used.
        deterministic: Whether to keep to algorithms that always give the same.
        saves: Intermediate pictures wanted.
        force: Whether existing files may be replaced.
        progress: Called after each step.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, or an option has no meaning.
    """
    options = options or StyleOptions()
    check_ending(out)
    masked = [mask for mask in masks if os.fspath(mask) != NO_MASK]
    started = [path for path in (start, resume) if path is not None]
    inputs = [content, *styles, *masked, *started, resolve(weights)]
    check_output(out, force=force, sources=inputs)
    if start is not None and resume is not None:
        raise OptionError("a picture to start or to resume from", "both", "choose one", tensor="start")
    if masks and len(masks) != len(styles):
        got = f"{len(masks)} for {len(styles)}"
        raise OptionError("one for each style, or none at all", got, "name as many", tensor="mask")
    names = ARCHITECTURES["vgg19"].layers  # which all others share
    asked = [("--content-layer", layer) for layer in options.content_layers]
    asked += [("--style-layer", layer) for layer in options.style_layers]
    for option, layer in asked:
        if layer not in names:
            raise OptionError(f"a layer {names[0]} … {names[-1]}", f"“{layer}”", "see --list-layers", tensor=option)
    read = read_picture(content, longest=size, pixels=pixels)
    area = read.pixels.shape[2] * read.pixels.shape[3]
    read_styles = [read_picture(path, longest=style_size, pixels=style_pixels or area) for path in styles]
    style_pictures = [style.pixels for style in read_styles]
    notes = [
        f"{os.fspath(path)}: the first of {picture.frames} frames"
        for path, picture in zip((content, *styles), (read, *read_styles), strict=True)
        if picture.frames > 1
    ]
    shape = (read.pixels.shape[2], read.pixels.shape[3])
    check_ending(out, max(shape))
    if read.alpha is not None and WRITABLE[Path(out).suffix.lower()] == "JPEG":
        notes.append(f"{os.fspath(out)}: JPEG keeps no transparency; it is painted over white")
    read_masks = [None if os.fspath(mask) == NO_MASK else read_mask(mask, shape) for mask in masks]
    began = None if not started else read_picture(started[0])
    settings = {
        "options": dataclasses.asdict(options),
        "pooling": pooling,
        "sha256": {
            "content": _sha256(content),
            "styles": [_sha256(style) for style in styles],
            "masks": [None if os.fspath(mask) == NO_MASK else _sha256(mask) for mask in masks],
            "start": None if start is None else _sha256(start),
            "weights": _sha256(resolve(weights)),
        },
        "size": [shape[1], shape[0]],
        "style_sizes": [[style.shape[3], style.shape[2]] for style in style_pictures],
    }
    done = 0
    resumed: list[dict[str, Any]] = []
    if resume is not None and began is not None:
        with located(resume):
            done, settings, resumed = _resumed(began, settings)
        resumed = [*resumed, {"step": done, "sha256": _sha256(resume)}]
    made_with = {"vggquant": version("vggquant"), "torch": torch.__version__, "resumed": resumed}
    if saves is not None:
        for path in saves.paths(range(done + 1, options.steps + 1)):
            if os.path.realpath(path) == os.path.realpath(out):
                raise OptionError(
                    "another name than that of a picture on the way", os.fspath(out), "rename it", tensor="out"
                )
            if os.path.isdir(saves.folder):
                check_output(path, force=force, sources=inputs)

    where = require_device(device)
    layers = (*options.content_layers, *options.style_layers)
    with _deterministically(deterministic):
        vgg = load_network(
            options.precision, weights, upto=max(layers, key=_depth, default=None), pooling=pooling, device=where
        )
        others = {_layer(vgg, layer): require_device(other) for other, layer in supplemental_devices}
        vgg.place({layer: other for layer, other in others.items() if layer in vgg.layers})
        terms: dict[str, float] = {}

        def written(picture: torch.Tensor, step: int) -> Picture:
            alpha = read.alpha
            if alpha is not None and alpha.shape[2:] != picture.shape[2:]:
                alpha = interpolate(alpha, picture.shape[2:], mode="bilinear", antialias=True)
            text = json.dumps({**made_with, "step": step, **settings}, sort_keys=True)
            return Picture(picture, alpha, read.icc, text)

        def report(made: StyleProgress) -> None:
            terms.update(made.values)
            if saves is not None and made.done % saves.every == 0:
                path = saves.path(made.done, options.steps)
                write_picture(path, written(made.picture(), made.done), force=force)
            if progress is not None:
                progress(made)

        if saves is not None:
            make_folder(saves.folder)
        files = {f"styles[{index}]": path for index, path in enumerate(styles)}
        files |= {f"masks[{index}]": path for index, path in enumerate(masks)}
        try:
            result = stylize(
                vgg,
                read.pixels.to(where),
                [style.to(where) for style in style_pictures],
                options,
                masks=[None if mask is None else mask.to(where) for mask in read_masks] or None,
                start=None if began is None else began.pixels.to(where),
                done=done,
                progress=report,
            )
        except PictureError as error:
            error.path = files.get(error.tensor or "", content)
            raise
    write_picture(out, written(result, options.steps), force=force)
    return PaintReport(shape[1], shape[0], terms, tuple(notes))


def load_network(
    precision: Precision,
    weights: PathLike | None = None,
    *,
    upto: str | None = None,
    pooling: Pooling = "max",
    device: torch.device | str = "cpu",
) -> VGG:
    """Load a network as it paints fastest: in bf16 with its weights laid out channels last.

    Args:
        precision: ``float32`` or ``bf16``.
        weights: A packed file; the embedded VGG-19 if not given.
        upto: The deepest layer that is looked at.
        pooling: ``max`` or ``avg``.
        device: Where to compute.

    Raises:
        VggQuantError: The file is missing, not sound, or ends before `upto`.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        vgg = load_quantized_vgg(weights, upto=upto, pooling=pooling, device=device, dtype=dtype)
    except OptionError as error:
        if error.tensor != "upto":
            raise
        expected, got = f"layers up to {upto} to paint with", f"a file with {error.expected}"
        raise SourceError(expected, got, "pack it anew, up to there", path=weights) from None
    if precision == "bf16":
        for parameter in vgg.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return vgg


def _resumed(picture: Picture, settings: dict[str, Any]) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Steps that made a picture, the settings that it has in common with this transfer, and where it was resumed."""
    cure = "repeat the command that it was made with, or pass it to --start"
    try:
        found = json.loads(picture.settings or "")
        step, theirs, before = found["step"], {key: found[key] for key in settings}, [*found.get("resumed", ())]
        theirs["sha256"] = {**theirs["sha256"], "start": settings["sha256"]["start"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PictureError("the settings of a transfer in a PNG's text", "none", cure) from None
    ours = json.loads(json.dumps(settings))  # as they are read back
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise PictureError("a picture of this very transfer", f"other {', '.join(different)}", cure)
    if type(step) is not int or not 0 <= step <= settings["options"]["steps"]:
        raise PictureError(f"a step up to {settings['options']['steps']}", step, cure)
    return step, {**settings, "sha256": found["sha256"]}, before


def _sha256(path: PathLike) -> str:
    return sha256(read_file(path))


def _depth(layer: str) -> tuple[int, int, bool]:
    """Order of layers, whatever the architecture; unknown names are left to the model."""
    found = re.fullmatch(r"(?:(conv|relu)(\d)_(\d)|pool(\d))", layer)
    if found is None:
        return (9, 9, True)
    return (int(found[4]), 9, True) if found[4] else (int(found[2]), int(found[3]), found[1] == "relu")


def _layer(vgg: VGG, layer: str) -> str:
    """A layer's name, of its name or index."""
    if not layer.isdecimal():
        if layer not in vgg.architecture.layers:
            raise OptionError("the name of a layer", layer, "see --list-layers", tensor="supplemental device")
        return layer
    names = vgg.architecture.layers
    if not 0 < int(layer) < len(names):
        raise OptionError(f"1 to {len(names) - 1}", layer, "see --list-layers", tensor="supplemental device")
    return names[int(layer)]


@contextmanager
def _deterministically(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
