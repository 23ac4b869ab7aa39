"""What is looked at in the bytes of a picture, because no decoder looks: checksums, scans, and the amount of text.

PNG has checksums that Pillow does not read, and so has the deflated data of a TIFF. LZW in a TIFF or GIF, WebP, JPEG,
BMP and AVIF have none: there, damage that still decodes cannot be told. Decoding is left to `decoding`.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

from vggquant.errors import PictureError

MAX_SCANS = 100  # of a JPEG; usual encoders make up to 14
MAX_PROFILE = 2**20  # bytes of a colour profile, which is also as much as Pillow reads from a PNG
MAX_TEXT = 2**22  # bytes of all texts in a PNG
PNG = b"\x89PNG\r\n\x1a\n"

_PLAIN_PIXELS, _PLAIN_BYTES, _PLAIN_CHUNKS = 2**20, 2**22, 2**10
_PLAIN = frozenset(b"IHDR PLTE tRNS IDAT IEND iCCP sRGB gAMA cHRM sBIT bKGD pHYs tIME".split())
_PLAIN_KEYS = (b"vggquant", b"Software")  # of texts; of others, such as Exif, decoders make something
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_REPEATED = (b"IDAT", *_TEXTS)
_ONCE = (b"IHDR", b"PLTE", b"tRNS", b"iCCP")
_HEADER = struct.Struct(">8sI4sIIBBBBB")  # signature, and chunk IHDR with its length and type
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
_PIECE, _INFLATED = 2**16, 2**20  # bytes that are inflated, and given back, at once
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])")  # but for those that no length follows
_START_OF_SCAN, _END = 0xDA, 0xD9


def damaged(got: str) -> PictureError:
    """The refusal of a picture that is not as it was written."""
    return PictureError("an undamaged picture", got, "get it again")


def check_profile(size: int) -> None:
    """Refuse a colour profile that no PNG could hand on."""
    if size > MAX_PROFILE:
        expected = f"a colour profile of at most {MAX_PROFILE} bytes"
        raise PictureError(expected, "a larger one", "convert the picture to sRGB")


def check_text(size: int) -> None:
    """Refuse texts that are together too long for a PNG."""
    if size > MAX_TEXT:
        raise PictureError(f"at most {MAX_TEXT} bytes of text", size, "remove the metadata of the picture")


# ---- PNG


def png_size(data: bytes | memoryview) -> tuple[int, int]:
    """Width and height that a PNG says it has."""
    return _png_header(data)[:2]


def is_plain_png(data: memoryview) -> bool:
    """Whether a file is a small PNG with nothing in it but one picture, a profile, and text that no decoder acts on.

    Once `check_png` has read it too, such a file gives a decoder no occasion to take much time or memory.
    """
    if len(data) > _PLAIN_BYTES or data[: len(PNG)] != PNG:
        return False
    try:
        width, height, *_, interlaced = _png_header(data)
        chunks = list(itertools.islice(_chunks(data), _PLAIN_CHUNKS + 1))
    except PictureError:
        return False
    if interlaced or width * height > _PLAIN_PIXELS or len(chunks) > _PLAIN_CHUNKS:
        return False
    once = [kind for kind, _, _ in chunks if kind not in _REPEATED]
    return len(set(once)) == len(once) and all(_is_plain(kind, body) for kind, body, _ in chunks)


def _is_plain(kind: bytes, body: memoryview) -> bool:
    """Whether a chunk is one that a decoder has little to do with."""
    if kind not in _TEXTS:
        return kind in _PLAIN
    key, _, rest = bytes(body).partition(b"\0")
    return key in _PLAIN_KEYS and (kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"))  # not compressed


def check_png(data: bytes | memoryview) -> None:
    """Read all checksums of a PNG, and the amount of its text.

    Raises:
        PictureError: A checksum is wrong, the image data are not as many as the size asks for, a chunk that there may
            be once comes twice, or there is far too much text or too large a profile.
    """
    view = memoryview(data)
    pixels: list[memoryview] = []
    text, last = 0, b""
    seen: set[bytes] = set()
    for kind, body, checksum in _chunks(view):
        if kind in seen and kind in _ONCE:  # decoders differ in which one they heed
            raise damaged(f"two chunks {kind.decode()}")
        seen.add(kind)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise damaged(f"a wrong checksum of the chunk {kind.decode('latin-1')}")
        if kind == b"IDAT":
            if pixels and last != kind:
                raise damaged("image data in two places")
            pixels.append(body)
        elif kind == b"iCCP":
            _check_deflated_profile(body)
        elif kind in _TEXTS:
            text += len(body)
        last = kind
    check_text(text)
    _check_inflated(pixels, _png_bytes(view))


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, int]]:
    """Type, content and checksum of each chunk up to the end of the picture."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        if len(data) - at < 12:
            raise damaged("a PNG that ends early")
        size, kind = struct.unpack_from(">I4s", data, at)
        if size > len(data) - at - 12:
            raise damaged("a PNG that ends early")
        yield kind, data[at + 8 : at + 8 + size], struct.unpack_from(">I", data, at + 8 + size)[0]
        at += 12 + size


