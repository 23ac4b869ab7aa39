"""Version 1 of the packed file, which holds a VGG: its metadata and tensors to weights, and back.

docs/format.md specifies it. Seal, checksums and content of the data are left to `container`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from vggquant.codec.bitstream import CODINGS, MAX_BITS, planes_size
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import DAMAGED, ContainerError, located
from vggquant.files.fields import (
    HEX32,
    Parsed,
    Section,
    crc32,
    encoded_codes,
    huffman_fields,
    is_hex,
    is_one_of,
    is_text,
    require,
    require_bits,
    require_credits,
    require_fields,
    require_huffman,
    require_shape,
    take,
)
from vggquant.files.safetensors import JsonObject, RawTensor, is_count
from vggquant.files.weights import Provenance, Weights
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Convolution, VGGNetwork, require_vgg

Array = npt.NDArray[Any]

VERSION = 1

_FIELDS = {
    "architecture",
    "attribution",
    "changes",
    "format_version",
    "header_crc32",
    "layers",
    "preprocessing",
    "provenance",
}
_ENTRY = {"bits", "coding", "crc32", "shape", "sqnr_db"}
_PROVENANCE = {"folded_batch_norm", "layout", "sha256"}


def compose(weights: Weights) -> tuple[dict[str, Array], JsonObject]:
    """Tensors and metadata of a file, the seal aside; the inverse of `parse`."""
    network = require_vgg(weights.network)
    arrays: dict[str, Array] = {}
    entries = {}
    for convolution in network.convolutions:
        name = convolution.name
        tensor = weights.palettized[f"{name}.weight"]
        layer = _arrays(name, tensor, weights.plain[f"{name}.bias"])
        arrays |= layer
        entries[name] = {
            "bits": tensor.codes.bits,
            "coding": tensor.codes.coding,
            "crc32": crc32(*layer.values()),
            "shape": list(tensor.shape),
            "sqnr_db": weights.sqnr_db.get(f"{name}.weight"),
        }
        if tensor.codes.coding == "huffman":
            entries[name] |= huffman_fields(tensor.codes)
    provenance = weights.provenance
    return arrays, {
        "architecture": network.architecture.name,
        "attribution": provenance.attribution,
        "changes": provenance.changes,
        "format_version": VERSION,
        "layers": entries,
        "preprocessing": network.preprocessing,
        "provenance": {
            "folded_batch_norm": provenance.folded_batch_norm,
            "layout": provenance.layout,
            "sha256": provenance.sha256,
        },
    }


def parse(metadata: JsonObject, tensors: Mapping[str, RawTensor], data_start: int, upto: str | None) -> Parsed:
    """Check all that the header of a file tells, and none of its data; the inverse of `compose`.

    Args:
        metadata: Of which the seal and the version are checked already.
        tensors: By name.
        data_start: Where the header ends.
        upto: The deepest layer wanted.

    Raises:
        ContainerError: Anything that is not as specified.
        OptionError: The architecture or the file has no layer `upto`.
    """
    _check_fields(metadata)
    architecture = ARCHITECTURES[metadata["architecture"]]
    entries = metadata["layers"]
    convolutions = architecture.convolutions[: len(entries)]
    if not entries or set(entries) != {convolution.name for convolution in convolutions}:
        raise ContainerError(f"the first layers of {architecture.name}", ", ".join(entries) or "none", DAMAGED)
    found = dict(tensors)
    palettized, plain, sections = {}, {}, {}
    for convolution in convolutions:
        name, entry = convolution.name, entries[convolution.name]
        with located(tensor=name):
            tensor, bias = _parse_layer(convolution, entry, found)
        palettized[f"{name}.weight"], plain[f"{name}.bias"] = tensor, bias
        names = (f"{name}.weight", f"{name}.bias")
        sections[name] = Section(name, entry["crc32"], tuple(_arrays(name, tensor, bias).values()), names)
    if found:
        raise ContainerError("only tensors of its layers", "one more", DAMAGED, tensor=next(iter(found)))
    source = metadata["provenance"]
    provenance = Provenance(**source, attribution=metadata["attribution"], changes=metadata["changes"])
    ratios = {f"{name}.weight": entry["sqnr_db"] for name, entry in entries.items() if entry["sqnr_db"] is not None}
    network = VGGNetwork(architecture, metadata["preprocessing"], len(convolutions))
    weights = Weights(network, palettized, plain, provenance, ratios).cut(upto)
    wanted = [name for name in sections if f"{name}.weight" in weights.palettized]
    ends = (tensor.end for name, tensor in tensors.items() if name.split(".")[0] in wanted)
    return Parsed(weights, tuple(sections[name] for name in wanted), data_start + max(ends))


def _arrays(name: str, tensor: PalettizedTensor, bias: Array) -> dict[str, Array]:
    """The tensors of a layer as they lie in the file, in the order of the checksum."""
    codes = tensor.codes
    raw = codes.coding == "planes" and codes.bits == MAX_BITS
    arrays: dict[str, Array] = {
        f"{name}.weight.codes": codes.stream.reshape(tensor.shape) if raw else codes.stream,
        f"{name}.weight.codebook": tensor.codebook,
    }
    if tensor.scale is not None:
        arrays[f"{name}.weight.scale"] = tensor.scale
    return arrays | {f"{name}.bias": bias}


def _parse_layer(
    convolution: Convolution, entry: JsonObject, tensors: dict[str, RawTensor]
) -> tuple[PalettizedTensor, Array]:
    """Take a layer's weight and bias out of `tensors`, their types and shapes checked."""
    _check_entry(convolution, entry)
    name, bits, coding, channels = convolution.name, entry["bits"], entry["coding"], convolution.out_channels
    codes = take(tensors, f"{name}.weight.codes", "U8")
    codebook = take(tensors, f"{name}.weight.codebook", "F32")
    scaled = f"{name}.weight.scale" in tensors
    scale = take(tensors, f"{name}.weight.scale", "F32") if scaled else None
    bias = take(tensors, f"{name}.bias", "F32")
    size = planes_size(convolution.size, bits)
    if coding == "huffman":
        if len(codes.shape) != 1 or not 0 < codes.data.size < size:  # written only where it is smaller
            raise ContainerError(f"a stream under {size} bytes", codes.shape, DAMAGED, tensor=f"{name}.weight.codes")
    else:
        require_shape(codes, convolution.shape if bits == MAX_BITS else (size,), f"{name}.weight.codes")
    require_shape(bias, (channels,), f"{name}.bias")
    if scale:
        require_shape(scale, (channels,), f"{name}.weight.scale")
    if len(codebook.shape) != 1 or not 1 <= codebook.shape[0] <= 1 << bits:
        raise ContainerError(f"1 to {1 << bits} centroids", codebook.shape, DAMAGED, tensor=f"{name}.weight.codebook")
    encoded = encoded_codes(entry, codes.data, convolution.size, coding)
    tensor = PalettizedTensor(encoded, codebook.array(), convolution.shape, scale.array() if scale else None)
    return tensor, bias.array()


