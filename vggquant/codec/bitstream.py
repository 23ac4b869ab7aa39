"""Lays codes down as bytes, and reads them back, in two codings: `planes` and `huffman`.

A code is the index of a weight's centroid and is `bits` wide. It is cut into *fields*, which `joining` lays into bytes.

`planes` splits each code into fields of 8, 4, 2 or 1 bits, the high bits first. All the fields of one width make a
plane, with m = 8/w fields to a byte, and the planes follow one another: a 7-bit stream is a 4-bit plane, then a 2-bit
plane, then a 1-bit plane.

`huffman` compresses codes by how often each occurs; see there. Which centroid a code stands for is left to `palette`,
and where the bytes lie in a file to `files`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggquant.codec.huffman import compress, deflate_fields, expand, inflate_fields
from vggquant.codec.joining import Codes, join, split
from vggquant.errors import DAMAGED, ContainerError, OptionError, require_one_of

Coding = Literal["planes", "huffman"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

MIN_BITS, MAX_BITS = 1, 8  # the range of bit widths
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
CODES_PER_BYTE = {bits: tuple(m for m in (1, 2, 4, 8) if m * bits <= 8) for bits in PLANES}


@dataclass(frozen=True, eq=False)
class EncodedCodes:
    """Codes as they lie in a file.

    Args:
        stream: uint8, 1-D.
        count: Number of codes.
        bits: Bits per code, `MIN_BITS` to `MAX_BITS`.
        coding: ``planes`` or ``huffman``.
        codes_per_byte: For `huffman`, how many codes share a byte before deflate; on each level, if it is nested.
        centre: For nested `huffman`, the code of rank 0.
    """

    stream: Codes
    count: int
    bits: int
    coding: Coding
    codes_per_byte: int | tuple[int, ...] | None = None
    centre: int | None = None


def require_bits(bits: int) -> None:
    """Refuse a bit width that codes cannot have.

    Raises:
        OptionError: `bits` is not `MIN_BITS` to `MAX_BITS`.
    """
    if bits not in PLANES:
        raise OptionError(f"a width from {MIN_BITS} to {MAX_BITS}", bits, "choose one of these", tensor="bits")


def require_coding(coding: str) -> None:
    """Refuse a coding that is not known.

    Raises:
        OptionError: `coding` is none of `CODINGS`.
    """
    require_one_of("coding", coding, CODINGS)


def encode_codes(codes: npt.ArrayLike, bits: int, coding: Coding = "planes") -> EncodedCodes:
    """Lay codes down as bytes. `decode_codes` reads them back.

    Args:
        codes: uint8 of any shape, read in C order; each is below ``2**bits``.
        bits: Bits per code, `MIN_BITS` to `MAX_BITS`.
        coding: ``planes`` or ``huffman``. The latter falls back to `planes` if that is no larger.

    Raises:
        OptionError: The width or coding is unknown, or a code does not fit the width.
    """
    flat = np.ascontiguousarray(codes, dtype=np.uint8).reshape(-1)
    require_bits(bits)
    require_coding(coding)
    if flat.size and int(flat.max()) >> bits:
        raise OptionError(f"codes below {1 << bits}", int(flat.max()), "choose a larger width", tensor="codes")
    planes = EncodedCodes(_join_planes(flat, bits), flat.size, bits, "planes")
    if coding == "planes":
        return planes
    forms = [EncodedCodes(deflate_fields(flat, bits, m), flat.size, bits, "huffman", m) for m in CODES_PER_BYTE[bits]]
    if flat.size:
        stream, levels, centre = compress(flat)
        forms.append(EncodedCodes(stream, flat.size, bits, "huffman", levels, centre))
    return min([planes, *forms], key=lambda encoded: encoded.stream.size)  # the first of equals, which is the simplest


def decode_codes(encoded: EncodedCodes, out: Codes | None = None) -> Codes:
    """Read codes back from the bytes that `encode_codes` laid down.

    A damaged stream never makes this take more memory than the codes need.

    Args:
        encoded: What to read.
        out: Where to put the codes: uint8, 1-D, `encoded.count` rounded up to a multiple of 8 long. A new array by
            default.

    Returns:
        uint8, 1-D, `encoded.count` long. At 8 bits in `planes`, this is the stream itself.

    Raises:
        ContainerError: The stream is not exactly as long as its codes need, its padding is not zero, or its deflate
            stream is damaged.
    """
    count, bits, m = encoded.count, encoded.bits, encoded.codes_per_byte
    if encoded.coding == "planes":
        _require_length(encoded.stream, count, bits)
        if bits == MAX_BITS:
            return encoded.stream
    codes = np.empty(math.ceil(count / 8) * 8, np.uint8) if out is None else out
    codes[count:] = 0  # room for the padding of any plane
    if isinstance(m, tuple):
        assert encoded.centre is not None
        expand(encoded.stream, count, m, encoded.centre, codes)
        if count and int(codes[:count].max()) >> bits:
            raise ContainerError(f"codes below {1 << bits}", int(codes[:count].max()), DAMAGED)
    elif m is not None:
        if rest := inflate_fields(encoded.stream, count, bits, m, codes).size:
            raise ContainerError(f"a deflate stream of {encoded.stream.size - rest} bytes", "one that runs on", DAMAGED)
    else:
        _split_planes(encoded.stream, bits, codes, count)
        if np.any(codes[count:]):
            raise ContainerError("zero padding", "something else", DAMAGED)
    return codes[:count]


def planes_size(count: int, bits: int) -> int:
    """Number of bytes that `count` codes of `bits` bits take in `planes`."""
    return sum(math.ceil(count * width / 8) for width in PLANES[bits])


def _join_planes(codes: Codes, bits: int) -> Codes:
    planes = []
    below = bits
    for width in PLANES[bits]:
        below -= width
        planes.append(join((codes >> below) & np.uint8((1 << width) - 1), width, 8 // width))
    return np.concatenate(planes)


def _require_length(stream: Codes, count: int, bits: int) -> None:
    if stream.size != planes_size(count, bits):
        raise ContainerError(
            f"{planes_size(count, bits)} bytes for {count} codes of {bits} bits",
            f"{stream.size}",
            DAMAGED,
        )


def _split_planes(stream: Codes, bits: int, codes: Codes, count: int) -> None:
    start, below = 0, bits
    for width in PLANES[bits]:
        below -= width
        size = math.ceil(count * width / 8)
        split(stream[start : start + size], width, 8 // width, codes, below, add=start > 0)
        start += size
