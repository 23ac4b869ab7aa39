"""Any source to a packed file: `pack`. Reading is left to `files`, the choice of codes to `quantizing`."""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass, replace

from vggquant.codec.bitstream import MAX_BITS, Coding, require_coding
from vggquant.errors import ContainerError, OptionError, SourceError, located
from vggquant.files.container import shares_codebooks, write
from vggquant.files.disk import PathLike, check_output
from vggquant.files.fields import MAX_TEXT, is_credit
from vggquant.files.layouts import Layout
from vggquant.files.sources import WORDS, SourceLike, name_of_source, read_source, resolve
from vggquant.files.weights import Weights
from vggquant.networks.network import weight_specs
from vggquant.networks.vgg import Preprocessing, as_vgg, require_vgg
from vggquant.packing.budget import parse_size
from vggquant.packing.inspection import FileInfo, describe_file
from vggquant.packing.quantizing import Quantizer, changes_of
from vggquant.packing.rated import Budget, palettize_to_budget
from vggquant.packing.widths import DEFAULT_BITS, Bits, parse_bits
from vggquant.progress import ProgressCallback

OTHER_TYPES = (
    ".bin",
    ".ckpt",
    ".h5",
    ".hdf5",
    ".npy",
    ".npz",
    ".onnx",
    ".pkl",
    ".pt",
    ".pth",
    ".zip",
)  # by their ending

_CREDIT = f"a text of 1 to {MAX_TEXT} characters, without NUL and in UTF-8"


@dataclass(frozen=True)
class PackReport:
    """What `pack` did.

    Args:
        info: The file written.
        notes: Sentences on what was read, passed over or left out.
    """

    info: FileInfo
    notes: tuple[str, ...]


