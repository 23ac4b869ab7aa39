"""Any supported source to weights: a file, a state dict, a module or a word such as `vgg19`; settles its preprocessing.

File types are left to their readers, names and axes to `layouts`, our own files to `container`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.resources
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from vggquant.errors import NetworkError, OptionError, SourceError, located, require_one_of
from vggquant.files.container import KEY, from_bytes
from vggquant.files.contents import Content, open_content
from vggquant.files.convolutions import LayoutReading, read_layout, read_network
from vggquant.files.disk import Bytes, PathLike, Readable, name_of, sha256
from vggquant.files.hdf5_files import is_h5, read_h5
from vggquant.files.known_files import PUBLISHED, PublishedFile
from vggquant.files.layouts import LAYOUTS, Layout
from vggquant.files.safetensors import check_header, parse_json
from vggquant.files.state_dicts import RECORD, Module, StateDict, checksum, name_of_state, read_state_dict, recorded
from vggquant.files.tensors import WeightFile, read_safetensors
from vggquant.files.torch_files import START_BYTES, is_torch, read_torch
from vggquant.files.weights import Provenance, Weights
from vggquant.networks.families import network_from_record
from vggquant.networks.network import Network, weight_specs
from vggquant.networks.vgg import (
    ARCHITECTURES,
    PREPROCESSINGS,
    Architecture,
    Preprocessing,
    VGGNetwork,
    as_vgg,
    require_layer,
)

EMBEDDED = "vgg19"  # the word for the embedded weights; a file of that name is ./vgg19
SMALL = "vgg19-small"  # and for the small file of them
ANY_STYLE = "adain"  # the word for the embedded network that paints in any style
ONE_STYLE = ("starry", "scream", "wave", "mosaic")  # the words for those that paint in one style of their own
PAINTERS = (*ONE_STYLE, ANY_STYLE, "arbitrary")  # the words for all that paint
WORDS = (EMBEDDED, SMALL, *PAINTERS)  # all that stand for an embedded file

SourceLike = Readable | StateDict


@dataclass(frozen=True, eq=False)
class Source:
    """Weights as they were read, with what the reader should be told.

    Args:
        weights: Palettized if the source is a packed file, else in float32.
        notes: Sentences for the caller: what was left out, folded or taken as given.
    """

    weights: Weights
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a caller says of a source that it may not say itself, see `read_source`."""

    layout: Layout | None = None
    preprocessing: Preprocessing | None = None
    arch: str | None = None
    upto: str | None = None
    ignore_extra: bool = False


@functools.cache
def embedded_path(name: str = EMBEDDED) -> Path:
    """Path of an embedded file; where the package lies in a zip file, of a copy that is removed at exit."""
    packed = importlib.resources.files("vggquant") / "weights" / f"{name}.safetensors"
    if isinstance(packed, Path):
        return packed
    copies = ExitStack()
    atexit.register(copies.close)
    return copies.enter_context(importlib.resources.as_file(packed))


@overload
def resolve(source: PathLike | None) -> PathLike: ...
@overload
def resolve(source: Readable | None) -> Readable: ...
@overload
def resolve(source: SourceLike | None) -> SourceLike: ...
def resolve(source: SourceLike | None) -> SourceLike:
    """The source itself, or for a word the embedded file that it stands for; ``None`` means ``vgg19``."""
    if source is None:
        return embedded_path()
    return embedded_path(source) if isinstance(source, str) and source in WORDS else source


def name_of_source(source: SourceLike | None) -> PathLike:
    """What errors call a source."""
    found = resolve(source)
    return name_of_state(found) if isinstance(found, (Mapping, Module)) else name_of(found)


def check_start(data: Bytes) -> int:
    """Refuse a file of no known type by its first bytes, else return its size."""
    if not is_h5(data) and not is_torch(data):
        check_header(data)
    return data.size


