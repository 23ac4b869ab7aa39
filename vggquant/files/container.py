"""Our packed file: `read` and `write`, strict and atomic; docs/format.md specifies it to the byte.

Leaves bits to `coding`, the outer format to `tensors` and disks to `storage`; knows no models.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.codec.coding import CODES_PER_BYTE, CODINGS, MAX_BITS, MIN_BITS, EncodedCodes, planes_size
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import ContainerError, located
from vggquant.files.safetensors import (
    Bytes,
    JsonObject,
    RawTensor,
    check_header,
    is_count,
    join_file,
    parse_json,
    split_file,
)
from vggquant.files.storage import HEAD_BYTES, Chunk, PathLike, read_file, write_file
from vggquant.files.weights import Provenance, QuantizedLayer, QuantizedWeights
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Architecture, Convolution

KEY = "vggquant"  # the metadata key that marks a packed file
FORMAT_VERSION = 1

_AGAIN = "the file is damaged, get it again"
_UNSEALED = "00000000"
_SEAL = re.compile(rb'\\"header_crc32\\":\\"([0-9a-f]{8})\\"')


def write(path: PathLike, weights: QuantizedWeights, *, force: bool = False) -> list[Chunk]:
    """Write a packed file, the same bytes for the same weights; the inverse of `read`.

    Args:
        path: Output; a symbolic link is followed.
        weights: What to write.
        force: Whether to replace an existing file.

    Returns:
        The bytes written, in pieces.

    Raises:
        StorageError: The file exists, or cannot be written; an existing one is left as it was.
    """
    header, chunks = to_bytes(weights)
    written: list[Chunk] = [header, *chunks]
    write_file(path, written, force=force)
    return written


def to_bytes(weights: QuantizedWeights) -> tuple[bytes, list[Bytes]]:
    """Header and data of a packed file, see `write`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    entries = {}
    for name, layer in weights.layers.items():
        tensors = _layer_arrays(layer)
        arrays |= {f"{name}.{suffix}": array for suffix, array in tensors.items()}
        codes = layer.weight.codes
        entries[name] = {
            "bits": codes.bits,
            "coding": codes.coding,
            "crc32": _crc32(*tensors.values()),
            "shape": list(layer.weight.shape),
            "sqnr_db": layer.sqnr_db,
        }
        if codes.codes_per_byte is not None:
            entries[name]["codes_per_byte"] = codes.codes_per_byte
    provenance = weights.provenance
    metadata = {
        "architecture": weights.architecture.name,
        "attribution": provenance.attribution,
        "changes": provenance.changes,
        "format_version": FORMAT_VERSION,
        "header_crc32": _UNSEALED,
        "layers": entries,
        "preprocessing": weights.preprocessing,
        "provenance": {
            "folded_batch_norm": provenance.folded_batch_norm,
            "layout": provenance.layout,
            "sha256": provenance.sha256,
        },
    }
    header, chunks = join_file(arrays, {"format": "pt", KEY: _canonical(metadata)})
    seal = re.sub(rb"(header_crc32\\\":\\\")0{8}", rb"\g<1>" + _crc32(header).encode(), header, count=1)
    return seal, chunks


def read(path: PathLike, *, upto: str | None = None, threads: int = 1) -> QuantizedWeights:
    """Read a packed file, every checksum and bound checked; the inverse of `write`.

    Codes stay coded, so memory is in proportion to the file.

    Args:
        path: Which file.
        upto: The deepest layer wanted; the data of deeper convolutions are neither read nor checked.
        threads: Layers checked at once.

    Raises:
        StorageError: No such file, or not to be read.
        ContainerError: Not a packed file, damaged, or of a newer version.
        OptionError: The architecture or the file has no layer `upto`.
    """
    with located(path):
        data = read_file(path, lambda data: _extent(data, upto))
        return _check(_parse(data, upto), threads)


def read_outline(path: PathLike) -> tuple[Architecture, tuple[str, ...]]:
    """Which VGG a packed file is of, and the names of the convolutions that it holds.

    Only the header is read and checked, see `read`.
    """
    with located(path):
        weights = _parse(read_file(path, lambda data: check_header(data).size), None).weights
        return weights.architecture, tuple(weights.layers)


def _extent(data: Bytes, upto: str | None) -> int:
    """How much of a file the layers up to `upto` need, by its first `HEAD_BYTES`."""
    header = check_header(data)
    return data.size if upto is None or header.size > HEAD_BYTES else _parse(data, upto).end


def from_bytes(data: Bytes) -> QuantizedWeights:
    """Take a whole packed file apart, see `read`; errors name no file."""
    return _check(_parse(data, None), threads=1)


@dataclass(frozen=True, eq=False)
class _Parsed:
    """A file whose header is sound, but whose data are not yet checked."""

    weights: QuantizedWeights
    checksums: Mapping[str, str]
    end: int  # where the data of these layers end in the file


