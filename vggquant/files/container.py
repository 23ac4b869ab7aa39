"""Our packed file: `read` and `write`, strict and atomic; docs/format.md specifies it to the byte.

Here stand what all versions share: the one metadata key, the seal, checksums, and the rules for codebooks and scales.
Fields and tensors are left to `version1` and `version2`, the outer format to `safetensors`, the disk to `disk`.
"""

from __future__ import annotations

import json
import os
import re

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import decode_codes
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import DAMAGED, ContainerError, located
from vggquant.files import version1, version2
from vggquant.files.disk import HEAD_BYTES, Chunk, PathLike, Readable, name_of, read_file, write_file
from vggquant.files.fields import HEX32, Parsed, Section, crc32
from vggquant.files.safetensors import (
    PACK_FIRST,
    Bytes,
    JsonObject,
    check_header,
    is_count,
    join_file,
    parse_json,
    split_file,
)
from vggquant.files.weights import Floats, Weights
from vggquant.networks.network import Network, layer_of
from vggquant.networks.vgg import as_vgg
from vggquant.threads import map_in_threads

KEY = "vggquant"  # the metadata key that marks a packed file

_VERSIONS = {version1.VERSION: version1, version2.VERSION: version2}
_UNSEALED = "00000000"
_SEAL = re.compile(rb'\\"header_crc32\\":\\"([0-9a-f]{8})\\"')


def write(path: PathLike, weights: Weights, *, force: bool = False) -> list[Chunk]:
    """Write a packed file, the same bytes for the same weights; the inverse of `read`.

    It takes its place only after it was read back, every checksum, bound and code checked.

    Args:
        path: Output; a symbolic link is followed.
        weights: What to write.
        force: Whether to replace an existing file.

    Returns:
        The bytes written, in pieces.

    Raises:
        StorageError: The file exists, cannot be written, or is not sound when read back; an existing one is left as it
            was.
    """
    header, chunks = to_bytes(weights)
    written: list[Chunk] = [header, *chunks]
    write_file(path, written, force=force, reader=lambda data: check_codes(from_bytes(data, os.cpu_count() or 1)))
    return written


def to_bytes(weights: Weights) -> tuple[bytes, list[Bytes]]:
    """Header and data of a packed file, see `write`."""
    arrays, metadata = _VERSIONS[_version_of(weights.network)].compose(weights)
    header, chunks = join_file(arrays, {"format": "pt", KEY: _canonical({**metadata, "header_crc32": _UNSEALED})})
    sealed = re.sub(rb"(header_crc32\\\":\\\")0{8}", rb"\g<1>" + crc32(header).encode(), header, count=1)
    return sealed, chunks


def shares_codebooks(network: Network) -> bool:
    """Whether the file of a network can hold one codebook for several tensors, which version 1 cannot."""
    return _version_of(network) > version1.VERSION


def _version_of(network: Network) -> int:
    """The version that a network's file is written in: VGGs keep the first."""
    return version1.VERSION if as_vgg(network) else version2.VERSION


def read(file: Readable, *, upto: str | None = None, threads: int = 1) -> Weights:
    """Read a packed file, every checksum and bound checked; the inverse of `write`.

    Codes stay coded, so memory is in proportion to the file.

    Args:
        file: Which file, see `read_file`.
        upto: The deepest layer wanted of a VGG; the data of deeper convolutions are not checked and, if the file has a
            path, not read.
        threads: Layers checked at once.

    Raises:
        StorageError: No such file, or not to be read.
        ContainerError: Not a packed file, damaged, or of a newer version.
        NetworkError: The file's record describes no network that is known here.
        OptionError: The architecture or the file has no layer `upto`.
    """
    parsed: Parsed | None = None

    def extent(data: Bytes) -> int:
        """How much of a file its layers up to `upto` need, by its first `HEAD_BYTES`."""
        nonlocal parsed
        header = check_header(data)
        if upto is None or header.size > HEAD_BYTES:
            return data.size
        parsed = _parse(data, upto)
        return parsed.end

    with located(name_of(file)):
        data = read_file(file, extent)
        # arrays that lie unaligned were copied, before the file was read to its end
        if parsed is None or not all(np.may_share_memory(array, data) for array in parsed.arrays):
            parsed = _parse(data, upto)
        return _check(parsed, threads)


def read_outline(file: Readable) -> Network:
    """What network a packed file holds; only the header is read and checked, see `read`."""
    with located(name_of(file)):
        return _parse(read_file(file, lambda data: check_header(data).size), None).weights.network


def from_bytes(data: Bytes, threads: int = 1) -> Weights:
    """Take a whole packed file apart, see `read`; errors name no file."""
    return _check(_parse(data, None), threads)