def read_source(
    source: SourceLike | None,
    *,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    arch: str | None = None,
    upto: str | None = None,
    ignore_extra: bool = False,
) -> Source:
    """Read weights from any supported source.

    Args:
        source: A weights file or a packed file, of which see `read_file`; a state dict or a module; a word for an
            embedded file, such as ``vgg19``, which ``None`` stands for too.
        layout: Naming and axes; recognised from the names if not given.
        preprocessing: Needed only where neither the file nor its names tell.
        arch: ``vgg11`` … ``vgg19``; recognised from the layers if not given.
        upto: The deepest layer wanted of a VGG.
        ignore_extra: Accept tensors that do not belong to the network.

    Raises:
        VggQuantError: The file is missing, damaged, of no known kind, holds no network that is known here,
            contradicts an argument, or leaves its preprocessing open.
    """
    for option, value, allowed in (
        ("arch", arch, tuple(ARCHITECTURES)),
        ("layout", layout, LAYOUTS),
        ("preprocessing", preprocessing, PREPROCESSINGS),
    ):
        if value is not None:
            require_one_of(option, value, allowed)
    if upto is not None:
        require_layer("upto", upto)
    asked = Asked(layout, preprocessing, arch, upto, ignore_extra)
    found = resolve(source)
    with located(name_of_source(found)):
        if isinstance(found, (Mapping, Module)):
            file = read_state_dict(found)
            digest = checksum(file.tensors)
        else:
            with open_content(found) as content:
                file = _read_weightfile(content)
            digest = sha256(*content.pieces)
            if KEY in file.metadata:
                return _from_packed(from_bytes(content.pieces[0]), digest, asked)
            del content
        if RECORD in file.metadata:
            return _from_network(file, digest, asked)
        return _from_vgg(file, digest, asked)


def describe(weights: Weights) -> dict[str, str]:
    """Metadata for a file of float32 weights, from which `read_source` reads the same weights back."""
    metadata = {}
    network, provenance = weights.network, weights.provenance
    vgg = as_vgg(network)
    if vgg is not None:
        metadata["architecture"], metadata["preprocessing"] = vgg.architecture.name, vgg.preprocessing
        if not vgg.complete:
            metadata["upto"] = vgg.last
        ratios = {spec.layer: weights.sqnr_db.get(spec.name) for spec in weight_specs(network)}
        metadata["sqnr_db"] = json.dumps(ratios)
        metadata["folded_batch_norm"] = json.dumps(provenance.folded_batch_norm)
    else:
        metadata |= recorded(network)
        metadata["sqnr_db"] = json.dumps(dict(weights.sqnr_db))
    for key in ("attribution", "changes"):
        if (text := getattr(provenance, key)) is not None:
            metadata[key] = text
    return metadata


def _read_weightfile(content: Content) -> WeightFile:
    """Recognise a file by its first bytes, and read its names and shapes."""
    if is_torch(content.part(0, START_BYTES)):
        return read_torch(content)
    data = content.whole(check_start)
    return read_h5(data) if is_h5(data) else read_safetensors(data)


def _from_packed(packed: Weights, digest: str, asked: Asked) -> Source:
    """The weights of one of our own files, which says all of itself."""
    vgg = as_vgg(packed.network)
    if vgg is not None:
        _agree("arch", vgg.architecture.name, asked.arch, "architecture")
        _agree("preprocessing", vgg.preprocessing, asked.preprocessing)
    else:
        _refuse_options_of_vggs(packed.network, asked)
    provenance = replace(packed.provenance, sha256=digest, layout="vggquant")
    return Source(replace(packed, provenance=provenance).cut(asked.upto))


def _from_network(file: WeightFile, digest: str, asked: Asked) -> Source:
    """The weights of a network that is no VGG, by the record that `describe` wrote."""
    record = parse_json(file.metadata[RECORD].encode("utf-8", "surrogatepass"), RECORD)
    network = network_from_record(record)
    if as_vgg(network):
        cure = "leave the record out, a VGG is known by its tensors"
        raise NetworkError("a record of a network that is no VGG", "a VGG's", cure, tensor=RECORD)
    _refuse_options_of_vggs(network, asked)
    arrays = read_network(file.tensors, network, ignore_extra=asked.ignore_extra)
    provenance = Provenance(
        digest, "vggquant", attribution=file.metadata.get("attribution"), changes=file.metadata.get("changes")
    )
    return Source(Weights(network, {}, arrays, provenance, _recorded_sqnr(file.metadata, network)))


def _refuse_options_of_vggs(network: Network, asked: Asked) -> None:
    own = None if asked.layout == "vggquant" else asked.layout
    options = {"layout": own, "preprocessing": asked.preprocessing, "arch": asked.arch, "upto": asked.upto}
    for option, value in options.items():
        if value is not None:
            expected, got = f"a VGG, which alone has {option} {value}", f"a network of the family {network.family}"
            raise OptionError(expected, got, f"leave `{option}` out", tensor=option)


