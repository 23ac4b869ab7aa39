"""Picture files that no program would write."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

from PIL import Image

from vggquant.pictures.checks import PNG

SIDE = 40
GRADIENT = Image.linear_gradient("L").resize((SIDE, SIDE))
WIDTH, HEIGHT, BITS, COMPRESSION, KIND, OFFSETS, ROWS, SIZES = 256, 257, 258, 259, 262, 273, 278, 279  # TIFF's tags


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file as Pillow writes it."""
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*more: bytes) -> bytes:
    """A grey PNG with more chunks, before those of the image data."""
    plain = encoded(GRADIENT)
    return plain[:33] + b"".join(more) + plain[33:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size."""
    data = encoded(Image.new("L", (1, 1)))
    return data[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]


def interlaced_png() -> tuple[bytes, list[list[int]]]:
    """A PNG in seven passes, which Pillow reads and does not write, and its greys."""
    greys = [[(37 * y + 11 * x) % 256 for x in range(11)] for y in range(9)]
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    lines = b"".join(b"\0" + bytes(greys[row][x::dx]) for x, y, dx, dy in steps for row in range(y, 9, dy))
    header = struct.pack(">IIBBBBB", 11, 9, 8, 0, 0, 0, 1)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    return PNG + b"".join(chunks), greys


def tiff(strip: bytes, compression: int = 1, frames: int = 1) -> bytes:
    """A grey TIFF of one strip, followed by frames of which each has no more than a width."""
    at = 8 + len(strip)
    values = {WIDTH: SIDE, HEIGHT: SIDE, BITS: 8, COMPRESSION: compression, KIND: 1}
    values |= {OFFSETS: 8, ROWS: SIDE, SIZES: len(strip)}
    parts = [b"II*\0" + struct.pack("<I", at) + strip]
    for left in range(frames - 1, -1, -1):
        at += 6 + 12 * len(values)
        parts.append(_directory(values.items(), at if left else 0))
        values = {WIDTH: 1}
    return b"".join(parts)


def _directory(values: Iterable[tuple[int, int]], following: int) -> bytes:
    tags = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in values]
    return struct.pack("<H", len(tags)) + b"".join(tags) + struct.pack("<I", following)


def tiff_bomb(megabytes: int) -> bytes:
    """A TIFF whose only strip inflates to so many times 2²⁰ bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return tiff(b"\x78\x9c" + block * megabytes, compression=8)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(GRADIENT, "JPEG", progressive=True)
    at, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[at:end] * count + data[end:]