def _parse(data: Bytes, upto: str | None) -> _Parsed:
    """Check all that the header tells, and no data."""
    header, tensors, outer = split_file(data)
    if KEY not in outer:
        raise ContainerError("a packed file", "an ordinary safetensors file", "run vggquant pack on it first")
    metadata = parse_json(outer[KEY].encode("utf-8", "surrogatepass"), KEY)
    _check_version(metadata)
    _check_seal(header)
    _check_fields(metadata)
    architecture = ARCHITECTURES[metadata["architecture"]]
    entries = metadata["layers"]
    convolutions = architecture.convolutions[: len(entries)]
    if not entries or set(entries) != {convolution.name for convolution in convolutions}:
        raise ContainerError(f"the first layers of {architecture.name}", ", ".join(entries) or "none", _AGAIN)
    found = dict(tensors)
    layers = {}
    for convolution in convolutions:
        with located(tensor=convolution.name):
            layers[convolution.name] = _parse_layer(convolution, entries[convolution.name], found)
    if found:
        raise ContainerError("only tensors of its layers", "one more", _AGAIN, tensor=next(iter(found)))
    if outer != {"format": "pt", KEY: _canonical(metadata)}:
        raise ContainerError("canonical metadata", "another form", _AGAIN, tensor=KEY)
    source = metadata["provenance"]
    provenance = Provenance(**source, attribution=metadata["attribution"], changes=metadata["changes"])
    weights = QuantizedWeights(architecture, metadata["preprocessing"], layers, provenance).cut(upto)
    ends = (tensor.end for name, tensor in tensors.items() if name.split(".")[0] in weights.layers)
    checksums = {name: entries[name]["crc32"] for name in weights.layers}
    return _Parsed(weights, checksums, header.size + max(ends))


def _check(parsed: _Parsed, threads: int) -> QuantizedWeights:
    """Check the data of each layer."""

    def check(name: str) -> None:
        with located(tensor=name):
            _check_layer(name, parsed.weights.layers[name], parsed.checksums[name])

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(check, parsed.weights.layers):
            pass
    return parsed.weights


def _layer_arrays(layer: QuantizedLayer) -> dict[str, npt.NDArray[Any]]:
    """Tensors of a layer by suffix, in the order of the checksum."""
    codes = layer.weight.codes
    raw = codes.coding == "planes" and codes.bits == MAX_BITS
    arrays: dict[str, npt.NDArray[Any]] = {
        "weight.codes": codes.stream.reshape(layer.weight.shape) if raw else codes.stream,
        "weight.codebook": layer.weight.codebook,
    }
    if layer.weight.scale is not None:
        arrays["weight.scale"] = layer.weight.scale
    return arrays | {"bias": layer.bias}


def _parse_layer(convolution: Convolution, entry: JsonObject, tensors: dict[str, RawTensor]) -> QuantizedLayer:
    """Take a layer's tensors out of `tensors`, their types and shapes checked."""
    _check_entry(convolution, entry)
    name, bits, coding, channels = convolution.name, entry["bits"], entry["coding"], convolution.out_channels
    codes = _take(tensors, f"{name}.weight.codes", "U8")
    codebook = _take(tensors, f"{name}.weight.codebook", "F32")
    scaled = f"{name}.weight.scale" in tensors
    scale = _take(tensors, f"{name}.weight.scale", "F32") if scaled else None
    bias = _take(tensors, f"{name}.bias", "F32")
    size = planes_size(convolution.size, bits)
    if coding == "huffman":
        if len(codes.shape) != 1 or not 0 < codes.data.size < size:  # written only where it is smaller
            raise ContainerError(f"a stream under {size} bytes", codes.shape, _AGAIN, tensor=f"{name}.weight.codes")
    else:
        _require_shape(codes, convolution.shape if bits == MAX_BITS else (size,), f"{name}.weight.codes")
    _require_shape(bias, (channels,), f"{name}.bias")
    if scale:
        _require_shape(scale, (channels,), f"{name}.weight.scale")
    if len(codebook.shape) != 1 or not 1 <= codebook.shape[0] <= 1 << bits:
        raise ContainerError(f"1 to {1 << bits} centroids", codebook.shape, _AGAIN, tensor=f"{name}.weight.codebook")
    encoded = EncodedCodes(codes.data, convolution.size, bits, coding, entry.get("codes_per_byte"))
    tensor = PalettizedTensor(encoded, codebook.array(), convolution.shape, scale.array() if scale else None)
    return QuantizedLayer(tensor, bias.array(), entry["sqnr_db"])


def _check_layer(name: str, layer: QuantizedLayer, checksum: str) -> None:
    arrays = _layer_arrays(layer)
    found = _crc32(*arrays.values())
    if found != checksum:
        raise ContainerError(f"checksum {checksum}", found, _AGAIN)
    for suffix, array in arrays.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ContainerError("finite values", "NaN or infinity", _AGAIN, tensor=f"{name}.{suffix}")
    codebook, scale = layer.weight.codebook, layer.weight.scale
    if not (np.diff(codebook) > 0).all():
        raise ContainerError("ascending centroids", "another order", _AGAIN, tensor=f"{name}.weight.codebook")
    if scale is not None:
        with np.errstate(over="ignore"):
            largest = np.abs(codebook).max() * np.abs(scale).max()
        if not np.isfinite(largest):
            raise ContainerError("weights within float32", "larger ones", _AGAIN, tensor=f"{name}.weight.scale")


