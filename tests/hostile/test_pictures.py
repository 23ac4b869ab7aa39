"""Pictures, cases 95 to 106 and 129 to 139."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.forged_pictures import GRADIENT, chunk, encoded, jpeg_of_scans, png, png_of_size, tiff, tiff_bomb
from tests.hostile.cases import Cases, Prepared
from vggquant.pictures.checks import MAX_PROFILE, MAX_SCANS, MAX_TEXT

CASES = Cases()


def picture(number: int, name: str, match: str | None, data: Callable[[], bytes], ending: str = ".png") -> None:
    def made(folder: Path) -> Prepared:
        (folder / f"x{ending}").write_bytes(data())
        Image.new("RGB", (32, 32), "red").save(folder / "style.png")
        small = ("--steps", "1", "--size", "32")
        return ("stylize", folder / f"x{ending}", folder / "style.png", "-o", folder / "out.png", *small), match

    CASES.add(number, name, made)


picture(95, "a decompression bomb", "pixels", lambda: png_of_size(30_000, 30_000))
picture(95, "just over 50 megapixels", "pixels", lambda: png_of_size(10_000, 5_001))


def tiff_without_its_width() -> bytes:
    data = bytearray(encoded(GRADIENT, "TIFF"))
    place = data.index(struct.pack("<HHI", 256, 4, 1)[:4])
    data[place : place + 2] = struct.pack("<H", 999)
    return bytes(data)


picture(96, "a TIFF without its width", "a picture", tiff_without_its_width, ".tif")
picture(96, "truncated", "undamaged", lambda: encoded(GRADIENT)[:-60])
picture(97, "empty", "a picture", lambda: b"")
picture(97, "text", "a picture", lambda: b"hello " * 99)
picture(98, "CMYK", None, lambda: encoded(GRADIENT.convert("CMYK"), "JPEG"), ".jpg")
picture(99, "16 bits", None, lambda: encoded(Image.fromarray(np.full((40, 40), 40_000, np.uint16))))
picture(99, "float", "floating point", lambda: encoded(GRADIENT.convert("F"), "TIFF"), ".tif")
picture(101, "palette transparency", None, lambda: encoded(GRADIENT.convert("P"), transparency=3))
picture(103, "1 × 1", None, lambda: encoded(Image.new("RGB", (1, 1))))
picture(103, "1 × 10,000", "sides of at least 16 pixels", lambda: encoded(Image.new("RGB", (1, 10_000))))
picture(104, "greyscale", None, lambda: encoded(GRADIENT))
picture(105, "corrupt ICC and EXIF", None, lambda: encoded(GRADIENT, icc_profile=b"\xff" * 200, exif=b"Exif\0\0junk"))
picture(106, "an ICO", "a picture", lambda: encoded(GRADIENT, "ICO"), ".png")
picture(106, "an EPS", "a picture", lambda: encoded(GRADIENT, "EPS"), ".png")


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 16
    return bytes(changed)


def hidden_scans() -> bytes:
    data = jpeg_of_scans(1)
    at, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + (b"\xff\x01" + data[at:end]) * 2 * MAX_SCANS + data[end:]


FLAT = zlib.compress(bytes(MAX_PROFILE))
PROFILE = bytes(16) + b"RGB " + bytes(MAX_PROFILE)
picture(129, "a TIFF of 240000 frames", None, lambda: tiff(GRADIENT.tobytes(), frames=240_000), ".tif")
picture(130, "a JPEG of 6000 scans", f"at most {MAX_SCANS} scans", lambda: jpeg_of_scans(6_000), ".jpg")
picture(130, "a JPEG of a few more scans", None, lambda: jpeg_of_scans(50), ".jpg")
picture(131, "a flipped bit in a PNG", "undamaged.*checksum", lambda: flipped(encoded(GRADIENT), 60))
picture(131, "a flipped bit in a checksum", "undamaged.*checksum", lambda: flipped(encoded(GRADIENT), -1))
picture(131, "a flipped bit in a deflated TIFF", "undamaged", lambda: flipped(tiff_deflated(), 50), ".tif")
picture(130, "scans behind markers without a length", f"at most {MAX_SCANS} scans", hidden_scans, ".jpg")
picture(131, "two headers in a PNG", "two chunks IHDR", lambda: png(png()[8:33]))
picture(132, "a thousand profiles", "two chunks iCCP", lambda: png(*[chunk(b"iCCP", b"a\0\0" + FLAT)] * 1000))
picture(132, "a profile too large for a PNG", "a colour profile", lambda: encoded(GRADIENT, icc_profile=PROFILE))
picture(132, "too large in a TIFF", "a colour profile", lambda: encoded(GRADIENT, "TIFF", icc_profile=PROFILE), ".tif")
picture(133, "text without end", "bytes of text", lambda: png(chunk(b"tEXt", b"a\0" + b"x" * MAX_TEXT)))
picture(133, "text that inflates", "too large", lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))))
picture(135, "a TIFF that inflates for ever", "too long", lambda: tiff_bomb(40_000), ".tif")


def tiff_deflated() -> bytes:
    return tiff(zlib.compress(GRADIENT.tobytes()), compression=8)


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