def _from_vgg(file: WeightFile, digest: str, asked: Asked) -> Source:
    """The weights of a VGG under somebody's names."""
    published = PUBLISHED.get(digest[:8])
    if published is not None and published.preprocessing is None:
        raise SourceError(
            "preprocessing caffe or torch",
            f"{published.name}, which takes RGB in 0-255 minus its own mean",
            "take torchvision's vgg16-397923af.pth or jcjohnson's vgg16-00b39a1b.pth",
        )
    architecture = _architecture(file, asked)
    reading = read_layout(
        file.tensors,
        layout=asked.layout,
        architecture=architecture,
        upto=_upto(file, architecture) if asked.upto is None else asked.upto,
        ignore_extra=asked.ignore_extra,
    )
    preprocessing, reason = _settle_preprocessing(file, reading.layout, published, asked.preprocessing)
    attribution = published.attribution if published else file.metadata.get("attribution")
    folded = reading.folded_batch_norm or file.metadata.get("folded_batch_norm") == "true"
    provenance = Provenance(digest, reading.layout, folded, attribution, file.metadata.get("changes"))
    network = VGGNetwork(reading.architecture, preprocessing, len(reading.arrays) // 2)
    weights = Weights(network, {}, reading.arrays, provenance, _recorded_sqnr(file.metadata, network))
    return Source(weights, (f"preprocessing {preprocessing}: {reason}", *_notes(reading)))


def _architecture(file: WeightFile, asked: Asked) -> Architecture | None:
    """The architecture that the caller names or the file records, if either does."""
    if asked.arch is not None:
        return ARCHITECTURES[asked.arch]
    recorded = file.metadata.get("architecture")
    if recorded is None:
        return None
    if recorded not in ARCHITECTURES:
        cure = "the file's record is wrong, pass `arch`"
        raise SourceError(f"architecture {', '.join(ARCHITECTURES)}", recorded, cure)
    return ARCHITECTURES[recorded]


def _upto(file: WeightFile, architecture: Architecture | None) -> str | None:
    """The deepest layer that a file records that it holds, if it was cut."""
    recorded = file.metadata.get("upto")
    return recorded if architecture is not None and recorded in architecture.layers else None


def _notes(reading: LayoutReading) -> list[str]:
    """What the caller should know of what was read."""
    notes = []
    if reading.prefix:
        notes.append(f"names read without their prefix {reading.prefix}")
    if reading.bare:
        notes.append("names read as torchvision's, which begin with features.")
    if reading.left_out:
        some = ", ".join(reading.left_out[:3]) + (", …" if len(reading.left_out) > 3 else "")
        notes.append(f"left out {len(reading.left_out)} tensors that style transfer does not use: {some}")
    if reading.folded_batch_norm:
        notes.append("batch normalisation folded into the convolutions")
    return notes


def _settle_preprocessing(
    file: WeightFile, layout: Layout, published: PublishedFile | None, asked: Preprocessing | None
) -> tuple[Preprocessing, str]:
    """The preprocessing, and how it is known; it is never guessed."""
    recorded = file.metadata.get("preprocessing")
    if published is not None and published.preprocessing is not None:
        _agree("preprocessing", published.preprocessing, asked)
        return published.preprocessing, f"the published {published.name}"
    for preprocessing in PREPROCESSINGS:
        if recorded == preprocessing:
            _agree("preprocessing", preprocessing, asked)
            return preprocessing, "recorded with the weights"
    if asked is not None:
        return asked, "as asked"
    if layout != "torchvision":
        return "caffe", f"what the {layout} names stand for; pass `preprocessing='torch'` if they do not here"
    raise SourceError(
        "preprocessing caffe or torch",
        "unknown weights of features.N names, which torchvision (torch) and jcjohnson (caffe) share",
        "pass `preprocessing`; the wrong one spoils every feature",
    )


def _recorded_sqnr(metadata: Mapping[str, str], network: Network) -> dict[str, float]:
    """What an earlier quantization cost, as `describe` wrote it; what says nothing readable is passed over."""
    try:
        recorded = json.loads(metadata.get("sqnr_db", "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(recorded, dict):
        return {}
    # a VGG's go by the layer, other networks' by the tensor
    found = {spec.name: recorded.get(spec.name, recorded.get(spec.layer)) for spec in weight_specs(network)}
    return {name: ratio for name, ratio in found.items() if isinstance(ratio, float) and math.isfinite(ratio)}


def _agree(option: str, recorded: str, asked: str | None, word: str | None = None) -> None:
    """Refuse what a caller says if it is known better; `word` is what people call the option."""
    if asked not in (None, recorded):
        expected = f"{word or option} {recorded}, which these weights are known to have"
        raise SourceError(expected, asked, f"leave `{option}` out")