def _check_version(metadata: JsonObject) -> None:
    version = metadata.get("format_version", "nothing")
    if not is_count(version) or version == 0:
        raise ContainerError("a whole number", version, _AGAIN, tensor="format_version")
    assert isinstance(version, int)
    if version > FORMAT_VERSION:
        raise ContainerError(f"format version {FORMAT_VERSION}", version, "upgrade vggquant", tensor="format_version")


def _check_seal(header: Bytes) -> None:
    raw = bytes(header)
    seals = _SEAL.findall(raw)
    if len(seals) != 1:
        raise ContainerError("8 lower-case hexadecimal digits", "none", _AGAIN, tensor="header_crc32")
    unsealed = _SEAL.sub(lambda found: found[0].replace(seals[0], _UNSEALED.encode()), raw)
    if _crc32(unsealed) != seals[0].decode():
        raise ContainerError(f"header checksum {seals[0].decode()}", _crc32(unsealed), _AGAIN)


def _check_fields(metadata: JsonObject) -> None:
    def require(key: str, expected: str, accepted: bool) -> None:
        if not accepted:
            raise ContainerError(expected, metadata.get(key, "nothing"), _AGAIN, tensor=key)

    fields = {
        "architecture",
        "attribution",
        "changes",
        "format_version",
        "header_crc32",
        "layers",
        "preprocessing",
        "provenance",
    }
    if set(metadata) != fields:
        raise ContainerError("the fields of version 1", ", ".join(sorted(set(metadata) ^ fields)), _AGAIN, tensor=KEY)
    require("architecture", f"one of {', '.join(ARCHITECTURES)}", _one_of(metadata["architecture"], ARCHITECTURES))
    require("preprocessing", "caffe or torch", _one_of(metadata["preprocessing"], PREPROCESSINGS))
    for key in ("attribution", "changes"):
        require(key, "a text or null", metadata[key] is None or _is_text(metadata[key]))
    require("layers", "layers", type(metadata["layers"]) is dict)
    source = metadata["provenance"]
    require(
        "provenance",
        "folded_batch_norm, layout and sha256",
        type(source) is dict
        and set(source) == {"folded_batch_norm", "layout", "sha256"}
        and type(source["folded_batch_norm"]) is bool
        and _is_text(source["layout"])
        and type(source["sha256"]) is str
        and re.fullmatch("[0-9a-f]{64}", source["sha256"]) is not None,
    )


def _check_entry(convolution: Convolution, entry: Any) -> None:
    def require(key: str, expected: str, accepted: bool) -> None:
        if not accepted:
            raise ContainerError(expected, entry.get(key, "nothing"), _AGAIN, tensor=f"{convolution.name}.{key}")

    fields = {"bits", "coding", "crc32", "shape", "sqnr_db"}
    if type(entry) is not dict:
        raise ContainerError("an entry", type(entry).__name__, _AGAIN)
    bits, coding, crc, sqnr = (entry.get(key) for key in ("bits", "coding", "crc32", "sqnr_db"))
    require("bits", f"an integer from {MIN_BITS} to {MAX_BITS}", is_count(bits, MAX_BITS + 1) and bits != 0)
    require("coding", "planes or huffman", _one_of(coding, CODINGS))
    if coding == "huffman":
        fields = fields | {"codes_per_byte"}
        per_byte = entry.get("codes_per_byte")
        allowed = CODES_PER_BYTE[int(bits or 0)]
        require("codes_per_byte", f"one of {allowed}", is_count(per_byte) and per_byte in allowed)
    if set(entry) != fields:
        raise ContainerError("the fields of version 1", ", ".join(sorted(set(entry) ^ fields)), _AGAIN)
    require("crc32", "8 lower-case hexadecimal digits", type(crc) is str and bool(re.fullmatch("[0-9a-f]{8}", crc)))
    shape = list(convolution.shape)
    require("shape", f"{shape}", entry["shape"] == shape and all(map(is_count, entry["shape"])))
    require("sqnr_db", "a number or null", sqnr is None or (type(sqnr) is float and math.isfinite(sqnr)))


def _take(tensors: dict[str, RawTensor], name: str, dtype: str) -> RawTensor:
    if name not in tensors:
        raise ContainerError("a tensor of that name", "none", _AGAIN, tensor=name)
    tensor = tensors.pop(name)
    if tensor.dtype != dtype:
        raise ContainerError(dtype, tensor.dtype, _AGAIN, tensor=name)
    return tensor


def _require_shape(tensor: RawTensor, expected: tuple[int, ...], name: str) -> None:
    if tensor.shape != expected:
        raise ContainerError(f"shape {expected}", tensor.shape, _AGAIN, tensor=name)


def _is_text(value: object) -> bool:
    return type(value) is str and "\0" not in value


def _one_of(value: object, allowed: Any) -> bool:
    return type(value) is str and value in allowed


def _canonical(metadata: JsonObject) -> str:
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _crc32(*parts: bytes | npt.NDArray[Any]) -> str:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.data if isinstance(part, np.ndarray) else part, crc)
    return f"{crc:08x}"
