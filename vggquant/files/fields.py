"""What both versions of the packed file check alike: fields of the metadata, tensors of the file, sections of data.

Which fields and tensors a version has is left to `version1` and `version2`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import CODES_PER_BYTE, MAX_BITS, MIN_BITS, Coding, EncodedCodes
from vggquant.codec.huffman import MAX_LEVELS, SHARINGS
from vggquant.errors import DAMAGED, ContainerError
from vggquant.files.safetensors import JsonObject, RawTensor, is_count
from vggquant.files.weights import Weights

Array = npt.NDArray[Any]

# characters of attribution and changes each: escaped twice, two of them leave the header below its bound
MAX_TEXT = 2**15
HEX32 = "8 lower-case hexadecimal digits"


@dataclass(frozen=True, eq=False)
class Section:
    """Data under one checksum, and the tensors that lie there.

    Args:
        name: What errors call it; ``None`` for the data of the whole file.
        checksum: CRC-32 of the arrays, one after the other.
        arrays: What the checksum covers, in order.
        tensors: Names of the tensors whose content is checked with it.
    """

    name: str | None
    checksum: str
    arrays: tuple[Array, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Parsed:
    """A file whose header is sound, but whose data are not yet checked.

    Args:
        weights: Views into the file, or copies where the file does not align what lies in it.
        sections: All data of these weights.
        end: Where the data end, from the beginning of the file.
    """

    weights: Weights
    sections: tuple[Section, ...]
    end: int

    @property
    def arrays(self) -> Iterator[Array]:
        """All arrays that lie in the data."""
        return (array for section in self.sections for array in section.arrays)


def crc32(*parts: bytes | Array) -> str:
    """CRC-32 of bytes and arrays, one after the other, as eight hexadecimal digits."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.data if isinstance(part, np.ndarray) else part, crc)
    return f"{crc:08x}"


def require(fields: Mapping[str, Any], key: str, expected: str, accepted: bool, within: str = "") -> None:
    """Refuse a field, whose checks the caller made.

    Args:
        fields: The object that holds it.
        key: Its name.
        expected: What would be accepted.
        accepted: Whether it is.
        within: What errors put before the field's name.

    Raises:
        ContainerError: It is not accepted.
    """
    if not accepted:
        raise ContainerError(expected, fields.get(key, "nothing"), DAMAGED, tensor=f"{within}{key}")


def require_fields(found: Mapping[str, Any], expected: Collection[str], version: int, name: str | None) -> None:
    """Refuse missing and unknown fields."""
    differing = sorted(set(found) ^ set(expected))
    if differing:
        raise ContainerError(f"the fields of version {version}", ", ".join(differing), DAMAGED, tensor=name)


def require_bits(entry: Mapping[str, Any], within: str) -> None:
    """Refuse an entry whose width is not a whole number that codes can have."""
    bits = entry.get("bits")
    accepted = is_count(bits, MAX_BITS + 1) and bits != 0
    require(entry, "bits", f"an integer from {MIN_BITS} to {MAX_BITS}", accepted, within)


def require_huffman(entry: Mapping[str, Any], within: str) -> None:
    """Refuse numbers of codes in a byte, or a centre, that a huffman stream cannot have."""
    per_byte: Any = entry.get("codes_per_byte")
    if "centre" in entry:
        accepted = type(per_byte) is list and 1 <= len(per_byte) <= MAX_LEVELS
        accepted = accepted and all(is_count(m) and m in SHARINGS for m in per_byte)
        require(entry, "codes_per_byte", f"1 to {MAX_LEVELS} of {SHARINGS}", accepted, within)
        below = 1 << entry["bits"]
        require(entry, "centre", f"an integer below {below}", is_count(entry["centre"], below), within)
    else:
        allowed = CODES_PER_BYTE[entry["bits"]]
        require(entry, "codes_per_byte", f"one of {allowed}", is_count(per_byte) and per_byte in allowed, within)


def huffman_fields(codes: EncodedCodes) -> JsonObject:
    """What an entry says of a huffman stream; the inverse of `encoded_codes`."""
    m = codes.codes_per_byte
    return {"codes_per_byte": list(m), "centre": codes.centre} if isinstance(m, tuple) else {"codes_per_byte": m}


def encoded_codes(entry: Mapping[str, Any], stream: npt.NDArray[np.uint8], count: int, coding: Coding) -> EncodedCodes:
    """Codes as their entry describes them, which is checked already."""
    m = entry.get("codes_per_byte")
    per_byte = tuple(m) if isinstance(m, list) else m
    return EncodedCodes(stream, count, entry["bits"], coding, per_byte, entry.get("centre"))


def require_credits(metadata: JsonObject) -> None:
    """Check attribution and changes, each a text or null."""
    for key in ("attribution", "changes"):
        require(metadata, key, "a text or null", metadata[key] is None or is_text(metadata[key]))


def take(tensors: dict[str, RawTensor], name: str, dtype: str) -> RawTensor:
    """Take a tensor of some element type out of those found."""
    if name not in tensors:
        raise ContainerError("a tensor of that name", "none", DAMAGED, tensor=name)
    tensor = tensors.pop(name)
    if tensor.dtype != dtype:
        raise ContainerError(dtype, tensor.dtype, DAMAGED, tensor=name)
    return tensor


def require_shape(tensor: RawTensor, expected: tuple[int, ...], name: str) -> None:
    """Refuse a tensor of another shape."""
    if tensor.shape != expected:
        raise ContainerError(f"shape {expected}", tensor.shape, DAMAGED, tensor=name)


def is_text(value: object) -> bool:
    """Whether a value is a string without NUL."""
    return type(value) is str and "\0" not in value


def is_credit(value: object) -> bool:
    """Whether an attribution, or a text of changes, can be written so that it is read again."""
    if not is_text(value) or not 0 < len(str(value)) <= MAX_TEXT:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in str(value))  # halves of characters


def is_hex(value: object, digits: int) -> bool:
    """Whether a value is a string of so many lower-case hexadecimal digits."""
    return type(value) is str and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def is_one_of(value: object, allowed: Collection[str]) -> bool:
    """Whether a value is a string among those allowed."""
    return type(value) is str and value in allowed
