"""Lays codes down as bytes, and reads them back, in two codings: `planes` and `huffman`.

A code is the index of a weight's centroid and is `bits` wide. Codes are cut into *fields*, several of which can share
a byte, and fields are arranged so that decoding needs only a few shifts and masks of whole arrays. With m fields of
width w to a byte and n fields in all, they take S = ceil(n / m) bytes. Byte j holds the fields j, j+S, j+2S, …, the
first of them in its lowest bits. Here is a byte for w = 2, m = 4::

    bit     7   6   5   4   3   2   1   0
          ┌───────┬───────┬───────┬───────┐
    byte j│ j+3S  │ j+2S  │  j+S  │   j   │
          └───────┴───────┴───────┴───────┘

`planes` splits each code into fields of 8, 4, 2 or 1 bits, the high bits first. All the fields of one width make a
plane, with m = 8/w fields to a byte, and the planes follow one another: a 7-bit stream is a 4-bit plane, then a 2-bit
plane, then a 1-bit plane.

`huffman` takes whole codes as fields, `codes_per_byte` of them to a byte, and compresses these bytes into a raw
deflate stream (RFC 1951) that uses Huffman codes alone.

Where n fields do not fill the last bytes, the rest is zero. Which centroid a code stands for is left to `palette`, and
where the bytes lie in a file to `files`.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggquant.errors import DAMAGED, ContainerError, OptionError, require_one_of

Codes = npt.NDArray[np.uint8]
Coding = Literal["planes", "huffman"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

MIN_BITS, MAX_BITS = 1, 8  # the range of bit widths
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
CODES_PER_BYTE = {bits: tuple(m for m in (1, 2, 4, 8) if m * bits <= 8) for bits in PLANES}

_WINDOW_BITS = -15  # zlib's way of asking for raw deflate
_MEMORY_LEVEL = 9  # makes the largest blocks, and so the fewest code tables


@dataclass(frozen=True, eq=False)
class EncodedCodes:
    """Codes as they lie in a file.

    Args:
        stream: uint8, 1-D.
        count: Number of codes.
        bits: Bits per code, `MIN_BITS` to `MAX_BITS`.
        coding: ``planes`` or ``huffman``.
        codes_per_byte: How many codes share a byte before deflate; ``None`` for `planes`.
    """

    stream: Codes
    count: int
    bits: int
    coding: Coding
    codes_per_byte: int | None = None


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
    deflated = [
        EncodedCodes(_deflate(_join(flat, bits, m)), flat.size, bits, "huffman", m) for m in CODES_PER_BYTE[bits]
    ]
    return min([planes, *deflated], key=lambda encoded: encoded.stream.size)


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
    if m is not None:
        _split(_inflate(encoded.stream, -(-count // m)), bits, m, codes)
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
        planes.append(_join((codes >> below) & np.uint8((1 << width) - 1), width, 8 // width))
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
        _split(stream[start : start + size], width, 8 // width, codes, below, add=start > 0)
        start += size


def _join(fields: Codes, width: int, m: int) -> Codes:
    """Lay `m` fields of `width` bits into each byte."""
    size = -(-fields.size // m)
    joined = np.zeros(size, np.uint8)
    for k in range(m):
        part = fields[k * size : (k + 1) * size]
        joined[: part.size] |= part << (k * width)
    return joined


def _split(joined: Codes, width: int, m: int, codes: Codes, below: int = 0, add: bool = False) -> None:
    """Read fields from bytes; the inverse of `_join`.

    Args:
        joined: The bytes, with `m` fields of `width` bits in each.
        width: Bits of a field.
        m: Fields in a byte.
        codes: Where the fields go, long enough for the padding too.
        below: How many bits of a code lie below its field, which is moved up by as many.
        add: Whether to add the fields to what `codes` holds, instead of replacing it.
    """
    size = joined.size
    mask = ((1 << width) - 1) << below
    spare = np.empty_like(joined) if add else None  # small enough to stay in the cache
    for k in range(m):
        part, down = codes[k * size : (k + 1) * size], k * width - below
        fields = part if spare is None else spare
        if down < 0:
            np.left_shift(joined, -down, out=fields)
        else:
            np.right_shift(joined, down, out=fields)
        fields &= mask
        if spare is not None:
            part |= spare
    if m * width < 8 and int(joined.max(initial=0)) >> (m * width):
        raise ContainerError("zero in unused bits", "something else", DAMAGED)


def _deflate(data: Codes) -> Codes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(compressor.compress(data.data) + compressor.flush(), np.uint8)


def _inflate(stream: Codes, size: int) -> Codes:
    """Inflate to exactly `size` bytes, without ever allocating more."""
    inflater = zlib.decompressobj(_WINDOW_BITS)
    try:
        data = inflater.decompress(stream.data, size)
        # the mark that ends a block may still be unread when the last byte has come out
        data += inflater.decompress(inflater.unconsumed_tail, 1) if not inflater.eof else b""
    except zlib.error as error:
        raise ContainerError("a deflate stream", str(error), DAMAGED) from None
    if len(data) != size or not inflater.eof or inflater.unused_data:
        got = "one that runs on" if len(data) > size or inflater.unused_data else "one that ends early"
        raise ContainerError(f"a deflate stream of {size} bytes", got, DAMAGED)
    return np.frombuffer(data, np.uint8)
