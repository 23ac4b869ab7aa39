"""Version 2 of the packed file, which holds any other network: its metadata and tensors to weights, and back.

docs/format.md specifies it. The header stays short, since small networks have many small tensors: the network's
record says what they are, and their data lie one behind the other in at most four tensors of the file. Seal, checksum
and content of the data are left to `container`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import MAX_BITS, planes_size
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import DAMAGED, ContainerError
from vggquant.files.fields import (
    HEX32,
    Parsed,
    Section,
    crc32,
    encoded_codes,
    huffman_fields,
    is_hex,
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
from vggquant.networks.families import network_from_record, record_of
from vggquant.networks.network import Network, TensorSpec, weight_specs
from vggquant.networks.vgg import as_vgg

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

VERSION = 2
BLOBS = ("codes", "codebooks", "scales", "plain")  # in the order of the checksum; an empty one is left out

_FIELDS = {
    "attribution",
    "changes",
    "codebooks",
    "data_crc32",
    "format_version",
    "header_crc32",
    "network",
    "provenance",
    "weights",
}
_SYMBOLS_PER_BYTE = 8  # at most: a Huffman code spends a bit or more on a symbol


def compose(weights: Weights) -> tuple[dict[str, Array], JsonObject]:
    """Tensors and metadata of a file, the seal aside; the inverse of `parse`."""
    numbers: dict[bytes, int] = {}  # codebooks by content, in order of first use
    entries = {}
    parts: dict[str, list[Array]] = {name: [] for name in BLOBS}
    for spec in weights.network.tensors:
        if spec.name in weights.plain:
            parts["plain"].append(weights.plain[spec.name].reshape(-1))
            continue
        tensor = weights.palettized[spec.name]
        content = tensor.codebook.tobytes()
        if content not in numbers:
            numbers[content] = len(numbers)
            parts["codebooks"].append(tensor.codebook)
        parts["codes"].append(tensor.codes.stream)
        if tensor.scale is not None:
            parts["scales"].append(tensor.scale)
        entries[spec.name] = _entry(tensor, numbers[content], weights.sqnr_db.get(spec.name))
    arrays = {name: np.concatenate(found) for name, found in parts.items() if found}
    provenance = weights.provenance
    return arrays, {
        "attribution": provenance.attribution,
        "changes": provenance.changes,
        "codebooks": [len(content) // 4 for content in numbers],
        "data_crc32": crc32(*arrays.values()),
        "format_version": VERSION,
        "network": record_of(weights.network),
        "provenance": {"layout": provenance.layout, "sha256": provenance.sha256},
        "weights": entries,
    }


def parse(metadata: JsonObject, tensors: Mapping[str, RawTensor], data_start: int, upto: str | None) -> Parsed:
    """Check all that the header of a file tells, and none of its data; the inverse of `compose`.

    Args:
        metadata: Of which the seal and the version are checked already.
        tensors: By name.
        data_start: Where the header ends.
        upto: The deepest layer wanted, which only a VGG has.

    Raises:
        ContainerError: Anything that is not as specified.
        NetworkError: The record describes no network, or `upto` is given.
    """
    _check_fields(metadata)
    network = network_from_record(metadata["network"])
    if as_vgg(network):
        raise ContainerError("a network other than a VGG in version 2", "a VGG", DAMAGED, tensor="network.family")
    entries = metadata["weights"]
    coded = [spec for spec in weight_specs(network) if spec.name in entries]
    if len(coded) < len(entries):
        unknown = sorted(set(entries) - {spec.name for spec in coded})
        raise ContainerError("weights of the network", ", ".join(unknown), DAMAGED, tensor="weights")
    for spec in coded:
        _check_entry(spec, entries[spec.name], metadata["codebooks"])
    _check_codebooks([entries[spec.name] for spec in coded], metadata["codebooks"])
    blobs = _take_blobs(tensors, _blob_sizes(network, entries, metadata["codebooks"]))
    palettized = _cut_palettized(coded, entries, metadata["codebooks"], blobs)
    uncoded = [spec for spec in network.tensors if spec.name not in entries]
    pieces = _pieces(blobs["plain"], [spec.size for spec in uncoded])
    plain = {spec.name: piece.reshape(spec.shape) for spec, piece in zip(uncoded, pieces, strict=True)}
    provenance = Provenance(**metadata["provenance"], attribution=metadata["attribution"], changes=metadata["changes"])
    ratios = {name: entry["sqnr_db"] for name, entry in entries.items() if "sqnr_db" in entry}
    weights = Weights(network, palettized, plain, provenance, ratios).cut(upto)
    arrays = tuple(blobs[name] for name in BLOBS if name in tensors)
    section = Section(None, metadata["data_crc32"], arrays, (*palettized, *plain))
    return Parsed(weights, (section,), data_start + max(tensor.end for tensor in tensors.values()))


def _entry(tensor: PalettizedTensor, codebook: int, sqnr_db: float | None) -> JsonObject:
    """What the metadata say of a palettized tensor; what is usual is left out."""
    entry: JsonObject = {"bits": tensor.codes.bits, "codebook": codebook}
    if tensor.codes.coding == "huffman":
        entry |= {"bytes": tensor.codes.stream.size, **huffman_fields(tensor.codes)}
    if tensor.scale is not None:
        entry["scaled"] = True
    if sqnr_db is not None:
        entry["sqnr_db"] = sqnr_db
    return entry


def _check_fields(metadata: JsonObject) -> None:
    require_fields(metadata, _FIELDS, VERSION, "vggquant")
    require_credits(metadata)
    require(metadata, "data_crc32", HEX32, is_hex(metadata["data_crc32"], 8))
    require(metadata, "weights", "weights", type(metadata["weights"]) is dict)
    sizes = metadata["codebooks"]
    accepted = type(sizes) is list and all(is_count(size, (1 << MAX_BITS) + 1) and size > 0 for size in sizes)
    require(metadata, "codebooks", f"sizes from 1 to {1 << MAX_BITS}", accepted)
    source = metadata["provenance"]
    accepted = type(source) is dict and set(source) == {"layout", "sha256"}
    accepted = accepted and is_text(source["layout"]) and is_hex(source["sha256"], 64)
    require(metadata, "provenance", "layout and sha256", accepted)


def _check_entry(spec: TensorSpec, entry: Any, codebooks: Sequence[int]) -> None:
    def check(key: str, expected: str, accepted: bool) -> None:
        require(entry, key, expected, accepted, f"{spec.name}.")

    if type(entry) is not dict:
        raise ContainerError("an entry", type(entry).__name__, DAMAGED, tensor=spec.name)
    huffman = "codes_per_byte" in entry
    fields = {"bits", "codebook"} | ({"bytes", "codes_per_byte"} | (entry.keys() & {"centre"}) if huffman else set())
    require_fields(entry, fields | (entry.keys() & {"scaled", "sqnr_db"}), VERSION, spec.name)
    bits = entry["bits"]
    require_bits(entry, f"{spec.name}.")
    check("codebook", f"an integer below {len(codebooks)}", is_count(entry["codebook"], len(codebooks)))
    size = codebooks[entry["codebook"]]
    if size > 1 << bits:
        raise ContainerError(
            f"a codebook of at most {1 << bits} centroids", size, DAMAGED, tensor=f"{spec.name}.codebook"
        )
    if "scaled" in entry:
        check("scaled", "true, for a tensor with axes", entry["scaled"] is True and len(spec.shape) > 0)
    if "sqnr_db" in entry:
        sqnr = entry["sqnr_db"]
        check("sqnr_db", "a number", type(sqnr) is float and math.isfinite(sqnr))
    if huffman:
        require_huffman(entry, f"{spec.name}.")
        # what a stream can expand to is bounded by its own length
        per_byte = entry["codes_per_byte"]
        first = per_byte[0] if isinstance(per_byte, list) else per_byte
        least = math.ceil(math.ceil(spec.size / first) / _SYMBOLS_PER_BYTE)
        below = planes_size(spec.size, bits)  # huffman is written only where it is smaller
        size = entry["bytes"]
        check("bytes", f"an integer from {least}, below {below}", is_count(size, below) and size >= least)


def _check_codebooks(entries: Sequence[JsonObject], sizes: Sequence[int]) -> None:
    """Codebooks are numbered in the order of their first use, and each is used."""
    firsts = list(dict.fromkeys(entry["codebook"] for entry in entries))
    if firsts != list(range(len(sizes))):
        raise ContainerError("codebooks in the order of their use", f"{firsts}", DAMAGED, tensor="codebooks")


def _blob_sizes(network: Network, entries: Mapping[str, JsonObject], codebooks: Sequence[int]) -> dict[str, int]:
    """Elements of each tensor of the file, by what the header says."""
    sizes = dict.fromkeys(BLOBS, 0)
    sizes["codebooks"] = sum(codebooks)
    for spec in network.tensors:
        entry = entries.get(spec.name)
        if entry is None:
            sizes["plain"] += spec.size
        else:
            sizes["codes"] += _stream_size(spec, entry)
            sizes["scales"] += spec.shape[0] if "scaled" in entry else 0
    return sizes


def _stream_size(spec: TensorSpec, entry: JsonObject) -> int:
    return int(entry["bytes"]) if "bytes" in entry else planes_size(spec.size, entry["bits"])


def _take_blobs(tensors: Mapping[str, RawTensor], sizes: Mapping[str, int]) -> dict[str, Array]:
    """The tensors of the file, of the sizes expected; an empty array for one that has nothing to hold."""
    found = dict(tensors)
    blobs: dict[str, Array] = {}
    for name, size in sizes.items():
        dtype = "U8" if name == "codes" else "F32"
        if size == 0:
            blobs[name] = np.empty(0, np.uint8 if name == "codes" else np.float32)
        else:
            raw = take(found, name, dtype)
            require_shape(raw, (size,), name)
            blobs[name] = raw.array()
    if found:
        raise ContainerError("only tensors of version 2", "one more", DAMAGED, tensor=next(iter(found)))
    return blobs


def _cut_palettized(
    coded: Sequence[TensorSpec], entries: Mapping[str, JsonObject], sizes: Sequence[int], blobs: Mapping[str, Array]
) -> dict[str, PalettizedTensor]:
    """The palettized tensors, as views; those that share a codebook hold the same array."""
    codebooks = _pieces(blobs["codebooks"], sizes)
    streams = _pieces(blobs["codes"], [_stream_size(spec, entries[spec.name]) for spec in coded])
    scaled = [spec for spec in coded if "scaled" in entries[spec.name]]
    scales = dict(zip(scaled, _pieces(blobs["scales"], [spec.shape[0] for spec in scaled]), strict=True))
    palettized = {}
    for spec, stream in zip(coded, streams, strict=True):
        entry = entries[spec.name]
        codes = encoded_codes(entry, stream, spec.size, "huffman" if "codes_per_byte" in entry else "planes")
        palettized[spec.name] = PalettizedTensor(codes, codebooks[entry["codebook"]], spec.shape, scales.get(spec))
    return palettized


def _pieces(blob: Array, sizes: Sequence[int]) -> list[Array]:
    """Consecutive parts of an array, as views."""
    return np.split(blob, np.cumsum(sizes)[:-1]) if sizes else []