def check_codes(weights: Weights) -> None:
    """Check what `read` leaves to whoever restores the weights: the codes.

    Raises:
        ContainerError: A stream is damaged, a code lies beyond its codebook, or a centroid is used by none of the
            tensors that have it.
    """
    counts = weights.map_palettized(_count_codes, os.cpu_count() or 1)
    used: dict[int, tuple[str, npt.NDArray[np.intp]]] = {}  # by the codebook's identity
    for name, found in counts.items():
        codebook = weights.palettized[name].codebook
        first, before = used.get(id(codebook), (name, np.zeros_like(found)))
        used[id(codebook)] = (first, before + found)
    for name, uses in used.values():
        if not uses.all():
            idle = np.count_nonzero(uses == 0)
            raise ContainerError("every centroid used", f"{idle} unused", "pack the file again", tensor=layer_of(name))


def _count_codes(tensor: PalettizedTensor) -> npt.NDArray[np.intp]:
    """How often a tensor uses each of its centroids."""
    size = tensor.codebook.size
    counts = np.bincount(decode_codes(tensor.codes), minlength=size)
    if counts.size > size:
        raise ContainerError(f"codes below {size}, the codebook's size", counts.size - 1, DAMAGED)
    return counts


def _parse(data: Bytes, upto: str | None) -> Parsed:
    """Check all that the header tells, and no data."""
    header, tensors, outer = split_file(data)
    if KEY not in outer:
        raise ContainerError("a packed file", "an ordinary safetensors file", PACK_FIRST)
    metadata = parse_json(outer[KEY].encode("utf-8", "surrogatepass"), KEY)
    version = _check_version(metadata)
    _check_seal(header)
    parsed: Parsed = _VERSIONS[version].parse(metadata, tensors, header.size, upto)
    if outer != {"format": "pt", KEY: _canonical(metadata)}:
        raise ContainerError("canonical metadata", "another form", DAMAGED, tensor=KEY)
    return parsed


def _check(parsed: Parsed, threads: int) -> Weights:
    """Check the data of each section."""

    def check(section: Section) -> None:
        with located(tensor=section.name):
            check_section(section, parsed.weights)

    map_in_threads(check, parsed.sections, threads)
    return parsed.weights


def check_section(section: Section, weights: Weights) -> None:
    """Check the checksum of data, and what the tensors in it must be."""
    found = crc32(*section.arrays)
    if found != section.checksum:
        raise ContainerError(f"checksum {section.checksum}", found, DAMAGED)
    for name in section.tensors:
        if name in weights.palettized:
            _check_palettized(name, weights.palettized[name])
        else:
            _require_finite(name, weights.plain[name])


def _check_palettized(name: str, tensor: PalettizedTensor) -> None:
    codebook, scale = tensor.codebook, tensor.scale
    _require_finite(f"{name}.codebook", codebook)
    if not (codebook[1:] > codebook[:-1]).all():
        raise ContainerError("ascending centroids", "another order", DAMAGED, tensor=f"{name}.codebook")
    if scale is not None:
        _require_finite(f"{name}.scale", scale)
        with np.errstate(over="ignore"):
            largest = np.abs(codebook).max() * np.abs(scale).max()
        if not np.isfinite(largest):
            raise ContainerError("weights within float32", "larger ones", DAMAGED, tensor=f"{name}.scale")


def _require_finite(name: str, array: Floats) -> None:
    if not np.isfinite(array).all():
        raise ContainerError("finite values", "NaN or infinity", DAMAGED, tensor=name)


def _check_version(metadata: JsonObject) -> int:
    version = metadata.get("format_version", "nothing")
    if not is_count(version) or version == 0:
        raise ContainerError("a whole number", version, DAMAGED, tensor="format_version")
    assert isinstance(version, int)
    if version not in _VERSIONS:
        expected = f"format version {' or '.join(map(str, _VERSIONS))}"
        raise ContainerError(expected, version, "upgrade vggquant", tensor="format_version")
    return version


def _check_seal(header: Bytes) -> None:
    raw = bytes(header)
    seals = _SEAL.findall(raw)
    if len(seals) != 1:
        raise ContainerError(HEX32, "none", DAMAGED, tensor="header_crc32")
    unsealed = _SEAL.sub(lambda found: found[0].replace(seals[0], _UNSEALED.encode()), raw)
    if crc32(unsealed) != seals[0].decode():
        raise ContainerError(f"header checksum {seals[0].decode()}", crc32(unsealed), DAMAGED)


def _canonical(metadata: JsonObject) -> str:
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), allow_nan=False)