def _check_fields(metadata: JsonObject) -> None:
    require_fields(metadata, _FIELDS, VERSION, "vggquant")
    architecture, preprocessing = metadata["architecture"], metadata["preprocessing"]
    require(metadata, "architecture", f"one of {', '.join(ARCHITECTURES)}", is_one_of(architecture, ARCHITECTURES))
    require(metadata, "preprocessing", "caffe or torch", is_one_of(preprocessing, PREPROCESSINGS))
    require_credits(metadata)
    require(metadata, "layers", "layers", type(metadata["layers"]) is dict)
    source = metadata["provenance"]
    accepted = (
        type(source) is dict
        and set(source) == _PROVENANCE
        and type(source["folded_batch_norm"]) is bool
        and is_text(source["layout"])
        and is_hex(source["sha256"], 64)
    )
    require(metadata, "provenance", "folded_batch_norm, layout and sha256", accepted)


def _check_entry(convolution: Convolution, entry: Any) -> None:
    def check(key: str, expected: str, accepted: bool) -> None:
        require(entry, key, expected, accepted, f"{convolution.name}.")

    if type(entry) is not dict:
        raise ContainerError("an entry", type(entry).__name__, DAMAGED)
    fields = _ENTRY
    coding, crc, sqnr = (entry.get(key) for key in ("coding", "crc32", "sqnr_db"))
    require_bits(entry, f"{convolution.name}.")
    check("coding", "planes or huffman", is_one_of(coding, CODINGS))
    if coding == "huffman":
        fields = fields | {"codes_per_byte"} | (entry.keys() & {"centre"})
        require_huffman(entry, f"{convolution.name}.")
    require_fields(entry, fields, VERSION, None)
    check("crc32", HEX32, is_hex(crc, 8))
    shape = list(convolution.shape)
    check("shape", f"{shape}", entry["shape"] == shape and all(map(is_count, entry["shape"])))
    check("sqnr_db", "a number or null", sqnr is None or (type(sqnr) is float and math.isfinite(sqnr)))