def pack(
    source: SourceLike,
    out: PathLike,
    *,
    bits: Bits | None = None,
    rate: float | None = None,
    max_size: int | str | None = None,
    coding: Coding | None = None,
    calibrate: bool = False,
    images: PathLike | None = None,
    upto: str | None = None,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    arch: str | None = None,
    attribution: str | None = None,
    ignore_extra: bool = False,
    jobs: int | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Palettize the weights of a network into a packed file.

    Args:
        source: A weights file, a packed file, of which weights of the same width are copied, or a word such as
            ``vgg19``; or weights in memory: a module, or a state dict of torch tensors or NumPy arrays.
        out: The packed file to write; if anything fails, an existing one is left as it was.
        bits: Bits per code, 1–8, or rules such as ``{"conv1_1": 8, "*": 4}``, see `parse_bits`. 8 if not given.
        rate: Instead of `bits`, how many bits a weight takes on average, coded by rarity, see `rates`.
        max_size: Instead of both, the largest size of the file, in bytes or as ``"6MB"``, see `budget` and `rates`.
        coding: ``planes``, which loads fastest, or ``huffman``, which is smaller and goes with `rate`.
        calibrate: Choose codes by what they do to the features of a VGG, which takes minutes, see `calibrated_widths`.
        images: A folder of photographs to calibrate on, of which at most 64 are used; generated pictures if not given.
        upto: Leave out the layers of a VGG deeper than this one.
        layout: Naming and axes of the source; recognised if not given.
        preprocessing: ``caffe`` or ``torch``, where the source does not tell.
        arch: ``vgg11`` … ``vgg19``; recognised if not given.
        attribution: Authors and licence, to be passed on; joined to what the source says of them.
        ignore_extra: Accept tensors that do not belong to the network.
        jobs: Layers worked on at once, by default one for each processor.
        force: Replace an existing file.
        progress: Called after each layer.

    Raises:
        VggQuantError: An argument has no meaning, the source cannot be read, or the output not written.

    Example:
        >>> report = pack("vgg19", "vgg19-4bit.safetensors", bits=4)  # doctest: +SKIP
    """
    budget = _check_options(bits, rate, max_size, coding, jobs, attribution)
    _check_files(out, images, calibrate)
    check_output(out, force=force, sources=[resolve(source)] if isinstance(source, (str, os.PathLike)) else [])
    reading = read_source(
        source, layout=layout, preprocessing=preprocessing, arch=arch, upto=upto, ignore_extra=ignore_extra
    )
    quantizer = Quantizer(coding or "planes", jobs, progress)
    # a source is not to blame for a width or a size that is refused
    with located(name := name_of_source(source), kind=ContainerError), located(name, kind=SourceError):
        weights, notes = _quantize(_credited(reading.weights, attribution), bits, budget, calibrate, images, quantizer)
    found = describe_file(weights, write(out, weights, force=force))
    return PackReport(found, (*reading.notes, *notes, *_cut_notes(weights, found)))


def _check_options(
    bits: Bits | None,
    rate: float | None,
    max_size: int | str | None,
    coding: Coding | None,
    jobs: int | None,
    attribution: str | None,
) -> Budget | None:
    """Refuse options that have no meaning; the budget that they set, if they do."""
    given = [name for name, value in (("bits", bits), ("rate", rate), ("max_size", max_size)) if value is not None]
    if len(given) > 1:
        cure = f"leave out {' or '.join(f'`{name}`' for name in given)}"
        raise OptionError("widths, a rate or a size", f"{len(given)} of them", cure, tensor=given[-1])
    if rate is not None and not (isinstance(rate, numbers.Real) and 0 < rate <= MAX_BITS):
        expected = f"a number of bits above 0, at most {MAX_BITS}"
        raise OptionError(expected, repr(rate), "choose a rate such as 1.9", tensor="rate")
    if coding is not None:
        require_coding(coding)
    if rate is not None and coding == "planes":
        raise OptionError("huffman beside a rate", coding, "leave out `coding` or `rate`", tensor="coding")
    if jobs is not None and jobs < 1:
        raise OptionError("1 or more", jobs, "leave it out to use all processors", tensor="jobs")
    if attribution is not None and not is_credit(attribution):
        raise OptionError(_CREDIT, attribution or "nothing", "shorten or correct it", tensor="attribution")
    if max_size is not None:
        return Budget(size=parse_size(max_size))
    return None if rate is None else Budget(rate=rate)


def _check_files(out: PathLike, images: PathLike | None, calibrate: bool) -> None:
    """Refuse pictures that nobody looks at, a word as an output, and an ending that promises another type."""
    if images is not None and not calibrate:
        raise OptionError("`calibrate=True` beside it", "nothing", "add that or leave it out", tensor="images")
    if out in WORDS:
        got = f"{out}, the word for embedded weights"
        raise OptionError("a file name", got, f"choose another, or write ./{out}", tensor="out")
    ending = os.path.splitext(os.fspath(out))[1].lower()
    if ending in OTHER_TYPES:
        cure = "rename it, or use unpack to write other types"
        raise OptionError("the ending .safetensors", ending, cure, tensor="out")


def _credited(weights: Weights, attribution: str | None) -> Weights:
    """The weights with an attribution, joined to the one that they have."""
    provenance = weights.provenance
    before = provenance.attribution
    if before is None:
        provenance = replace(provenance, attribution=attribution)
    elif attribution is not None and f"; {attribution}; " not in f"; {before}; ":
        provenance = replace(provenance, attribution=f"{before}; {attribution}")
    for name in ("attribution", "changes"):
        text = getattr(provenance, name)
        if text is not None and not is_credit(text):
            raise SourceError(_CREDIT, text, f"correct the {name} of the source", tensor=name)
    return replace(weights, provenance=provenance)


def _quantize(
    weights: Weights,
    bits: Bits | None,
    budget: Budget | None,
    calibrate: bool,
    images: PathLike | None,
    quantizer: Quantizer,
) -> tuple[Weights, tuple[str, ...]]:
    """The weights palettized, and what there is to say of it."""
    if calibrate:
        return _calibrate(weights, bits, budget, images, quantizer)
    if budget is None:
        layers = tuple(spec.layer for spec in weight_specs(weights.network))
        return quantizer.to_widths(weights, parse_bits(DEFAULT_BITS if bits is None else bits, layers)), ()
    # networks of small weights, which share codebooks, do better with widths
    if budget.size is not None and (quantizer.coding == "planes" or shares_codebooks(weights.network)):
        return quantizer.to_size(weights, budget.size), ()
    return palettize_to_budget(weights, budget, quantizer.jobs, quantizer.progress), ()


def _calibrate(
    weights: Weights, bits: Bits | None, budget: Budget | None, images: PathLike | None, quantizer: Quantizer
) -> tuple[Weights, tuple[str, ...]]:
    """The weights palettized by what they do to pictures, and what there is to say of it."""
    from vggquant.packing.calibration import calibrate, calibrated_widths
    from vggquant.packing.calibration_pictures import calibration_pictures
    from vggquant.packing.goals import Goal, ToBudget, ToWidths

    network = require_vgg(weights.network, "leave out `calibrate`")
    goal: Goal
    if budget is not None and (budget.size is None or quantizer.coding == "huffman"):
        goal = ToBudget(weights, budget)
    elif budget is not None and budget.size is not None:
        goal = ToWidths(quantizer.widths_to_calibrate(weights, budget.size), quantizer.coding)
    elif bits is not None:
        layers = tuple(spec.layer for spec in weight_specs(network))
        goal = ToWidths(calibrated_widths(bits, layers), quantizer.coding)
    else:
        cure = "name `bits`, `rate` or `max_size`"
        raise OptionError("widths, a rate or a size to calibrate for", "none", cure, tensor="calibrate")
    smallest, _ = network.architecture.smallest_side([network.last])
    pictures = calibration_pictures(images, smallest)
    found = calibrate(weights, goal, pictures.pictures, quantizer.progress)
    done = None if found.done is None else f"{found.done} (calibrated, biases too, on {pictures.description})"
    provenance = replace(weights.provenance, changes=changes_of(weights, done))
    return replace(found.weights, provenance=provenance), (*pictures.notes, *found.notes)


def _cut_notes(weights: Weights, found: FileInfo) -> list[str]:
    """What leaving out the deepest layers of a VGG saved."""
    network = as_vgg(weights.network)
    if network is None or network.complete:
        return []
    left_out = network.architecture.convolutions[network.depth :]
    count = sum(convolution.size for convolution in left_out)
    saved = count * sum(layer.bytes for layer in found.layers) / found.weights
    names = ", ".join(convolution.name for convolution in left_out)
    share = 100 * count // (count + found.weights)  # rounded down, since some weights always remain
    return [f"left out {names}: {share}% of the weights, about {saved / 1e6:.1f} MB"]
