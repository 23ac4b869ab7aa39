"""How codes are laid down as bytes, and back: `planes` and `huffman`; knows of no layers and no files.

A code is the index of a weight's centroid, `bits` wide. Codes are cut into *fields* of a width that
divides a byte, and fields are laid into bytes so that whole arrays decode by shifts and masks. With
m fields of width w to a byte and n fields in all, S = ceil(n / m) bytes hold them; byte j holds
fields j, j+S, j+2S, …, the first in the lowest bits (here w = 2, m = 4)::

    bit     7   6   5   4   3   2   1   0
          ┌───────┬───────┬───────┬───────┐
    byte j│ j+3S  │ j+2S  │  j+S  │   j   │
          └───────┴───────┴───────┴───────┘

`planes`: the code's high bits come first, in planes of 8, 4, 2 and 1 bits, each m = 8/w fields to a
byte; a 7-bit stream is its 4-bit plane, then its 2-bit plane, then its 1-bit plane.
`huffman`: whole codes are the fields, `codes_per_byte` of them to a byte, and these bytes are a raw
deflate stream (RFC 1951) made with Huffman codes alone.
Padding, where n does not fill the last bytes, is zero.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vggquant.errors import ContainerError, OptionError

Codes = npt.NDArray[np.uint8]
Coding = Literal["planes", "huffman"]
CODINGS: tuple[Coding, ...] = get_args(Coding)

MIN_BITS, MAX_BITS = 1, 8
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
CODES_PER_BYTE = {bits: tuple(m for m in (1, 2, 4, 8) if m * bits <= 8) for bits in PLANES}

_WINDOW_BITS = -15  # raw deflate
_MEMORY_LEVEL = 9  # largest blocks, fewest code tables


@dataclass(frozen=True, eq=False)
class EncodedCodes:
    """Codes as they lie in a file.

    Args:
        stream: uint8, 1-D.
        count: Number of codes.
        bits: Bits of a code, 1–8.
        coding: ``planes`` or ``huffman``.
        codes_per_byte: Codes in a byte before deflate; ``None`` for `planes`.
    """

    stream: Codes
    count: int
    bits: int
    coding: Coding
    codes_per_byte: int | None = None


def encode_codes(codes: npt.ArrayLike, bits: int, coding: Coding = "planes") -> EncodedCodes:
    """Lay codes down as bytes; the inverse of `decode_codes`.

    Args:
        codes: uint8 of any shape, each below ``2**bits``, read in C order.
        bits: Bits of a code, 1–8.
        coding: ``planes``; or ``huffman``, which falls back to `planes` where that is no larger.

    Raises:
        OptionError: Unknown width or coding, or a code that does not fit the width.
    """
    flat = np.ascontiguousarray(codes, dtype=np.uint8).reshape(-1)
    if bits not in PLANES:
        raise OptionError(f"a width from {MIN_BITS} to {MAX_BITS}", bits, "choose one of these", tensor="bits")
    if coding not in CODINGS:
        raise OptionError("planes or huffman", coding, "choose one of these", tensor="coding")
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
    """Read codes back from bytes; the inverse of `encode_codes`.

    Args:
        encoded: What to read.
        out: uint8, 1-D, `encoded.count` rounded up to a multiple of 8 long; made if not given.

    Returns:
        uint8, 1-D, `encoded.count` long; at 8 bits in `planes` the stream itself.

    Raises:
        ContainerError: The stream is not exactly as long as its codes need, padding is not zero, or
            the deflate stream is damaged. No more memory is taken than the codes need.
    """
    count, bits, m = encoded.count, encoded.bits, encoded.codes_per_byte
    if encoded.coding == "planes":
        _require_length(encoded.stream, count, bits)
        if bits == MAX_BITS:
            return encoded.stream
    codes = np.empty(math.ceil(count / 8) * 8, np.uint8) if out is None else out
    codes[count:] = 0  # padding, as much as any plane has
    if m is not None:
        _split(_inflate(encoded.stream, -(-count // m)), bits, m, codes)
    else:
        _split_planes(encoded.stream, bits, codes, count)
    if np.any(codes[count:]):
        raise ContainerError("zero padding", "something else", "the file is damaged, get it again")
    return codes[:count]


def planes_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take in `planes`."""
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
            "the file is damaged, get it again",
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
    """Read fields of `width` bits, `m` to a byte, moved up by `below` bits, into `codes` or onto what is there."""
    size = joined.size
    mask = ((1 << width) - 1) << below
    spare = np.empty_like(joined) if add else None  # small enough for the cache
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
        raise ContainerError("zero in unused bits", "something else", "the file is damaged, get it again")


def _deflate(data: Codes) -> Codes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(compressor.compress(data.data) + compressor.flush(), np.uint8)


def _inflate(stream: Codes, size: int) -> Codes:
    """Inflate to exactly `size` bytes, with never more than that allocated."""
    inflater = zlib.decompressobj(_WINDOW_BITS)
    try:
        data = inflater.decompress(stream.data, size)
        # the end-of-block mark may come after the last byte of output was asked for
        data += inflater.decompress(inflater.unconsumed_tail, 1) if not inflater.eof else b""
    except zlib.error as error:
        raise ContainerError("a deflate stream", str(error), "the file is damaged, get it again") from None
    if len(data) != size or not inflater.eof or inflater.unused_data:
        got = "one that runs on" if len(data) > size or inflater.unused_data else "one that ends early"
        raise ContainerError(f"a deflate stream of {size} bytes", got, "the file is damaged, get it again")
    return np.frombuffer(data, np.uint8)