def _png_header(data: bytes | memoryview) -> tuple[int, int, int, int, int]:
    """Width, height, bits a channel, colour type and whether lines are interlaced."""
    if len(data) < _HEADER.size:
        raise damaged("a PNG that ends early")
    signature, size, kind, width, height, depth, color, *_, interlaced = _HEADER.unpack_from(data)
    if (signature, size, kind) != (PNG, 13, b"IHDR") or depth not in _DEPTHS.get(color, ()) or interlaced > 1:
        raise damaged("a PNG with an odd header")
    return width, height, depth, color, interlaced


def _png_bytes(data: bytes | memoryview) -> int:
    """How many bytes the image data of a PNG are when inflated: each line with one for its filter."""
    width, height, depth, color, interlaced = _png_header(data)
    passes = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in _ADAM7]
    bits = depth * _CHANNELS[color]
    return sum(
        lines * (1 + (columns * bits + 7) // 8)
        for columns, lines in (passes if interlaced else [(width, height)])
        if columns > 0 and lines > 0
    )


def _check_deflated_profile(chunk: memoryview) -> None:
    """Refuse a profile that inflates to more than it may; damaged ones are left to Pillow, which ignores them."""
    _, _, rest = bytes(chunk).partition(b"\0")
    with contextlib.suppress(zlib.error):
        check_profile(len(zlib.decompressobj().decompress(rest[1:], MAX_PROFILE + 1)))


def _check_inflated(parts: Iterable[memoryview], expected: int | None = None) -> None:
    """Inflate a stream, which compares its checksum, and throw away what comes of it."""
    stream, found = zlib.decompressobj(), 0
    for part in parts:
        for at in range(0, len(part), _PIECE):
            piece: bytes | memoryview = part[at : at + _PIECE]
            while piece and not stream.eof:
                try:
                    found += len(stream.decompress(piece, _INFLATED))
                except zlib.error:
                    raise damaged("image data with a wrong checksum") from None
                piece = stream.unconsumed_tail
        if expected is not None and found > expected:
            break
    if not stream.eof or expected not in (None, found):
        raise damaged("more or less image data than its size asks for")


# ---- others


def check_scans(data: bytes) -> None:
    """Count the scans of a JPEG, each of which goes over the whole picture.

    Raises:
        PictureError: There are more than `MAX_SCANS`.
    """
    at, scans = 2, 0
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            break
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise PictureError(f"at most {MAX_SCANS} scans", "more", "save the picture afresh")
        at += int.from_bytes(data[at : at + 2], "big")


def check_strips(data: bytes, offsets: Sequence[int], sizes: Sequence[int]) -> None:
    """Read the checksums of the deflated strips or tiles of a TIFF.

    Raises:
        PictureError: A checksum is wrong, a strip ends early, or all of them are longer than the file.
    """
    if len(offsets) != len(sizes) or sum(sizes) > len(data):  # some share their bytes, as no encoder makes them
        raise damaged("strips that are longer than the file")
    view = memoryview(data)
    for offset, size in zip(offsets, sizes, strict=True):
        _check_inflated([view[offset : offset + size]])
